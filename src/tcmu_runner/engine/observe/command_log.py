"""Logs failed commands (each kind in full at first, then its count once a minute), and slow ones."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.sense import Sense

REPEAT_SECONDS = 60.0


@dataclass(slots=True)
class _Kind:
    """Failures that differ only in their command. since: clock time of the last log line. unsaid: how many
    there were since."""

    text: str
    since: float
    unsaid: int = 0


class FailureLog:
    """Of one device; statistics get the last failure, too. Any thread."""

    def __init__(self, device: Device, statistics: Statistics, clock: Clock = MACHINE) -> None:
        self._device = device
        self._statistics = statistics
        self._now = clock.monotonic
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def failed(self, command: Command, operation: Operation | None, error: OSError) -> None:
        """The storage has failed an operation of the command."""
        what = type(operation).__name__.lower() if operation is not None else "command"
        text = f"{type(error).__name__}: {error}"
        if self._is_new((type(error), error.errno, what), f"{what} failed: {text}"):
            self._device.log.warning("%s of command %s failed: %s", what, command.cdb.hex(), text)

    def raised(self, command: Command, error: BaseException) -> None:
        """The handler has a bug; logs its traceback once."""
        text = f"bug in the handler: {type(error).__name__}: {error}"
        if self._is_new((type(error), _place(error)), text):
            self._device.log.error("bug in the handler: failed command %s", command.cdb.hex(), exc_info=error)

    def refused(self, operation: Operation, sense: Sense) -> None:
        """A handler or filter raised a ScsiError, and logs by itself if it wants to. Only counts it."""
        what = f"{sense.key:X}/{sense.asc:02X}/{sense.ascq:02X}"
        with self._lock:
            self._statistics.record_failure(f"{type(operation).__name__.lower()} failed: sense {what}")

    def _is_new(self, key: Hashable, text: str) -> bool:
        """Whether the kind has not occurred for REPEAT_SECONDS; else counts it."""
        with self._lock:
            self._statistics.record_failure(text)
            kind = self._kinds.get(key)
            if kind is None or (not kind.unsaid and kind.since <= self._now() - REPEAT_SECONDS):
                self._kinds[key] = _Kind(text, self._now())
                return True
            kind.unsaid += 1
            return False

    def tell(self) -> None:
        """Call about every second. Logs one line a minute for each kind that goes on."""
        with self._lock:
            due = self._now() - REPEAT_SECONDS
            old = [(key, kind) for key, kind in self._kinds.items() if kind.since <= due]
            for key, kind in old:
                if kind.unsaid:
                    self._kinds[key] = _Kind(kind.text, self._now())
                else:
                    del self._kinds[key]  # it has stopped; the next one is logged in full
        for _, kind in old:
            if kind.unsaid:
                self._device.log.warning("%d more commands failed so: %s", kind.unsaid, kind.text)


def _place(error: BaseException) -> tuple[str, int]:
    """File and line that raised the error."""
    place, trace = ("", 0), error.__traceback__
    while trace is not None:
        place, trace = (trace.tb_frame.f_code.co_filename, trace.tb_lineno), trace.tb_next
    return place


class SlowLog:
    """Logs slow commands. seconds: the duration from which on a command is slow; None: never.

    Statistics also keep the last slow commands.
    """

    def __init__(self, device: Device, statistics: Statistics, seconds: float | None) -> None:
        statistics.slow_seconds = float("inf") if seconds is None else seconds
        self._device = device
        self._statistics = statistics
        self._told = statistics.slow_count

    def tell(self) -> None:
        """Call about every second. Logs one line for all slow commands since the last call, about the
        slowest."""
        count = self._statistics.slow_count
        new = list(self._statistics.slow(self._told))
        number, self._told = count - self._told, count
        if new:
            slowest = max(new, key=lambda slow: slow.seconds)
            others = f" ({number - 1} more were slow)" if number > 1 else ""
            self._device.log.info(
                "slow: command %s of %d bytes took %.3f s, status %02X%s",
                slowest.cdb.hex(), slowest.bytes, slowest.seconds, slowest.status, others,
            )  # fmt: skip

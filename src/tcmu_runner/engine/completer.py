"""Handing completions to the ring: any thread adds, whoever comes first publishes for all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from tcmu_runner import iov
from tcmu_runner.engine.outcome import Ending
from tcmu_runner.engine.statistics import Statistics
from tcmu_runner.ring.consumer import Consumer
from tcmu_runner.scsi.command import Command

# status, sense, read_len, bytes of all their data
Completion = tuple[Sequence[Command], int, bytes, int, int]


class Completer:
    """The doorbell runs the other side's completion code, which copies all read data, so one is rung for as
    many completions as have gathered; a thread that finds another one ringing leaves its own to that one.
    """

    def __init__(
        self,
        consumer: Consumer,
        kick: Callable[[], None],
        statistics: Statistics,
        failed: Callable[[Exception], None],
    ) -> None:
        self._consumer = consumer
        self._kick = kick
        self._statistics = statistics
        self._failed = failed
        self._waiting: deque[Completion] = deque()
        self._publishing = threading.Lock()

    def add(self, command: Command, ending: Ending, read_len: int) -> None:
        """Queues a completion; `publish` sends it. Any thread."""
        self._waiting.append(([command], ending[0], ending[1], read_len, iov.length(command.data)))

    def add_good(self, commands: Sequence[Command], length: int) -> None:
        """Queues commands of one opcode and one beginning that have ended well, with all their data valid:
        `length` bytes together."""
        self._waiting.append((commands, 0, b"", 0, length))

    def publish(self) -> None:
        """Sends what has gathered. Any thread. Ring errors go to `failed`, not to the caller."""
        while self._waiting:
            if not self._publishing.acquire(False):
                return  # the thread inside looks at the queue again after it has let go
            try:
                self._publish_gathered()
            except Exception as error:  # a corrupt or reset ring, a device that is gone
                self._failed(error)
                return
            finally:
                self._publishing.release()

    def _publish_gathered(self) -> None:
        consumer, waiting, now = self._consumer, self._waiting, time.monotonic()
        while waiting:
            commands, status, sense, read_len, length = waiting.popleft()
            first = commands[0]
            if status or read_len:
                consumer.complete(first.id, status, sense, read_len)
            else:
                consumer.complete_well(commands)
            seconds = now - first.began
            if seconds < 0:  # it has begun, and ended, after `now`
                seconds = 0.0
            self._statistics.record(first.cdb[0], length, seconds, status, sense, count=len(commands))
            if seconds >= self._statistics.slow_seconds:
                self._statistics.record_slow(first.cdb, length, seconds, status)
        if consumer.publish():
            self._kick()

    def reset(self) -> None:
        """After action/reset_ring, when no command runs any more: start over with the ring."""
        with self._publishing:
            self._waiting.clear()
            self._consumer.reset()

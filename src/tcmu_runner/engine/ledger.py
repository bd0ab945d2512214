"""Which commands have begun and not ended, and how each of them ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tcmu_runner.engine.completer import Completer
from tcmu_runner.engine.exclusion import Exclusion
from tcmu_runner.engine.job import Job
from tcmu_runner.engine.outcome import GOOD, Verdict, valid_length
from tcmu_runner.engine.storage import OperationError
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command

Unwanted = Callable[[Command], bool]


class Ledger:
    """under_way: commands that have begun, and are neither parked nor finished. can_tell_length: the ring has
    READ_LEN. released: called when a parked command may run.

    A command stays in `under_way` until its completion is queued. So when that is empty, no completion of
    before a reset of the ring can come any more: ids are used again.
    """

    def __init__(
        self,
        device: Device,
        completer: Completer,
        exclusion: Exclusion,
        released: Callable[[], None],
        *,
        can_tell_length: bool,
    ) -> None:
        self.under_way: set[Command] = set()
        self._completer = completer
        self._exclusion = exclusion
        self._released = released
        self._can_tell_length = can_tell_length
        self._verdict = Verdict(device)

    def finished(self, command: Command, error: OperationError | None) -> None:
        """A command's plan has ended; its completion waits for `Completer.publish`. Any thread."""
        if error is None:
            length = valid_length(command, can_tell=self._can_tell_length)
            self._completer.add(command, GOOD, length)
        else:
            ending = self._verdict.ending(command, error.error, error.operation)
            self._completer.add(command, ending, 0)
        self.leave(command)

    def ended_well(self, jobs: list[Job], length: int) -> None:
        """Plain commands of one opcode and one beginning have ended, with all their `length` bytes valid. Any
        thread."""
        self._completer.add_good(jobs, length)
        self.under_way.difference_update(jobs)
        if self._exclusion.active:  # one has taken so long that another thread is the ring's now
            released = [self._exclusion.ended(job) for job in jobs]
            if any(released):
                self._released()

    def leave(self, command: Command) -> None:
        """One is not under way any more, or has not begun after all and will be started anew. Any thread."""
        self.under_way.discard(command)
        if self._exclusion.active and self._exclusion.ended(command):
            self._released()

    def waiting(self) -> list[Command]:
        """All that have come and not ended. Any thread."""
        return [*self.under_way.copy(), *self._exclusion.waiting()]

    def hold_since(self, began_before: float) -> None:
        """Writes that take so long that their initiator may have given them up. Any thread."""
        for command in self.under_way.copy():
            row = command.row
            if command.began < began_before and row is not None and row.writes and row.blocks is not None:
                self._hold(command)

    def _hold(self, command: Command) -> None:
        if self._exclusion.hold(command, self.under_way):
            self._released()

    @contextmanager
    def visit(self, guest: Command) -> Iterator[None]:
        """While a command of another LUN does what `guest` says to this one's blocks. Blocks as long as they
        are another command's alone. Any thread."""
        self.under_way.add(guest)
        try:
            self._exclusion.wait(guest)
            yield
        finally:
            self.leave(guest)

    def withdraw(self, unwanted: Unwanted, ending: Exception, begun: Callable[[Command], bool]) -> None:
        """Commands that have not begun never do, and end in this. begun: whether it is too late for one; any
        thread; not published."""
        for command in filter(unwanted, self.under_way.copy()):
            command.withdrawn = ending
            if not begun(command):
                self.finished(command, OperationError(ending, None))
            elif command.row is not None and command.row.writes:
                self._hold(command)
        for command in self._exclusion.drop(unwanted):
            self.finished(command, OperationError(ending, None))

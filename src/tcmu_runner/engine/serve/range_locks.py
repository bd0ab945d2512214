"""Commands that need their blocks to themselves, for example COMPARE AND WRITE (SBC-4 5.3).

Such a command waits for every command under way on its blocks, and any later one on them waits for it. So it
does for a write that its initiator may have given up: it must not come after what was written since. Where
none is about, nothing is tracked and nothing costs anything: ranges are read out of the CDBs when needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Plan

Range = tuple[int, int]  # offset, length in bytes
RangeOf = Callable[[Command], Range | None]  # None: the command touches no blocks


def overlap(one: Range | None, other: Range | None) -> bool:
    return one is not None and other is not None and one[0] < sum(other) and other[0] < sum(one)


@dataclass(slots=True, eq=False)
class Parked:
    """A started command whose plan waits for `blockers` to end."""

    command: Command
    plan: Plan
    exclusive: bool
    blockers: set[Command] = field(default_factory=set)


class RangeLocks:
    """`admit` and `released` are called on the ring's thread, all else on any."""

    def __init__(self, range_of: RangeOf) -> None:
        self._range_of = range_of
        self._lock = threading.Condition()
        self._holders: set[Command] = set()
        self._parked: list[Parked] = []
        self.active = False  # some command holds its blocks or waits: `ended` has to be told

    def admit(self, command: Command, plan: Plan, under_way: set[Command], *, exclusive: bool) -> bool:
        """Whether the plan may run now; else it is parked until `released` hands it out."""
        self.active = True  # before the look at what is under way: what ends from now on, tells us
        with self._lock:
            rivals = set(self._holders).union(under_way) if exclusive else set(self._holders)
            rivals.update(parked.command for parked in self._parked)  # nobody overtakes: it may be a write
            blockers = self._overlapping(rivals, command) if rivals else set()
            if blockers:
                self._parked.append(Parked(command, plan, exclusive, blockers))
            elif exclusive:
                self._holders.add(command)
            self._settle()
            return not blockers

    def _overlapping(self, rivals: set[Command], command: Command) -> set[Command]:
        wanted = self._range_of(command)
        return {rival for rival in rivals if rival is not command and overlap(self._range_of(rival), wanted)}

    def hold(self, command: Command, under_way: Container[Command]) -> bool:
        """Later commands on its blocks wait for one that is under way already. Returns what `ended` does: it
        may have ended meanwhile, before it could see `active`."""
        with self._lock:
            self.active = True
            self._holders.add(command)
        return command not in under_way and self.ended(command)

    def wait(self, command: Command) -> None:
        """Blocks until no command holds the blocks of this one."""
        wanted = self._range_of(command)
        with self._lock:
            self._lock.wait_for(
                lambda: not any(overlap(self._range_of(holder), wanted) for holder in self._holders)
            )

    def ended(self, command: Command) -> bool:
        """True when a parked command may run now: the ring's thread has to ask for `released`."""
        with self._lock:
            self._holders.discard(command)
            for parked in self._parked:
                parked.blockers.discard(command)
            self._settle()
            self._lock.notify_all()
            return any(not parked.blockers for parked in self._parked)

    def released(self) -> list[Parked]:
        """The parked commands that nothing blocks any more, in their order."""
        with self._lock:
            free = [parked for parked in self._parked if not parked.blockers]
            self._parked = [parked for parked in self._parked if parked.blockers]
            self._holders.update(parked.command for parked in free if parked.exclusive)
            self._settle()
            return free

    def waiting(self) -> list[Command]:
        """The parked commands. Any thread."""
        with self._lock:
            return [parked.command for parked in self._parked]

    def drop(self, unwanted: Callable[[Command], bool]) -> list[Command]:
        """Parked commands that shall not run any more. They have to be told to `ended` as any other."""
        with self._lock:
            dropped = [parked.command for parked in self._parked if unwanted(parked.command)]
            self._parked = [parked for parked in self._parked if not unwanted(parked.command)]
            return dropped

    def forget(self) -> None:
        """The ring was reset: whoever holds or waits has been answered."""
        with self._lock:
            self._holders.clear()
            self._parked.clear()
            self._settle()
            self._lock.notify_all()

    def _settle(self) -> None:
        self.active = bool(self._holders or self._parked)

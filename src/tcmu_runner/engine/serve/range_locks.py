"""Locks for commands that need their blocks to themselves, for example COMPARE AND WRITE (SBC-4 5.3).

Such a command waits for all commands under way on its blocks, and later ones on them wait for it. Later ones
also wait for a slow write that its initiator may have given up: else it could overwrite newer data. Without
such commands nothing is tracked: ranges are read from the CDBs when they are needed.
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
    """A started command; its plan waits for `blockers` to end."""

    command: Command
    plan: Plan
    exclusive: bool
    blockers: set[Command] = field(default_factory=set)


class RangeLocks:
    """`admit` and `released` are called on the ring's thread, the others on any."""

    def __init__(self, range_of: RangeOf) -> None:
        self._range_of = range_of
        self._lock = threading.Condition()
        self._holders: set[Command] = set()
        self._parked: list[Parked] = []
        self.active = False  # a command holds its blocks or waits: call `ended` for each that ends

    def admit(self, command: Command, plan: Plan, under_way: set[Command], *, exclusive: bool) -> bool:
        """Whether the plan may run now; else it is parked until `released` hands it out."""
        self.active = True  # before `under_way` is read: commands that end from now on call `ended`
        with self._lock:
            rivals = set(self._holders).union(under_way) if exclusive else set(self._holders)
            rivals.update(parked.command for parked in self._parked)  # keep the order: it may be a write
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
        """Gives a command under way its blocks for itself: later ones wait for it. Returns what `ended` does,
        since the command may have ended before it could see `active`."""
        with self._lock:
            self.active = True
            self._holders.add(command)
        return command not in under_way and self.ended(command)

    def wait(self, command: Command) -> None:
        """Blocks until no other command has the blocks of this one for itself."""
        wanted = self._range_of(command)
        with self._lock:
            self._lock.wait_for(
                lambda: not any(overlap(self._range_of(holder), wanted) for holder in self._holders)
            )

    def ended(self, command: Command) -> bool:
        """The command has ended. True: a parked command may run: have the ring's thread call `released`."""
        with self._lock:
            self._holders.discard(command)
            for parked in self._parked:
                parked.blockers.discard(command)
            self._settle()
            self._lock.notify_all()
            return any(not parked.blockers for parked in self._parked)

    def released(self, under_way: set[Command]) -> list[Parked]:
        """Moves the parked commands that may run now to `under_way`; returns them in their order."""
        with self._lock:
            free = [parked for parked in self._parked if not parked.blockers]
            self._parked = [parked for parked in self._parked if parked.blockers]
            under_way.update(parked.command for parked in free)
            self._holders.update(parked.command for parked in free if parked.exclusive)
            self._settle()
            return free

    def waiting(self) -> list[Command]:
        """The parked commands. Any thread."""
        with self._lock:
            return [parked.command for parked in self._parked]

    def drop(self, unwanted: Callable[[Command], bool]) -> list[Command]:
        """Removes and returns unwanted parked commands. Call `ended` for each."""
        with self._lock:
            dropped = [parked.command for parked in self._parked if unwanted(parked.command)]
            self._parked = [parked for parked in self._parked if not unwanted(parked.command)]
            return dropped

    def forget(self) -> None:
        """The ring was reset: all its commands have been answered."""
        with self._lock:
            self._holders.clear()
            self._parked.clear()
            self._settle()
            self._lock.notify_all()

    def _settle(self) -> None:
        self.active = bool(self._holders or self._parked)

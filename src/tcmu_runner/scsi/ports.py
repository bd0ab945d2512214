"""Target ports and their groups (ALUA, SPC-5 5.18), as a front end provides them to a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from tcmu_runner.scsi.command import Nexus


class AccessState(IntEnum):
    """SPC-5 table 306."""

    ACTIVE_OPTIMIZED = 0x0
    ACTIVE_NON_OPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    LBA_DEPENDENT = 0x4
    OFFLINE = 0xE
    TRANSITIONING = 0xF


EVERY_STATE = frozenset(AccessState) - {AccessState.LBA_DEPENDENT}


@dataclass(frozen=True, slots=True)
class TargetPortGroup:
    """ports: relative target port identifiers. status: reason of the state (SPC-5 table 308): 0 none, 1 SET
    TARGET PORT GROUPS, 2 implicit."""

    id: int
    ports: Sequence[int]
    state: AccessState = AccessState.ACTIVE_OPTIMIZED
    supported: frozenset[AccessState] = EVERY_STATE
    preferred: bool = False
    status: int = 0


class TargetPorts(Protocol):
    """The ports through which a unit is reached. Methods may be called on any thread.

    implicit, explicit: which of the two ways of changing states the target supports. transition_seconds: the
    longest change; 0: not reported.
    """

    @property
    def implicit(self) -> bool: ...

    @property
    def explicit(self) -> bool: ...

    @property
    def transition_seconds(self) -> int: ...

    def groups(self) -> Sequence[TargetPortGroup]:
        """All groups, sorted by id."""

    def here(self, nexus: Nexus) -> tuple[int | None, int] | None:
        """(relative target port, group) of the port that a nexus uses; None for unknown values."""

    def set_state(self, group: int, state: AccessState) -> None:
        """Changes a group. May block; OSError when it cannot be done."""

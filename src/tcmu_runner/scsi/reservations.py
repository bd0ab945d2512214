"""Reservations, a pure state machine over nexuses: PERSISTENT RESERVE (SPC-5 5.13) and RESERVE (SPC-2 5.5).

Behind LIO the kernel keeps them and a unit has none. A method that changes something returns the unit
attentions that it causes, each with the I_T nexus that gets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    INVALID_RELEASE,
    REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED,
    ScsiError,
    ScsiStatusError,
    Sense,
    Status,
)

Who = tuple[bytes, int]
Notices = list[tuple[Who, Sense]]


class Access(IntEnum):
    """What a command does to a unit that another nexus has reserved, mildest first (SPC-5 table 68, SBC-4
    table 13). ALWAYS: no reservation conflicts. HARMLESS: RESERVE conflicts. READS: Exclusive Access
    conflicts, too. WRITES: every reservation of another nexus conflicts."""

    ALWAYS = 0
    HARMLESS = 1
    READS = 2
    WRITES = 3


class Type(IntEnum):
    """SPC-5 table 233."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8


WRITE_EXCLUSIVE = {
    Type.WRITE_EXCLUSIVE, Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS,
}  # fmt: skip
FOR_REGISTRANTS = {
    Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, Type.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
    Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS, Type.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
}  # fmt: skip
ALL_REGISTRANTS = {Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS, Type.EXCLUSIVE_ACCESS_ALL_REGISTRANTS}


def conflict() -> ScsiStatusError:
    return ScsiStatusError(Status.RESERVATION_CONFLICT)


@dataclass(slots=True)
class Reservations:
    """keys: reservation key of each registered I_T nexus, in order of registration. holder: of a reservation
    of a type with a single holder. reserved_by: the nexus that holds the unit by RESERVE(6) or (10)."""

    keys: dict[Who, int] = field(default_factory=dict)
    generation: int = 0
    type: Type | None = None
    holder: Who | None = None
    reserved_by: Nexus | None = None

    def check(self, nexus: Nexus, access: Access) -> None:
        """Raises RESERVATION CONFLICT for a command that another nexus's reservation forbids."""
        if access == Access.ALWAYS:
            return
        if self.reserved_by is not None and self.reserved_by is not nexus:
            raise conflict()
        if self.type is not None and not self._allows(self.type, nexus.who, access):
            raise conflict()

    def _allows(self, kind: Type, who: Who, access: Access) -> bool:
        if access <= (Access.READS if kind in WRITE_EXCLUSIVE else Access.HARMLESS):
            return True
        return who == self.holder or (kind in FOR_REGISTRANTS and who in self.keys)

    def holds(self, who: Who) -> bool:
        """Whether the nexus holds the reservation; of all-registrants types each one does (SPC-5 5.13.10)."""
        return self.type is not None and (who in self.keys if self._is_shared() else who == self.holder)

    def _is_shared(self) -> bool:
        return self.type in ALL_REGISTRANTS

    # SPC-2

    def reserve_unit(self, nexus: Nexus) -> None:
        """RESERVE(6) and (10). With registrations, allowed without effect for a holder (SPC-5 5.13.3,
        CRH)."""
        if self.reserved_by is not None and self.reserved_by is not nexus:
            raise conflict()
        if self.keys:
            if not self.holds(nexus.who):
                raise conflict()
            return
        self.reserved_by = nexus

    def release_unit(self, nexus: Nexus) -> None:
        """RELEASE(6) and (10), and the loss of a nexus: no effect if another nexus holds the unit."""
        if self.reserved_by is nexus:
            self.reserved_by = None

    # PERSISTENT RESERVE OUT

    def register(self, who: Who, key: int, new_key: int, *, ignore: bool) -> Notices:
        """REGISTER, and REGISTER AND IGNORE EXISTING KEY (SPC-5 5.13.7)."""
        if not ignore and key != self.keys.get(who, 0):
            raise conflict()
        self.generation += 1
        if new_key:
            self.keys[who] = new_key
            return []
        return self._unregister(who) if who in self.keys else []

    def _unregister(self, who: Who) -> Notices:
        """The reservation is released with its last holder (SPC-5 5.13.11.3)."""
        held, kind = self.holds(who), self.type
        del self.keys[who]
        if not held or (self._is_shared() and self.keys):
            return []
        self._forget()
        if kind not in FOR_REGISTRANTS:
            return []
        return [(other, RESERVATIONS_RELEASED) for other in self.keys]

    def _forget(self) -> None:
        self.type = self.holder = None

    def _check_registered(self, who: Who, key: int) -> None:
        if self.keys.get(who) != key:
            raise conflict()

    def reserve(self, who: Who, key: int, kind: Type) -> Notices:
        """RESERVE (SPC-5 5.13.9): a holder may repeat it."""
        self._check_registered(who, key)
        if self.type is not None and not (self.holds(who) and self.type == kind):
            raise conflict()
        self.type, self.holder = kind, None if kind in ALL_REGISTRANTS else who
        return []

    def release(self, who: Who, key: int, kind: Type) -> Notices:
        """RELEASE (SPC-5 5.13.11.2)."""
        self._check_registered(who, key)
        if not self.holds(who):
            return []
        if self.type != kind:
            raise ScsiError(INVALID_RELEASE)
        self._forget()
        if kind not in FOR_REGISTRANTS:
            return []
        return [(other, RESERVATIONS_RELEASED) for other in self.keys if other != who]

    def clear(self, who: Who, key: int) -> Notices:
        """CLEAR (SPC-5 5.13.11.6)."""
        self._check_registered(who, key)
        others = [other for other in self.keys if other != who]
        self.keys.clear()
        self._forget()
        self.generation += 1
        return [(other, RESERVATIONS_PREEMPTED) for other in others]

    def preempt(self, who: Who, key: int, victim: int, kind: Type | None) -> Notices:
        """PREEMPT (SPC-5 5.13.11.4): removes registrations with the key `victim`; takes the reservation over
        if one of them holds it, and only then uses `kind`. Nexuses that lose their registration get
        REGISTRATIONS PREEMPTED."""
        self._check_registered(who, key)
        takes_over = self._takes_over(victim)
        if takes_over and kind is None:
            raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
        victims = [other for other in self.keys if victim in (self.keys[other], 0)]
        if takes_over and who in victims:
            victims.remove(who)
        if not victims and not takes_over:
            raise conflict()
        self.generation += 1
        return self._remove(victims, who) + (self._replace(who, kind) if takes_over else [])

    def _remove(self, victims: list[Who], by: Who) -> Notices:
        for victim in victims:
            del self.keys[victim]
        if not self.keys:
            self._forget()
        return [(victim, REGISTRATIONS_PREEMPTED) for victim in victims if victim != by]

    def _takes_over(self, victim: int) -> bool:
        """Whether the key is the holder's (SPC-5 table 67); zero means all, for all-registrants types."""
        if self._is_shared():
            return victim == 0
        if victim == 0:
            raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(8, in_cdb=False))
        return self.holder is not None and self.keys[self.holder] == victim

    def _replace(self, who: Who, kind: Type | None) -> Notices:
        """Replaces the reservation; if its type changes, remaining registrants get RESERVATIONS RELEASED."""
        changed = self.type != kind
        self.type, self.holder = kind, None if kind in ALL_REGISTRANTS else who
        return [(other, RESERVATIONS_RELEASED) for other in self.keys if changed and other != who]

    def move(self, who: Who, key: int, new_key: int, to: Who, *, unregister: bool) -> Notices:
        """REGISTER AND MOVE (SPC-5 5.13.8): gives the reservation to another nexus, registered or not."""
        self._check_registered(who, key)
        if self._is_shared() or not self.holds(who):
            raise conflict()
        if not new_key or to == who:
            raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(8 if not new_key else 24, in_cdb=False))
        self.generation += 1
        self.keys[to] = new_key
        self.holder = to
        if unregister:
            del self.keys[who]
        return []

"""The state machine by itself; what commands make of it is in test_reserve.py."""

import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.reservations import Access, Notices, Reservations, Type
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError

Codes = list[tuple[tuple[bytes, int], tuple[int, int]]]

A, B, C = (b"a", 1), (b"b", 1), (b"c", 1)
NEXUS = {A: Nexus(b"a"), B: Nexus(b"b"), C: Nexus(b"c")}
RELEASED, PREEMPTED, REGISTRATIONS = (0x2A, 0x04), (0x2A, 0x03), (0x2A, 0x05)  # SPC-5 annex F


def with_keys(*who: tuple[bytes, int]) -> Reservations:
    """Each registered with a key of its own: 0xA for A, ..."""
    kept = Reservations()
    for each in who:
        kept.register(each, 0, KEY[each], ignore=False)
    return kept


KEY = {A: 0xA, B: 0xB, C: 0xC}


def codes(notices: Notices) -> Codes:
    return [(who, (sense.asc, sense.ascq)) for who, sense in notices]


def allowed(kept: Reservations, who: tuple[bytes, int], access: Access) -> bool:
    try:
        kept.check(NEXUS[who], access)
    except ScsiStatusError as error:
        assert error.status == 0x18
        return False
    return True


# SPC-5 table 68 and SBC-4 table 13: (type, who) -> may read, may write. B is registered, C is not.
MATRIX = [
    (1, A, True, True), (1, B, True, False), (1, C, True, False),
    (3, A, True, True), (3, B, False, False), (3, C, False, False),
    (5, A, True, True), (5, B, True, True), (5, C, True, False),
    (6, A, True, True), (6, B, True, True), (6, C, False, False),
    (7, A, True, True), (7, B, True, True), (7, C, True, False),
    (8, A, True, True), (8, B, True, True), (8, C, False, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "who", "reads", "writes"), MATRIX)
def test_who_may_do_what(kind: int, who: tuple[bytes, int], reads: bool, writes: bool) -> None:
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type(kind))
    assert allowed(kept, who, Access.READS) == reads
    assert allowed(kept, who, Access.WRITES) == writes
    assert allowed(kept, who, Access.HARMLESS)
    assert allowed(kept, who, Access.ALWAYS)


def test_registering() -> None:
    # SPC-5 5.13.7: unregistered: key 0; registered: the right key; PRGENERATION counts
    kept = Reservations()
    with pytest.raises(ScsiStatusError):
        kept.register(A, 5, 0xA, ignore=False)
    kept.register(A, 0, 0xA, ignore=False)
    with pytest.raises(ScsiStatusError):
        kept.register(A, 0, 0xAA, ignore=False)
    kept.register(A, 0xA, 0xAA, ignore=False)
    assert kept.keys == {A: 0xAA}
    kept.register(A, 7, 0xAB, ignore=True)
    assert kept.keys == {A: 0xAB}
    assert kept.generation == 3
    kept.register(A, 0xAB, 0, ignore=False)
    assert kept.keys == {}
    kept.register(A, 0, 0, ignore=False)  # unregistering the unregistered is no error
    assert kept.keys == {}


@pytest.mark.parametrize(("kind", "told"), [(1, []), (3, []), (5, [(B, RELEASED)]), (6, [(B, RELEASED)])])
def test_unregistering_the_holder_releases(kind: int, told: Codes) -> None:
    # SPC-5 5.13.11.3: with the types for registrants the others are told
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type(kind))
    assert codes(kept.register(A, 0xA, 0, ignore=False)) == told
    assert kept.type is None


@pytest.mark.parametrize("kind", [7, 8])
def test_a_reservation_of_all_goes_with_the_last(kind: int) -> None:
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type(kind))
    assert kept.register(A, 0xA, 0, ignore=False) == []
    assert kept.type == kind
    assert kept.holds(B)
    assert kept.register(B, 0xB, 0, ignore=False) == []
    assert kept.type is None


def test_reserving() -> None:
    # SPC-5 5.13.9: twice the same is no error, anything else a conflict
    kept = with_keys(A, B)
    with pytest.raises(ScsiStatusError):
        kept.reserve(A, 1, Type.WRITE_EXCLUSIVE)  # a wrong key
    with pytest.raises(ScsiStatusError):
        kept.reserve(C, 0, Type.WRITE_EXCLUSIVE)  # not registered
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ScsiStatusError):
        kept.reserve(A, 0xA, Type.EXCLUSIVE_ACCESS)
    with pytest.raises(ScsiStatusError):
        kept.reserve(B, 0xB, Type.WRITE_EXCLUSIVE)
    assert kept.generation == 2  # RESERVE does not count


@pytest.mark.parametrize(("kind", "told"), [(1, []), (3, []), (5, [B]), (6, [B]), (7, [B]), (8, [B])])
def test_releasing(kind: int, told: list[tuple[bytes, int]]) -> None:
    # SPC-5 5.13.11.2
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type(kind))
    assert codes(kept.release(A, 0xA, Type(kind))) == [(who, RELEASED) for who in told]
    assert kept.type is None


def test_releasing_what_one_does_not_hold() -> None:
    kept = with_keys(A, B)
    assert kept.release(A, 0xA, Type.WRITE_EXCLUSIVE) == []  # nothing is reserved
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert kept.release(B, 0xB, Type.WRITE_EXCLUSIVE) == []
    assert kept.type == Type.WRITE_EXCLUSIVE
    with pytest.raises(ScsiStatusError):
        kept.release(C, 0, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ScsiError) as raised:  # SPC-5 5.13.11.2: 5/26/04 INVALID RELEASE
        kept.release(A, 0xA, Type.EXCLUSIVE_ACCESS)
    assert (raised.value.sense.asc, raised.value.sense.ascq) == (0x26, 0x04)


def test_clearing() -> None:
    # SPC-5 5.13.11.6: RESERVATIONS PREEMPTED for all others
    kept = with_keys(A, B, C)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert codes(kept.clear(B, 0xB)) == [(A, PREEMPTED), (C, PREEMPTED)]
    assert (kept.keys, kept.type, kept.generation) == ({}, None, 4)


def test_preempting_a_reservation() -> None:
    # SPC-5 5.13.11.4: the holder's registration goes, the reservation is taken over
    kept = with_keys(A, B, C)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    notices = codes(kept.preempt(B, 0xB, 0xA, Type.EXCLUSIVE_ACCESS))
    assert notices == [(A, REGISTRATIONS), (C, RELEASED)]  # C stays, under another type of reservation
    assert kept.keys == {B: 0xB, C: 0xC}
    assert (kept.type, kept.holder) == (Type.EXCLUSIVE_ACCESS, B)


def test_preempting_with_the_same_type_tells_nobody_else() -> None:
    kept = with_keys(A, B, C)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert codes(kept.preempt(B, 0xB, 0xA, Type.WRITE_EXCLUSIVE)) == [(A, REGISTRATIONS)]


def test_preempting_oneself_changes_the_type() -> None:
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert codes(kept.preempt(A, 0xA, 0xA, Type.EXCLUSIVE_ACCESS)) == [(B, RELEASED)]
    assert kept.keys == {A: 0xA, B: 0xB}
    assert (kept.type, kept.holder) == (Type.EXCLUSIVE_ACCESS, A)


def test_preempting_a_registration() -> None:
    kept = with_keys(A, B, C)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert codes(kept.preempt(B, 0xB, 0xC, None)) == [(C, REGISTRATIONS)]
    assert (kept.type, kept.holder) == (Type.WRITE_EXCLUSIVE, A)
    with pytest.raises(ScsiStatusError):
        kept.preempt(B, 0xB, 0xDD, None)  # nobody has this key


def test_preempting_one_s_own_registration() -> None:
    kept = with_keys(A, B)
    assert kept.preempt(A, 0xA, 0xA, None) == []
    assert kept.keys == {B: 0xB}


def test_preempting_all_registrants() -> None:
    # SPC-5 5.13.11.4.3: a key of zero removes all others where all hold the reservation
    kept = with_keys(A, B, C)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS)
    notices = codes(kept.preempt(B, 0xB, 0, Type.WRITE_EXCLUSIVE))
    assert notices == [(A, REGISTRATIONS), (C, REGISTRATIONS)]
    assert (kept.keys, kept.type, kept.holder) == ({B: 0xB}, Type.WRITE_EXCLUSIVE, B)


def test_preempting_the_last_of_all_registrants_ends_the_reservation() -> None:
    kept = with_keys(A)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS)
    kept.preempt(A, 0xA, 0xA, None)
    assert (kept.keys, kept.type) == ({}, None)


def test_preempting_with_key_zero_needs_such_a_reservation() -> None:
    kept = with_keys(A, B)
    with pytest.raises(ScsiError) as raised:
        kept.preempt(A, 0xA, 0, Type.WRITE_EXCLUSIVE)
    assert raised.value.sense.asc == 0x26


def test_taking_over_needs_a_type() -> None:
    kept = with_keys(A, B)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ScsiError) as raised:
        kept.preempt(B, 0xB, 0xA, None)
    assert raised.value.sense.asc == 0x24
    assert kept.keys == {A: 0xA, B: 0xB}


def test_moving_a_reservation() -> None:
    # SPC-5 5.13.8
    kept = with_keys(A)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    assert kept.move(A, 0xA, 0xC, C, unregister=True) == []
    assert (kept.keys, kept.holder, kept.type) == ({C: 0xC}, C, Type.WRITE_EXCLUSIVE)
    assert kept.generation == 2


def test_moving_a_reservation_and_staying_registered() -> None:
    kept = with_keys(A)
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    kept.move(A, 0xA, 0xC, C, unregister=False)
    assert kept.keys == {A: 0xA, C: 0xC}
    assert kept.holder == C


def test_moving_what_cannot_be_moved() -> None:
    kept = with_keys(A, B)
    with pytest.raises(ScsiStatusError):
        kept.move(A, 0xA, 0xC, C, unregister=False)  # nothing is reserved
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ScsiStatusError):
        kept.move(B, 0xB, 0xC, C, unregister=False)  # another holds it
    for key, to in ((0, C), (0xC, A)):
        with pytest.raises(ScsiError):
            kept.move(A, 0xA, key, to, unregister=False)


def test_reserve_and_release_of_old() -> None:
    # SPC-2 5.5.1: everyone else gets RESERVATION CONFLICT but for the harmless few
    kept = Reservations()
    kept.reserve_unit(NEXUS[A])
    kept.reserve_unit(NEXUS[A])
    assert allowed(kept, A, Access.WRITES)
    assert not allowed(kept, B, Access.HARMLESS)
    assert allowed(kept, B, Access.ALWAYS)
    with pytest.raises(ScsiStatusError):
        kept.reserve_unit(NEXUS[B])
    kept.release_unit(NEXUS[B])
    assert not allowed(kept, B, Access.HARMLESS)
    kept.release_unit(NEXUS[A])
    assert allowed(kept, B, Access.WRITES)


def test_reserve_beside_registrations() -> None:
    # SPC-5 5.13.3 (CRH): GOOD without effect for the holder, a conflict for all others
    kept = with_keys(A, B)
    with pytest.raises(ScsiStatusError):
        kept.reserve_unit(NEXUS[A])
    kept.reserve(A, 0xA, Type.WRITE_EXCLUSIVE)
    kept.reserve_unit(NEXUS[A])
    assert kept.reserved_by is None
    with pytest.raises(ScsiStatusError):
        kept.reserve_unit(NEXUS[B])

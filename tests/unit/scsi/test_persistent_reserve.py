import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Read, Write
from tcmu_runner.scsi.reservations import Reservations
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import Ending, disk, play

READ, WRITE = "28 00 00000000 00 0001 00", "2a 00 00000000 00 0001 00"
TEST_UNIT_READY = "00 00 00 00 00 00"
KEY, OTHER_KEY = "00000000000000aa", "00000000000000bb"
NO_KEY = "00" * 8
BASIC = "{} {} 00000000 {:02x} 00 0000"  # SPC-5 table 239
CONFLICT = 0x18


def shared() -> tuple[Unit, Nexus, Nexus]:
    """A unit that keeps reservations, and two initiators."""
    unit = disk()
    unit.reservations = Reservations()
    one, other = Nexus(b"\x45\x00\x00\x04one\x00"), Nexus(b"\x45\x00\x00\x04two\x00", port=2)
    unit.connect(one)
    unit.connect(other)
    return unit, one, other


def out(
    unit: Unit, nexus: Nexus, action: int, key: str, new_key: str = NO_KEY, *, kind: int = 0, flags: int = 0
) -> Ending:
    parameters = bytes.fromhex(BASIC.format(key, new_key, flags))
    cdb = bytes((0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0))
    return play(unit, cdb, out=parameters, nexus=nexus)


def told(unit: Unit, nexus: Nexus, action: int, allocation: int = 8192) -> str:
    cdb = bytes((0x5E, action, 0, 0, 0, 0, 0)) + allocation.to_bytes(2, "big") + b"\0"
    return play(unit, cdb, room=8192, nexus=nexus).data.hex(" ", 4)


def test_without_reservations_of_its_own_a_unit_has_no_such_commands() -> None:
    for cdb in (
        "16 00 00 0000 00",
        "17 00 00 0000 00",
        "5e 00 0000000000 0008 00",
        "5f 00 00 0000 00000018 00",
    ):
        assert play(disk(), cdb).triple == "5/20/00"


def test_reading_keys() -> None:
    # SPC-5 table 225: PRGENERATION, ADDITIONAL LENGTH, keys
    unit, one, other = shared()
    assert told(unit, one, 0) == "00000000 00000000"
    assert out(unit, one, 0x00, NO_KEY, KEY).status == 0
    assert out(unit, other, 0x06, NO_KEY, OTHER_KEY).status == 0
    assert told(unit, one, 0) == f"00000002 00000010 {KEY[:8]} {KEY[8:]} {OTHER_KEY[:8]} {OTHER_KEY[8:]}"
    # an allocation length that is too short cuts the list, not ADDITIONAL LENGTH
    assert told(unit, one, 0, 8) == "00000002 00000010"


def test_reading_the_reservation() -> None:
    # SPC-5 table 228: key, obsolete, SCOPE 0 and TYPE in byte 21
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    assert told(unit, one, 1) == "00000001 00000000"
    assert out(unit, one, 0x01, KEY, kind=5).status == 0
    assert told(unit, one, 1) == "00000001 00000010 00000000 000000aa 00000000 00050000"


def test_a_reservation_of_all_registrants_shows_no_key() -> None:
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=7)
    assert told(unit, one, 1) == "00000001 00000010 00000000 00000000 00000000 00070000"


def test_capabilities() -> None:
    # SPC-5 table 231: length 8; CRH 10h, neither SIP_C, ATP_C nor PTPL_C; TMV 80h; all six types
    unit, one, _ = shared()
    assert told(unit, one, 2) == "00081080 ea010000"


def test_full_status() -> None:
    # SPC-5 tables 235 and 236
    unit, one, other = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, other, 0x00, NO_KEY, OTHER_KEY)
    out(unit, one, 0x01, KEY, kind=1)
    assert told(unit, one, 3) == (
        "00000002 00000040 "
        "00000000 000000aa 00000000 01010000 00000001 00000008 45000004 6f6e6500 "
        "00000000 000000bb 00000000 00000000 00000002 00000008 45000004 74776f00"
    )


def test_an_unregistered_nexus_cannot_do_anything() -> None:
    unit, one, _ = shared()
    for action in (0x01, 0x02, 0x03, 0x04, 0x05):
        assert out(unit, one, action, KEY, OTHER_KEY, kind=1).status == CONFLICT


@pytest.mark.parametrize("flags", [0x08, 0x04, 0x01])
def test_options_that_are_not_announced_are_refused(flags: int) -> None:
    # SPEC_I_PT, ALL_TG_PT, APTPL: 5/26/00
    unit, one, _ = shared()
    assert out(unit, one, 0x00, NO_KEY, KEY, flags=flags).triple == "5/26/00"


@pytest.mark.parametrize("size", [0, 23, 25])
def test_the_parameter_list_has_24_bytes(size: int) -> None:
    # SPC-5 6.16.1: 5/1A/00 otherwise
    unit, one, _ = shared()
    cdb = bytes((0x5F, 0, 0, 0, 0)) + size.to_bytes(4, "big") + b"\0"
    assert play(unit, cdb, out=bytes(size), nexus=one).triple == "5/1A/00"


@pytest.mark.parametrize("kind", [0, 2, 4, 9, 0x11, 0xF1])
def test_unknown_types_and_scopes(kind: int) -> None:
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    assert out(unit, one, 0x01, KEY, kind=kind).triple == "5/24/00"


def test_a_reservation_keeps_others_out() -> None:
    unit, one, other = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=3)
    assert play(unit, READ, room=512, nexus=other).status == CONFLICT
    assert play(unit, WRITE, out=bytes(512), nexus=other).status == CONFLICT
    assert play(unit, TEST_UNIT_READY, nexus=other).status == 0
    assert play(unit, "12 00 00 0024 00", room=36, nexus=other).status == 0
    assert play(unit, READ, (Read, bytes(512)), room=512, nexus=one).status == 0
    assert play(unit, WRITE, (Write, None), out=bytes(512), nexus=one).status == 0
    assert told(unit, other, 0) == "00000001 00000008 00000000 000000aa"


# SPC-5 table 68 and SBC-4 table 13, for a nexus that is not registered: refused under Write Exclusive,
# refused under Exclusive Access
COMMANDS = [
    ("12 00 00 0024 00", False, False),  # INQUIRY
    ("00 00 00 00 00 00", False, False),  # TEST UNIT READY
    ("03 00 00 00 12 00", False, False),  # REQUEST SENSE
    ("4d 00 40 00 00 0000 00ff 00", False, False),  # LOG SENSE
    ("25 00 00000000 0000 00 00", False, False),  # READ CAPACITY(10)
    ("9e 10 0000000000000000 00000020 00 00", False, False),  # READ CAPACITY(16)
    ("1b 00 00 00 01 00", False, False),  # START STOP UNIT, START
    ("5e 00 0000000000 0008 00", False, False),  # PERSISTENT RESERVE IN
    ("1a 08 3f 00 ff 00", False, True),  # MODE SENSE(6)
    ("3c 03 00 000000 000004 00", False, True),  # READ BUFFER
    ("1c 00 00 0010 00", False, True),  # RECEIVE DIAGNOSTIC RESULTS
    ("84 03 00 00000000000000 000000ff 00 00", False, True),  # RECEIVE COPY RESULTS
    ("a3 0c 00 00 0000 00000100 00 00", False, True),  # REPORT SUPPORTED OPERATION CODES
    ("28 00 00000000 00 0000 00", False, True),  # READ(10)
    ("34 00 00000000 00 0001 00", False, True),  # PRE-FETCH(10)
    ("2f 00 00000000 00 0000 00", False, True),  # VERIFY(10)
    ("9e 12 0000000000000000 00000020 00 00", False, True),  # GET LBA STATUS
    ("37 00 18 00000000 0004 00", False, True),  # READ DEFECT DATA(10)
    ("15 10 00 00 00 00", True, True),  # MODE SELECT(6)
    ("4c 00 00 00 000000 0000 00", True, True),  # LOG SELECT
    ("1d 04 00 0000 00", True, True),  # SEND DIAGNOSTIC
    ("3b 02 00 000000 000000 00", True, True),  # WRITE BUFFER
    ("1b 00 00 00 00 00", True, True),  # START STOP UNIT, stop
    ("2a 00 00000000 00 0000 00", True, True),  # WRITE(10)
    ("35 00 00000000 00 0000 00", True, True),  # SYNCHRONIZE CACHE(10)
    ("42 00 00000000 00 0000 00", True, True),  # UNMAP
    ("41 00 00000000 00 0001 00", True, True),  # WRITE SAME(10)
    ("89 00 0000000000000000 000000 00 00 00", True, True),  # COMPARE AND WRITE
    ("8b 00 0000000000000000 00000000 00 00", True, True),  # ORWRITE(16)
    ("83 00 0000000000000000 00000000 00 00", True, True),  # EXTENDED COPY
    ("04 00 00 0000 00", True, True),  # FORMAT UNIT
    ("48 02 0000000000 0000 00", True, True),  # SANITIZE
]


@pytest.mark.parametrize(("cdb", "refused_by_write_exclusive", "refused_by_exclusive_access"), COMMANDS)
def test_the_table_of_conflicts(
    cdb: str, refused_by_write_exclusive: bool, refused_by_exclusive_access: bool
) -> None:
    for kind, refused in ((1, refused_by_write_exclusive), (3, refused_by_exclusive_access)):
        unit, one, other = shared()
        out(unit, one, 0x00, NO_KEY, KEY)
        out(unit, one, 0x01, KEY, kind=kind)
        assert begins(unit, cdb, other) != refused


def begins(unit: Unit, cdb: str, nexus: Nexus) -> bool:
    try:
        unit.begin(Command(bytes.fromhex(cdb), [memoryview(bytearray(512))], nexus))
    except ScsiStatusError:
        return False
    except ScsiError as error:
        raise AssertionError(error.sense) from error
    return True


def test_preempting_tells_and_aborts() -> None:
    # SPC-5 5.13.11.4 and 5.13.11.5
    unit, one, other = shared()
    aborted: list[Nexus] = []
    unit.abort = aborted.append
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, other, 0x00, NO_KEY, OTHER_KEY)
    out(unit, one, 0x01, KEY, kind=1)
    assert out(unit, other, 0x05, OTHER_KEY, KEY, kind=1).status == 0
    assert aborted == [one]
    assert play(unit, TEST_UNIT_READY, nexus=one).triple == "6/2A/05"  # REGISTRATIONS PREEMPTED
    assert play(unit, WRITE, out=bytes(512), nexus=one).status == CONFLICT
    assert play(unit, WRITE, (Write, None), out=bytes(512), nexus=other).status == 0


def test_preempting_without_aborting() -> None:
    unit, one, other = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, other, 0x00, NO_KEY, OTHER_KEY)
    assert out(unit, other, 0x04, OTHER_KEY, KEY).status == 0
    assert play(unit, TEST_UNIT_READY, nexus=one).triple == "6/2A/05"
    assert out(unit, other, 0x05, OTHER_KEY, OTHER_KEY).status == 0  # nobody to abort, and nobody to do it


def test_clearing_tells() -> None:
    unit, one, other = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, other, 0x00, NO_KEY, OTHER_KEY)
    assert out(unit, other, 0x03, OTHER_KEY).status == 0
    assert play(unit, TEST_UNIT_READY, nexus=one).triple == "6/2A/03"  # RESERVATIONS PREEMPTED
    assert play(unit, TEST_UNIT_READY, nexus=other).status == 0


def test_releasing_tells() -> None:
    unit, one, other = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, other, 0x00, NO_KEY, OTHER_KEY)
    out(unit, one, 0x01, KEY, kind=5)
    assert out(unit, one, 0x02, KEY, kind=5).status == 0
    assert play(unit, TEST_UNIT_READY, nexus=other).triple == "6/2A/04"  # RESERVATIONS RELEASED


def move(unit: Unit, nexus: Nexus, parameters: str) -> Ending:
    data = bytes.fromhex(parameters)
    cdb = bytes((0x5F, 0x07, 0x01, 0, 0)) + len(data).to_bytes(4, "big") + b"\0"
    return play(unit, cdb, out=data, nexus=nexus)


TRANSPORT_ID = "45 00 0014" + b"iqn.2026-11.x:y\0\0\0\0\0".hex()


def test_register_and_move() -> None:
    # SPC-5 table 241: keys, UNREG in byte 17, port in 18 and 19, TransportID length, TransportID
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=1)
    assert move(unit, one, f"{KEY} {OTHER_KEY} 00 02 0003 00000018 {TRANSPORT_ID}").status == 0
    assert unit.reservations is not None
    assert unit.reservations.holder == (bytes.fromhex(TRANSPORT_ID), 3)
    assert len(unit.reservations.keys) == 1
    third = Nexus(bytes.fromhex(TRANSPORT_ID), 3)
    assert play(unit, WRITE, (Write, None), out=bytes(512), nexus=third).status == 0
    assert play(unit, WRITE, out=bytes(512), nexus=one).status == CONFLICT


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("00" * 20, "5/1A/00"),
        (f"{KEY} {OTHER_KEY} 00 00 0003 00000018", "5/1A/00"),
        (f"{KEY} {OTHER_KEY} 00 00 0003 00000010 {TRANSPORT_ID}", "5/1A/00"),
        (f"{KEY} {OTHER_KEY} 00 01 0003 00000018 {TRANSPORT_ID}", "5/26/00"),  # APTPL
        (f"{KEY} {NO_KEY} 00 00 0003 00000018 {TRANSPORT_ID}", "5/26/00"),
    ],
)
def test_wrong_moves(parameters: str, why: str) -> None:
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=1)
    assert move(unit, one, parameters).triple == why


def test_a_reservation_of_all_cannot_be_moved() -> None:
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=7)
    parameters = f"{KEY} {OTHER_KEY} 00 00 0003 00000018 {TRANSPORT_ID}"
    assert move(unit, one, parameters).status == CONFLICT


@pytest.mark.parametrize(("reserve", "release"), [("16 00 00 0000 00", "17 00 00 0000 00"),
                                                  ("56" + "00" * 9, "57" + "00" * 9)])  # fmt: skip
def test_reserve_and_release(reserve: str, release: str) -> None:
    # SPC-2 table 9: of these commands only the others' INQUIRY and the like go on
    unit, one, other = shared()
    assert play(unit, reserve, nexus=one).status == 0
    for cdb in (TEST_UNIT_READY, READ, reserve, "5e 00 0000000000 0008 00", "1a 08 3f 00 ff 00"):
        assert play(unit, cdb, room=255, nexus=other).status == CONFLICT, cdb
    for cdb in ("12 00 00 0024 00", "03 00 00 00 12 00", release):
        assert play(unit, cdb, room=255, nexus=other).status == 0, cdb
    assert play(unit, TEST_UNIT_READY, nexus=other).status == CONFLICT
    assert play(unit, release, nexus=one).status == 0
    assert play(unit, TEST_UNIT_READY, nexus=other).status == 0


def test_a_reservation_of_old_ends_with_the_nexus_and_with_a_reset() -> None:
    for resets in (False, True):
        unit, one, other = shared()
        play(unit, "16 00 00 0000 00", nexus=one)
        if resets:
            unit.reset()
        else:
            unit.disconnect(one)
        other.attentions.clear()
        assert play(unit, TEST_UNIT_READY, nexus=other).status == 0


def test_registrations_outlive_the_nexus_and_a_reset() -> None:
    # SPC-5 5.13.5: neither a loss of the I_T nexus nor a reset changes them
    unit, one, _ = shared()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=1)
    unit.disconnect(one)
    unit.reset()
    again = Nexus(one.initiator, one.port)
    unit.connect(again)
    assert play(unit, WRITE, (Write, None), out=bytes(512), nexus=again).status == 0


def test_the_order_of_checks() -> None:
    # SAM-5 5.3.3: a unit attention before RESERVATION CONFLICT before any other error
    unit, one, other = shared()
    unit.capabilities = Capabilities()
    out(unit, one, 0x00, NO_KEY, KEY)
    out(unit, one, 0x01, KEY, kind=1)
    unit.resize(unit.size * 2)
    assert play(unit, WRITE, out=bytes(512), nexus=other).triple == "6/2A/09"
    assert play(unit, WRITE, out=bytes(512), nexus=other).status == CONFLICT

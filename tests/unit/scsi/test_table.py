import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.unit import Unit

from .play import disk, play


@pytest.mark.parametrize("opcode", range(256))
def test_every_opcode_is_answered_at_once(opcode: int) -> None:
    """prior-art 2.1 #8: opcodes C0 to FF and the reserved group never got an answer."""
    for length in (6, 10, 12, 16, 32):
        cdb = bytes((opcode,)) + bytes(length - 1)
        unit = disk()
        outcome = _ending(unit, cdb)
        assert outcome in (0x00, 0x02)


def _ending(unit: Unit, cdb: bytes) -> int:
    try:
        unit.begin(Command(cdb, [memoryview(bytearray(4096))], Nexus()))
    except ScsiError:
        return 2
    return 0


@pytest.mark.parametrize("opcode", [0xC0, 0xFF, 0x60, 0x02, 0x7E])
def test_an_unknown_opcode_is_an_invalid_command_operation_code(opcode: int) -> None:
    # SPC-5 4.2.1.2 and annex F: 5/20/00 INVALID COMMAND OPERATION CODE; prior-art 2.1 #8
    assert play(disk(), bytes((opcode,)) + bytes(15)).triple == "5/20/00"


@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7, 9, 10, 11, 12, 15, 16, 31, 32, 260])
def test_a_cdb_of_any_length_is_answered(length: int) -> None:
    """prior-art 2.1 #9: helpers aborted the process on a CDB that was not 6, 10, 12 or 16 bytes long."""
    for opcode in (0x00, 0x28, 0x7F, 0x9E, 0xA3, 0xC1):
        cdb = (bytes((opcode,)) + bytes(259))[:length]
        assert _ending(disk(), cdb) in (0x00, 0x02)


def test_an_unknown_service_action_points_at_it() -> None:
    # SPC-5 4.2.1.3: an unsupported service action is 5/24/00; the pointer shows byte 1
    outcome = play(disk(), "9e 1f 0000000000000000 00000000 00 00")
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex(" ") == "c0 00 01"


@pytest.mark.parametrize("high_bits", [0x20, 0x40, 0x80, 0xE0])
def test_reserved_bits_beside_a_service_action_are_seen(high_bits: int) -> None:
    """prior-art 2.1 #12: the service action of MAINTENANCE commands was compared unmasked."""
    cdb = bytes((0xA3, high_bits | 0x0C)) + bytes.fromhex("00 00 0000 00000100 00 00")
    outcome = play(disk(), cdb, room=256)
    assert outcome.triple == "5/24/00"  # found by its service action, and refused for the reserved bits


def test_naca_is_refused() -> None:
    # SAM-5 5.2: NACA with NORMACA clear is INVALID FIELD IN CDB, here byte 5 bit 2
    outcome = play(disk(), "00 00 00 00 00 04")
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex(" ") == "ca 00 05"

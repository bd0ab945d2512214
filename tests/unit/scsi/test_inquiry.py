"""What a unit says of itself."""

import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.sense import CAPACITY_CHANGED
from tcmu_runner.scsi.unit import Capabilities, Identity, Unit
from tcmu_runner.testing.play import Ending, disk, play


def test_standard_data() -> None:
    data = play(disk(), "12 00 00 00ff 00", room=255).data
    # SPC-5 6.7.2 table 146
    assert data[0] == 0x00  # connected, direct access block device
    assert data[1] & 0x80 == 0  # not removable
    assert data[2] == 0x06  # VERSION: SPC-4; initiators take 07h for an error
    assert data[3] & 0x0F == 2  # RESPONSE DATA FORMAT
    assert data[4] == len(data) - 5  # ADDITIONAL LENGTH
    assert data[7] & 0x02  # CMDQUE
    assert data[8:16] == b"LIO-ORG "
    assert data[16:32] == b"TCMU device     "
    assert len(data[32:36]) == 4


def test_version_descriptors() -> None:
    # SPC-5 table 149, each without a version claimed
    data = play(disk(), "12 00 00 00ff 00", room=255).data
    found = {data[at : at + 2].hex() for at in range(58, 74, 2)} - {"0000"}
    assert {"00a0", "0460", "05c0", "04c0", "0600"} <= found  # SAM-5, SPC-4, SPC-5, SBC-3, SBC-4


def test_names_are_cut_and_padded() -> None:
    unit = disk(identity=Identity(vendor="FAR-TOO-LONG", product="x", revision="é"))
    data = play(unit, "12 00 00 0024 00", room=36).data
    assert data[8:36] == b"FAR-TOO-x               ?   "


@pytest.mark.parametrize("allocation", [0, 5, 36, 255])
def test_the_answer_leaks_nothing_behind_it(allocation: int) -> None:
    """The C daemon returns what an earlier command left in the buffer (INQUIRY with a long allocation)."""
    cdb = bytes((0x12, 0, 0)) + allocation.to_bytes(2, "big") + b"\0"
    whole = play(disk(), "12 00 00 00ff 00", room=255).data
    assert play(disk(), cdb, room=255).data == whole[:allocation]


def test_a_page_code_without_evpd_is_refused() -> None:
    # SPC-5 6.7.1
    assert play(disk(), "12 00 83 00ff 00", room=255).triple == "5/24/00"


def test_an_unknown_page_is_refused() -> None:
    assert play(disk(), "12 01 5a 00ff 00", room=255).triple == "5/24/00"


def test_read_capacity_10() -> None:
    # SBC-4 5.20.2 table 73: last LBA, block length
    outcome = play(disk(blocks=0x1000), "25 00 00000000 0000 00 00", room=8)
    assert outcome.data.hex(" ") == "00 00 0f ff 00 00 02 00"


def test_read_capacity_10_of_a_disk_that_needs_more_than_32_bits() -> None:
    # SBC-4 5.20.2: FFFFFFFFh tells to use READ CAPACITY(16)
    for blocks in (1 << 32, (1 << 32) + 1, 1 << 40):
        outcome = play(disk(blocks=blocks), "25 00 00000000 0000 00 00", room=8)
        assert outcome.data[:4].hex() == "ffffffff"


def test_read_capacity_10_just_below() -> None:
    outcome = play(disk(blocks=0xFFFFFFFF), "25 00 00000000 0000 00 00", room=8)
    assert outcome.data[:4].hex() == "fffffffe"


def test_read_capacity_16() -> None:
    # SBC-4 5.21.2 table 76: 8 bytes last LBA, 4 bytes block length, byte 14: LBPME 80h, LBPRZ 40h
    outcome = play(disk(blocks=1 << 33, block_size=4096), "9e 10 0000000000000000 00000020 00 00", room=32)
    assert outcome.data.hex(" ", 4) == (
        "00000001 ffffffff 00001000 0000c000 00000000 00000000 00000000 00000000"
    )


def test_read_capacity_16_without_unmap_announces_no_thin_provisioning() -> None:
    # prior-art 1.5: the C daemon sets LBPME and LBPRZ even where UNMAP is not possible
    outcome = play(disk(Capabilities(write=True)), "9e 10 0000000000000000 00000020 00 00", room=32)
    assert outcome.data[14] == 0


def test_read_capacity_16_is_cut_to_the_allocation_length() -> None:
    # SPC-5 4.2.5.6: at most ALLOCATION LENGTH bytes, zero is not an error
    for allocation in (0, 1, 8, 31, 32):
        cdb = bytes.fromhex("9e 10 0000000000000000") + allocation.to_bytes(4, "big") + b"\0\0"
        assert len(play(disk(), cdb, room=64).data) == allocation


def test_the_answer_ends_with_the_buffer() -> None:
    # tcmu-abi 8.3: what the fabric gives is less than what the CDB says
    outcome = play(disk(), "9e 10 0000000000000000 00000020 00 00", room=12)
    assert outcome.data.hex() == "00000000000003ff00000200"


def test_the_address_of_old_standards_without_pmi() -> None:
    # SBC-2 5.10.1: LOGICAL BLOCK ADDRESS without PMI is 5/24/00; LIO refuses it, too
    outcome = play(disk(), "25 00 00000001 0000 00 00", room=8)
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex(" ") == "c0 00 02"


def test_pmi_of_old_standards() -> None:
    # SBC-2 5.10.1: the last block before a delay in data transfer; there is none but the last block of all
    plain = play(disk(), "25 00 00000000 0000 00 00", room=8).data
    for address in ("00000000", "00000001"):
        assert play(disk(), f"25 00 {address} 0000 01 00", room=8).data == plain
    cdb = "9e 10 0000000000000001 00000020 {:02x} 00"
    assert play(disk(), cdb.format(0), room=32).data == play(disk(), cdb.format(1), room=32).data


READ_10_USAGE = "28 18 ff ff ff ff 00 ff ff 00"  # SPC-4 6.35: no one for GROUP NUMBER, which is ignored


def one(unit: Unit, option: int, opcode: int, action: int = 0) -> Ending:
    cdb = bytes((0xA3, 0x0C, option, opcode)) + action.to_bytes(2, "big") + (512).to_bytes(4, "big") + b"\0\0"
    return play(unit, cdb, room=512)


def every(unit: Unit, *, timeouts: bool = False) -> dict[tuple[int, int | None], int]:
    cdb = bytes((0xA3, 0x0C, 0x80 if timeouts else 0, 0, 0, 0)) + (8192).to_bytes(4, "big") + b"\0\0"
    data = play(unit, cdb, room=8192).data
    assert int.from_bytes(data[:4], "big") == len(data) - 4  # SPC-5 table 300: COMMAND DATA LENGTH
    found: dict[tuple[int, int | None], int] = {}
    at = 4
    while at < len(data):
        # SPC-5 table 301: opcode, reserved, service action, reserved, SERVACTV 01h and CTDP 02h, CDB length
        opcode, _, high, low, _, flags, *length = data[at : at + 8]
        found[opcode, high << 8 | low if flags & 1 else None] = length[0] << 8 | length[1]
        assert bool(flags & 0x02) == timeouts
        at += 8
        if timeouts:
            assert data[at : at + 2].hex() == "000a"  # SPC-5 table 304: descriptor length
            at += 12
    return found


def test_all_commands() -> None:
    found = every(disk())
    assert found[0x28, None] == 10
    assert found[0x9E, 0x10] == 16
    assert found[0xA3, 0x0C] == 12
    assert list(found) == sorted(found, key=lambda key: (key[0], key[1] or 0))
    assert every(disk(), timeouts=True) == found


def test_only_what_the_unit_offers_is_reported() -> None:
    assert (0x42, None) in every(disk())
    assert (0x42, None) not in every(disk(Capabilities(write=True)))


def test_what_is_reported_is_answered() -> None:
    # announced = implemented: no reported command ends in INVALID COMMAND OPERATION CODE
    for capabilities in (Capabilities(), Capabilities(write=True)):
        unit = disk(capabilities)
        for (opcode, action), size in every(unit).items():
            cdb = bytearray(size)
            cdb[0] = opcode
            if action is not None and opcode == 0x7F:
                cdb[7], cdb[8:10] = size - 8, action.to_bytes(2, "big")
            elif action is not None:
                cdb[1] = action
            assert one(unit, 3, opcode, action or 0).data[1] & 7 == 3


def test_one_command() -> None:
    # SPC-5 table 303: reserved, SUPPORT 011b, CDB size, then the usage data
    assert one(disk(), 1, 0x28).data.hex(" ") == "00 03 00 0a " + READ_10_USAGE


def test_one_command_with_timeouts() -> None:
    data = one(disk(), 0x81, 0x28).data
    assert data[1] == 0x83  # CTDP
    assert data[14:16].hex() == "000a"
    assert len(data) == 14 + 12


def test_one_service_action() -> None:
    data = one(disk(), 2, 0x9E, 0x10).data
    assert data[:4].hex(" ") == "00 03 00 10"
    assert data[4:6].hex(" ") == "9e 10"


def test_a_command_that_is_not_supported() -> None:
    # SPC-4 6.35: SUPPORT 001b, and then no CDB
    assert one(disk(), 1, 0xC1).data.hex(" ") == "00 01 00 00"
    assert one(disk(), 3, 0xC1).data.hex(" ") == "00 01 00 00"
    assert one(disk(), 2, 0x9E, 0x1F).data.hex(" ") == "00 01 00 00"
    assert one(disk(), 3, 0x28, 1).data.hex(" ") == "00 01 00 00"


def test_options_that_do_not_fit_the_opcode() -> None:
    # SPC-5 table 299: 001b with service actions, 010b without: 5/24/00
    assert one(disk(), 1, 0x9E).triple == "5/24/00"
    assert one(disk(), 2, 0x28).triple == "5/24/00"


@pytest.mark.parametrize("option", [4, 5, 6, 7])
def test_reserved_options(option: int) -> None:
    assert one(disk(), option, 0x28).triple == "5/24/00"


def test_usage_data_has_ones_where_a_bit_is_evaluated() -> None:
    """SPC-4 6.35: a bit that is ignored or treated as reserved is zero, all bits of a field are alike."""
    unit = disk()
    unit.removable = True
    # an address without PMI is refused; SYNC_NV is ignored; PREVENT has two bits
    assert one(unit, 1, 0x25).data[4:].hex(" ") == "25 00 ff ff ff ff 00 00 01 00"
    assert one(unit, 1, 0x35).data[4:].hex(" ") == "35 02 ff ff ff ff 00 ff ff 00"
    assert one(unit, 1, 0x1E).data[4:].hex(" ") == "1e 00 00 00 03 00"


def test_task_management_functions() -> None:
    # SPC-5 table 309: ATS 80h, LURS 08h; 12 more bytes with REPD
    unit = disk()
    assert play(unit, "a3 0d 00 000000 00000010 00 00", room=16).data.hex() == "88000000"
    assert play(unit, "a3 0d 80 000000 00000010 00 00", room=16).data.hex() == "8800000c" + "00" * 12
    unit.task_management = b"\xfe\x01"
    assert play(unit, "a3 0d 00 000000 00000010 00 00", room=16).data.hex() == "fe010000"


def luns(unit: Unit, select: int) -> Ending:
    return play(unit, bytes((0xA0, 0, select, 0, 0, 0)) + (1024).to_bytes(4, "big") + b"\0\0", room=1024)


def test_luns() -> None:
    # SPC-5 table 296 and SAM-5 4.7.7: peripheral addressing up to 255, flat space addressing (01b) above
    unit = disk()
    unit.luns = lambda: [0, 1, 255, 256, 16383]
    assert luns(unit, 0).data.hex(" ", 8) == (
        "0000002800000000 0000000000000000 0001000000000000 00ff000000000000 "
        "4100000000000000 7fff000000000000"
    )
    assert luns(unit, 2).data == luns(unit, 0).data
    for none in (0x01, 0x10, 0x11, 0x12):
        assert luns(unit, none).data == bytes(8)
    assert luns(unit, 3).triple == "5/24/00"


def test_without_luns_the_target_in_front_answers() -> None:
    # tcmu-abi 4.5: the kernel answers REPORT LUNS; it is announced, since initiators get an answer
    unit = disk()
    assert luns(unit, 0).triple == "5/20/00"
    assert (0xA0, None) not in every(unit)
    unit.answered_by_target = frozenset({0xA0})
    assert (0xA0, None) in every(unit)


def test_report_luns_leaves_a_unit_attention_pending() -> None:
    # SPC-5 6.33 and SAM-5 5.14
    unit, nexus = disk(), Nexus()
    unit.luns = lambda: [0]
    nexus.queue_unit_attention(CAPACITY_CHANGED)
    cdb = "a0 00 00 000000 00000010 00 00"
    assert play(unit, cdb, room=16, nexus=nexus).status == 0
    assert play(unit, "00 00 00 00 00 00", nexus=nexus).triple == "6/2A/09"

from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.play import disk, play


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

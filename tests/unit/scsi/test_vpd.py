import pytest

from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Table
from tcmu_runner.scsi.unit import Capabilities, Identity, Limits, Unit
from tcmu_runner.testing.play import EVERYTHING, disk, play


def vital(unit: Unit, page: int, room: int = 255) -> bytes:
    outcome = play(unit, bytes((0x12, 1, page)) + room.to_bytes(2, "big") + b"\0", room=room)
    assert outcome.status == 0
    # SPC-5 7.7.1: peripheral, page code, page length that counts what follows
    assert outcome.data[0] == 0
    assert outcome.data[1] == page
    assert int.from_bytes(outcome.data[2:4], "big") == len(outcome.data) - 4
    return outcome.data[4:]


def test_every_page_that_is_announced_exists_and_in_order() -> None:
    # SPC-5 7.7.14: in ascending order, starting with 00h
    for capabilities in (Capabilities(), Capabilities(write=True, unmap=True)):
        unit = disk(capabilities)
        pages = list(vital(unit, 0x00))
        assert pages == sorted(set(pages))
        assert pages[0] == 0
        assert {0x80, 0x83, 0xB0, 0xB1} <= set(pages)  # SBC-4 table 240 and SPC-5 7.7.1: the mandatory ones
        assert (0xB2 in pages) == capabilities.unmap
        for page in pages:
            vital(unit, page, 4096)


def test_serial_number() -> None:
    assert vital(disk(identity=Identity(serial="S-1234")), 0x80) == b"S-1234"


def test_identification() -> None:
    serial = "4b9ad7ab-b6f1-4b0f-b3a0-3a0c0c1b4a7e"
    data = vital(disk(identity=Identity(serial=serial)), 0x83)
    descriptors = {}
    while data:
        # SPC-5 7.7.6.1 table 599: code set, association and type, reserved, length
        code_set, kind, _, length = data[:4]
        descriptors[code_set, kind] = data[4 : 4 + length]
        data = data[4 + length :]
    # T10 vendor ID based: ASCII (2), type 1; NAA: binary (1), type 3
    assert descriptors[2, 1].startswith(b"LIO-ORG ")
    assert serial.encode() in descriptors[2, 1]
    # NAA 6h, the company's 24 bits, then 25 digits of the serial, as LIO does
    assert descriptors[1, 3].hex() == "6001405" + serial.replace("-", "")[:25]


def test_block_limits() -> None:
    limits = Limits(
        max_transfer=0x100, optimal_transfer=0x80, granularity=8, max_unmap=0x4000, max_unmap_descriptors=7,
        unmap_granularity=16, unmap_alignment=3, max_write_same=0x8000,
    )  # fmt: skip
    page = b"\0" * 4 + vital(disk(limits=limits), 0xB0)
    # SBC-4 6.6.4 table 243, offsets of the whole page
    assert page[4] & 0x01  # WSNZ
    assert page[5] == 0xFF  # MAXIMUM COMPARE AND WRITE LENGTH
    assert page[6:8].hex() == "0008"  # OPTIMAL TRANSFER LENGTH GRANULARITY
    assert page[8:12].hex() == "00000100"  # MAXIMUM TRANSFER LENGTH
    assert page[12:16].hex() == "00000080"  # OPTIMAL TRANSFER LENGTH
    assert page[20:24].hex() == "00004000"  # MAXIMUM UNMAP LBA COUNT
    assert page[24:28].hex() == "00000007"  # MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT
    assert page[28:32].hex() == "00000010"  # OPTIMAL UNMAP GRANULARITY
    assert page[32:36].hex() == "80000003"  # UGAVALID, UNMAP GRANULARITY ALIGNMENT
    assert page[36:44].hex() == "0000000000008000"  # MAXIMUM WRITE SAME LENGTH
    assert len(page) == 64


def test_block_limits_without_unmap() -> None:
    page = b"\0" * 4 + vital(disk(Capabilities(write=True)), 0xB0)
    assert not any(page[20:36])


@pytest.mark.parametrize(("rotational", "rate"), [(True, "0000"), (False, "0001")])
def test_characteristics(rotational: bool, rate: str) -> None:
    # SBC-4 6.6.2 table 241: 0001h is a non-rotating medium, 0000h is not reported
    page = b"\0" * 4 + vital(disk(identity=Identity(rotational=rotational)), 0xB1)
    assert page[4:6].hex() == rate
    assert len(page) == 64


def test_logical_block_provisioning() -> None:
    # SBC-4 6.6.6 table 249: LBPU 80h, LBPWS 40h, LBPWS10 20h, LBPRZ 001b in bits 4 to 2; type 2 is thin
    page = b"\0" * 4 + vital(disk(), 0xB2)
    assert page[5] & 0xFC == 0xE4
    assert page[6] & 0x07 == 2
    page = b"\0" * 4 + vital(disk(Capabilities(write=True, unmap=True)), 0xB2)
    assert page[5] & 0xFC == 0xE0


def test_extended_inquiry() -> None:
    # SPC-5 table 608: SIMPSUP in byte 5, V_SUP in byte 6; 64 bytes
    page = b"\0" * 4 + vital(disk(), 0x86)
    assert len(page) == 64
    assert page[5:7].hex() == "0101"
    page = b"\0" * 4 + vital(disk(Capabilities(write=True)), 0x86)
    assert page[5:7].hex() == "0100"


def test_third_party_copy() -> None:
    # SPC-5 7.7.18: descriptors, each with type and length, padded to four bytes
    data, found = vital(disk(), 0x8F), {}
    while data:
        size = int.from_bytes(data[2:4], "big")
        assert size % 4 == 0
        found[int.from_bytes(data[:2], "big")] = data[4 : 4 + size]
        data = data[4 + size :]
    assert sorted(found) == [0x0001, 0x0004, 0x0008, 0x000C, 0x8001]
    # table 647: length, then opcode, number of service actions, service actions
    assert found[0x0001].rstrip(b"\0").hex() == "088301008403000304"
    assert found[0x0004][4:12].hex() == "0010001000000400"  # table 649: CSCDs, segments, descriptor bytes
    assert found[0x0008][:4].hex() == "03020ae4"


def test_sanitizing_in_the_characteristics() -> None:
    # SBC-4 table 241: WABEREQ in bits 7 and 6, WACEREQ in bits 5 and 4 of byte 7; 01b: readable afterwards
    assert vital(disk(), 0xB1)[3] == 0x40
    assert vital(disk(Capabilities(write=True, crypto_erase=True)), 0xB1)[3] == 0x10
    assert vital(disk(Capabilities(write=True)), 0xB1)[3] == 0


def test_atomic_limits() -> None:
    # SBC-4 table 243: MAXIMUM ATOMIC TRANSFER LENGTH in bytes 44 to 47
    page = b"\0" * 4 + vital(disk(limits=Limits(max_atomic=64, max_compare_and_write=3)), 0xB0)
    assert page[44:48].hex() == "00000040"
    assert page[5] == 3


def test_no_limit_is_above_that_of_all_transfers() -> None:
    page = b"\0" * 4 + vital(disk(limits=Limits(max_transfer=128)), 0xB0)
    assert page[5] == 128
    assert page[44:48].hex() == "00000080"


def test_the_threshold_in_the_provisioning_page() -> None:
    # SBC-4 table 249: THRESHOLD PERCENTAGE in byte 7
    assert vital(disk(limits=Limits(soft_threshold=80)), 0xB2)[3] == 80


def test_what_a_table_lacks_is_not_announced() -> None:
    table = Table(row for row in DISK if row.opcode not in (0x83, 0x89, 0x9C, 0x48))
    unit = Unit(512, 1 << 20, table, EVERYTHING)
    assert 0x8F not in vital(unit, 0x00)
    limits = b"\0" * 4 + vital(unit, 0xB0)
    assert limits[5] == 0
    assert limits[44:48] == bytes(4)
    assert vital(unit, 0xB1)[3] == 0
    assert play(unit, "12 00 00 0024 00", room=36).data[5] & 0x08 == 0  # 3PC

import pytest

from tcmu_runner.scsi.unit import Capabilities, Identity, Limits, Unit

from .play import disk, play


def vital(unit: Unit, page: int, room: int = 255) -> bytes:
    outcome = play(unit, bytes((0x12, 1, page)) + room.to_bytes(2, "big") + b"\0", room=room)
    assert outcome.status == 0
    # SPC-5 7.7.1: peripheral, page code, page length that counts what follows
    assert outcome.data[0] == 0
    assert outcome.data[1] == page
    assert int.from_bytes(outcome.data[2:4], "big") == len(outcome.data) - 4
    return outcome.data[4:]


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

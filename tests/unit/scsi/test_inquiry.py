import pytest

from tcmu_runner.scsi.unit import Identity
from tcmu_runner.testing.play import disk, play


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

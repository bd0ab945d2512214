"""Rings and data areas that are too small for what the initiator has to say: nothing is lost."""

from pathlib import Path

import pytest
from support.deadline import eventually
from support.fio import Job, in_flight, verify, verifying
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback

SMALLEST_ENTRY = 112  # bytes of a command's entry without its CDB (tcmu: struct tcmu_cmd_entry)


def test_the_ring_wraps(make_backstore: MakeBackstore, loopback: Loopback) -> None:
    backstore = make_backstore("ram/", 64 * MIB, cmd_ring_size_mb=1)
    assert backstore.show("attrib/cmd_ring_size_mb") == "1"
    disk = loopback.add(backstore)
    counts = verify(Job(disk, 20 * MIB, depth=32))
    # commands of different sizes leave different gaps before the end of the ring
    mixed = verify(Job(disk, 32 * MIB, "4k-256k", depth=32, offset=20 * MIB))
    entries = counts.written + counts.read + mixed.written + mixed.read
    assert entries * SMALLEST_ENTRY > MIB, "the ring has not been filled once"


@pytest.mark.parametrize("area", [1, 4])
def test_the_data_area_is_full(
    area: int, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The kernel holds commands back until the daemon has let go of others' buffers."""
    block, depth = 64 << 10, 128
    backstore = make_backstore(f"file/{tmp_path}/disk.img", max_data_area_mb=area, cmd_ring_size_mb=1)
    assert backstore.show("attrib/max_data_area_mb") == str(area)
    disk = loopback.add(backstore)
    with verifying(Job(disk, 32 * MIB, block, depth)):
        eventually("more data under way than the area holds", lambda: in_flight(disk) * block > area * MIB)

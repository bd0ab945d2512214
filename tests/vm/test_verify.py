"""Random writes at queue depth 16, every byte of which comes back."""

from pathlib import Path

import pytest
from support.deadline import CommandError
from support.fio import Job, verify
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback

SIZE = 64 * MIB
PASS = 4 * MIB


def config(handler: str, directory: Path) -> str:
    return {
        "ram": "ram/",
        "file": f"file/{directory}/disk.img",
        "direct": f"file//var/tmp/{directory.name}.img;direct",  # no tmpfs: that has no direct I/O
    }[handler]


@pytest.mark.parametrize("block_size", [512, 4096])
@pytest.mark.parametrize("handler", ["ram", "file", "direct"])
def test_random_writes(
    handler: str, block_size: int, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    backstore = make_backstore(config(handler, tmp_path), SIZE, hw_block_size=block_size)
    disk = loopback.add(backstore)
    counts = verify(Job(disk, PASS))
    assert counts.written == counts.read == PASS // 4096
    # every size from one block up, on buffers that begin and end anywhere in the ring's data area
    mixed = verify(Job(disk, PASS, f"{block_size}-256k", offset=PASS))
    assert mixed.written == mixed.read > PASS // (256 << 10)
    Path(f"/var/tmp/{tmp_path.name}.img").unlink(missing_ok=True)


def test_one_block_at_a_time(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> None:
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img", SIZE))
    counts = verify(Job(disk, 2 * MIB, 512))
    assert counts.written == counts.read == 2 * MIB // 512


def test_the_judge_is_not_blind(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> None:
    """What all tests with fio stand on: it finds a single wrong byte."""
    image = tmp_path / "disk.img"
    job = Job(loopback.add(make_backstore(f"file/{image}", SIZE)), MIB)
    verify(job, "--do_verify=0")
    with image.open("r+b") as file:
        file.seek(MIB // 2 + 1000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(CommandError, match="verify"):
        verify(job, "--verify_only")

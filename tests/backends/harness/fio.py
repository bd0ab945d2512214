"""fio as a judge that knows nothing of us: it writes blocks in random order, each with a checksum and its
place in it, and reads all of them back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from namespace import inside

from harness.served import Served

SECONDS = 240.0
SECONDS_FOR_A_MIB = 30.0
DEPTH = 16


def verify(served: Served, directory: Path, size: int, seed: int) -> None:
    """One pass over `size` bytes of the LUN, in blocks of all sizes up to 64 KiB, with flushes in between."""
    with bridge(served, directory / "nbd") as uri:
        done = subprocess.run(
            [
                "fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite",
                f"--bsrange={served.case.block_size}-64k", f"--iodepth={DEPTH}", f"--size={size}",
                "--fsync=50", "--verify=crc32c", f"--randseed={seed}", "--allrandrepeat=0",
            ],
            cwd=directory, capture_output=True, text=True,
            timeout=SECONDS + SECONDS_FOR_A_MIB * (size >> 20),
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def bridge(served: Served, socket: Path) -> Iterator[str]:
    """The LUN as an NBD export, by QEMU's own initiator: Debian's fio speaks no iSCSI."""
    log = socket.with_name("qemu-nbd.log")
    with log.open("wb") as errors:  # many where GET LBA STATUS is not supported
        process = subprocess.Popen(
            [
                *inside(served.namespace), "qemu-nbd", "--persistent", "--cache=none", "-f", "raw",
                "-k", str(socket), served.url,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS
        while not socket.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        process.terminate()
        process.wait()

"""fio as the judge of a disk: it writes blocks in random order, each with a checksum and the pass's number
in it, and reads all of them back afterwards."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.deadline import command, eventually, kernel_stack

PASS_SECONDS = 240.0
"""For one pass, or a stop in the middle of one: a disk that is held comes back within this."""

LOOP = """
while [ ! -e "$0/stop" ]; do
    "$@" --randseed=$((n += 1)) >"$0/output" 2>&1 || exit
    echo $n >"$0/passes"
done
"""


@dataclass(frozen=True)
class Counts:
    """How many blocks fio has written, and read back."""

    written: int
    read: int


@dataclass(frozen=True)
class Job:
    """One pass over `size` bytes. block: bytes, or fio's notation of a mixture, such as 512-64k.

    rate: writes, or reads, in a second at most; 0: no limit.
    """

    disk: Path
    size: int
    block: int | str = 4096
    depth: int = 16
    offset: int = 0
    rate: int = 0

    @property
    def argv(self) -> list[str]:
        blocks = "bs" if isinstance(self.block, int) else "bsrange"
        return [
            "fio", "--name=verify", f"--filename={self.disk}", "--direct=1", "--ioengine=libaio",
            "--rw=randwrite", "--verify=crc32c", f"--{blocks}={self.block}", f"--iodepth={self.depth}",
            f"--offset={self.offset}", f"--size={self.size}", f"--rate_iops={self.rate}",
        ]  # fmt: skip


def verify(job: Job, *options: str, seconds: float = PASS_SECONDS) -> Counts:
    """Runs one pass to its end. CommandError when a command failed or a byte is wrong."""
    report = command(*job.argv, "--randseed=1", *options, "--output-format=json", seconds=seconds)
    (result,) = json.loads(report)["jobs"]
    return Counts(result["write"]["total_ios"], result["read"]["total_ios"])


class Verification:
    """Passes of a job, one after another, in the background."""

    def __init__(self, job: Job, directory: Path, *options: str) -> None:
        self.disk = job.disk
        self._directory = directory
        self._process = subprocess.Popen(
            ["sh", "-c", LOOP, str(directory), *job.argv, *options],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def check(self) -> None:
        """Nothing has failed so far."""
        assert self._process.poll() is None, f"fio on {self.disk} failed:\n{self._output()}"

    def progress(self, count: int = 100, seconds: float = PASS_SECONDS) -> None:
        """Waits until `count` more commands have ended in success."""
        target = completed(self.disk) + count

        def done() -> bool:
            self.check()
            return completed(self.disk) >= target

        eventually(f"{count} more commands of fio on {self.disk}", done, seconds)

    def finish(self, seconds: float = PASS_SECONDS) -> int:
        """Lets the pass under way end; every byte of it was right. Returns the number of passes."""
        self.check()
        (self._directory / "stop").touch()
        eventually(
            f"the end of fio on {self.disk}; {kernel_stack(self._process.pid)}",
            lambda: self._process.poll() is not None,
            seconds,
        )
        assert self._process.returncode == 0, f"fio on {self.disk} failed:\n{self._output()}"
        return int((self._directory / "passes").read_text())

    def end_by_force(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _output(self) -> str:
        output = self._directory / "output"
        return output.read_text(errors="replace") if output.exists() else ""


@contextmanager
def verifying(job: Job, *options: str) -> Iterator[Verification]:
    """Verifies a disk for the time of the block, and until the pass under way has ended. options: more of
    fio's."""
    with tempfile.TemporaryDirectory(prefix="fio-") as directory:
        verification = Verification(job, Path(directory), *options)
        try:
            verification.progress(1)
            yield verification
            verification.finish()
        finally:
            verification.end_by_force()


def completed(disk: Path) -> int:
    """How many reads and writes of a disk have ended since it appeared (Documentation/block/stat.rst)."""
    fields = Path(f"/sys/block/{disk.name}/stat").read_text().split()
    return int(fields[0]) + int(fields[4])


def in_flight(disk: Path) -> int:
    """How many reads and writes are under way."""
    return sum(map(int, Path(f"/sys/block/{disk.name}/inflight").read_text().split()))

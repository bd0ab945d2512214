"""The arms of the benchmark in the virtual machine: each makes a disk of the same file, for one turn.

Runs in the guest, with tests/vm on the path for its `support`.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from support.configfs import TARGET, Backstore
from support.deadline import command, eventually
from support.loopback import Loopback

SIZE = 256 << 20
IMAGE = Path("/tmp/benchmark.img")
KEY = Path("/tmp/benchmark.key")
SETTINGS = Path("/tmp/benchmark.toml")
LOG = Path("/tmp/benchmark-daemon.log")
GROUPS = Path("/sys/fs/cgroup")
SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\t(\d+)$", re.MULTILINE)


def tasks(pid: int) -> list[Path]:
    """The status of each of a process's threads."""
    return list(Path(f"/proc/{pid}/task").glob("*/status"))


def is_traced(pid: int) -> bool:
    return all("TracerPid:\t0\n" not in status.read_text() for status in tasks(pid))


@dataclass(frozen=True)
class Disk:
    """path: of the block device. daemon: what serves it; None where the kernel does."""

    path: Path
    daemon: "Daemon | None" = None


Arm = Callable[[], AbstractContextManager[Disk]]


class KernelFile(Backstore):
    """A backstore of the kernel's fileio, through the page cache as targetcli sets it up."""

    @property
    def path(self) -> Path:
        return TARGET / "core" / f"fileio_{self.hba}" / self.name


@contextmanager
def exported(backstore: Backstore, control: str) -> Iterator[Path]:
    """The backstore made, enabled and a disk of this machine, until the end of the block."""
    loopback = Loopback().create()
    backstore.path.mkdir(parents=True)
    try:
        backstore.store("control", control)
        backstore.enable()
        yield loopback.add(backstore)
    finally:
        loopback.delete()
        backstore.remove()


@contextmanager
def fileio() -> Iterator[Disk]:
    control = f"fd_dev_name={IMAGE},fd_dev_size={SIZE},fd_buffered_io=1"
    with exported(KernelFile("benchmark"), control) as disk:
        yield Disk(disk)


class KernelBlock(Backstore):
    """A backstore of the kernel's iblock."""

    @property
    def path(self) -> Path:
        return TARGET / "core" / f"iblock_{self.hba}" / self.name


@contextmanager
def dm_crypt(sector_size: int) -> Iterator[Disk]:
    """The kernel's own encryption, at the same end of the wire: iblock on dm-crypt on a file."""
    image = IMAGE.with_suffix(f".dm-crypt{sector_size}")
    if first := not image.exists():
        _random_key()
        with image.open("wb") as file:
            file.truncate(SIZE + (16 << 20))
        command("cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
             "--sector-size", str(sector_size), "--key-file", KEY, image)  # fmt: skip
    command("cryptsetup", "open", "--key-file", KEY, image, "benchmark")
    try:
        if first:
            fill(Path("/dev/mapper/benchmark"))
        with exported(KernelBlock("benchmark"), "udev_path=/dev/mapper/benchmark") as disk:
            yield Disk(disk)
    finally:
        command("cryptsetup", "close", "benchmark")


@contextmanager
def luks(program: str, block_size: int) -> Iterator[Disk]:
    """Our filter `luks` over `file`, in sectors of the LUN's blocks."""
    image = IMAGE.with_suffix(f".luks{block_size}")
    first = not image.exists()
    _random_key()
    SETTINGS.write_text(
        f'[stacks.vault]\nhandler = "file"\nfilters = [{{ filter = "luks", key_file = "{KEY}", '
        f"create = {str(first).lower()} }}]\n"
    )
    daemon = Daemon(program, "vault", f",hw_block_size={block_size}", image, ("--settings", str(SETTINGS)))
    with daemon() as disk:
        if first:
            fill(disk.path)
        yield disk


def fill(place: Path) -> None:
    """Every block written: a hole would be read faster than data, and written slower."""
    with place.open("r+b" if place.is_block_device() else "wb") as file:
        for _ in range(SIZE >> 20):
            file.write(b"\xa5" * (1 << 20))
        file.flush()
        os.fsync(file.fileno())


def _random_key() -> None:
    if not KEY.exists():
        KEY.write_bytes(os.urandom(64))


@dataclass(frozen=True)
class Daemon:
    """A tcmu-runner, ours or the C one, in a control group of its own, which knows its CPU time exactly.

    handler: the subtype that serves a plain file. control: more keys for the backstore's control file.
    arguments: of the program.
    """

    program: str
    handler: str
    control: str = ""
    image: Path = IMAGE
    arguments: tuple[str, ...] = ()
    group: ClassVar[Path] = GROUPS / Path("/proc/self/cgroup").read_text().strip()[4:] / "daemon"

    @contextmanager
    def __call__(self) -> Iterator[Disk]:
        """The arm."""
        control = f"dev_config={self.handler}/{self.image},dev_size={SIZE}{self.control}"
        with self.running(), exported(Backstore("benchmark"), control) as disk:
            yield Disk(disk, self)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.group.mkdir(exist_ok=True)
        with LOG.open("wb") as log:
            process = subprocess.Popen(
                [self.program, *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        (self.group / "cgroup.procs").write_text(str(process.pid))
        try:
            eventually(f"{self.program} ready", lambda: self.ready(process), 60)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            eventually("the daemon's processes ended", self.ended)

    def ready(self, process: "subprocess.Popen[bytes]") -> bool:
        """Ours says so in its log. The C daemon takes its bus name as the last thing it does."""
        if process.poll() is not None:
            raise RuntimeError(f"{self.program} ended:\n{LOG.read_text()}")
        if "handlers found" in LOG.read_text():
            return True
        asked = ["busctl", "--system", "status", "org.kernel.TCMUService1"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def cpu(self) -> float:
        """User and system time of all its processes, dead or alive; not the kernel's own threads."""
        return int((self.group / "cpu.stat").read_text().split()[1]) / 1e6

    def processes(self) -> list[int]:
        return [int(pid) for pid in (self.group / "cgroup.procs").read_text().split()]

    def switches(self) -> int:
        """How often the kernel took a processor from its threads, or they gave it away (proc(5))."""
        statuses = [path.read_text() for pid in self.processes() for path in tasks(pid)]
        return sum(int(count) for text in statuses for count in SWITCHES.findall(text))

    @contextmanager
    def traced(self, counts: list[int]) -> Iterator[None]:
        """Counts its system calls during the block, as strace does; it is much slower meanwhile."""
        report = LOG.with_suffix(".strace")
        attached = [word for pid in self.processes() for word in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", report, *attached], stderr=subprocess.PIPE)
        try:
            eventually("strace attached", lambda: all(map(is_traced, self.processes())), 60)
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=60)
        counts += [
            int(line.split()[3]) for line in report.read_text().splitlines() if line.endswith(" total")
        ]

    def ended(self) -> bool:
        """Whether the control group could be removed, which only an empty one can."""
        with contextlib.suppress(OSError):
            self.group.rmdir()
        return not self.group.exists()

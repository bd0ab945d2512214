"""What the machine needs of the host: directories, programs and the right to build a root file system."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcmu-runner" / "vm"
OUT = (CHECKOUT / "out" if os.access(CHECKOUT, os.W_OK) else CACHE / "out") / "vm"
KEPT_OUTS = 10
GENEROUS = 900.0  # seconds; what takes longer is stuck, however busy the host is

# program: the Debian package that ships it
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
}


class VmError(Exception):
    """The machine cannot be built, booted or reached; the text names the way out."""


def say(text: str) -> None:
    """Progress, for a person, on stderr: stdout belongs to the command in the guest."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def program(name: str) -> str:
    """Path of `name`, also where only root's PATH has it."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


def require(names: Iterable[str]) -> None:
    """Raises VmError that names every missing package at once."""
    missing = [name for name in names if not program(name)]
    if missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in missing}))
        raise VmError(f"{', '.join(missing)} not found on this host; install: apt-get install {packages}")


def as_root() -> list[str]:
    """Command prefix that makes a command run as root without asking anybody."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and os.system("sudo -n true 2>/dev/null") == 0:
        return ["sudo", "-n"]
    raise VmError("building the root image needs root, and sudo does not let us in without a password")


@contextmanager
def locked(path: Path, doing: str) -> Iterator[TextIO]:
    """Holds the lock file `path`; who has to wait is told what the holder is `doing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waiting for {lock.read().strip() or 'another process'} ({path})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"process {os.getpid()}: {doing}\n")
        lock.flush()
        yield lock
        lock.truncate(0)


def new_out(name: str) -> Path:
    """A fresh directory for what a machine leaves behind; of older ones only the last few stay."""
    earlier = sorted(OUT.glob(f"2*-{name}-*"), key=lambda path: path.name)
    for path in earlier[: -(KEPT_OUTS - 1)]:
        shutil.rmtree(path, ignore_errors=True)
    directory = OUT / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{os.getpid()}"
    directory.mkdir(parents=True)
    return directory


def wait_for_sockets(sockets: Path, machine: "subprocess.Popen[bytes]", out: Path) -> None:
    """Raises VmError with what was said when the machine does not start."""
    while not (sockets / "monitor").exists():
        if machine.poll() is not None:
            said = (out / "machine.log").read_text(errors="replace").strip()
            raise VmError(f"the machine did not start: {said}")
        time.sleep(0.05)

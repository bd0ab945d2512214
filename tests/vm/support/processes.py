"""The daemon's processes and what each of them holds, out of /proc."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.deadline import eventually

TICKS = os.sysconf("SC_CLK_TCK")
SUPERVISOR, TEMPLATE, GUARDIAN, WORKER = "tcmu-runner", "tcmu-template", "tcmu-guardian", "tcmu-dev:"
UIO = Path("/sys/class/uio")
STAYING = "tcmu-unlinking"
AWAKE_SECONDS = 2.5  # in which a process that has something to do has run


def named(prefix: str) -> list[int]:
    """The processes whose name begins so; zombies are none."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if comm.read_text().startswith(prefix) and not _is_zombie(comm.parent):
                found.append(int(comm.parent.name))
    return sorted(found)


def _is_zombie(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(") ")[2].startswith("Z")


def worker(minor: int) -> int:
    """The process that serves /dev/uioMINOR."""
    (pid,) = [pid for pid in named(WORKER) if _comm(pid) == f"{WORKER}uio{minor}"]
    return pid


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def all_of_the_daemon() -> list[int]:
    """Without what stays after its end (docs/rescue.md)."""
    return sorted({*named("tcmu-")} - {*named(STAYING)})


def cpu_seconds(*pids: int) -> float:
    """User and system time together."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS


def switches(*pids: int) -> int:
    """How often their threads have begun or ceased to run; for a sleeper it stays the same."""
    lines = [
        line
        for pid in pids
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if "_ctxt_switches:" in line)


def sleep_of(*pids: int) -> None:
    """Waits until none of them wakes by itself any more."""

    def asleep() -> bool:
        before = switches(*pids)
        time.sleep(AWAKE_SECONDS)
        return switches(*pids) == before

    eventually("their sleep", asleep)


def own_memory(pid: int) -> int:
    """Bytes that no other process shares, but for the memory of rings: that is the kernel's, and only counted
    for whoever maps it."""
    total, counts = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, value, *more = line.split()
        if not name.endswith(":"):  # the begin of a mapping
            counts = not (more and more[-1].startswith("/dev/uio"))
        elif counts and name in {"Private_Clean:", "Private_Dirty:"}:
            total += int(value) << 10
    return total


@dataclass(frozen=True)
class Holdings:
    """What a process holds that could leak. memory: bytes of its own."""

    files: int
    threads: int
    memory: int


def holdings(pid: int) -> Holdings:
    process = Path(f"/proc/{pid}")
    return Holdings(
        len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), own_memory(pid)
    )


def uio_devices() -> list[str]:
    """The names of the UIO devices that TCMU has made."""
    names = [name.read_text().strip() for name in UIO.glob("uio*/name")]
    return sorted(name for name in names if name.startswith("tcm-user/"))


def minor_of(name: str, hba: int = 0) -> int:
    """N of the backstore's /dev/uioN."""
    for node in UIO.glob("uio*"):
        if (node / "name").read_text().startswith(f"tcm-user/{hba}/{name}/"):
            return int(node.name.removeprefix("uio"))
    raise LookupError(f"no UIO device of user_{hba}/{name} among {uio_devices()}")

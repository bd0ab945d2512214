"""What can keep LUNs from working, how it shows, and which commands put it right. Nothing is changed here.

A look at a backstore sleeps for ever while its removal waits for a daemon, so whoever waits is looked for
first, and then no backstore is looked at.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner import settings
from tcmu_runner.engine.view import DeviceView, State
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.kernel.lock import owner
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.uio import scan
from tcmu_runner.settings import Coexistence, tcmu_conf

MODULE = "target_core_user"
OLD_SECONDS = 30.0  # a command that is older will be, or was, given up by its initiator
SETTLING_SECONDS = 60.0  # a device that recovers for longer does not by itself
WAIT_FOR_DAEMON = (
    "tcmu_netlink_event"  # in the kernel's stack of who waits (drivers/target/target_core_user.c)
)
RELEASE = tuple(
    f"echo {value} > /sys/module/{MODULE}/parameters/{name}"
    for name, value in (("block_netlink", 1), ("reset_netlink", 1), ("block_netlink", 0))
)


@dataclass(frozen=True, slots=True)
class Finding:
    """what: was looked at. told: what was found. fix: commands for a root shell, or nothing where a person
    has to decide. fine: nothing is wrong."""

    what: str
    told: str
    fine: bool = True
    fix: tuple[str, ...] = ()


def output(*argv: str) -> str:
    """Raises OSError when it cannot be run, or fails and says nothing."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout:
        raise OSError(f"{' '.join(argv)}: exit status {done.returncode}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined. devices: asks the daemon; raises TcmuError when it cannot be reached."""

    devices: Callable[[], list[DeviceView]]
    paths: Paths = SYSTEM
    lock: Path = Coexistence().lock
    run: Callable[..., str] = output


def examine(patient: Patient) -> Iterator[Finding]:
    """In the order in which they have to be put right."""
    yield root()
    yield module(patient)
    yield configfs(patient)
    yield netlink(patient)
    waiting = waiters(patient)
    yield waiting
    holder = lock_holder(patient.lock)
    yield daemon(patient, holder)
    yield from unit(patient)
    yield from files()
    if holder and waiting.fine:
        yield from devices(patient)


def root() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", "root")
    told = "not root: only root can see and configure LIO"
    return Finding("user", told, False, ("sudo tcmu-runner doctor",))


def module(patient: Patient) -> Finding:
    if (patient.paths.module / MODULE).is_dir():
        return Finding("kernel module", f"{MODULE} is loaded")
    try:
        patient.run("modprobe", "-nq", MODULE)
    except OSError:
        told = f"this kernel, {os.uname().release}, has no {MODULE}, as Debian's linux-image-cloud-*"
        return Finding("kernel module", told, False, ("apt install linux-image-amd64", "reboot"))
    return Finding("kernel module", f"{MODULE} is not loaded", False, (f"modprobe {MODULE}",))


def configfs(patient: Patient) -> Finding:
    place = patient.paths.configfs
    mounts = (patient.paths.proc / "self/mounts").read_text().splitlines()
    if not any(line.split()[1:3] == [str(place), "configfs"] for line in mounts):
        return Finding("configfs", f"not mounted on {place}", False, (f"mount -t configfs none {place}",))
    if not patient.paths.target.is_dir():
        told = f"LIO's directory {patient.paths.target} is missing"
        return Finding("configfs", told, False, (f"modprobe {MODULE}",))
    return Finding("configfs", f"mounted on {place}")


def netlink(patient: Patient) -> Finding:
    gate = patient.paths.module / MODULE / "parameters/block_netlink"
    if gate.exists() and gate.read_text().strip() == "blocked":
        told = "blocked: no LUN can be made or resized (a daemon blocks it, too, for a moment at its start)"
        return Finding("netlink", told, False, (f"echo 0 > {gate}",))
    return Finding("netlink", "not blocked")


def waiters(patient: Patient) -> Finding:
    """Processes that sleep in the kernel until a daemon answers."""
    found = []
    for stack in patient.paths.proc.glob("[0-9]*/stack"):
        try:
            if WAIT_FOR_DAEMON in stack.read_text():
                name = (stack.parent / "comm").read_text().strip()
                found.append(f"{name} ({stack.parent.name})")
        except OSError:  # it has ended, or we are not root
            continue
    if not found:
        return Finding("waiting commands", "none")
    told = f"no daemon answers, and these sleep until one does: {', '.join(sorted(found))}"
    return Finding("waiting commands", told, False, RELEASE)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has the daemon's lock."""

    pid: int
    program: str

    @property
    def ours(self) -> bool:
        return "python" in Path(self.program).name


def lock_holder(lock: Path, proc: Path = SYSTEM.proc) -> Holder | None:
    """Who serves this machine."""
    try:
        pid = owner(lock)
    except OSError:
        return None
    if pid is None:
        return None
    try:
        program = str((proc / str(pid) / "exe").readlink())
    except OSError:
        program = "unknown"
    return Holder(pid, program)


def daemon(patient: Patient, holder: Holder | None) -> Finding:
    start = ("systemctl start tcmu-runner",)
    if holder is None:
        return Finding("daemon", "no tcmu-runner is running", False, start)
    if not holder.ours:
        told = f"another daemon serves this machine: {holder.program}, process {holder.pid}"
        return Finding("daemon", told, False, (f"kill {holder.pid}", *start))
    try:
        patient.devices()
    except TcmuError as error:
        told = f"process {holder.pid} runs, but cannot be reached over D-Bus: {error}"
        return Finding("daemon", told, False, ("systemctl reload dbus", "systemctl restart tcmu-runner"))
    return Finding("daemon", f"process {holder.pid} answers on D-Bus")


def unit(patient: Patient) -> Iterator[Finding]:
    """Whether daemon and LUNs come back at boot."""
    for name, told in (
        ("tcmu-runner.service", "the daemon does not start at boot"),
        ("rtslib-fb-targetctl.service", "saved LUNs are not restored at boot"),
    ):
        try:
            state = patient.run("systemctl", "is-enabled", name).strip()
        except OSError:
            return  # no systemd here
        if state in ("disabled", "masked", "masked-runtime"):
            undo = (f"systemctl unmask {name}",) if state.startswith("masked") else ()
            yield Finding(name, f"{state}: {told}", False, (*undo, f"systemctl enable {name}"))
        elif state == "enabled":
            yield Finding(name, "enabled")


def files() -> Iterator[Finding]:
    """Settings that the next start, or edit, would trip over."""
    try:
        text = tcmu_conf.DEFAULT.read_text(errors="replace") if tcmu_conf.DEFAULT.exists() else ""
        unknown = tcmu_conf.parse(text).unknown
    except ConfigError as error:
        unknown = (str(error),)
    for told in unknown:
        yield Finding(str(tcmu_conf.DEFAULT), told, False)
    try:
        settings.load(None)
    except ConfigError as error:
        yield Finding(str(settings.DEFAULT), str(error).removeprefix(f"{settings.DEFAULT}: "), False)
    else:
        if not unknown:
            yield Finding("settings", "no mistakes")


def devices(patient: Patient) -> Iterator[Finding]:
    try:
        views = patient.devices()
    except TcmuError:
        return  # told already
    for view in views:
        yield _device(view)
    served = {view.minor for view in views}
    for entry in scan(patient.paths):
        if entry.minor not in served:
            name = f"user_{entry.name.hba}/{entry.name.device}"
            yield Finding(name, "the daemon does not know it", False, ("systemctl restart tcmu-runner",))


def _device(view: DeviceView) -> Finding:
    serve = (f"tcmu-runner restart {view.name}",)
    if view.state is State.STOPPED:
        return Finding(view.name, "drained: initiators wait", False, serve)
    if view.state is not State.SERVING:
        return Finding(view.name, f"{view.state.value}: {view.last_error}", False, serve)
    if view.statistics.oldest > OLD_SECONDS:
        told = f"its storage does not answer: a command waits for {view.statistics.oldest:.0f} s"
        return Finding(view.name, told, False, serve)
    return Finding(view.name, "serving")

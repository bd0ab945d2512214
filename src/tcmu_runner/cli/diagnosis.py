"""Checks what can keep LUNs from working, and names the commands that repair it. Changes nothing.

Reading a backstore sleeps for ever while its removal waits for a daemon. So the first check is for processes
that wait; if there are any, no backstore is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner import settings
from tcmu_runner.cli.finding import Finding, Host
from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.guardian.unlinking import UNLINK, sleepers, unlinking
from tcmu_runner.kernel.paths import SYSTEM
from tcmu_runner.kernel.uio import scan
from tcmu_runner.lock import owner
from tcmu_runner.printable import utf8
from tcmu_runner.sandbox import stopped
from tcmu_runner.settings import tcmu_conf, tcmu_runner_toml
from tcmu_runner.supervisor.serials import twins

MODULE = "target_core_user"
LOG_DIRECTORY = Path("/var/log")
LOG_BYTES = 1 << 16  # free space below which the next messages may be lost
SETTLING_SECONDS = 60.0  # a device that has been recovering for longer needs help
OF_THE_DAEMON = "tcmu-"  # the beginning of the names of all its processes
WAIT_FOR_DAEMON = (
    "tcmu_netlink_event"  # in the kernel's stack of a waiting process (drivers/target/target_core_user.c)
)
RELEASE_BY_HAND = (
    f"echo 1 > /sys/module/{MODULE}/parameters/block_netlink",
    f"echo 1 > /sys/module/{MODULE}/parameters/reset_netlink",
    "sleep 1",  # dash repeats an interrupted write, which would wait again if the gate were open
    f"echo 0 > /sys/module/{MODULE}/parameters/block_netlink",
)
"""Where a daemon holds the lock and does not answer: `tcmu-runner release` leaves its devices alone."""


def examine(host: Host) -> Iterator[Finding]:
    """Findings in the order in which they have to be repaired."""
    yield root()
    yield module(host)
    yield configfs(host)
    yield netlink(host)
    holder = lock_holder(host.lock)
    waiting = waiters(host, holder)
    yield waiting
    yield unlinkings(host, holder)
    serving = daemon(host, holder)
    yield serving
    yield from unit(host)
    yield saved(host)
    yield from files()
    yield log_directory()
    if waiting.fine:
        yield from identifiers(host)
        if serving.fine:
            yield from devices(host)


def root() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", "root")
    told = "not root: only root can see and configure LIO"
    return Finding("user", told, False, ("sudo tcmu-runner doctor",))


def module(host: Host) -> Finding:
    if (host.paths.module / MODULE).is_dir():
        return Finding("kernel module", f"{MODULE} is loaded")
    try:
        host.run("modprobe", "-nq", MODULE)
    except OSError:
        told = f"this kernel, {os.uname().release}, has no {MODULE}, as Debian's linux-image-cloud-*"
        return Finding("kernel module", told, False, ("apt install linux-image-amd64", "reboot"))
    return Finding("kernel module", f"{MODULE} is not loaded", False, (f"modprobe {MODULE}",))


def configfs(host: Host) -> Finding:
    place = host.paths.configfs
    mounts = (host.paths.proc / "self/mounts").read_text().splitlines()
    if not any(line.split()[1:3] == [str(place), "configfs"] for line in mounts):
        return Finding("configfs", f"not mounted on {place}", False, (f"mount -t configfs none {place}",))
    if not host.paths.target.is_dir():
        told = f"LIO's directory {host.paths.target} is missing"
        return Finding("configfs", told, False, (f"modprobe {MODULE}",))
    return Finding("configfs", f"mounted on {place}")


def netlink(host: Host) -> Finding:
    gate = host.paths.module / MODULE / "parameters/block_netlink"
    if gate.exists() and gate.read_text().strip() == "blocked":
        told = "blocked: no LUN can be made or resized (a daemon blocks it, too, for a moment at its start)"
        return Finding("netlink", told, False, (f"echo 0 > {gate}",))
    return Finding("netlink", "not blocked")


def waiters(host: Host, holder: Holder | None) -> Finding:
    """Processes that sleep in the kernel until a daemon answers."""
    found = sleepers(WAIT_FOR_DAEMON, host.paths.proc)
    if not found:
        return Finding("waiting commands", "none")
    told = f"no daemon answers, and these sleep until one does: {', '.join(found)}"
    fix = RELEASE_BY_HAND if holder else ("tcmu-runner release",)
    return Finding("waiting commands", told, False, fix)


def unlinkings(host: Host, holder: Holder | None) -> Finding:
    """Processes that unlink a LUN, and sleep until its disk has flushed."""
    found = ", ".join(sleepers(UNLINK, host.paths.proc))
    if not found:
        return Finding("unlinking", "nobody waits")
    luns = ", ".join(each.name for each in unlinking(host.paths))
    if holder is not None:
        told = f"{luns or 'a LUN'}: {found} waits until the storage has flushed"
        return Finding("unlinking", told, False)
    told = f"{luns or 'a LUN'}: {found} waits until the disk has given up its last flush: "
    told += "18 minutes without a daemon"
    fix = "systemctl start tcmu-runner"  # without ALUA `release` cannot find the device either
    return Finding("unlinking", told, False, (f"{fix} || tcmu-runner release" if luns else fix,))


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has the daemon's lock."""

    pid: int
    program: str

    @property
    def ours(self) -> bool:
        return "python" in Path(self.program).name


def lock_holder(lock: Path, proc: Path = SYSTEM.proc) -> Holder | None:
    """The process that has the daemon's lock."""
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


def daemon(host: Host, holder: Holder | None) -> Finding:
    start = ("systemctl start tcmu-runner",)
    if holder is None:
        return Finding("daemon", "no tcmu-runner is running", False, start)
    if not holder.ours:
        told = f"another daemon serves this machine: {holder.program}, process {holder.pid}"
        return Finding("daemon", told, False, (f"kill {holder.pid}", *start))
    if still := stopped(OF_THE_DAEMON, host.paths.proc):
        told = "stopped by a signal: " + ", ".join(f"{name} ({pid})" for pid, name in still)
        proceed = " ".join(["kill -CONT", *(str(pid) for pid, _ in still)])
        return Finding("daemon", told, False, (proceed,))
    try:
        host.devices()
    except TcmuError as error:
        told = f"process {holder.pid} runs, but does not answer: {error}"
        return Finding("daemon", told, False, ("systemctl reload dbus", "systemctl restart tcmu-runner"))
    return Finding("daemon", f"process {holder.pid} answers")


def unit(host: Host) -> Iterator[Finding]:
    """Whether daemon and saved LUNs start at boot."""
    for name, told in (
        ("tcmu-runner.service", "the daemon does not start at boot"),
        ("rtslib-fb-targetctl.service", "saved LUNs are not restored at boot"),
    ):
        try:
            state = host.run("systemctl", "is-enabled", name).strip()
        except OSError:
            return  # no systemd here
        if state in ("disabled", "masked", "masked-runtime"):
            undo = (f"systemctl unmask {name}",) if state.startswith("masked") else ()
            yield Finding(name, f"{state}: {told}", False, (*undo, f"systemctl enable {name}"))
        elif state == "enabled":
            yield Finding(name, "enabled")


def _conf_text() -> str:
    return tcmu_conf.DEFAULT.read_text(errors="replace") if tcmu_conf.DEFAULT.exists() else ""


def saved(host: Host) -> Finding:
    """The directory in which LIO's tools save LUNs; without it they cannot even make one."""
    try:
        directory = host.saved()
    except TcmuError as error:
        return Finding("saved LUNs", str(error), False, ("apt install python3-rtslib-fb",))
    if not directory.is_dir():
        told = f"{directory} is missing: LIO's tools can make, save and restore nothing"
        return Finding("saved LUNs", told, False, (f"mkdir -p -m 700 {directory} {directory}/pr",))
    return Finding("saved LUNs", f"in {directory}")


def files() -> Iterator[Finding]:
    """Mistakes in the settings files, which the next start or edit would report."""
    try:
        unknown = tcmu_conf.parse(_conf_text()).unknown
    except ConfigError as error:
        unknown = (str(error),)
    for told in unknown:
        yield Finding(str(tcmu_conf.DEFAULT), told, False)
    try:
        settings.load(None)
    except ConfigError as error:
        path = str(tcmu_runner_toml.DEFAULT)
        yield Finding(path, str(error).removeprefix(f"{path}: "), False)
    else:
        if not unknown:
            yield Finding("settings", "no mistakes")


def log_directory() -> Finding:
    """The log's directory; the daemon's command line may name another."""
    try:
        directory = tcmu_conf.parse(_conf_text()).log_dir or LOG_DIRECTORY
    except ConfigError:  # `files` reports it
        directory = LOG_DIRECTORY
    try:
        space = os.statvfs(directory)
    except OSError as error:
        return Finding("log", f"{directory}: {error.strerror}", False, (f"mkdir -p {directory}",))
    free = space.f_frsize * (space.f_bfree if os.geteuid() == 0 else space.f_bavail)
    if free < LOG_BYTES:
        return Finding("log", f"the file system of {directory} is full: messages are lost", False)
    return Finding("log", f"{directory} has space")


def identifiers(host: Host) -> Iterator[Finding]:
    """Backstores that initiators cannot distinguish."""
    for identifier, names in twins(host.paths):
        told = f"initiators take them for one disk: both are naa.{identifier}; the hexadecimal digits of "
        told += "wwn/vpd_unit_serial have to differ, and it can be written while a LUN is not exported"
        yield Finding(" and ".join(names), told, False)


def devices(host: Host) -> Iterator[Finding]:
    with suppress(TcmuError):  # an older daemon lacks the property
        yield from (Finding("daemon", problem, False) for problem in host.problems())
    try:
        views = host.devices()
    except TcmuError:
        return  # another finding reports it
    for view in views:
        yield _device(view)
    served = {view.minor for view in views}
    for entry in scan(host.paths):
        if entry.minor not in served:
            name = utf8(f"user_{entry.name.hba}/{entry.name.device}")
            yield Finding(name, "the daemon does not know it", False, ("systemctl restart tcmu-runner",))


def _device(view: DeviceView) -> Finding:
    trouble = view.trouble(time.time())
    if not trouble:
        return Finding(view.name, "serving")
    return Finding(view.name, trouble, False, (f"tcmu-runner restart {view.name}",))

"""Process attributes that the os module lacks: names, death signals, privileges, limits."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.errors import ConfigError

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_CAPBSET_DROP = 1, 15, 24  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_THP_DISABLE = 38, 41
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h: two words for each of three sets

# linux/capability.h, in the order of their numbers
_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = dict(zip(_NAMES.split(), range(41), strict=True))

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Confinement:
    """Limits of a worker. user: the user that it changes to; None: root stays root. memory: bytes of private
    memory beyond those at its start; 0: no limit. open_files: descriptors; 0: as the supervisor. nice:
    nice(2) of a worker that serves."""

    user: str | None = None
    memory: int = 0
    open_files: int = 0
    nice: int = 0


def name_process(name: str) -> None:
    """Sets the name in `ps` and `killall`; the kernel cuts it to 15 bytes. Call on the main thread."""
    text = ctypes.create_string_buffer(os.fsencode(name))
    _prctl(_PR_SET_NAME, ctypes.addressof(text))


def keep_pages_small() -> None:
    """For this process and those that it forks: keeps the kernel from joining shared pages into large pages,
    which are not shared (Documentation/admin-guide/mm/transhuge.rst)."""
    _prctl(_PR_SET_THP_DISABLE, 1)


def die_with_parent() -> None:
    """Has the kernel send SIGKILL when the parent ends: a worker with a hung handler must not outlive it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def calm_down(nice: int) -> None:
    """Lowers the priority of all threads of this process to `nice`; each thread has its own."""
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        with suppress(ProcessLookupError):  # it has just ended
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)


def confine(limits: Confinement, capabilities: Iterable[str]) -> None:
    """Drops all privileges but `capabilities` (names without CAP_) for good. Call while the process has one
    thread, since each thread has its own, and has opened nothing for a handler. Raises ConfigError or
    OSError."""
    _limit(limits)
    if os.getuid() == 0:
        kept = _numbers(capabilities)
        _drop_bounds(set(range(_last_capability() + 1)) - kept)
        if limits.user is not None:
            _become(limits.user)
        else:
            _keep_only(kept)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()  # a change of user has cleared it


def _limit(limits: Confinement) -> None:
    if limits.memory:
        ceiling = _private_memory() + limits.memory  # the ring's mapping is shared: it does not count
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))
    if limits.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))


def _private_memory() -> int:
    """Bytes of data and stack (proc(5), statm)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()


def _numbers(names: Iterable[str]) -> set[int]:
    names = set(names)
    unknown = sorted(names - set(CAPABILITIES))
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no such capability; write names as DAC_OVERRIDE")
    return {CAPABILITIES[name] for name in names}


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as last:
        return int(last.read())


def _drop_bounds(dropped: set[int]) -> None:
    """Keeps programs that this thread executes from regaining the capabilities."""
    for number in dropped:
        _prctl(_PR_CAPBSET_DROP, number)


def _become(user: str) -> None:
    """Changes from root to another user, which drops every capability (capabilities(7))."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"no user {user!r} on this machine: create it, or change workers.user") from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _keep_only(kept: set[int]) -> None:
    low = sum(1 << number for number in kept if number < 32)
    high = sum(1 << number - 32 for number in kept if number >= 32)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted, inheritable, twice
    if (capset := getattr(_libc, "capset", None)) is None:
        raise OSError(errno.ENOSYS, "this C library has no capset: no worker may keep root's capabilities")
    if capset(header, data):
        _fail()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        _fail()


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def stopped(prefix: str, proc: Path) -> list[tuple[int, str]]:
    """(process, name) of each process stopped by a signal or a debugger, with a name that begins with
    `prefix`."""
    found = []
    for stat in proc.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            name, _, rest = stat.read_text().partition(" (")[2].rpartition(") ")
            if name.startswith(prefix) and rest[0] in "Tt":  # proc_pid_stat(5)
                found.append((int(stat.parent.name), name))
    return sorted(found)

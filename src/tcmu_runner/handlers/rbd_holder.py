"""Which process of this host last had an image open: its lock can be broken at once if it is dead.

Ceph waits 30 s (osd_client_watch_timeout) before it takes a silent client for dead. A worker that replaces a
crashed one need not wait: the crashed one left a note in the image's metadata.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

KEY = b"tcmu-runner.holder"  # in the image's metadata
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_START = 19  # index of starttime in /proc/PID/stat, counted after the command's name (proc(5))


class LockOwner(NamedTuple):
    """client: address and nonce, as Ceph shows the lock's owner. boot: the host's boot id. pid, started: the
    process and its start time, in clock ticks since boot."""

    client: str
    boot: str
    pid: int
    started: str

    @classmethod
    def me(cls, client: str) -> LockOwner:
        return cls(client, _BOOT.read_text().strip(), os.getpid(), _started(os.getpid()))

    @classmethod
    def parse(cls, note: str) -> LockOwner | None:
        """None for a note that this program has not written."""
        words = note.split()
        if len(words) != 4 or not words[2].isdigit():
            return None
        return cls(words[0], words[1], int(words[2]), words[3])

    def __str__(self) -> str:
        return " ".join(map(str, self))

    def is_dead(self, owner: str) -> bool:
        """Whether it owns the lock and its process, of this host and this boot, has ended."""
        here = self.boot == _BOOT.read_text().strip()
        return self.client == owner and here and _started(self.pid) != self.started


def _started(pid: int) -> str:
    """A process's start time; "-" if it has ended (also as a zombie, which does no I/O)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "-"
    return "-" if words[0] in "ZX" else words[_START]

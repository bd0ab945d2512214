"""Who on this host had an image open last: the lock of a process that died is broken at once.

Ceph itself waits for 30 s (osd_client_watch_timeout) before it takes a silent client for dead. A worker
process that is started in the place of one that crashed knows better: it finds that one's note in the image.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

KEY = b"tcmu-runner.holder"  # of the image's metadata
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_START = 19  # starttime among the words behind the command's name (proc(5), stat)


class Holder(NamedTuple):
    """client: as Ceph shows the lock's owner, address and nonce. boot: of the host. pid, started: the process
    and when it was started."""

    client: str
    boot: str
    pid: int
    started: str

    @classmethod
    def me(cls, client: str) -> Holder:
        return cls(client, _BOOT.read_text().strip(), os.getpid(), _started(os.getpid()))

    @classmethod
    def parse(cls, note: str) -> Holder | None:
        """None: nobody of ours has left it."""
        words = note.split()
        if len(words) != 4 or not words[2].isdigit():
            return None
        return cls(words[0], words[1], int(words[2]), words[3])

    def __str__(self) -> str:
        return " ".join(map(str, self))

    def is_dead(self, owner: str) -> bool:
        """Whether it is the lock's owner, and was a process of this host that is gone."""
        here = self.boot == _BOOT.read_text().strip()
        return self.client == owner and here and _started(self.pid) != self.started


def _started(pid: int) -> str:
    """When a process was started; "-" where there is none (a zombie does nothing any more, either)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "-"
    return "-" if words[0] in "ZX" else words[_START]

"""`glfs`, on a Gluster volume with one brick."""

from __future__ import annotations

import atexit
import functools
import os
import signal
import time
from pathlib import Path

from gluster import HOST, Gluster
from harness import Backend, Case

ROOM = 40 << 20


@functools.cache
def gluster() -> Gluster:
    made = Gluster()
    atexit.register(made.end)
    return made


class GlusterBackend(Backend):
    """A volume. kill, freeze: its brick's process, which glusterd starts again on `start`."""

    @property
    def volume(self) -> str:
        return f"v-{self.directory.parent.name}".replace("_", "-")

    @property
    def namespace(self) -> str:
        return gluster().namespace

    @property
    def config(self) -> str:
        return f"glfs/{self.volume}@{HOST}/disk.img;log={self.directory}/gfapi.log"

    def start(self) -> None:
        brick = self.directory / "brick"
        if not (self.directory / "made").exists():
            if self.directory.is_mount():
                self._narrow()
            (self.directory / "made").touch()
            gluster().there(f"mkdir {brick}")
            gluster().do(f"volume create {self.volume} {HOST}:{brick} force")
            gluster().do(f"volume set {self.volume} network.ping-timeout 3")
        gluster().do(f"volume start {self.volume} force")

    def _narrow(self) -> None:
        """A small file system with the attributes that bricks need, where the server sees the directory."""
        image = self.directory.with_suffix(".ext4")
        with image.open("wb") as file:
            file.truncate(ROOM)
        gluster().there(f"mkfs.ext4 -q {image} && mount -o loop {image} {self.directory}")

    def fill(self) -> None:
        gluster().there(f"dd if=/dev/zero of={self.directory}/ballast bs=4k || sync -f {self.directory}")

    def drain(self) -> None:
        gluster().there(f"rm {self.directory}/ballast")

    def kill(self) -> None:
        brick = gluster().brick(self.volume)
        os.kill(brick, signal.SIGKILL)
        while Path(f"/proc/{brick}").exists():
            time.sleep(0.01)

    def freeze(self) -> None:
        os.kill(gluster().brick(self.volume), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(gluster().brick(self.volume), signal.SIGCONT)

    def stop(self) -> None:
        gluster().do(f"volume stop {self.volume} force")
        gluster().do(f"volume delete {self.volume}")
        if self.directory.is_mount():
            gluster().there(f"umount {self.directory}")


AWAY = (r"failed: OSError: \[Errno (103|107|77)\]",)  # ECONNABORTED, ENOTCONN, EBADFD: BUSY for initiators
CASES = [
    Case(
        "glfs", GlusterBackend, complaints=AWAY, shared="gluster",
        without={
            "contract": "the volume is in a network of its own: test_kit.py runs the kit there",
        },
    )
]  # fmt: skip

"""`qcow` and `qemu`, by a qemu-storage-daemon that the handler starts; here it is killed below it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from harness import Backend, Case

AWAY = ("lost the connection to its storage", "its qemu-storage-daemon failed: ")
DAEMON = "qemu-storage-da"  # comm has 15 bytes


class ImageBackend(Backend):
    """An image file. kill, freeze: the daemon of the process that serves this directory's image."""

    format = "qcow2"
    options = ""
    handler = "qcow"

    @property
    def image(self) -> Path:
        return self.directory / f"disk.{self.format}"

    @property
    def config(self) -> str:
        return f"{self.handler}/{self.image}{self.options}"

    def start(self) -> None:
        if not self.image.exists():
            self.create()

    def create(self) -> None:
        qemu_img("create", "-q", "-f", self.format, self.image, self.size)

    def stop(self) -> None:
        """No daemon is left when the LUN is closed, and the image is sound, but for clusters that are lost to
        a kill (qemu-img check, status 3)."""
        assert self.daemons() == []
        if self.format != "raw":
            done = subprocess.run(
                ["qemu-img", "check", "-f", self.format, str(self.image)], capture_output=True, text=True
            )
            assert done.returncode in (0, 3), f"{done.stdout} {done.stderr}"

    def daemons(self) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "comm").read_text().strip() != DAEMON:
                    continue
                if str(self.image).encode() in (process / "cmdline").read_bytes():  # empty after its death
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def _signal(self, number: signal.Signals) -> None:
        deadline = time.monotonic() + 60
        while not (found := self.daemons()):
            assert time.monotonic() < deadline, "there is no daemon"
            time.sleep(0.01)
        os.kill(found[0], number)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)


class VmdkBackend(ImageBackend):
    format = "vmdk"
    options = ";format=vmdk"
    handler = "qemu"


class RawBackend(ImageBackend):
    format = "raw"


def qemu_img(*words: object) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, f"qemu-img {words}: {done.stdout} {done.stderr}"
    return done.stdout


FORMAT = "it differs from qcow in the format alone"
OTHERS = dict.fromkeys(("backend_slow", "backend_gone", "backend_full"), FORMAT)
CASES = [
    # the first writes of backend_full fall into most of the 384 clusters, which take 24 MiB when written
    Case("qcow", ImageBackend, complaints=AWAY, room=32 << 20),
    Case("qcow-raw", RawBackend, complaints=AWAY, block_size=4096, without={**OTHERS, "fio_verify": FORMAT}),
    Case("qemu-vmdk", VmdkBackend, complaints=AWAY, without={**OTHERS, "backend_killed": FORMAT}),
]

"""`glfs`, on a Gluster volume with one brick, in a network namespace: Gluster refuses loopback addresses."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness import Backend, Case
from harness.namespace import inside

HOST, ADDRESS = "gluster1", "192.0.2.1"
SECONDS = 60.0
SETTINGS = """volume management
    type mgmt/glusterd
    option working-directory {0}/state
    option run-directory {0}/run
    option glusterd-sockfile {0}/glusterd.socket
    option transport-type socket
    option transport.address-family inet
end-volume
"""


class Gluster:
    """A glusterd, which takes a while to start: one for all tests of a run, until its end."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gluster-"))
        self.namespace = self.directory.name
        self._hosts = Path("/etc/netns") / self.namespace / "hosts"
        self._hosts.parent.mkdir(parents=True)
        self._hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "address", "add", f"{ADDRESS}/32", "dev", "lo")
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        self._start()

    def _start(self) -> None:
        where = self.directory
        for name in ("run", "state"):
            (where / name).mkdir()
        (where / "glusterd.vol").write_text(SETTINGS.format(where))
        files = ["-f", f"{where}/glusterd.vol", "-p", f"{where}/glusterd.pid", "-l", f"{where}/glusterd.log"]
        run(*inside(self.namespace), "glusterd", *files)
        deadline = time.monotonic() + SECONDS
        while not (where / "glusterd.socket").exists():
            assert time.monotonic() < deadline, "glusterd does not get ready"
            time.sleep(0.1)

    def do(self, words: str) -> None:
        socket = f"--glusterd-sock={self.directory}/glusterd.socket"
        run(*inside(self.namespace), "gluster", socket, "--mode=script", *words.split())

    def brick(self, volume: str) -> int:
        """Its process."""
        (pid,) = self.directory.glob(f"run/vols/{volume}/*.pid")
        return int(pid.read_text())

    def end(self) -> None:
        os.kill(int((self.directory / "glusterd.pid").read_text()), signal.SIGKILL)
        run("ip", "netns", "delete", self.namespace)
        shutil.rmtree(self._hosts.parent)
        shutil.rmtree(self.directory)


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
    def namespace(self) -> str:  # type: ignore[override]
        return gluster().namespace

    @property
    def config(self) -> str:
        return f"glfs/{self.volume}@{HOST}/disk.img;log={self.directory}/gfapi.log"

    def start(self) -> None:
        brick = self.directory / "brick"
        if not brick.exists():
            brick.mkdir()
            gluster().do(f"volume create {self.volume} {HOST}:{brick} force")
            gluster().do(f"volume set {self.volume} network.ping-timeout 3")
        gluster().do(f"volume start {self.volume} force")

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


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=5 * SECONDS)
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"


AWAY = (r"failed: OSError: \[Errno (103|107|77)\]",)  # ECONNABORTED, ENOTCONN, EBADFD: BUSY for initiators
CASES = [
    Case(
        "glfs", GlusterBackend, complaints=AWAY,
        without={
            "backend_full": "bricks need a file system with trusted attributes, which tmpfs has not",
            "contract": "the volume is in a network of its own: test_kit.py runs the kit there",
            "backend_slow": "a brick that stands still is what backend_gone has, too",
        },
    )
]  # fmt: skip

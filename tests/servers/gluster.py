"""A Gluster server on an address of its own, in a network namespace: Gluster refuses loopback addresses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from namespace import inside

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

    def there(self, line: str) -> None:
        """A line for the shell where server and bricks see the file systems; what others mount later they
        do not see."""
        run("nsenter", f"--mount=/proc/{self._pid}/ns/mnt", "sh", "-c", line)

    @property
    def _pid(self) -> int:
        return int((self.directory / "glusterd.pid").read_text())

    def brick(self, volume: str) -> int:
        """Its process."""
        (pid,) = self.directory.glob(f"run/vols/{volume}/*.pid")
        return int(pid.read_text())

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        run("ip", "netns", "delete", self.namespace)
        shutil.rmtree(self._hosts.parent)
        shutil.rmtree(self.directory)


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=5 * SECONDS)
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"

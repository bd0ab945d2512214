"""What LUNs are stored in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

START_SECONDS = 30.0
POLL_SECONDS = 0.02


def stack(name: str, handler: str, layer: str) -> str:
    """Settings with a stack of one filter. layer: its table."""
    return f'[stacks.{name}]\nhandler = "{handler}"\nfilters = [{layer}]\n'


class Backend:
    """The storage of one LUN in `directory`, which is its own and empty at first.

    settings: a settings file with the stacks that `config` names. namespace: the network namespace in which
    the LUN has to be served.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self.directory = directory
        self.size = size

    @property
    def settings(self) -> str:
        return ""

    @property
    def namespace(self) -> str:
        return ""

    @property
    def config(self) -> str:
        """The LUN's whole config string."""
        raise NotImplementedError

    def start(self) -> None:
        """Makes the storage the first time; called again after `kill`."""

    def stop(self) -> None:
        """The end of the test."""

    def revive(self) -> None:
        """After the end of a client: where a server has not survived it, as its own supervisor would."""

    def kill(self) -> None:
        """SIGKILL for the server."""
        raise NotImplementedError

    def freeze(self) -> None:
        """The server does not answer any more (SIGSTOP), its connections stay."""
        raise NotImplementedError

    def thaw(self) -> None:
        raise NotImplementedError

    def fill(self) -> None:
        """Nothing more can be allocated: by default nothing in the file system of `directory`."""
        with (self.directory / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1 << 9):
                try:
                    while True:
                        ballast.write(b"\xba" * size)
                except OSError:
                    continue

    def drain(self) -> None:
        """Undoes `fill`."""
        (self.directory / "ballast").unlink()

    def state(self) -> str:
        """What helps to see why a test has failed."""
        return ""


class ServerBackend(Backend):
    """One with a server process."""

    process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """Runs the server in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Once, before the first start."""

    def ready(self) -> bool:
        """Whether it can be reached."""
        raise NotImplementedError

    def start(self) -> None:
        log = self.directory / "server.log"
        if not log.exists():
            self.prepare()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            assert self.process.poll() is None, f"the server has ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"the server does not get ready: {log.read_text()}"
            time.sleep(POLL_SECONDS)

    def revive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        assert self.process is not None
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.kill()

    def state(self) -> str:
        return (self.directory / "server.log").read_text()

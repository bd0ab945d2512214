"""The parent of one user-mode Linux: carries its two lines to sockets, and ends all of it at once.

`python -m vm.warden SOCKETS OUT COMMAND...`; in the words of COMMAND, `{console}` and `{agent}` stand for the
descriptors of the two lines. Each line is a listening socket in SOCKETS that serves one client after another,
as QEMU's character devices do. What the console prints is kept in OUT/console.log, too. SIGTERM ends the
machine.
"""

import fcntl
import itertools
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vm import host

CHUNK = 1 << 16
PRIORITY = "-10"
"""Nice value of a machine as a whole: the tests' limits are those of a machine that gets its turn."""
CLIENT_SECONDS = 60.0
"""A client that reads nothing for so long is dropped: the guest must not wait for it."""


class Line:
    """One line of the guest: `inside` is the guest's end of it, and a socket of the host leads to it."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        *,
        farewell: bytes = b"",
        log: BinaryIO | None = None,
    ):
        """farewell: what the guest is sent when a client leaves. log: keeps all that the guest sends."""
        self.outside, self.inside = socket.socketpair()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.client: socket.socket | None = None
        self.selector, self.farewell, self.log = selector, farewell, log
        self.watch(self.listener, self.accept)
        self.watch(self.outside, self.from_guest)

    def watch(self, source: socket.socket, callback: Callable[[], None]) -> None:
        self.selector.register(source, selectors.EVENT_READ, callback)

    def accept(self) -> None:
        """Takes the next client; further ones wait in the backlog until it has left."""
        self.client, _ = self.listener.accept()
        self.client.settimeout(CLIENT_SECONDS)
        self.selector.unregister(self.listener)
        self.watch(self.client, self.from_client)

    def from_client(self) -> None:
        if not self.client:  # from_guest has dropped it since it was found readable
            return
        try:
            data = self.client.recv(CHUNK)
        except OSError:
            data = b""
        if data:
            self.outside.sendall(data)
        else:
            self.leave()

    def leave(self) -> None:
        assert self.client
        self.selector.unregister(self.client)
        self.client.close()
        self.client = None
        self.outside.sendall(self.farewell)
        self.watch(self.listener, self.accept)

    def from_guest(self) -> None:
        data = self.outside.recv(CHUNK)
        if self.log:
            self.log.write(data)
        if self.client:
            try:
                self.client.sendall(data)
            except OSError:
                self.leave()

    def drain(self) -> None:
        """Passes on what the guest sent before it ended."""
        self.outside.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.from_guest()


def serve(sockets: Path, out: Path, words: list[str]) -> int:
    """Runs the machine to its end, or until SIGTERM. Returns its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with selectors.DefaultSelector() as selector, (out / "console.log").open("wb", buffering=0) as log:
        console = Line(sockets / "console", selector, log=log)
        agent = Line(sockets / "agent", selector, farewell=b"\n")
        machine = start(words, console.inside.fileno(), agent.inside.fileno())
        try:
            ended = os.pidfd_open(machine.pid)
            selector.register(ended, selectors.EVENT_READ, None)
            (sockets / "monitor").mkdir(exist_ok=True)  # who boots waits for it: both sockets are there
            while machine.poll() is None:
                for key, _ in selector.select():
                    if key.data:
                        key.data()
            console.drain()
            agent.drain()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)  # its processes are processes of the host
            machine.wait()
    return machine.returncode


def start(words: list[str], console: int, agent: int) -> "subprocess.Popen[bytes]":
    command = ["taskset", "--cpu-list", str(take_processor()), *words]
    command = [word.replace("{console}", str(console)).replace("{agent}", str(agent)) for word in command]
    machine = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(console, agent), start_new_session=True
    )
    with suppress(OSError):  # root may, and only where the kernel shares processors by session (sched(7))
        Path(f"/proc/{machine.pid}/autogroup").write_text(PRIORITY)
    return machine


def take_processor() -> int:
    """A processor with as few other machines as possible; the place on it is ours until this process ends.

    Each system call of the guest wakes another thread of the host: 15 us on one processor, 50 us across two.
    """
    directory = host.CACHE / "processors"
    directory.mkdir(parents=True, exist_ok=True)
    processors = sorted(os.sched_getaffinity(0))
    places = ((nth, processor) for nth in itertools.count(1) for processor in processors)
    return next(processor for nth, processor in places if taken(directory / f"{processor}-{nth}"))


def taken(place: Path) -> bool:
    """Whether the file could be locked, for as long as this process lives."""
    held = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return False
    return True


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))

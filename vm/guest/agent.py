"""Runs commands in the guest for the host, over a virtio-serial port or a terminal line.

The other end is vm/session.py.

Both ways one JSON object a line. The host asks {"id", "argv", "cwd", "env", "timeout"}; the answers carry the
same id: {"out": text} and {"err": text} as they come, at last {"exit": status, "note": text}. Bytes that are
not UTF-8 travel as surrogates. On a terminal line the agent says {"hello": text} first. A host that goes
away, or asks anew, ends the command that runs.

Every command has a control group of its own, so that all its descendants can be ended and, where the kernel
does not let them go, be named.
"""

import json
import os
import re
import select
import signal
import subprocess
import termios
import time
import tty
from contextlib import suppress
from pathlib import Path
from typing import Self, TypedDict

PORT = Path("/dev/virtio-ports/vm.agent")
PORT_OPTION = re.compile(r"\bvm\.agent=(\S+)")  # of the kernel's command line: a machine without virtio
GROUPS = Path("/sys/fs/cgroup/system.slice/vm-agent.service")
CHUNK = 16384
GRACE = 10.0  # seconds from the interrupt to the kill: pytest reports the test that hung


class Request(TypedDict):
    id: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    timeout: float


class HostGoneError(Exception):
    """Nobody listens any more, or the next request has come."""


class Port:
    """The line to the host. One request at a time is read, and nothing of the next one is lost."""

    def __init__(self) -> None:
        path = port_path()
        while not path.exists():  # udev makes it soon
            time.sleep(0.05)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        if os.isatty(self.fd):  # what came before it was open may be lost: the host sends it again
            tty.setraw(self.fd)
            termios.tcflush(self.fd, termios.TCIFLUSH)
            os.write(self.fd, b'\n{"hello": "from the agent"}\n')
        self.pending = b""

    def request(self) -> Request:
        """The next request; text that is none (cut off by a host that died) is skipped."""
        while True:
            line, newline, rest = self.pending.partition(b"\n")
            if newline:
                self.pending = rest
                try:
                    request: Request = json.loads(line)
                except ValueError:
                    continue
                return request
            self.pending += self.wait_and_read()

    def wait_and_read(self) -> bytes:
        poll({self.fd: select.POLLIN})
        with suppress(BlockingIOError):  # the host has just come, and not yet said anything
            if text := os.read(self.fd, CHUNK):
                return text
        time.sleep(0.1)  # no host: the port has ended for as long, and poll does not wait for a host
        return b""

    def send(self, identity: str, **answer: object) -> None:
        data = json.dumps({"id": identity, **answer}).encode() + b"\n"
        while data:
            if poll({self.fd: select.POLLOUT})[self.fd] & select.POLLHUP:
                raise HostGoneError
            data = data[os.write(self.fd, data[:CHUNK]) :]


def port_path() -> Path:
    named = PORT_OPTION.search(Path("/proc/cmdline").read_text())
    return Path(named[1]) if named else PORT


def poll(interests: dict[int, int], timeout: float | None = None) -> dict[int, int]:
    poller = select.poll()
    for fd, events in interests.items():
        poller.register(fd, events)
    return dict(poller.poll(None if timeout is None else max(0, timeout * 1000)))


class Command:
    """A running command of the host."""

    def __init__(self, port: Port, request: Request) -> None:
        self.port, self.identity = port, request["id"]
        self.group = GROUPS / f"command-{self.identity}"
        self.group.mkdir()
        self.process = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env=os.environ | request["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: (self.group / "cgroup.procs").write_text("0"),  # noqa: PLW1509 - no threads here
        )
        self.ended = os.pidfd_open(self.process.pid)
        assert self.process.stdout and self.process.stderr
        self.streams = {self.process.stdout.fileno(): "out", self.process.stderr.fileno(): "err"}
        for stream in self.streams:
            os.set_blocking(stream, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        os.close(self.ended)
        if not (self.group / "cgroup.procs").read_text():  # what it left running stays in its group
            self.group.rmdir()

    def follow(self, seconds: float) -> bool:
        """Passes output on until the command ends. False when it has not in so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            watched = [self.port.fd, self.ended, *self.streams]
            ready = poll(dict.fromkeys(watched, select.POLLIN), left)
            if self.port.fd in ready:
                raise HostGoneError
            for stream in list(self.streams):
                if stream in ready:
                    self.pass_on(stream)
            if self.ended in ready:
                self.drain()
                return True
        return False

    def pass_on(self, stream: int) -> bool:
        """One chunk; False when there is none for now."""
        try:
            chunk = os.read(stream, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            del self.streams[stream]
            return False
        self.port.send(self.identity, **{self.streams[stream]: chunk.decode(errors="surrogateescape")})
        return True

    def drain(self) -> None:
        """What the command wrote before it ended; descendants that live on may keep the pipes open."""
        for stream in list(self.streams):
            while self.pass_on(stream):
                pass

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> str:
        """Ends the whole group. Returns a note on what did not end, with the kernel's stack of each."""
        (self.group / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + GRACE
        while members := (self.group / "cgroup.procs").read_text().split():
            if time.monotonic() > deadline:
                return "not even SIGKILL ends these:" + "".join(map(describe, members))
            time.sleep(0.05)
        self.process.wait()
        return ""


def describe(pid: str) -> str:
    try:
        command, stack = (Path("/proc", pid, name).read_text() for name in ("cmdline", "stack"))
    except OSError:
        return f"\nprocess {pid}, gone by now"
    return f"\nprocess {pid}: {command}\n{stack}".replace("\0", " ")


def execute(port: Port, request: Request) -> None:
    try:
        command = Command(port, request)
    except OSError as error:
        port.send(request["id"], exit=127, note=f"{request['argv'][0]}: {error}")
        return
    with command:
        try:
            port.send(request["id"], **outcome(command, request["timeout"]))
        except HostGoneError:
            command.kill()


def outcome(command: Command, timeout: float) -> dict[str, int | str]:
    """Follows `command` to its end. The status is the shell's: 128 + N for signal N, 124 for too late."""
    if command.follow(timeout):
        status = command.process.wait()
        return {"exit": status if status >= 0 else 128 - status, "note": ""}
    command.interrupt()
    if command.follow(GRACE):
        return {"exit": 124, "note": f"did not end within {timeout:.0f} s, interrupted"}
    return {"exit": 124, "note": f"did not end within {timeout:.0f} s, killed; {command.kill()}"}


def main() -> None:
    port = Port()
    while True:
        execute(port, port.request())


if __name__ == "__main__":
    main()

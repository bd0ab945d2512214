"""One command in the guest, through its agent (guest/agent.py describes the protocol)."""

import json
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.host import VmError

PATH = "/opt/tcmu-runner/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}

# The agent enforces a command's timeout and needs some seconds to clean up; after that the guest hangs.
AGENT_GRACE = 60.0

Output = Callable[[str, bytes], None]


class GuestGoneError(VmError):
    """The guest ended or does not answer any more."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status as a shell has it (124: too late), and why if that needs words."""

    status: int
    note: str = ""


def to_terminal(stream: str, data: bytes) -> None:
    """Output of the guest's command ("out" or "err") as our own, at once."""
    target = sys.stdout if stream == "out" else sys.stderr
    target.flush()
    target.buffer.write(data)
    target.buffer.flush()


def run(
    agent: Path,
    argv: Sequence[str],
    *,
    timeout: float,
    output: Output = to_terminal,
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Runs `argv` in the guest and waits for its end; `agent` is the socket of the machine's virtio port.

    Works before the guest is up: the request waits in the port. Raises GuestGoneError when nothing answers.
    """
    identity = uuid.uuid4().hex[:12]
    request = {"id": identity, "argv": list(argv), "cwd": cwd, "env": {**ENVIRONMENT, **(env or {})}}
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(agent))
            # the leading newline ends what an earlier host may have left half sent
            asked = b"\n" + json.dumps({**request, "timeout": timeout}).encode() + b"\n"
            line.sendall(asked)
            return follow(line, asked, time.monotonic() + timeout + AGENT_GRACE, output)
        except OSError as error:
            raise GuestGoneError(f"the guest is gone: {error}") from error


def follow(line: socket.socket, asked: bytes, deadline: float, output: Output) -> Outcome:
    """Passes on what the agent answers to the request `asked`, until the outcome.

    An agent that has just started, at a boot or a reboot, may not have heard it: it is asked again.
    """
    identity = json.loads(asked)["id"]
    pending = b""
    while True:
        line.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = line.recv(1 << 16)
        except TimeoutError:
            raise GuestGoneError("the guest does not answer any more") from None
        if not data:
            raise GuestGoneError("the guest ended")
        *lines, pending = (pending + data).split(b"\n")
        for text in lines:
            answer = parse(text, identity)
            if "hello" in answer:
                line.sendall(asked)
            if "exit" in answer:
                return Outcome(int(answer["exit"]), answer["note"])
            for stream in answer.keys() & {"out", "err"}:
                output(stream, answer[stream].encode(errors="surrogateescape"))


def parse(text: bytes, identity: str) -> dict[str, str]:
    """The answer in a line, or the agent's hello; empty when it is rubbish or for somebody before us."""
    try:
        answer: dict[str, str] = json.loads(text)
    except ValueError:
        return {}
    return answer if answer.get("id") == identity or "hello" in answer else {}

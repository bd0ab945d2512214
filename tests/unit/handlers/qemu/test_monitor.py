"""QMP, with a daemon that is a thread of the test."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tcmu_runner.handlers.qemu.monitor import Monitor


@pytest.fixture
def ends() -> Iterator[tuple[Monitor, socket.socket]]:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours)
    with theirs:
        yield monitor, theirs
    monitor.close()


def say(theirs: socket.socket, *messages: object) -> None:
    for message in messages:
        theirs.sendall(json.dumps(message).encode() + b"\r\n")


def test_a_conversation(ends: tuple[Monitor, socket.socket]) -> None:
    monitor, theirs = ends
    say(theirs, {"QMP": {}}, {"return": {}})
    monitor.greet()
    say(theirs, {"event": "JOB_STATUS_CHANGE", "data": {}}, {"return": [1, 2]})
    assert monitor.execute("block_resize", node_name="disk", size=512) == [1, 2]
    said = [json.loads(line) for line in theirs.recv(1 << 16).splitlines()]
    assert said == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "block_resize", "arguments": {"node-name": "disk", "size": 512}},
    ]


def test_an_error(ends: tuple[Monitor, socket.socket]) -> None:
    monitor, theirs = ends
    say(theirs, {"error": {"class": "GenericError", "desc": "Image format does not support resize"}})
    with pytest.raises(OSError, match="block_resize: Image format does not support resize") as error:
        monitor.execute("block_resize")
    assert error.value.errno == errno.EIO


def test_its_end(ends: tuple[Monitor, socket.socket]) -> None:
    monitor, theirs = ends

    def end() -> None:
        theirs.recv(1 << 16)
        theirs.shutdown(socket.SHUT_RDWR)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(ConnectionResetError, match="qemu-storage-daemon has ended"):
        monitor.execute("quit")
    ending.join()

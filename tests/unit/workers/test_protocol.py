"""What goes over the sockets between supervisor, template and workers."""

import json

import pytest

from tcmu_runner.errors import DeviceError
from tcmu_runner.workers import protocol
from tcmu_runner.workers.protocol import (
    Adjust,
    Broken,
    Close,
    Done,
    Drain,
    Ended,
    Forked,
    LogTo,
    Resize,
    Serve,
    Started,
    Watch,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "message",
    [
        Serve(1, 7, "tcm-user/0/vol0/file//srv/ä.img", {"vendor": "X"}, {"max": 8}, {"handler": "file"}),
        Adjust(2, 7, {}, {}),
        Drain(3, 7, 2.5),
        Close(4, 7),
        Resize(5, 7, 1 << 50),
        Resize(5, 7, (1 << 64) - 512),  # as an administrator may write it; the worker refuses it
        Watch(6),
        Done(6, 28, "no room", drained=False),
        Broken(7, "gone", gone=True),
        Started(),
        Forked(4711),
        Ended(4711, 9),
        LogTo(10),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_message_arrives_as_it_was_sent(message: protocol.Message) -> None:
    datagram = encode(message)
    assert decode(datagram) == message
    assert json.loads(datagram)["version"] == protocol.VERSION


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"version": 3, "kind": "Jump"}', "cannot be read: 'Jump'"),
        (b'{"version": 3, "kind": "Close", "id": 1}', "cannot be read.*minor"),
        (b'{"version": 3, "kind": "Done", "id": [1]}', "id is list, not int"),
        (b'{"version": 3, "kind": "Done", "id": 1, "errno": "5"}', "errno is str, not int"),
        (b'{"version": 3, "kind": "Done", "id": 1, "size": -512}', "a size of -512 bytes"),
        (b'{"version": 3, "kind": "Done", "id": 1, "size": 18446744073709551616}', "size has 65 bits"),
        (b'{"version": 3, "kind": "Broken", "minor": {}, "text": "", "gone": true}', "minor is dict"),
        (b"[" * 65000, "cannot be read"),
        (
            b'{"version": 9, "kind": "Close", "id": 1, "minor": 0}',
            "speak versions 3 and 9: restart tcmu-runner",
        ),
    ],
)
def test_what_another_version_might_say_is_refused(datagram: bytes, why: str) -> None:
    with pytest.raises(DeviceError, match=why):
        decode(datagram)

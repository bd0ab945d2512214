"""Replies, in whatever pieces they come. Bytes are those of proto.md."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcmu_runner.handlers.nbd.replies import Replies
from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.wire import Kind, NbdError


class Client:
    """Requests under way, and which of them were answered."""

    def __init__(self) -> None:
        self.pending: dict[int, NbdRequest] = {}
        self.answered: list[NbdRequest] = []
        self.replies = Replies(self.pending, self.answered.append)

    def ask(self, cookie: int, kind: Kind, length: int, offset: int = 0, pieces: int = 1) -> NbdRequest:
        step = -(-length // pieces)
        sizes = [min(step, length - at) for at in range(0, length, step)] if kind == Kind.READ else []
        buffers = [memoryview(bytearray(b"\xee" * size)) for size in sizes]
        request = self.pending[cookie] = NbdRequest(kind, offset, length, 0, buffers, done=FUTURE)
        return request

    def hear(self, data: bytes, step: int = 1 << 20) -> None:
        while data:
            space = self.replies.space()
            count = min(step, len(space), len(data))
            space[:count] = data[:count]
            self.replies.received(count)
            data = data[count:]


FUTURE: asyncio.Future[None] = asyncio.Future(loop=asyncio.new_event_loop())


def simple(cookie: int, data: bytes = b"", error: int = 0) -> bytes:
    return bytes.fromhex("67446698") + struct.pack(">IQ", error, cookie) + data


def chunk(cookie: int, kind: int, data: bytes = b"", *, done: bool = True) -> bytes:
    return bytes.fromhex("668e33ef") + struct.pack(">HHQI", done, kind, cookie, len(data)) + data


def data(offset: int, content: bytes) -> bytes:
    return struct.pack(">Q", offset) + content


@given(step=st.sampled_from([1, 7, 16, 4096, 1 << 20]), size=st.sampled_from([1, 512, 40_000, 600_000]))
@settings(max_examples=12)
def test_reads_in_any_pieces(step: int, size: int) -> None:
    step = max(step, size // 2000)
    client = Client()
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    reads = [client.ask(cookie, Kind.READ, size, 4096, pieces=3) for cookie in (1, 2, 3)]
    client.ask(4, Kind.FLUSH, 0)
    half = size // 2
    parts = chunk(3, 1, data(4096 + half, content[half:]), done=False)
    if half:
        parts += chunk(3, 1, data(4096, content[:half]), done=False)
    client.hear(simple(4) + simple(2, content) + chunk(1, 1, data(4096, content)) + parts + chunk(3, 0), step)
    assert [b"".join(read.buffers) for read in reads] == [content] * 3
    assert [request.kind for request in client.answered] == [3, 0, 0, 0]
    assert not client.pending and not any(request.error for request in client.answered)


def test_a_hole_is_zeroes() -> None:
    client = Client()
    read = client.ask(1, Kind.READ, 1024)
    hole = chunk(1, 2, struct.pack(">QI", 512, 512), done=False)
    client.hear(hole + chunk(1, 1, data(0, b"a" * 512)))
    assert bytes(read.buffers[0]) == b"a" * 512 + bytes(512)


def test_errors() -> None:
    client = Client()
    asked = [client.ask(cookie, Kind.READ, 512) for cookie in (1, 2, 3)]
    client.hear(simple(1, error=5))
    client.hear(chunk(2, 0x8001, struct.pack(">IH", 28, 4) + b"full"))
    client.hear(chunk(3, 1, data(0, bytes(512)), done=False) + chunk(3, 0x8002, struct.pack(">IHQ", 5, 0, 7)))
    assert [request.error for request in asked] == [5, 28, 5]


def test_states_more_than_fit_at_first() -> None:
    client = Client()
    asked = client.ask(1, Kind.BLOCK_STATUS, 1 << 30)
    states = [(4096, number % 4) for number in range(100_000)]
    body = b"".join(struct.pack(">II", *state) for state in states)
    client.hear(chunk(1, 5, b"\0\0\0\0" + body), 100_000)
    assert asked.states == states and client.answered == [asked]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a reply begins with 0x48545450"),
        (simple(9), "a reply is to request 9, which was not sent"),
        (chunk(9, 0), "a reply is to request 9"),
        (chunk(1, 7), "a chunk of type 7, which was not agreed on"),
        (chunk(1, 1, data(512, b"a" * 512)), r"bytes 512\+512, which were not asked for"),
        (chunk(1, 1, data(0, b"a" * 100)), "a read of 512 bytes was answered with 100"),
        (chunk(1, 2, struct.pack(">QI", 0, 1024)), "which were not asked for"),
        (chunk(1, 2, b"short"), "a chunk of type 2 has 5 bytes"),
        (chunk(1, 5, b"\0\0\0\0\1"), "a chunk of type 5 has 5 bytes"),
        (chunk(1, 0x8001, b""), "a chunk of type 32769 has 0 bytes"),
        (chunk(1, 5, b"")[:16] + b"\xff\0\0\0", "bytes without data"),
    ],
)
def test_what_no_server_should_say(reply: bytes, message: str) -> None:
    client = Client()
    client.ask(1, Kind.READ, 512)
    with pytest.raises(NbdError, match=message):
        client.hear(reply)


@pytest.mark.parametrize(
    "replies",
    [
        chunk(1, 5, struct.pack(">III", 7, 512, 0), done=False) * 2,  # without end, and each is kept
        chunk(1, 5, struct.pack(">III", 7, 0, 0)),  # asked for again, it would come again
        chunk(1, 0),
        chunk(2, 5, struct.pack(">III", 7, 512, 0)),
    ],
)
def test_states_that_were_not_asked_for_end_the_connection(replies: bytes) -> None:
    client = Client()
    client.ask(1, Kind.BLOCK_STATUS, 1 << 20)
    client.ask(2, Kind.WRITE, 512)
    with pytest.raises(NbdError, match="state"):
        client.hear(replies)

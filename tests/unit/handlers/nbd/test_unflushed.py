"""Which writes are kept until a flush."""

from __future__ import annotations

import asyncio

from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.unflushed import ENTRY, Unflushed
from tcmu_runner.handlers.nbd.wire import Kind

LOOP = asyncio.new_event_loop()


def write(content: bytes) -> NbdRequest:
    half = len(content) // 2
    buffers = [memoryview(bytearray(content[:half])), memoryview(bytearray(content[half:]))]
    return NbdRequest(Kind.WRITE, 512, len(content), 0, buffers, done=LOOP.create_future())


def test_a_flush_covers_what_was_answered_before_it_was_sent() -> None:
    unflushed = Unflushed(1 << 20)
    unflushed.add(write(b"before"))
    mark = unflushed.mark()
    unflushed.add(write(b"after"))
    assert [change.data for change in unflushed.changes()] == [b"before", b"after"]
    unflushed.flushed(mark)
    assert [change.data for change in unflushed.changes()] == [b"after"]
    assert unflushed and unflushed.size == ENTRY + 5
    unflushed.flushed(unflushed.mark())
    assert not unflushed and unflushed.size == 0


def test_what_is_kept_is_a_copy() -> None:
    unflushed, request = Unflushed(1 << 20), write(b"data")
    unflushed.add(request)
    request.buffers[0][:] = b"xx"
    assert unflushed.changes()[0].data == b"data"


def test_zeroes_take_memory_too() -> None:
    unflushed = Unflushed(1 << 20)
    unflushed.add(NbdRequest(Kind.WRITE_ZEROES, 0, 1 << 30, 0, [], done=LOOP.create_future()))
    assert unflushed.changes()[0][1:] == (Kind.WRITE_ZEROES, 0, 1 << 30, 0, b"") and unflushed.size == ENTRY


def test_without_a_limit_it_only_knows_that_there_is_something() -> None:
    unflushed = Unflushed(0)
    unflushed.add(write(b"data"))
    assert unflushed and not unflushed.changes() and not unflushed.size

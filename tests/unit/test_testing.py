"""tcmu_runner.testing, used as the author of a handler or a filter uses it: from public names alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from support.kit import KIT_SIZE

from tcmu_runner import Capabilities, Device, Filter, Handler, Operation, Read, ScsiError, Steps, iov, sense
from tcmu_runner.testing import check_class, check_filter, disk, play

if TYPE_CHECKING:
    from tcmu_runner.testing.fixtures import ServeHandler

pytest_plugins = ["tcmu_runner.testing.fixtures"]
READ_10 = bytes.fromhex("2800 00000001 00 0001 00")  # SBC-4 5.11: one block at LBA 1


class Pattern(Handler[str]):
    """Every byte is the number of its block."""

    subtype = "pattern"

    @classmethod
    def open(cls, device: Device, config: str) -> Pattern:
        return cls()

    def read(self, into: list[memoryview], offset: int) -> None:
        data = b"".join(
            bytes((block % 256,)) * 512
            for block in range(offset // 512, -(-(offset + iov.length(into)) // 512))
        )
        iov.scatter(into, data[offset % 512 :][: iov.length(into)])


class ReadsOnly(Filter[None]):
    name = "readsonly"

    def capabilities(self, below: Capabilities) -> Capabilities:
        return replace(below, write=False, unmap=False, write_zeroes=False)

    def handle(self, operation: Operation) -> Steps:
        if not isinstance(operation, Read):
            raise ScsiError(sense.WRITE_PROTECTED)
        yield operation


def test_a_handler_is_reached_over_iscsi(serve_handler: ServeHandler) -> None:
    initiator = serve_handler(Pattern)
    assert initiator.command(READ_10, data_in_length=512).data == b"\1" * 512


def test_the_kit_judges_a_handler_and_a_stack() -> None:
    assert check_class(Pattern, size=KIT_SIZE).ok
    assert check_filter("ram/", ("delay", {"read": 0}), size=KIT_SIZE).ok


def test_a_filter_is_a_generator_of_operations() -> None:
    read = Read(0, [memoryview(bytearray(512))])
    assert list(ReadsOnly().handle(read)) == [read]


def test_a_conversation_with_a_unit() -> None:
    ended = play(disk(), READ_10, (Read(512, [memoryview(bytearray(512))]), b"x" * 512), room=512)
    assert (ended.status, ended.data) == (0, b"x" * 512)

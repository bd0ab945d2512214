"""What a handler has that its author does not define."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import AsyncHandler, Device, Handler, RawHandler
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.unit import Capabilities

DEVICE = Device("user_0/vol0", 1 << 20)
RANGE = (0, 512)
BLOCK = bytes(512)


class Bare(Handler[str]):
    """bare/NAME, which
    stores nothing"""

    subtype = "bare"


class AsyncBare(AsyncHandler[str]):
    subtype = "asyncbare"


class Journal(Handler[str]):
    """Notes its calls."""

    subtype = "journal"
    atomic = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, data: Buffers, offset: int) -> None:
        self.calls.append("write")


class Flushing(Journal):
    subtype = "flushing"

    def flush(self) -> None:
        self.calls.append("flush")


class AsyncJournal(AsyncHandler[str]):
    subtype = "asyncjournal"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def write(self, data: Buffers, offset: int) -> None:
        self.calls.append("write")


class AsyncFlushing(AsyncJournal):
    subtype = "asyncflushing"

    async def flush(self) -> None:
        self.calls.append("flush")


def test_its_docstring_says_what_its_config_string_means() -> None:
    assert Bare.describe() == "bare/NAME, which\nstores nothing\n"


def test_the_config_string_is_taken_as_it_is_and_names_no_storage_that_exists() -> None:
    assert Bare.parse("a/b") == "a/b"
    assert Bare.probe("a/b") is None
    assert not Bare.occupied("a/b")


def test_what_probe_finds_may_hold_something() -> None:
    class Existing(Bare):
        @classmethod
        def probe(cls, config: str) -> int | None:
            return 4096 if config else 0

    assert Existing.occupied("a")
    assert not Existing.occupied("")


def test_the_config_string_stands_for_the_storage() -> None:
    """An empty identity has the filters take the config string."""
    assert Bare().identity() == ""


def test_nothing_can_be_changed_while_it_is_open() -> None:
    with pytest.raises(ConfigError, match="handler bare has nothing that can be changed while it is open"):
        Bare().control({})


def test_capabilities_are_the_methods_of_the_class_and_its_own_bases() -> None:
    assert Bare().capabilities() == Capabilities()
    assert Journal().capabilities() == Capabilities(write=True, atomic=True)
    assert Flushing().capabilities() == Capabilities(write=True, flush=True, atomic=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Bare.open(DEVICE, ""),
        lambda: Bare().read([], 0),
        lambda: Bare().write([], 0),
        lambda: Bare().write_durable([], 0),
        lambda: Bare().flush(),
        lambda: Bare().unmap(*RANGE),
        lambda: Bare().write_zeroes(*RANGE, unmap=True),
        lambda: Bare().extents(*RANGE),
        lambda: Bare().space(),
        lambda: Bare().crypto_erase(),
        lambda: Bare().compare_and_write([], [], 0),
        lambda: Bare().write_same(*RANGE, BLOCK),
        lambda: type("Raw", (RawHandler,), {"subtype": "raw"})().command(Command(bytes(6), [], Nexus())),
    ],
)
def test_a_method_that_its_author_has_not_defined_is_a_bug_of_the_caller(call: Callable[[], object]) -> None:
    with pytest.raises(NotImplementedError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: AsyncBare.open(DEVICE, ""),
        lambda: AsyncBare().read([], 0),
        lambda: AsyncBare().write([], 0),
        lambda: AsyncBare().write_durable([], 0),
        lambda: AsyncBare().flush(),
        lambda: AsyncBare().unmap(*RANGE),
        lambda: AsyncBare().write_zeroes(*RANGE, unmap=True),
        lambda: AsyncBare().extents(*RANGE),
        lambda: AsyncBare().space(),
        lambda: AsyncBare().crypto_erase(),
        lambda: AsyncBare().compare_and_write([], [], 0),
        lambda: AsyncBare().write_same(*RANGE, BLOCK),
    ],
)
def test_so_it_is_on_the_loop(call: Callable[[], Coroutine[object, object, object]]) -> None:
    with pytest.raises(NotImplementedError):
        asyncio.run(call())


@pytest.mark.parametrize(("kind", "calls"), [(Journal, ["write"]), (Flushing, ["write", "flush"])])
def test_a_durable_write_is_a_write_and_a_flush_where_there_is_one(
    kind: type[Journal], calls: list[str]
) -> None:
    handler = kind()
    handler.write_durable([], 0)
    assert handler.calls == calls


@pytest.mark.parametrize(("kind", "calls"), [(AsyncJournal, ["write"]), (AsyncFlushing, ["write", "flush"])])
def test_a_durable_write_on_the_loop(kind: type[AsyncJournal], calls: list[str]) -> None:
    handler = kind()
    asyncio.run(handler.write_durable([], 0))
    assert handler.calls == calls


def test_another_size_is_refused_unless_the_handler_knows_better() -> None:
    with pytest.raises(OSError, match="Bare cannot resize a LUN: make a new one"):
        Bare().resize(4096)
    with pytest.raises(OSError, match="AsyncBare cannot resize a LUN: make a new one"):
        asyncio.run(AsyncBare().resize(4096))


def test_to_close_takes_nothing() -> None:
    Bare().close()
    asyncio.run(AsyncBare().close())


def test_a_raw_handler_without_storage_has_no_read() -> None:
    """SPC-5 4.2.1: INVALID COMMAND OPERATION CODE for a command that the unit does not have."""

    class Raw(RawHandler[str]):
        subtype = "raw"

    with pytest.raises(ScsiError) as caught:
        Raw().read([], 0)
    assert (caught.value.sense.key, caught.value.sense.asc) == (0x5, 0x20)

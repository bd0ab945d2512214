"""A handler and filters above it: opened, sized, resized and closed as one."""

from __future__ import annotations

import errno
import gc
import mmap
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.waiting import give_way

from tcmu_runner import AsyncHandler, ConfigError, Device, Filter, Handler
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.filter import Layer, StackDefinition
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Operation, Pause, Read, Steps

log: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    log.clear()


class Store(Handler[str]):
    """store/"""

    subtype = "store"
    threads = 2

    def __init__(self, device: Device) -> None:
        self.device = device
        self.now = self.most = 0

    @classmethod
    def open(cls, device: Device, config: str) -> Store:
        log.append(f"handler opened with {device.size}")
        return cls(device)

    def read(self, into: Buffers, offset: int) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        give_way()
        self.now -= 1
        for buffer in into:
            buffer[:] = b"h" * len(buffer)

    def resize(self, size: int) -> None:
        log.append(f"handler resized to {size}")

    def close(self) -> None:
        log.append("handler closed")


class AsyncStore(AsyncHandler[str]):
    """asyncstore/"""

    subtype = "asyncstore"

    @classmethod
    async def open(cls, device: Device, config: str) -> AsyncStore:
        return cls()

    async def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[:] = b"a" * len(buffer)


class Header(Filter[int]):
    """Keeps `options` bytes at the end of the storage for itself."""

    name = "header"

    def __init__(self, options: int) -> None:
        self.options = options

    @classmethod
    def open(cls, device: Device, options: int) -> Header:
        log.append(f"filter {options} opened with {device.size}")
        return cls(options)

    @classmethod
    def size_below(cls, size: int, options: int) -> int:
        return size + options

    @classmethod
    def size_above(cls, size: int, options: int) -> int:
        return size - options

    def start(self) -> Steps:
        yield Read(0, [memoryview(header := bytearray(8))])
        log.append(f"filter {self.options} has read {header.decode()}")

    def handle(self, operation: Operation) -> Steps:
        yield operation

    def resized(self, size: int) -> None:
        log.append(f"filter {self.options} resized to {size}")

    def close(self) -> None:
        log.append(f"filter {self.options} closed")


class Slow(Header):
    """Its `handle` may block."""

    threads = 8

    def handle(self, operation: Operation) -> Steps:
        yield Pause(0.001)
        yield operation


class Broken(Header):
    def start(self) -> Steps:
        raise ConfigError("no header found")
        yield


class Nameless(Header):
    def identity(self, below: str) -> str:
        raise OSError(errno.EIO, "its file cannot be read")


def opened(device: Device, *layers: type[Header], handler: type[Store] | type[AsyncStore] = Store) -> Stack:
    sizes = [512 << number for number in range(len(layers))]
    made = [Layer(layer, size) for layer, size in zip(layers, sizes, strict=True)]
    return Stack.open(StackDefinition("stack", handler, tuple(made)), "", device)


def read(stack: Stack, length: int = 8) -> bytes:
    stack.perform()(Read(0, [memoryview(into := bytearray(length))]))
    return bytes(into)


def test_it_opens_from_below_and_closes_from_above() -> None:
    stack = opened(Device("user_0/vol0", 4096), Header, Header)
    assert log == [
        "handler opened with 5632", "filter 1024 opened with 4608", "filter 1024 has read hhhhhhhh",
        "filter 512 opened with 4096", "filter 512 has read hhhhhhhh",
    ]  # fmt: skip
    log.clear()
    stack.resize(8192)
    assert log == ["handler resized to 9728", "filter 512 resized to 8192", "filter 1024 resized to 8704"]
    log.clear()
    stack.close()
    assert log == ["filter 512 closed", "filter 1024 closed", "handler closed"]


def test_a_layer_that_cannot_start_leaves_nothing_open() -> None:
    with pytest.raises(ConfigError, match="no header found"):
        opened(Device("user_0/vol0", 4096), Broken, Header)
    assert log[-3:] == ["filter 512 closed", "filter 1024 closed", "handler closed"]


def test_a_layer_without_an_identity_leaves_nothing_open() -> None:
    with pytest.raises(OSError, match="its file cannot be read"):
        opened(Device("user_0/vol0", 4096, config="stack/"), Nameless)
    assert log[-2:] == ["filter 512 closed", "handler closed"]


def test_events_of_the_storage_reach_the_lun(caplog: pytest.LogCaptureFixture) -> None:
    device = Device("user_0/vol0", 4096)
    seen: list[int] = []
    lost: list[OSError] = []
    stack = opened(device, Header, Header)
    device.on_resized, device.on_write_lost = seen.append, lost.append
    assert isinstance(stack.handler, Store)
    stack.handler.device.resized(9728)
    assert seen == [8192]
    assert log[-2:] == ["filter 1024 resized to 8704", "filter 512 resized to 8192"]
    stack.handler.device.write_lost(error := OSError(errno.EIO, "the cache could not be written"))
    assert lost == [error]
    caplog.clear()


def test_a_handler_gets_no_more_calls_at_once_than_it_wants() -> None:
    stack = opened(Device("user_0/vol0", 4096), Slow)
    assert (stack.threads, stack.blocks, stack.direct) == (8, True, None)
    perform = stack.perform()
    in_threads(8, lambda: perform(Read(0, [memoryview(bytearray(8))])))
    assert isinstance(stack.handler, Store)
    assert 1 <= stack.handler.most <= 2
    stack.close()


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("layer", "on_the_loop"), [(Header, True), (Slow, False)])
def test_an_asyncio_handler_keeps_its_loop_unless_a_filter_blocks(
    layer: type[Header], on_the_loop: bool
) -> None:
    stack = opened(Device("user_0/vol0", 4096), layer, handler=AsyncStore)
    assert stack.asynchronous is on_the_loop
    assert read(stack) == b"a" * 8
    stack.close()


class AllAtOnce(Store):
    atomic = True

    def write(self, data: Buffers, offset: int) -> None:
        raise AssertionError("nobody writes here")

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        raise AssertionError("below a filter nobody asks for it")

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        raise AssertionError("below a filter nobody asks for it")


def test_what_is_one_operation_of_the_storage_is_not_above_a_filter() -> None:
    alone = opened(Device("user_0/vol0", 4096), handler=AllAtOnce)
    below = opened(Device("user_0/vol0", 4096), Header, handler=AllAtOnce)
    for stack, offered in ((alone, True), (below, False)):
        assert stack.capabilities.compare_and_write is offered
        assert stack.capabilities.write_same is offered
        assert stack.capabilities.atomic is offered
        stack.close()


def test_a_handler_alone_can_be_called_directly() -> None:
    stack = opened(Device("user_0/vol0", 4096))
    assert stack.direct is stack.handler
    stack.close()


class Failing(Store):
    """failing/"""

    def read(self, into: Buffers, offset: int) -> None:
        if offset:
            raise OSError(errno.EIO, "worn out")
        super().read(into, offset)


def test_a_failure_that_went_through_filters_keeps_no_buffers() -> None:
    """Else the ring's memory could not be unmapped until the garbage collector has come."""
    definition = StackDefinition("stack", Failing, (Layer(Header, 512), Layer(Header, 512)))
    perform = Stack.open(definition, "", Device("vol", 1 << 20)).perform()
    memory = mmap.mmap(-1, 4096)
    gc.disable()
    try:
        with suppress(OSError):
            perform(Read(4096, [memoryview(memory)]))
        memory.close()
    finally:
        gc.enable()

"""A handler with filters above it, as one handler, so that the conformance kit can be run on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from tcmu_runner import ConfigError, Device, Extent, Handler, Space
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.filter import Layer, StackDefinition
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import (
    CryptoErase,
    Extents,
    Flush,
    MeasureSpace,
    Read,
    Unmap,
    Write,
    WriteZeroes,
)
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.conformance import SIZE, Report, check_handler


def definition(config: str, *layers: tuple[str, Mapping[str, object]]) -> tuple[StackDefinition, object]:
    """Filters, the topmost first, over the handler that a config string names; and the handler's options."""
    registry = Registry()
    registry.load_entry_points()
    provider, parts = registry.find(config)
    assert isinstance(provider, type)
    made = StackDefinition("stack", provider, tuple(Layer.parse(name, table) for name, table in layers))
    return made, made.parse(parts.rest)


class Stacked(Handler[object]):
    """stacked/
    A stack as a handler.
    """

    subtype = "stacked"
    threads: ClassVar[int] = 4

    def __init__(self, stack: Stack, clock: Clock = MACHINE) -> None:
        self.stack = stack
        self.perform = stack.perform(clock=clock)

    @classmethod
    def open(cls, device: Device, config: object) -> Stacked:
        raise ConfigError("opened by open_stack")

    def capabilities(self) -> Capabilities:
        return self.stack.capabilities

    def close(self) -> None:
        self.stack.close()

    def read(self, into: Buffers, offset: int) -> None:
        self.perform(Read(offset, into))

    def write(self, data: Buffers, offset: int) -> None:
        self.perform(Write(offset, data))

    def write_durable(self, data: Buffers, offset: int) -> None:
        self.perform(Write(offset, data, fua=True))

    def flush(self) -> None:
        self.perform(Flush())

    def unmap(self, offset: int, length: int) -> None:
        self.perform(Unmap(offset, length))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.perform(WriteZeroes(offset, length, unmap))

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        asked = Extents(offset, length)
        self.perform(asked)
        return asked.found

    def space(self) -> Space:
        asked = MeasureSpace()
        self.perform(asked)
        return asked.found

    def crypto_erase(self) -> None:
        self.perform(CryptoErase())

    def resize(self, size: int) -> None:
        self.stack.resize(size)


class StackedInline(Stacked):
    """stacked_inline/
    A stack of which nothing blocks.
    """

    threads: ClassVar[int] = 0


def open_stack(
    config: str,
    *layers: tuple[str, Mapping[str, object]],
    size: int = SIZE,
    block_size: int = 512,
    clock: Clock = MACHINE,
) -> Stacked:
    """Filters, the topmost first, over the handler that `config` names; they wait by the clock. Raises
    TcmuError or OSError."""
    made, options = definition(config, *layers)
    stack = Stack.open(made, options, Device("conformance", size, block_size, clock=clock))
    return Stacked(stack, clock) if stack.threads else StackedInline(stack, clock)


def check_filter(
    config: str, *layers: tuple[str, Mapping[str, object]], persistent: bool = False, size: int = SIZE
) -> Report:
    """The conformance kit on a handler with filters above it: does the stack keep the contract of a handler?

    config: of the handler, for example "ram/". layers: names of filters with their options as in the
    settings, the topmost first. persistent, size: see check_handler. EVERYTHING ON THE DISK IS OVERWRITTEN.
    """
    return check_handler(lambda: open_stack(config, *layers, size=size), size=size, persistent=persistent)

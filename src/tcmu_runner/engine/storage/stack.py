"""Stack: an open handler and the filters above it, that is, a unit's storage."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from threading import BoundedSemaphore
from typing import Any

from tcmu_runner.aio import run
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.on_loop import AsyncStorage, PerformAsync, through_async
from tcmu_runner.engine.storage.perform import (
    Neighbour,
    OperationError,
    Perform,
    Storage,
    carry_out,
    through,
)
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import AsyncHandler, Handler, RawHandler
from tcmu_runner.handler.config import split
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Filter, Layer, StackDefinition
from tcmu_runner.handler.registry import Provider
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.unit import Capabilities, Unit

log = logging.getLogger(__name__)

AnyOpen = Handler[Any] | AsyncHandler[Any]


def _no_neighbour(_unit: Unit, _operation: Operation) -> None:
    """Before a LUN is attached, no command copies to another one."""
    raise AssertionError("no command reaches other LUNs before the LUN is attached")


class Stack:
    """filters, layers: the topmost first. identity: of the storage as seen from above; empty if unknown.
    Methods may block; do not call them on a LUN's own threads."""

    def __init__(
        self,
        handler: AnyOpen,
        filters: Sequence[Filter[Any]] = (),
        layers: Sequence[Layer] = (),
        identity: str = "",
    ) -> None:
        self.handler = handler
        self.identity = identity
        self.filters = filters
        self._layers = layers or [Layer(type(each), None) for each in filters]
        self._below = handler.capabilities()
        self.capabilities: Capabilities = reduce(
            lambda offered, layer: layer.capabilities(offered), reversed(filters), self._below
        )
        if filters:  # raw commands would bypass the filters
            self.capabilities = replace(
                self.capabilities, compare_and_write=False, write_same=False, atomic=False
            )
        self.blocks = any(layer.threads for layer in filters)  # then commands do not run on the ring's thread

    @classmethod
    def open(cls, provider: Provider, options: object, device: Device) -> Stack:
        """device: the LUN's. Raises TcmuError or OSError: nothing is left open then."""
        definition = (
            provider if isinstance(provider, StackDefinition) else StackDefinition(provider.subtype, provider)
        )
        devices = _devices(device, definition.layers)
        opened = definition.handler.open(devices[-1], options)
        stack = cls(opened if isinstance(opened, Handler | AsyncHandler) else run(opened))
        try:
            if definition.layers:
                stack.identity = stack.handler.identity() or _named(definition.handler.subtype, device.config)
            for number, layer in reversed(list(enumerate(definition.layers))):
                stack = stack.with_filter(layer, devices[number + 1], devices[number])
        except BaseException:
            stack.close()
            raise
        return stack

    def with_filter(self, layer: Layer, below: Device, device: Device) -> Stack:
        """Opens one more filter on top of this stack, and runs its `start`. device: as the filter's upper
        side shows it."""
        device.storage = self.identity
        added = layer.filter.open(device, layer.options)
        try:
            _tell_upwards(layer, added, below, device)
            carry_out(added.start(), self.perform())
            identity = added.identity(self.identity) if self.identity else ""
            return Stack(self.handler, [added, *self.filters], [layer, *self._layers], identity)
        except BaseException as error:
            added.close()
            if isinstance(error, OperationError):
                raise error.unwrapped() from None
            raise

    @property
    def threads(self) -> int:
        """How many threads carry out commands; 0: the ring's own."""
        own = 0 if isinstance(self.handler, AsyncHandler) else self.handler.threads
        return max([own, *(layer.threads for layer in self.filters)])

    @property
    def asynchronous(self) -> bool:
        """Whether commands run on the asyncio loop: the handler is asynchronous, and no filter blocks."""
        return isinstance(self.handler, AsyncHandler) and not self.blocks

    @property
    def direct(self) -> Handler[Any] | None:
        """The handler, if a READ or WRITE is a single call of it; else None."""
        handler = self.handler
        return None if self.filters or isinstance(handler, AsyncHandler | RawHandler) else handler

    def perform(self, neighbour: Neighbour = _no_neighbour, clock: Clock = MACHINE) -> Perform:
        """A function that performs one operation through all layers, on the calling thread. clock: measures
        the pauses of filters."""
        handler = self.handler
        if isinstance(handler, AsyncHandler):
            asynchronous = AsyncStorage(handler, self._below, neighbour).perform
            return through(self.filters, lambda operation: run(asynchronous(operation)), clock)
        storage: Perform = Storage(handler, self._below, neighbour).perform
        if self.threads > handler.threads:
            storage = _at_most(max(handler.threads, 1), storage)
        return through(self.filters, storage, clock)

    def perform_async(self, neighbour: Neighbour) -> PerformAsync:
        """`perform` on the loop."""
        assert isinstance(self.handler, AsyncHandler)
        return through_async(self.filters, AsyncStorage(self.handler, self._below, neighbour).perform)

    def resize(self, size: int) -> None:
        """size: the LUN's, in bytes. Raises OSError or ConfigError: the size has not changed then."""
        base = reduce(lambda above, layer: layer.size_below(above), self._layers, size)
        resized = self.handler.resize(base)
        if resized is not None:
            run(resized)
        for layer, opened in zip(self._layers, self.filters, strict=True):
            opened.resized(size)
            size = layer.size_below(size)

    def control(self, name: str, table: Mapping[str, object]) -> Mapping[str, object]:
        """See Filter.control. name: a filter's, NAME:2 for the second of that name, or the handler's subtype.
        Raises ConfigError or whatever the layer raises."""
        layers = self._by_name()
        if name not in layers:
            raise ConfigError(f"no layer {name!r}; there are, topmost first: {', '.join(layers)}")
        return layers[name].control(table)

    def _by_name(self) -> dict[str, Filter[Any] | AnyOpen]:
        seen: Counter[str] = Counter()
        layers: dict[str, Filter[Any] | AnyOpen] = {}
        for layer in self.filters:
            seen[layer.name] += 1
            number = seen[layer.name]
            layers[f"{layer.name}:{number}" if number > 1 else layer.name] = layer
        layers.setdefault(self.handler.subtype, self.handler)
        return layers

    def close(self) -> None:
        for number, layer in enumerate(self.filters, 1):
            below = Stack(self.handler, self.filters[number:], self._layers[number:]).perform()
            try:
                carry_out(layer.stop(), below)
            except OperationError as failure:
                log.error("filter %s: its end failed: %s", layer.name, failure.error)
            layer.close()
        closed = self.handler.close()
        if closed is not None:
            run(closed)


def _devices(device: Device, layers: Sequence[Layer]) -> list[Device]:
    """The LUN as each layer's upper side shows it; the last one is the handler's."""
    found = [device]
    for layer in layers:
        size = layer.size_below(found[-1].size)
        written = found[-1].written and layer.filter.writes
        found.append(replace(device, size=size, written=written))
    return found


def _named(subtype: str, config: str) -> str:
    """An identity from the config string without options; empty without a config string."""
    return config and f"{subtype}/{split(config).rest.partition(';')[0]}"


def _tell_upwards(layer: Layer, opened: Filter[Any], below: Device, above: Device) -> None:
    """Passes the storage's events on, converted by this layer."""

    def resized(size: int) -> None:
        opened.resized(layer.size_above(size))
        above.on_resized(layer.size_above(size))

    def write_lost(error: OSError) -> None:
        above.on_write_lost(error)  # looked up at each call: the engine sets it after the stack is open

    below.on_resized = resized
    below.on_write_lost = write_lost


def _at_most(calls: int, perform: Perform) -> Perform:
    """Limits concurrent calls to what the handler asked for; filters may have more threads."""
    turn = BoundedSemaphore(calls)

    def one_of_them(operation: Operation) -> None:
        with turn:
            perform(operation)

    return one_of_them

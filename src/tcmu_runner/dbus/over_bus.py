"""Method calls over the system bus. Only this client module imports the library for D-Bus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from dbus_fast import BusType, Message, MessageFlag, MessageType, unpack_variants
from dbus_fast.aio import MessageBus

from tcmu_runner.dbus.calls import CallError, MethodCall
from tcmu_runner.dbus.variants import packed


class OverBus:
    """name: the daemon's on the bus. For one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bus: MessageBus

    async def open(self) -> None:
        """Raises the library's errors, which differ between versions."""
        self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()

    async def close(self) -> None:
        await close(self._bus)

    async def call(self, request: MethodCall, *, start: bool = False) -> list[Any]:
        """The method's results, without variants. start: see Client. Raises CallError."""
        reply = await self._bus.call(
            Message(
                self._name, request.path, request.interface, request.method,
                flags=MessageFlag.NONE if start else MessageFlag.NO_AUTOSTART,
                signature=request.signature, body=packed(request.arguments),
            )
        )  # fmt: skip
        assert reply is not None  # the message expects one
        if reply.message_type is MessageType.ERROR:
            raise CallError(str(reply.error_name), str(reply.body[0]) if reply.body else "")
        results: list[Any] = unpack_variants(reply.body)
        return results


async def close(bus: MessageBus) -> None:
    """Disconnects and waits until the socket is closed."""
    if bus.connected:
        bus.disconnect()
        with suppress(Exception):  # any end of the connection
            await asyncio.wait_for(bus.wait_for_disconnect(), 1)  # type: ignore[no-untyped-call]

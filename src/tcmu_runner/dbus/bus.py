"""The daemon's connection to the system bus and its name there. Without a bus it serves nevertheless."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dbus_fast import BusType, Message, MessageFlag, MessageType, NameFlag, RequestNameReply
from dbus_fast.aio import MessageBus

from tcmu_runner.dbus.calls import CallError
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.names import MANAGER
from tcmu_runner.dbus.over_bus import close
from tcmu_runner.dbus.tree import Tree, refusal
from tcmu_runner.errors import DeviceError

RETRY_SECONDS = 5.0
CONNECT_SECONDS = 20.0  # below the 25 s for which a client of D-Bus activation waits for the name
_DBUS, _DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_OWNERS = f"type='signal',sender='{_DBUS}',member='NameOwnerChanged',arg0namespace='{MANAGER.name}'"

log = logging.getLogger(__name__)


class Bus:
    """Runs on the event loop."""

    def __init__(self, name: str, tree: Tree, externals: Externals) -> None:
        self._name = name
        self._tree = tree
        self._externals = externals
        self._bus: MessageBus | None = None
        self._trouble = ""
        self._task: asyncio.Task[None]
        self._answers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when the name is ours, or the log has the reason; then retries in the background."""
        await self._try()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._let_go()

    def emit(self, signal: Message) -> None:
        """Sends a signal, if there is a bus."""
        if self._bus is not None:
            try:
                self._send(self._bus, signal)
            except Exception:
                log.exception("the signal %s of %s cannot be sent", signal.member, signal.path)

    # -- other processes ------------------------------------------------------------------------------

    async def owner(self, name: str) -> str:
        try:
            (found,) = await self.call(_DBUS, _DBUS_PATH, _DBUS, "GetNameOwner", "s", name)
        except CallError:
            return ""
        return str(found)

    async def call(
        self, name: str, path: str, interface: str, method: str, signature: str = "", *arguments: object
    ) -> Sequence[object]:
        """Raises CallError, or DeviceError without a bus."""
        if self._bus is None:
            raise DeviceError("there is no D-Bus")
        message = Message(name, path, interface, method, signature=signature, body=list(arguments))
        reply = await self._bus.call(message)
        assert reply is not None  # the message expects one
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else str(reply.error_name)
            raise CallError(str(reply.error_name), text)
        body: Sequence[object] = reply.body
        return body

    async def _who(self, name: str) -> str:
        """The owner of a name, for a log line."""
        try:
            (pid,) = await self.call(_DBUS, _DBUS_PATH, _DBUS, "GetConnectionUnixProcessID", "s", name)
            return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
        except (CallError, OSError):
            return "another process"

    # -- the connection -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            if self._bus is not None:
                with suppress(Exception):  # any end of the connection
                    # shield: cancelling this task must not cancel the future that `close` awaits, too
                    await asyncio.shield(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
                await self._let_go()
                self._complain("the bus has ended the connection")
            await asyncio.sleep(RETRY_SECONDS)
            await self._try()

    async def _try(self) -> None:
        try:
            await asyncio.wait_for(self._connect(), CONNECT_SECONDS)
        except Exception as error:  # of many kinds, by the version of dbus-fast
            await self._let_go()
            late = isinstance(error, TimeoutError)
            self._complain(f"the bus does not answer in {CONNECT_SECONDS:.0f} s" if late else str(error))
        else:
            log.info("on D-Bus as %s", self._name)
            self._trouble = ""

    async def _connect(self) -> None:
        """Takes the name last: a process that sees it finds all objects."""
        self._bus = bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        bus.add_message_handler(self._receive)
        await self.call(_DBUS, _DBUS_PATH, _DBUS, "AddMatch", "s", _OWNERS)
        reply = await bus.request_name(self._name, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise DeviceError(f"the name is taken by {await self._who(self._name)}")

    async def _let_go(self) -> None:
        bus, self._bus = self._bus, None
        self._externals.forget_all()
        if bus is not None:
            await close(bus)

    def _complain(self, trouble: str) -> None:
        """Logs each kind of trouble once."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning(
                "not on D-Bus as %s: %s: trying again; targetcli does not see our handlers until then",
                self._name,
                trouble,
            )

    # -- messages -------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> bool:
        """Whether this is a message for us to answer."""
        if message.message_type is MessageType.SIGNAL:
            if message.member == "NameOwnerChanged" and message.sender == _DBUS:
                self._externals.owner_changed(message.body[0])
            return False
        if message.message_type is not MessageType.METHOD_CALL or message.interface == f"{_DBUS}.Peer":
            return False
        answer = asyncio.get_running_loop().create_task(self._answer(message))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        return True

    async def _answer(self, message: Message) -> None:
        reply = await self._tree.answer(message)
        if self._bus is None or message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return
        try:
            self._send(self._bus, reply)
        except Exception as error:  # results that do not fit the signature, or no D-Bus value at all
            log.exception("the answer to D-Bus call %s of %s cannot be sent", message.member, message.sender)
            self._send(self._bus, refusal(message, error))

    def _send(self, bus: MessageBus, message: Message) -> None:
        """Raises the library's errors for a message that cannot be encoded."""
        sent = bus.send(message)
        sent.add_done_callback(lambda future: future.cancelled() or future.exception())

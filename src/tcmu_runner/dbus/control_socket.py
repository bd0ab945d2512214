"""The daemon's objects on a Unix socket, for our own commands on machines without a system bus.

A request is a line of JSON, and so is its answer:

    {"path": "/org/kernel/TCMURunner2/devices/user_0/vol0", "interface": "org.kernel.TCMURunner2.Device1",
     "method": "Resize", "arguments": [1048576]}
    {"results": []}    or    {"error": "org.kernel.TCMURunner2.Error.EINVAL", "text": "why"}

Paths, interfaces, methods and errors are those of D-Bus; values have no variants. There are no signals, and
no handler can register, since that takes a name on the bus. Only root is served, with all that D-Bus lets
root do.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tcmu_runner.dbus import names, standard
from tcmu_runner.dbus.calls import DBUS_ERRORS, CallError, MethodCall, described, is_bug
from tcmu_runner.dbus.interface import Branch, Method, Objects, Served

LONGEST = 1 << 20  # bytes of a request
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_FIELDS = ("path", "interface", "method", "arguments")
_FITS: Mapping[str, Callable[[object], bool]] = {  # by signature: JSON has types of its own
    "s": lambda value: isinstance(value, str),
    "d": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "t": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64,
    "a{sv}": lambda value: isinstance(value, dict),
}

log = logging.getLogger(__name__)


def is_root(uid: int) -> bool:
    return uid == 0


@asynccontextmanager
async def control_socket(
    path: Path, branches: Sequence[Branch], allowed: Callable[[int], bool] = is_root
) -> AsyncIterator[None]:
    """Serves while the context is open; the caller holds the daemon's lock. If it cannot, logs the reason and
    serves nothing. allowed: whether a user id is served."""
    try:
        listening = _listen(path)
    except OSError as error:
        log.error("no control socket for our commands: %s: correct [coexistence] control", error)
        yield
        return
    connections = _Connections(branches, allowed)
    server = await asyncio.start_unix_server(connections.serve, sock=listening, limit=LONGEST)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()
        await connections.end()


def _listen(path: Path) -> socket.socket:
    """Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listening.fileno(), 0o600)  # bind(2) gives the file the mode of the socket
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    """Removes the socket of a dead daemon. A live daemon, with another lock, keeps its socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "this is no socket", str(path))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its queue is full: a daemon listens
            pass
    raise OSError(errno.EADDRINUSE, "another daemon listens there", str(path))


class _Connections:
    """Runs on the event loop."""

    def __init__(self, branches: Sequence[Branch], allowed: Callable[[int], bool]) -> None:
        self._branches = branches
        self._allowed = allowed
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, ValueError, asyncio.CancelledError) as error:  # ValueError: of a line too long
            log.debug("control socket: a connection has ended: %r", error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        _, uid, _ = _CREDENTIALS.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        while line := await reader.readline():
            writer.write(await self._answer(line, uid) + b"\n")
            await writer.drain()

    async def _answer(self, line: bytes, uid: int) -> bytes:
        try:
            return json.dumps({"results": list(await self._call(self._request(line, uid)))}).encode()
        except Exception as error:
            if is_bug(error):
                log.exception("a call on the control socket failed")
            told = described(error)
            return json.dumps({"error": told.name, "text": str(told)}).encode()

    def _request(self, line: bytes, uid: int) -> MethodCall:
        """Raises CallError."""
        if not self._allowed(uid):
            raise CallError(DBUS_ERRORS + "AccessDenied", f"user {uid} is not root")
        try:
            path, interface, method, arguments = (json.loads(line)[each] for each in _FIELDS)
        except (ValueError, TypeError, KeyError):
            path = interface = method = arguments = None
        if (
            not all(isinstance(each, str) for each in (path, interface, method))
            or type(arguments) is not list
        ):
            text = f"a request is a line of JSON, an object with {', '.join(_FIELDS)}"
            raise CallError(DBUS_ERRORS + "InvalidArgs", text)
        return MethodCall(path, interface, method, arguments=tuple(arguments))

    async def _call(self, request: MethodCall) -> Sequence[object]:
        for branch in self._branches:
            objects = branch.objects()
            if request.path == branch.root and request.interface == standard.MANAGER.name:
                _check(request, standard.MANAGER.method(request.method))
                return [_managed(objects)]
            if request.path in objects:
                return await _call(request, objects[request.path])
        raise CallError(DBUS_ERRORS + "UnknownObject", f"no object {request.path}")


async def _call(request: MethodCall, served: Sequence[Served]) -> Sequence[object]:
    if request.interface == standard.PROPERTIES.name and request.method == "Get":
        _check(request, standard.PROPERTIES.method("Get"))
        wanted, name = request.arguments
        found = next((dict(each.read()) for each in served if each.interface.name == wanted), {})
        if name not in found:
            raise CallError(DBUS_ERRORS + "UnknownProperty", f"{request.path} has no {wanted}.{name}")
        return [found[name]]
    for each in served:
        if each.interface.name == request.interface != names.MANAGER.name:
            _check(request, each.interface.method(request.method))
            return await each.calls[request.method](*request.arguments)
    raise _unknown(request)


def _check(request: MethodCall, method: Method | None) -> None:
    """Raises CallError unless the method exists and takes these arguments."""
    if method is None:
        raise _unknown(request)
    fits = [_FITS[signature] for _, signature in method.takes]
    given = request.arguments
    if len(fits) != len(given) or not all(fit(each) for fit, each in zip(fits, given, strict=True)):
        raise CallError(DBUS_ERRORS + "InvalidArgs", f"{method.name} takes ({method.signature})")


def _unknown(request: MethodCall) -> CallError:
    text = f"{request.path} has no method {request.interface}.{request.method}"
    return CallError(DBUS_ERRORS + "UnknownMethod", text)


def _managed(objects: Objects) -> dict[str, dict[str, dict[str, object]]]:
    """The result of GetManagedObjects."""
    return {
        path: {each.interface.name: dict(each.read()) for each in served}
        for path, served in objects.items()
        if all(each.listed for each in served)
    }

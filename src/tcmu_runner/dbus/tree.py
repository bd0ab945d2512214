"""All objects on the bus, in branches: a method call in, its answer out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from dbus_fast import Message, Variant, unpack_variants

from tcmu_runner.dbus import standard
from tcmu_runner.dbus.calls import DBUS_ERRORS, CallError, described, is_bug
from tcmu_runner.dbus.interface import Branch, Interface, Method, Served, introspection
from tcmu_runner.dbus.variants import packed

_UNKNOWN = DBUS_ERRORS + "Unknown"
_ALWAYS = (standard.INTROSPECTABLE, standard.PROPERTIES)

log = logging.getLogger(__name__)


def refusal(message: Message, error: Exception) -> Message:
    """The error reply to a call. Always send one: the caller waits for it."""
    told = described(error)
    return Message.new_error(message, told.name, str(told))


class Tree:
    def __init__(self, branches: Sequence[Branch]) -> None:
        self.branches = branches

    async def answer(self, message: Message) -> Message:
        """The reply to a method call; errors become error replies."""
        try:
            method, results = await self._call(message)
            return Message.new_method_return(message, method.result, list(results))
        except Exception as error:
            if is_bug(error):
                log.exception("D-Bus call %s of %s failed", message.member, message.sender)
            return refusal(message, error)

    async def _call(self, message: Message) -> tuple[Method, Sequence[object]]:
        path = str(message.path)
        branch = self._branch(path)
        objects = branch.objects() if branch else {}
        served = objects.get(path, ())
        if branch is None or not (served or path == branch.root):
            if message.interface in (None, standard.INTROSPECTABLE.name) and self._children(path):
                return _method(message, standard.INTROSPECTABLE), [introspection([], self._children(path))]
            raise CallError(_UNKNOWN + "Object", f"no object {path}")
        match message.interface:
            case standard.INTROSPECTABLE.name:
                return _method(message, standard.INTROSPECTABLE), [self._introspect(path, branch, served)]
            case standard.MANAGER.name if path == branch.root:
                return _method(message, standard.MANAGER), [managed(branch)]
            case standard.PROPERTIES.name:
                return _properties(message, served)
        for each in served:
            if message.interface in (None, each.interface.name) and each.interface.method(message.member):
                method = _method(message, each.interface)
                return method, packed(await each.calls[method.name](*unpack_variants(message.body)))
        raise CallError(_UNKNOWN + "Method", f"{path} has no method {message.interface}.{message.member}")

    def _branch(self, path: str) -> Branch | None:
        return next((each for each in self.branches if f"{path}/".startswith(f"{each.root}/")), None)

    def _introspect(self, path: str, branch: Branch, served: Sequence[Served]) -> str:
        manager = [standard.MANAGER] if path == branch.root else []
        own = [each.interface for each in served]
        return introspection([*_ALWAYS, *manager, *own], self._children(path))

    def _children(self, path: str) -> set[str]:
        """The next path elements of all objects below this path."""
        below = path.rstrip("/") + "/"
        return {other.removeprefix(below).split("/")[0] for other in self._paths() if other.startswith(below)}

    def _paths(self) -> Iterator[str]:
        for branch in self.branches:
            yield branch.root
            yield from branch.objects()


def _method(message: Message, interface: Interface) -> Method:
    method = interface.method(message.member)
    if method is None:
        raise CallError(_UNKNOWN + "Method", f"{interface.name} has no method {message.member}")
    if message.signature != method.signature:
        raise CallError(
            DBUS_ERRORS + "InvalidArgs",
            f"{method.name} takes ({method.signature}), not ({message.signature})",
        )
    return method


def _properties(message: Message, served: Sequence[Served]) -> tuple[Method, Sequence[object]]:
    method = _method(message, standard.PROPERTIES)
    wanted = message.body[0]
    every = {each.interface.name: each for each in served}
    if method.name == "GetAll":  # also of an interface without properties: targetcli calls it so
        return method, [values(every[wanted]) if wanted in every else {}]
    properties = values(every[wanted]) if wanted in every else {}
    name = message.body[1]
    if name not in properties:
        raise CallError(_UNKNOWN + "Property", f"{message.path} has no property {wanted}.{name}")
    if method.name == "Set":
        raise CallError(DBUS_ERRORS + "PropertyReadOnly", f"{name} cannot be set")
    return method, [properties[name]]


def values(served: Served) -> dict[str, Variant]:
    """Its properties, as they are now."""
    found = served.read()
    return {each.name: Variant(each.signature, found[each.name]) for each in served.interface.properties}


def managed(branch: Branch) -> dict[str, dict[str, dict[str, Variant]]]:
    """The result of GetManagedObjects for a branch."""
    return {
        path: {each.interface.name: values(each) for each in served}
        for path, served in branch.objects().items()
        if all(each.listed for each in served)
    }

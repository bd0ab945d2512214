"""Handlers of other processes: they register over D-Bus and serve their devices themselves. Ours forgets them
when their process ends."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.dbus.interface import Call
from tcmu_runner.dbus.names import HANDLER, external_name, external_path
from tcmu_runner.handler.registry import Registry

_SUBTYPE = re.compile(r"[A-Za-z0-9_]+")

log = logging.getLogger(__name__)


class Peers(Protocol):
    """Other processes on the bus. Runs on the event loop; raises CallError."""

    async def owner(self, name: str) -> str:
        """The unique name of the owner of a bus name; empty without one."""

    async def call(
        self, name: str, path: str, interface: str, method: str, signature: str = "", *arguments: object
    ) -> Sequence[object]:
        """The method's results."""


@dataclass(frozen=True, slots=True)
class External:
    """owner: the unique bus name of its process."""

    subtype: str
    description: str
    owner: str


class Externals:
    """Runs on the event loop. registry: our own handlers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._registered: dict[str, External] = {}
        self._subscribers: list[Callable[[], None]] = []
        self.peers: Peers

    def __iter__(self) -> Iterator[External]:
        return iter(self._registered.values())

    def __contains__(self, subtype: object) -> bool:
        return subtype in self._registered

    def subscribe(self, changed: Callable[[], None]) -> None:
        """`changed` is called when a handler has registered or gone."""
        self._subscribers.append(changed)

    async def register(self, subtype: str, description: str) -> Sequence[object]:
        """The method RegisterHandler: (success, reason)."""
        if not _SUBTYPE.fullmatch(subtype):
            return [False, f"subtype {subtype!r}: write letters, digits and '_'"]
        if subtype in {provider.subtype for provider in self._registry}:
            return [False, f"tcmu-runner has a handler {subtype!r} of its own: choose another subtype"]
        owner = await self.peers.owner(external_name(subtype))
        if not owner:
            return [False, f"Cannot find handler bus name: own {external_name(subtype)} first"]
        self._registered[subtype] = External(subtype, description, owner)
        log.info("handler %s of another process is registered", subtype)
        self._tell()
        return [True, "succeeded"]

    def owner_changed(self, name: str) -> None:
        """The signal NameOwnerChanged: a process has released a bus name, or taken it over."""
        for each in list(self):
            if external_name(each.subtype) == name:
                del self._registered[each.subtype]
                log.info("handler %s is gone with its process", each.subtype)
                self._tell()

    def forget_all(self) -> None:
        """The connection to the bus is lost, and all registrations with it."""
        for each in list(self):
            self.owner_changed(external_name(each.subtype))

    def _tell(self) -> None:
        for changed in self._subscribers:
            changed()

    def ask(self, external: External) -> Call:
        """A function that calls CheckConfig in the handler's process."""

        async def check_config(text: str) -> Sequence[object]:
            return await self.peers.call(
                external.owner, external_path(external.subtype), HANDLER.name, "CheckConfig", "s", text
            )

        return check_config

"""Signals of a branch: what appeared, vanished or changed since the last look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from dbus_fast import Message, Variant

from tcmu_runner.dbus import standard
from tcmu_runner.dbus.interface import Branch, Interface, Objects, Served
from tcmu_runner.dbus.tree import values

CALM_SECONDS = 0.1  # changes within so short a time share one look
SHARE = 5  # pause after a look, in times of its duration: hundreds of devices may appear at once

Shown = dict[tuple[str, str], dict[str, Variant]]  # by path and interface: the properties that are signalled


class Announcer:
    """Runs on the event loop. emit: sends a signal."""

    def __init__(self, branch: Branch, emit: Callable[[Message], None]) -> None:
        self._branch = branch
        self._emit = emit
        self._shown = _shown(branch.objects())
        self._took = 0.0  # seconds that the last look took
        self._due: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        """Call when something may have changed; schedules a look."""
        if self._due is None:
            calm = max(CALM_SECONDS, SHARE * self._took)
            self._due = asyncio.get_running_loop().call_later(calm, self._announce)

    def _announce(self) -> None:
        self._due = None
        began = asyncio.get_running_loop().time()
        self._tell()
        self._took = asyncio.get_running_loop().time() - began

    def _tell(self) -> None:
        objects = self._branch.objects()
        before, self._shown = self._shown, _shown(objects)
        paths, old_paths = {path for path, _ in self._shown}, {path for path, _ in before}
        for path in sorted(old_paths - paths):
            gone = [name for other, name in before if other == path]
            self._signal(self._branch.root, standard.MANAGER, "InterfacesRemoved", path, gone)
        for path in sorted(paths - old_paths):
            come = {each.interface.name: values(each) for each in objects[path]}
            self._signal(self._branch.root, standard.MANAGER, "InterfacesAdded", path, come)
        for (path, name), shown in self._shown.items():
            old = before.get((path, name), shown)
            changed = {key: value for key, value in shown.items() if value != old[key]}
            if changed:
                self._signal(path, standard.PROPERTIES, "PropertiesChanged", name, changed, [])

    def _signal(self, path: str, interface: Interface, name: str, *body: object) -> None:
        signature = next(signal.signature for signal in interface.signals if signal.name == name)
        self._emit(Message.new_signal(path, interface.name, name, signature, list(body)))


def _shown(objects: Objects) -> Shown:
    return {
        (path, each.interface.name): _telling(each)
        for path, served in objects.items()
        if _is_listed(served)
        for each in served
    }


def _is_listed(served: Sequence[Served]) -> bool:
    return all(each.listed for each in served)


def _telling(served: Served) -> dict[str, Variant]:
    telling = [each for each in served.interface.properties if each.tells]
    found = served.read() if telling else {}
    return {each.name: Variant(each.signature, found[each.name]) for each in telling}

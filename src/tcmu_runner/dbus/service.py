"""What targetcli and other tools expect of a tcmu-runner: the branch /org/kernel/TCMUService1.

targetcli makes a backstore type user:NAME of each object that the object manager lists, where NAME is the
last element of its path. So only handlers are listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tcmu_runner.aio import in_thread
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.interface import Call, Objects, Served
from tcmu_runner.dbus.names import HANDLER, MANAGER, ROOT, path
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.handler import config
from tcmu_runner.handler.registry import Provider, Registry
from tcmu_runner.printable import utf8

CHECK_SECONDS = 10.0  # targetcli waits for 25 s and then ends with a traceback


class ServiceBranch:
    """Our handlers, and those that other processes have registered. Runs on the event loop."""

    root = ROOT

    def __init__(self, registry: Registry, externals: Externals) -> None:
        self._registry = registry
        self._externals = externals

    def objects(self) -> Objects:
        own = {
            path(provider.subtype): [_handler(provider.describe(), _bounded(_own(self._registry, provider)))]
            for provider in self._registry
        }
        others = {
            path(each.subtype): [_handler(each.description, _bounded(self._externals.ask(each)))]
            for each in self._externals
        }
        manager = Served(MANAGER, calls={"RegisterHandler": self._externals.register}, listed=False)
        return {**own, **others, path("HandlerManager1"): [manager]}


def _handler(description: str, check: Call) -> Served:
    return Served(HANDLER, lambda: {"ConfigDesc": utf8(description)}, {"CheckConfig": check})


def _own(registry: Registry, provider: Provider) -> Call:
    """CheckConfig of our handler. On a thread: a handler's `parse` is foreign code and may block."""

    def check(text: str) -> None:
        config.split(text)
        if not text.startswith(provider.subtype + "/"):
            raise ConfigError(f"config string {text!r} is not for handler {provider.subtype}")
        registry.check(text)

    async def check_config(text: str) -> Sequence[object]:
        await in_thread(lambda: check(text))
        return [True, "success"]

    return check_config


def _bounded(check: Call) -> Call:
    """Wraps a check so that it always answers: targetcli cannot handle a D-Bus error."""

    async def check_config(text: str) -> Sequence[object]:
        try:
            return await asyncio.wait_for(check(text), CHECK_SECONDS)
        except TimeoutError:
            return [False, f"no answer in {CHECK_SECONDS:.0f} s: look at the log of tcmu-runner"]
        except (TcmuError, OSError) as error:
            return [False, utf8(str(error))]
        except Exception as error:  # a bug in a handler's parse
            return [False, utf8(f"the handler fails: {type(error).__name__}: {error}")]

    return check_config

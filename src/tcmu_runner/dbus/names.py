"""Names of the contract with targetcli and with handlers of other processes, as the C daemon defined it."""

from __future__ import annotations

from tcmu_runner.dbus.interface import Interface, Method, Property

SERVICE = "org.kernel.TCMUService1"
ROOT = "/org/kernel/TCMUService1"

HANDLER = Interface(
    SERVICE,
    properties=(Property("ConfigDesc", "s"),),
    methods=(Method("CheckConfig", takes=(("cfgstring", "s"),), gives=(("good", "b"), ("reason", "s"))),),
)
MANAGER = Interface(
    SERVICE + ".HandlerManager1",
    methods=(
        Method(
            "RegisterHandler",
            takes=(("subtype", "s"), ("cfgstr_desc", "s")),
            gives=(("success", "b"), ("reason", "s")),
        ),
    ),
)


def path(subtype: str) -> str:
    """The path of a handler's object."""
    return f"{ROOT}/{subtype}"


def external_name(subtype: str) -> str:
    """The bus name that a handler's process owns."""
    return f"{MANAGER.name}.{subtype}"


def external_path(subtype: str) -> str:
    """The path of the handler's object in its own process."""
    return f"{ROOT}/HandlerManager1/{subtype}"

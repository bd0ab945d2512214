"""Interfaces as tables, and their introspection (D-Bus specification, "Introspection Data Format")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from xml.sax.saxutils import quoteattr

Argument = tuple[str, str]  # name, signature
Call = Callable[..., Awaitable[Sequence[object]]]


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    takes: tuple[Argument, ...] = ()
    gives: tuple[Argument, ...] = ()

    @property
    def signature(self) -> str:
        """The signature of its arguments."""
        return "".join(signature for _, signature in self.takes)

    @property
    def result(self) -> str:
        """The signature of its results."""
        return "".join(signature for _, signature in self.gives)


@dataclass(frozen=True, slots=True)
class Property:
    """Read-only. tells: a change is signalled by PropertiesChanged."""

    name: str
    signature: str
    tells: bool = True


@dataclass(frozen=True, slots=True)
class Signal:
    name: str
    carries: tuple[Argument, ...] = ()

    @property
    def signature(self) -> str:
        return "".join(signature for _, signature in self.carries)


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    methods: tuple[Method, ...] = ()
    properties: tuple[Property, ...] = ()
    signals: tuple[Signal, ...] = ()

    def method(self, name: str | None) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)


@dataclass(frozen=True, slots=True)
class Served:
    """An interface of one object. read: returns the values of all its properties. calls: functions by method,
    from arguments to results. listed: GetManagedObjects includes it."""

    interface: Interface
    read: Callable[[], Mapping[str, object]] = dict
    calls: Mapping[str, Call] = field(default_factory=lambda: MappingProxyType({}))
    listed: bool = True


Objects = Mapping[str, Sequence[Served]]


class Branch(Protocol):
    """A part of the tree below `root`, which has the object manager. Runs on the event loop."""

    root: str

    def objects(self) -> Objects:
        """The present objects by path; all are `root` or below it."""


_FALSE = '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>'
_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


def introspection(interfaces: Iterable[Interface], children: Iterable[str]) -> str:
    """The XML of a node. children: the last elements of the paths below it."""
    lines = [line for interface in interfaces for line in _interface(interface)]
    lines += [f"  <node name={quoteattr(name)}/>" for name in sorted(children)]
    return _DOCTYPE + "\n".join(["<node>", *lines, "</node>", ""])


def _interface(interface: Interface) -> list[str]:
    lines = [f"  <interface name={quoteattr(interface.name)}>"]
    for method in interface.methods:
        arguments = _arguments(method.takes, "in"), _arguments(method.gives, "out")
        lines += _member("method", method.name, *arguments)
    for signal in interface.signals:
        lines += _member("signal", signal.name, _arguments(signal.carries))
    for each in interface.properties:
        start = f'    <property name="{each.name}" type="{each.signature}" access="read"'
        lines.append(f"{start}/>" if each.tells else f"{start}>{_FALSE}</property>")
    return [*lines, "  </interface>"]


def _member(kind: str, name: str, *arguments: list[str]) -> list[str]:
    return [f'    <{kind} name="{name}">', *(line for group in arguments for line in group), f"    </{kind}>"]


def _arguments(arguments: Iterable[Argument], direction: str = "") -> list[str]:
    way = f' direction="{direction}"' if direction else ""
    return [f'      <arg name="{name}" type="{signature}"{way}/>' for name, signature in arguments]

"""Checks of what a handler says of itself: its class, its config strings, its capabilities."""

from __future__ import annotations

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import AsyncHandler, Handler
from tcmu_runner.handler.registry import check_class
from tcmu_runner.testing.conformance.bench import Bench
from tcmu_runner.testing.conformance.violation import BreachError

METHODS = (
    "write", "flush", "unmap", "write_zeroes", "extents", "space", "crypto_erase", "compare_and_write",
    "write_same",
)  # fmt: skip
STRINGS = ("", "/", ";", "=;=", ";;a=b", "nosuch;option=1", "%s%n", "\u00e4" * 100, "x" * 250)


def class_(bench: Bench) -> None:
    """it has a subtype, open() and read(), and methods of its kind"""
    cls = type(bench.handler)
    try:
        check_class(cls)
    except ConfigError as error:
        raise BreachError("the registry refuses it", str(error)) from None
    threads: object = getattr(cls, "threads", 0)
    if not isinstance(threads, int) or threads < 0:
        raise BreachError(
            f"threads = {threads!r}", "say how many calls may run at once, 0: on the ring's thread"
        )


def config(bench: Bench) -> None:
    """parse() takes any config string or raises ConfigError, and describe() says what it means"""
    cls = type(bench.handler)
    for text in STRINGS:
        try:
            cls.parse(text)
        except ConfigError:
            continue
        except Exception as error:
            raise BreachError(
                f"parse({text!r}) raised {type(error).__name__} ({error})",
                "raise ConfigError with the reason",
            ) from None
    if cls.describe().strip() in ("", cls.subtype):
        raise BreachError("describe() says nothing", "write a docstring: what the config string means")


def capabilities(bench: Bench) -> None:
    """it defines what it tells, and tells the same each time"""
    told = bench.can
    if bench.handler.capabilities() != told:
        raise BreachError("capabilities() changes while it is open", "decide in open()")
    base = Handler if isinstance(bench.handler, Handler) else AsyncHandler
    for name in METHODS:
        if getattr(told, name) and getattr(type(bench.handler), name) is getattr(base, name):
            raise BreachError(f"it tells {name} without defining it", f"define {name}(), or do not tell it")
    if told.unmap_reads_zero and not told.unmap:
        raise BreachError("it tells unmap_reads_zero without unmap", "tell both or neither")

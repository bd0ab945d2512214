"""The conformance kit: does a handler keep the contract of the storage below a LUN?

    from tcmu_runner.testing.conformance import check_handler, device

    report = check_handler(lambda: MyHandler.open(device(), MyHandler.parse("...")))
    print(report)
    assert report.ok

check: one rule of the contract; it passes, fails with a way out, or has nothing to look at.

bench         the handler under test, and the means of the checks
callers       how the engine calls a handler, imitated
declaration   checks of its class, its config strings, its capabilities
life          checks of reopening, other sizes, a storage that fails
provisioning  checks of unmap, write_zeroes, extents, space, erasing
report        one line for each check
shortcuts     checks of compare_and_write and write_same
traffic       checks under load
transfers     checks of reading and writing
victim        a process that is killed after a flush
violation     what a check ends with when a rule is broken
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tcmu_runner.handler.api import AsyncHandler, Handler
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.registry import AnyHandler
from tcmu_runner.testing.conformance import declaration, life, provisioning, shortcuts, traffic, transfers
from tcmu_runner.testing.conformance.bench import Bench, Setup
from tcmu_runner.testing.conformance.callers import HungError
from tcmu_runner.testing.conformance.report import CheckResult, Outcome, Report
from tcmu_runner.testing.conformance.victim import Victim
from tcmu_runner.testing.conformance.violation import NotApplicableError

__all__ = ["SIZE", "CheckResult", "Outcome", "Report", "check_class", "check_handler", "device"]

SIZE = 8 << 20
Options = TypeVar("Options")
Openable = (
    Handler[Options] | AsyncHandler[Options] | Awaitable[Handler[Options]] | Awaitable[AsyncHandler[Options]]
)

Check = Callable[[Bench], None]

CHECKS: tuple[Check, ...] = (
    life.opening,
    declaration.class_,
    declaration.config,
    declaration.capabilities,
    transfers.read,
    transfers.write,
    transfers.bounds,
    transfers.many_buffers,
    transfers.odd_splits,
    transfers.buffers,
    transfers.flush,
    transfers.write_durable,
    provisioning.unmap,
    provisioning.write_zeroes,
    provisioning.extents,
    provisioning.space,
    provisioning.crypto_erase,
    shortcuts.compare_and_write,
    shortcuts.write_same,
    transfers.random_sequence,
    traffic.at_once,
    traffic.inline,
    traffic.command,
    life.resize,
    life.reopening,
    life.persistence,
    life.durability,
    life.errors,
    life.closing,
)


def device(size: int = SIZE, block_size: int = 512) -> Device:
    """What to open a handler for: a disk of the size that `check_handler` expects."""
    return Device("conformance", size, block_size)


def check_handler(
    open_handler: Callable[[], Openable[Options]],
    *,
    size: int = SIZE,
    block_size: int = 512,
    persistent: bool = False,
    forgets: bool = False,
    open_failing: Callable[[], Openable[Options]] | None = None,
    patience: float = 60.0,
    tell: Callable[[str], None] = lambda _name: None,
) -> Report:
    """Checks a handler against the storage contract. EVERYTHING ON THE DISK IS OVERWRITTEN. Raises nothing.

    open_handler: opens the handler on a disk of `size` bytes in blocks of `block_size`, anew each time it is
        called; the last one is closed by then. May return an awaitable, as AsyncHandler.open does.
    persistent: flushed data must be there when it is opened again, also after the process that flushed it was
        killed. That process is forked from this one before the first opening.
    forgets: it does not store what is written, so contents are not compared (the handler null).
    open_failing: opens it on a storage that fails every operation, or raises its OSError.
    patience: seconds after which a call is taken to hang.
    tell: called with the name of each check before it begins.
    """
    setup = Setup(open_handler, size, block_size, persistent, forgets, open_failing, patience)
    victim = Victim(setup) if persistent else None
    bench = Bench(setup, victim)
    try:
        return _check(bench, tell)
    finally:
        bench.end()
        if victim is not None:
            victim.end()


def check_class(
    cls: AnyHandler,
    config: str = "",
    *,
    size: int = SIZE,
    block_size: int = 512,
    persistent: bool = False,
    forgets: bool = False,
    patience: float = 60.0,
    tell: Callable[[str], None] = lambda _name: None,
) -> Report:
    """check_handler on a handler class, opened with a config string without subtype."""

    def open_handler() -> Openable[object]:
        return cls.open(device(size, block_size), cls.parse(config))

    return check_handler(
        open_handler,
        size=size,
        block_size=block_size,
        persistent=persistent,
        forgets=forgets,
        patience=patience,
        tell=tell,
    )


def _check(bench: Bench, tell: Callable[[str], None]) -> Report:
    found: list[CheckResult] = []
    obstacle = ""
    for check in CHECKS:
        if obstacle:
            found.append(CheckResult(_name(check), Outcome.NOT_APPLICABLE, obstacle))
            continue
        tell(_name(check))
        found.append(_result(check, bench))
        if bench.hangs:
            obstacle = "an earlier call has not returned"
        elif not bench.is_open and check is not life.closing:
            obstacle = "it could not be opened"
    note = " (contents are not compared)" if bench.setup.forgets else ""
    return Report(bench.title + note, tuple(found))


def _result(check: Check, bench: Bench) -> CheckResult:
    name = _name(check)
    try:
        check(bench)
    except NotApplicableError as reason:
        return CheckResult(name, Outcome.NOT_APPLICABLE, str(reason))
    except HungError:
        bench.hangs = True
        text = f"a call did not return within {bench.setup.patience:g} s: what does it wait for?"
        return CheckResult(name, Outcome.FAILED, text)
    except Exception as error:
        return CheckResult(name, Outcome.FAILED, str(error))
    return CheckResult(name, Outcome.PASSED, check.__doc__ or "")


def _name(check: Check) -> str:
    return check.__name__.strip("_").replace("_", " ")

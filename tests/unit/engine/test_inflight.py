"""Completions on their way to the ring, and threads that wait for them."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from support.clock import ManualClock
from support.waiting import PATIENCE, until

from tcmu_runner.clock import MACHINE
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.serve.inflight import Completions, EndWaiters, InFlight
from tcmu_runner.engine.serve.range_locks import RangeLocks
from tcmu_runner.handler.device import Device
from tcmu_runner.ring.consumer import Consumer
from tcmu_runner.scsi.command import Command, Nexus

READ_10 = bytes.fromhex("28000000000000000100")


class Ring:
    """A consumer to which another thread adds a command while the first one is completed."""

    def __init__(self) -> None:
        self.completed: list[int] = []
        self.then: Callable[[], None] = lambda: None

    def complete_well(self, commands: Sequence[Command]) -> None:
        self.completed.extend(each.id for each in commands)
        self.then()

    def complete(self, command_id: int, status: int, sense: bytes, read_len: int) -> None:
        self.completed.append(command_id)

    def publish(self) -> bool:
        return True


def command(command_id: int, began: float) -> Command:
    made = Command(READ_10, [], Nexus(), command_id)
    made.began = began
    return made


def test_a_command_that_begins_while_others_are_published_is_counted() -> None:
    ring, statistics = Ring(), Statistics()
    failures: list[Exception] = []
    completions = Completions(cast("Consumer", ring), lambda: None, statistics, failures.append)

    def later() -> None:
        ring.then = lambda: None
        completions.add(([command(2, began=1e15)], (0, b""), 0, 0))

    ring.then = later
    completions.add(([command(1, began=0.0)], (0, b""), 0, 0))
    completions.publish()
    assert (ring.completed, failures) == ([1, 2], [])
    assert statistics.snapshot().opcodes[0].count == 2


def test_a_command_that_took_long_is_kept_as_slow() -> None:
    ring, statistics = Ring(), Statistics()
    failures: list[Exception] = []
    completions = Completions(cast("Consumer", ring), lambda: None, statistics, failures.append)
    completions.add(([command(1, began=time.monotonic())], (0, b""), 0, 0))
    completions.add(([command(2, began=time.monotonic() - 100)], (8, b""), 0, 0))
    completions.publish()
    (slow,) = statistics.snapshot().slow
    assert (slow.cdb, slow.status, slow.seconds >= 100) == (READ_10, 8, True)


def waiting(waiters: EndWaiters, condition: Callable[[], bool]) -> threading.Thread:
    """A thread that waits without a limit; it ends only if it is notified."""
    thread = threading.Thread(target=waiters.wait_for, args=[condition], daemon=True)
    thread.start()
    until(lambda: waiters.count)
    return thread


def ends(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_who_waits_for_the_ring_learns_of_a_publication() -> None:
    ring, failures = Ring(), list[Exception]()
    completions = Completions(cast("Consumer", ring), lambda: None, Statistics(), failures.append, MACHINE)
    thread = waiting(completions.waiters, lambda: ring.completed == [1])
    completions.add(([command(1, began=0.0)], (0, b""), 0, 0))
    completions.publish()
    assert ends(thread)
    assert completions.waiters.count == 0


def test_who_waits_for_commands_learns_that_they_have_left() -> None:
    completions = Completions(cast("Consumer", Ring()), lambda: None, Statistics(), lambda _error: None)
    in_flight = InFlight(
        Device("user_0/test", 1 << 20), completions, RangeLocks(lambda _command: None), lambda: None,
        can_tell_length=True, statistics=Statistics(),
    )  # fmt: skip
    one, other = command(1, began=0.0), command(2, began=0.0)
    in_flight.under_way.update([one, other])
    thread = waiting(completions.waiters, lambda: not in_flight.under_way)
    in_flight.leave([one])
    assert thread.is_alive()
    in_flight.leave([other])
    assert ends(thread)


def test_a_wait_with_a_limit_ends_with_it() -> None:
    clock = ManualClock()
    assert not EndWaiters(clock).wait_for(lambda: False, 3)
    assert 1003 <= clock.now < 1004
    assert EndWaiters(clock).wait_for(lambda: True, 0)

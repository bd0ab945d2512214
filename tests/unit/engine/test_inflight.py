"""Completions on their way to the ring."""

import time
from collections.abc import Callable, Sequence
from typing import cast

from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.serve.inflight import Completions
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
        completions.add([command(2, began=1e15)], (0, b""), 0, 0)

    ring.then = later
    completions.add([command(1, began=0.0)], (0, b""), 0, 0)
    completions.publish()
    assert (ring.completed, failures) == ([1, 2], [])
    assert statistics.snapshot().opcodes[0].count == 2


def test_a_command_that_took_long_is_kept_as_slow() -> None:
    ring, statistics = Ring(), Statistics()
    failures: list[Exception] = []
    completions = Completions(cast("Consumer", ring), lambda: None, statistics, failures.append)
    completions.add([command(1, began=time.monotonic())], (0, b""), 0, 0)
    completions.add([command(2, began=time.monotonic() - 100)], (8, b""), 0, 0)
    completions.publish()
    (slow,) = statistics.snapshot().slow
    assert (slow.cdb, slow.status, slow.seconds >= 100) == (READ_10, 8, True)

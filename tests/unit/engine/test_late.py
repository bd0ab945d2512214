"""What the log says of commands that do not end."""

import logging

import pytest
from support.clock import ManualClock

from tcmu_runner.engine.serve.late import Deadlines
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command, Nexus

READ_10 = "28000000000800000100"


class Clock(ManualClock):
    def command(self) -> Command:
        made = Command(bytes.fromhex(READ_10), [], Nexus())
        made.began = self.now
        return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message.removeprefix("user_0/vol0: ") for message in caplog.messages]


def test_a_hang_is_in_the_log_ever_more_rarely(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deadlines, stuck = Deadlines(Device("user_0/vol0", 1 << 20), None, clock=clock), clock.command()
    for _ in range(45):
        clock.advance(1)
        deadlines.check([stuck, clock.command()])
    held = "storage has not answered a command for {} s: " + READ_10 + " still waits, 2 commands in all"
    assert lines(caplog) == [held.format(seconds) for seconds in (10, 20, 40)]
    deadlines.check([])
    deadlines.check([])
    assert lines(caplog)[3:] == [f"storage has answered command {READ_10}"]
    caplog.clear()


def test_many_late_commands_are_one_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    deadlines, late = (
        Deadlines(Device("user_0/vol0", 1 << 20), 2, clock=clock),
        [clock.command() for _ in range(100)],
    )
    clock.advance(3)
    assert deadlines.check(late) == set(late)
    assert deadlines.check(late) == set()
    assert lines(caplog) == [f"command {READ_10} is late: not done after 2 s (and 99 more)"]
    caplog.clear()


def test_no_command_is_kept_after_it_has_ended(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Its buffers are the ring's memory, which could not be unmapped: a LUN that was stopped within a second
    after its storage had come back ended with a traceback."""
    deadlines, ring = Deadlines(Device("user_0/vol0", 1 << 20), 2, clock=clock), bytearray(512)
    late = Command(bytes.fromhex(READ_10), [memoryview(ring)], Nexus())
    late.began = clock.now
    clock.advance(30)
    deadlines.check([late])
    del late
    ring.append(0)  # BufferError while there is a view of it
    caplog.clear()

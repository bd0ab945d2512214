"""What the log says of commands that fail, one after the other, and of slow ones."""

import errno
import logging

import pytest
from support.clock import ManualClock

from tcmu_runner.engine.observe.command_log import REPEAT_SECONDS, FailureLog, SlowLog
from tcmu_runner.engine.observe.statistics import FAILURE_BYTES, Statistics
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Flush, Operation, Read

CDB = bytes.fromhex("28000000000800000100")
READ_10 = Command(CDB, [], Nexus())


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.counters = Statistics()
        self.log = FailureLog(Device("user_0/vol0", 1 << 20), self.counters, self.clock)

    def fail(self, code: int = errno.EIO, operation: Operation | None = None) -> None:
        self.log.failed(READ_10, operation or Read(0, []), OSError(code, "no"))

    def bug(self) -> None:
        try:
            _ = 1 // 0
        except ZeroDivisionError as error:
            self.log.raised(READ_10, error)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_bug_has_a_traceback_and_the_others_are_counted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2000):
        bench.bug()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info
    for _ in range(3):  # minutes
        bench.clock.advance(REPEAT_SECONDS)
        bench.log.tell()
        bench.log.tell()
        bench.bug()
    assert caplog.messages[1:] == [
        f"user_0/vol0: {count} more commands failed so: bug in the handler: "
        "ZeroDivisionError: integer division or modulo by zero"
        for count in (1999, 1, 1)
    ]
    assert len(caplog.text) < 2500
    caplog.clear()


def test_kinds_are_told_apart(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        bench.fail()
        bench.fail(errno.ENOSPC)
        bench.fail(operation=Flush())
    assert [message.split(" of")[0] for message in caplog.messages] == [
        "user_0/vol0: read", "user_0/vol0: read", "user_0/vol0: flush",
    ]  # fmt: skip
    caplog.clear()


def test_after_a_minute_of_silence_it_is_new(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.bug()
    for tells in (True, False):  # an idle device is not looked after
        bench.clock.advance(REPEAT_SECONDS)
        if tells:
            bench.log.tell()
        bench.bug()
    assert ["Traceback" in caplog.text, len(caplog.records)] == [True, 3]
    assert all(record.exc_info for record in caplog.records)
    caplog.clear()


def test_the_last_is_in_the_statistics(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert (bench.counters.snapshot().failure, bench.counters.snapshot().failed_at) == ("", 0.0)
    bench.fail()
    found = bench.counters.snapshot()
    assert found.failure == "read failed: OSError: [Errno 5] no"
    assert found.failed_at > 1e9
    bench.log.failed(READ_10, None, OSError(errno.EIO, "ä" * FAILURE_BYTES))
    assert bench.counters.snapshot().failure.endswith("ää")
    bench.counters.record_failure("no \udcff")
    assert bench.counters.snapshot().failure == r"no \udcff"
    caplog.clear()


@pytest.fixture
def device() -> Device:
    return Device("user_0/vol0", 1 << 20, 512)


def test_one_line_for_all_since_the_last_look(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Statistics()
    counters.record_slow(CDB, 512, 9.0, 0)  # of a worker before this one
    slow_log = SlowLog(device, counters, 0.5)
    slow_log.tell()
    counters.record_slow(CDB, 512, 0.75, 8)
    slow_log.tell()
    for seconds in (0.5, 2.0, 0.625):
        counters.record_slow(CDB, 512, seconds, 0)
    slow_log.tell()
    slow_log.tell()
    what = "user_0/vol0: slow: command 28000000000800000100 of 512 bytes took"
    assert caplog.messages == [
        f"{what} 0.750 s, status 08",
        f"{what} 2.000 s, status 00 (2 more were slow)",
    ]
    assert counters.slow_seconds == 0.5


def test_more_than_are_kept_are_counted(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Statistics()
    slow_log = SlowLog(device, counters, 1.0)
    for _ in range(1000):
        counters.record_slow(CDB, 0, 1.0, 0)
    slow_log.tell()
    assert "(999 more were slow)" in caplog.text


def test_never(device: Device) -> None:
    counters = Statistics()
    SlowLog(device, counters, None)
    assert counters.slow_seconds > 1e9

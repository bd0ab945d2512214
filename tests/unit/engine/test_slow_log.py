"""The log of slow commands."""

import logging

import pytest

from tcmu_runner.engine.observe.slow_log import SlowLog
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.handler.device import Device

READ_10 = bytes.fromhex("28000000000800000100")


@pytest.fixture
def device() -> Device:
    return Device("user_0/vol0", 1 << 20, 512)


def test_one_line_for_all_since_the_last_look(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Statistics()
    counters.record_slow(READ_10, 512, 9.0, 0)  # of a worker before this one
    slow_log = SlowLog(device, counters, 0.5)
    slow_log.tell()
    counters.record_slow(READ_10, 512, 0.75, 8)
    slow_log.tell()
    for seconds in (0.5, 2.0, 0.625):
        counters.record_slow(READ_10, 512, seconds, 0)
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
        counters.record_slow(READ_10, 0, 1.0, 0)
    slow_log.tell()
    assert "(999 more were slow)" in caplog.text


def test_never(device: Device) -> None:
    counters = Statistics()
    SlowLog(device, counters, None)
    assert counters.slow_seconds > 1e9

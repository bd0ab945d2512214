"""Filters that change nothing but when, how fast and how often: delay, rate, retry, log, stats."""

from __future__ import annotations

import errno
import itertools
import logging
from pathlib import Path

import pytest
from handlers.model import machine
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.clock import ManualClock
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError
from tcmu_runner.filters.rate import Bucket
from tcmu_runner.filters.stats import Stats
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

Layers = tuple[tuple[str, dict[str, object]], ...]
STACKS: list[Layers] = [
    (("delay", {"seconds": 1e-5}),),
    (("rate", {"operations": 1_000_000, "bytes": "10G"}),),
    (("retry", {}),),
    (("log", {}),),
    (("stats", {}),),
    (("retry", {"seconds": 1e-4}), ("error", {"rules": [{"probability": 0.2, "status": "busy"}]})),
    (("offset", {"offset": "64K"}), ("stats", {}), ("delay", {}), ("log", {})),
]
NAMES = ["+".join(name for name, _ in layers) for layers in STACKS]


@pytest.mark.parametrize("layers", STACKS[:5], ids=NAMES[:5])
def test_it_keeps_the_contract(layers: Layers, tmp_path: Path) -> None:
    report = check_filter("ram/", *layers, size=KIT_SIZE)
    assert report.ok, str(report)
    report = check_filter(f"file/{tmp_path}/disk.img", *layers, persistent=True, size=KIT_SIZE)
    assert report.ok, str(report)


@pytest.mark.parametrize("layers", STACKS, ids=NAMES)
def test_beside_a_bytearray(layers: Layers) -> None:
    def open_disk(size: int) -> Stacked:
        return open_stack("ram/", *layers, size=size)

    quick = settings(max_examples=15, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, 512, forgets=False), settings=quick)


def test_a_delay_is_as_long_as_it_says() -> None:
    clock = ManualClock(100.0)
    stack = open_stack("ram/", ("delay", {"seconds": 10, "write": 20}), clock=clock)
    stack.write([memoryview(bytearray(512))], 0)
    assert clock.now == 130.0
    stack.close()


def test_a_bucket_hands_out_the_rate_and_no_more() -> None:
    """At 10 a second with a burst of 0.2 s: two at once, then one each 0.1 s; no pause saves up more."""
    clock = ManualClock()
    bucket = Bucket(0.2, clock)
    clock.advance(1)
    assert [round(bucket.wait(0.1), 6) for _ in range(5)] == [0.0, 0.0, 0.0, 0.1, 0.2]
    clock.advance(0.4)
    assert round(bucket.wait(0.1), 6) == 0.0


def test_what_may_pass_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    busy = {"rules": [{"on": "read", "times": 2, "errno": "ECONNRESET"}]}
    clock = ManualClock(100.0)
    stack = open_stack(
        "ram/", ("retry", {"attempts": 3, "seconds": 4, "longest": 5}), ("error", busy), clock=clock
    )
    with caplog.at_level(logging.INFO):
        stack.read([memoryview(bytearray(512))], 0)
    assert caplog.text.count("once more in") == 2
    assert clock.now == 109.0  # 4 s, and then not 8
    stack.close()


@pytest.mark.parametrize(("name", "attempts"), [("ECONNRESET", 3), ("EIO", 1)])
def test_what_does_not_pass_goes_up(name: str, attempts: int) -> None:
    broken = {"rules": [{"on": "read", "errno": name}]}
    retry, faults = ("retry", {"attempts": 3, "seconds": 1e-4}), ("error", broken)
    stack = open_stack("ram/", retry, ("stats", {}), faults)
    with pytest.raises(OSError) as error:
        stack.read([memoryview(bytearray(512))], 0)
    assert error.value.errno == getattr(errno, name)
    counted = stack.stack.filters[1]
    assert isinstance(counted, Stats)
    assert (counted.tallies["read"].count, counted.tallies["read"].errors) == (attempts, attempts)
    stack.close()


def test_the_log_has_what_went_through(caplog: pytest.LogCaptureFixture) -> None:
    stack = open_stack("ram/", ("log", {}), ("error", {"rules": [{"on": "write", "errno": "EIO"}]}))
    with caplog.at_level(logging.INFO):
        stack.read([memoryview(bytearray(1024))], 512)
        with pytest.raises(OSError):
            stack.write([memoryview(bytearray(512))], 0)
    assert "read of 1024 bytes at 512: 0.0" in caplog.text
    assert "write of 512 bytes at 0: failed after 0.0" in caplog.text
    stack.close()


def test_stats_are_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    stack = open_stack("ram/", ("stats", {}))
    for offset in range(0, 4096, 512):
        stack.read([memoryview(bytearray(512))], offset)
    with caplog.at_level(logging.INFO):
        stack.close()
    assert "conformance: read: 8, 4 KiB, " in caplog.text


@pytest.mark.parametrize(
    ("name", "table", "remedy"),
    list(
        itertools.chain(
            [("rate", {}, "it limits nothing"), ("retry", {"attempts": 0}, "write 1 or more")],
            [("delay", {"seconds": "x"}, "write a number"), ("log", {"level": 3}, "it takes no options")],
        )
    ),
)
def test_options_that_make_no_sense_are_refused(name: str, table: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        open_stack("ram/", (name, table))

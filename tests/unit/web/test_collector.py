"""The metrics, as the parser of Prometheus' own library reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.observe.view import DeviceView, State
from tcmu_runner.web.collector import render

from .watched import READ_10, VOL0, like_vol0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(devices: Sequence[DeviceView]) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(render(devices).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"{key} twice: Prometheus refuses all of it"
            samples[key] = sample.value
    return samples


def at(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset({"device": "user_0/vol0", **labels}.items())]


def test_a_device() -> None:
    samples = scraped([VOL0])
    told = {"handler": "file", "config": "file//srv/vol0.img", "uio": "uio4", "lun": "vol0"}
    assert at(samples, "tcmu_device_info", **told) == 1
    assert at(samples, "tcmu_device_size_bytes") == 1 << 30
    assert at(samples, "tcmu_device_commands_under_way") == 3
    assert at(samples, "tcmu_device_restarts_total") == 2
    assert at(samples, "tcmu_commands_total", opcode="READ(10)") == 2
    assert at(samples, "tcmu_bytes_total", opcode="WRITE(10)") == 8192
    assert at(samples, "tcmu_failed_commands_total", opcode="READ(10)") == 1
    assert at(samples, "tcmu_errors_total", error="BUSY") == 1
    assert at(samples, "tcmu_errors_total", error="MEDIUM ERROR 11/00 (unrecovered read error)") == 1


def test_it_is_in_one_state() -> None:
    samples = scraped([like_vol0(state=State.WAITING)])
    states = {state.value: at(samples, "tcmu_device_state", state=state.value) for state in State}
    assert states == {state.value: float(state is State.WAITING) for state in State}


def test_durations_are_cumulative() -> None:
    """100 us is above 64 us and below 128 us."""
    samples = scraped([VOL0])

    def below(edge: str) -> float:
        return at(samples, "tcmu_command_duration_seconds_bucket", opcode="READ(10)", le=edge)

    assert [below(edge) for edge in ("1.6e-05", "6.4e-05", "0.000128", "33.5544", "+Inf")] == [0, 0, 2, 2, 2]
    assert at(samples, "tcmu_command_duration_seconds_count", opcode="READ(10)") == 2
    assert at(samples, "tcmu_command_duration_seconds_sum", opcode="READ(10)") == 0.0002


def test_the_quickest_and_the_slowest_commands_are_in_the_outer_buckets() -> None:
    counters = Statistics()
    counters.record(READ_10, 0, 0, 0, b"")
    counters.record(READ_10, 0, 86400, 0, b"")
    samples = scraped([like_vol0(statistics=counters.snapshot())])
    edges = [
        at(samples, "tcmu_command_duration_seconds_bucket", opcode="READ(10)", le=edge)
        for edge in ("1.6e-05", "33.5544", "+Inf")
    ]
    assert edges == [1, 1, 2]


def test_without_devices_there_is_the_daemon() -> None:
    assert [name for name, _ in scraped([])] == ["tcmu_runner_info"]


def test_names_can_be_anything() -> None:
    hostile = 'user_0/"\\\n{}'
    samples = scraped([VOL0, like_vol0(name=hostile)])
    assert samples["tcmu_device_size_bytes", frozenset({("device", hostile)})] == 1 << 30


def test_a_storage_that_fails() -> None:
    samples = scraped([VOL0])
    assert at(samples, "tcmu_device_failing") == 0
    assert at(samples, "tcmu_device_last_failure_seconds") == 0
    now = time.time()
    samples = scraped([like_vol0(statistics=replace(VOL0.statistics, failure="no", failed_at=now))])
    assert at(samples, "tcmu_device_failing") == 1
    assert at(samples, "tcmu_device_last_failure_seconds") == now
    assert at(scraped([like_vol0(state=State.FAILED)]), "tcmu_device_failing") == 1

"""Devices in Prometheus' text format. Importing this costs the supervisor 14 MB: only if metrics are on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tcmu_runner.engine.observe.statistics import OpcodeStatistics
from tcmu_runner.engine.observe.stats_text import error_name, name
from tcmu_runner.engine.observe.view import DeviceView, State
from tcmu_runner.handler.device import without_hba

EDGES = range(4, 26)  # powers of 2: upper edges of latency buckets, 16 us to 34 s


def render(devices: Sequence[DeviceView]) -> bytes:
    """All metrics at this moment. Any thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DeviceCollector(devices))
    return generate_latest(registry)


class DeviceCollector(Collector):
    """Each device's numbers, with its name in the label `device`."""

    def __init__(self, devices: Sequence[DeviceView]) -> None:
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        runner = InfoMetricFamily("tcmu_runner", "The daemon.")
        runner.add_metric([], {"version": version("tcmu-runner")})
        yield runner
        yield self._info()
        yield self._states()
        yield self._gauge("size_bytes", "Capacity.", lambda view: view.size)
        yield self._gauge("commands_under_way", "Queue depth.", lambda view: view.statistics.under_way)
        yield self._gauge(
            "oldest_command_seconds",
            "Since the oldest command under way began.",
            lambda view: view.statistics.oldest,
        )
        yield self._gauge(
            "failing",
            "1: not served, or its storage fails or does not answer.",
            lambda view: bool(view.trouble(time.time())),
        )
        yield self._gauge(
            "last_failure_seconds",
            "Unix time at which a command last failed in the storage or handler, 0 without any.",
            lambda view: view.statistics.failed_at,
        )
        yield self._restarts()
        yield self._by_opcode("commands", "Commands that have ended.", lambda row: row.count)
        yield self._by_opcode("bytes", "Data of commands, both directions.", lambda row: row.bytes)
        yield self._by_opcode(
            "failed_commands", "Commands that ended in another status than GOOD.", lambda row: row.errors
        )
        yield self._errors()
        yield self._durations()

    def _info(self) -> Metric:
        metric = InfoMetricFamily("tcmu_device", "What a device is.", labels=["device"])
        for view in self._devices:
            lun = without_hba(view.name)  # unlike `device`, the same after a reboot
            what = {"handler": view.handler, "config": view.config, "uio": f"uio{view.minor}", "lun": lun}
            metric.add_metric([view.name], what)
        return metric

    def _states(self) -> Metric:
        metric = GaugeMetricFamily(
            "tcmu_device_state", "1 for the state it is in.", labels=["device", "state"]
        )
        for view in self._devices:
            for state in State:
                metric.add_metric([view.name, state.value], view.state is state)
        return metric

    def _gauge(self, what: str, meaning: str, value: Callable[[DeviceView], float]) -> Metric:
        metric = GaugeMetricFamily(f"tcmu_device_{what}", meaning, labels=["device"])
        for view in self._devices:
            metric.add_metric([view.name], value(view))
        return metric

    def _restarts(self) -> Metric:
        metric = CounterMetricFamily("tcmu_device_restarts", "Of the process behind it.", labels=["device"])
        for view in self._devices:
            metric.add_metric([view.name], view.restarts)
        return metric

    def _by_opcode(self, what: str, meaning: str, value: Callable[[OpcodeStatistics], int]) -> Metric:
        metric = CounterMetricFamily(f"tcmu_{what}", meaning, labels=["device", "opcode"])
        for view in self._devices:
            for row in view.statistics.opcodes:
                metric.add_metric([view.name, name(row.opcode)], value(row))
        return metric

    def _errors(self) -> Metric:
        metric = CounterMetricFamily(
            "tcmu_errors", "How commands ended that did not end well.", labels=["device", "error"]
        )
        for view in self._devices:
            for error, count in view.statistics.errors.items():
                metric.add_metric([view.name, error_name(*error)], count)
        return metric

    def _durations(self) -> Metric:
        metric = HistogramMetricFamily(
            "tcmu_command_duration_seconds", "From the ring to the ring.", labels=["device", "opcode"]
        )
        for view in self._devices:
            for row in view.statistics.opcodes:
                metric.add_metric([view.name, name(row.opcode)], _buckets(row), row.microseconds / 1e6)
        return metric


def _buckets(row: OpcodeStatistics) -> list[tuple[str, float]]:
    """Cumulative: (upper edge in seconds, commands up to it)."""
    counts = list(accumulate(row.histogram))
    edges = [(f"{(1 << edge) / 1e6:g}", float(counts[edge])) for edge in EDGES]
    return [*edges, ("+Inf", float(counts[-1]))]

"""The status page's data: totals since each device is served; the page computes rates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tcmu_runner.engine.observe.statistics import BUCKETS, OpcodeStatistics
from tcmu_runner.engine.observe.stats_text import error_name, name, percentile
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, Watchable
from tcmu_runner.printable import utf8
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Moves

_READS = DISK.moving(Moves.READ)
_WRITES = DISK.moving(Moves.WRITE)

Json = dict[str, Any]


def report(watchable: Watchable) -> Json:
    """clock: seconds since an arbitrary moment. time: Unix time. page.html reads the rest by name."""
    return {
        "clock": time.monotonic(),
        "time": time.time(),
        "devices": [_device(view) for view in devices(watchable)],
        "problems": [utf8(each) for each in watchable.problems()],
        "events": [_event(device_event) for device_event in watchable.device_events()],
    }


def devices(watchable: Watchable) -> list[DeviceView]:
    """All devices. Bytes of names that are not UTF-8 are escaped; the kernel allows them."""
    return [
        replace(
            view,
            name=utf8(view.name),
            handler=utf8(view.handler),
            config=utf8(view.config),
            last_error=utf8(view.last_error),
        )
        for view in watchable.devices()
    ]


def _device(view: DeviceView) -> Json:
    opcodes = view.statistics.opcodes
    return {
        "name": view.name,
        "minor": view.minor,
        "handler": view.handler,
        "config": view.config,
        "size": view.size,
        "blockSize": view.block_size,
        "state": view.state.value,
        "since": view.since,
        "lastError": view.last_error,
        "trouble": utf8(view.trouble(time.time())),
        "restarts": view.restarts,
        "pid": view.pid,
        "queue": view.statistics.under_way,
        "oldest": view.statistics.oldest,
        "reads": _total(opcodes, _READS.__contains__),
        "writes": _total(opcodes, _WRITES.__contains__),
        "others": _total(opcodes, lambda opcode: opcode not in _READS | _WRITES),
        "latency": _latency(opcodes),
        "errors": [[error_name(*error), count] for error, count in view.statistics.errors.items()],
        "commands": [
            [name(row.opcode), row.count, row.bytes, row.errors, row.microseconds, percentile(row, 0.99)]
            for row in opcodes
        ],
    }


def _total(opcodes: tuple[OpcodeStatistics, ...], of: Callable[[int], bool]) -> Json:
    rows = [row for row in opcodes if of(row.opcode)]
    return {"count": sum(row.count for row in rows), "bytes": sum(row.bytes for row in rows)}


def _latency(opcodes: tuple[OpcodeStatistics, ...]) -> list[int]:
    """Of reads and writes: bucket n counts commands of less than 2^n microseconds."""
    rows = [row.histogram for row in opcodes if row.opcode in _READS | _WRITES]
    return [sum(counts) for counts in zip(*rows, strict=True)] if rows else [0] * BUCKETS


def _event(device_event: DeviceEvent) -> Json:
    return {
        "time": device_event.time,
        "device": utf8(device_event.device),
        "level": logging.getLevelName(device_event.level).lower(),
        "text": utf8(device_event.text),
    }

"""What the status page asks for each second: totals since a device is served; the page makes rates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tcmu_runner.engine.figures import error_name, name, percentile
from tcmu_runner.engine.statistics import BUCKETS, Opcode
from tcmu_runner.engine.view import DeviceView, Happening, Watchable

_READS = frozenset({0x08, 0x28, 0xA8, 0x88})
_WRITES = frozenset({0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E})  # with those that verify what they wrote

Json = dict[str, Any]


def report(watchable: Watchable) -> Json:
    """clock: in seconds, from an unknown moment on; time: Unix. page.html reads the rest by name."""
    return {
        "clock": time.monotonic(),
        "time": time.time(),
        "devices": [_device(view) for view in devices(watchable)],
        "events": [_event(happening) for happening in watchable.happenings()],
    }


def devices(watchable: Watchable) -> list[DeviceView]:
    """All devices. Bytes that are not UTF-8, which the kernel lets pass in names, are written as escapes."""
    return [
        replace(
            view,
            name=_readable(view.name),
            handler=_readable(view.handler),
            config=_readable(view.config),
            last_error=_readable(view.last_error),
        )
        for view in watchable.devices()
    ]


def _readable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


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


def _total(opcodes: tuple[Opcode, ...], of: Callable[[int], bool]) -> Json:
    rows = [row for row in opcodes if of(row.opcode)]
    return {"count": sum(row.count for row in rows), "bytes": sum(row.bytes for row in rows)}


def _latency(opcodes: tuple[Opcode, ...]) -> list[int]:
    """Of reads and writes: bucket n counts those that took less than 2^n microseconds."""
    rows = [row.histogram for row in opcodes if row.opcode in _READS | _WRITES]
    return [sum(counts) for counts in zip(*rows, strict=True)] if rows else [0] * BUCKETS


def _event(happening: Happening) -> Json:
    return {
        "time": happening.time,
        "device": _readable(happening.device),
        "level": logging.getLevelName(happening.level).lower(),
        "text": _readable(happening.text),
    }

"""tcmu-runner: SCSI disks (LUNs) whose bytes are stored by a Python handler."""

from tcmu_runner.handler import (
    NOT_HANDLED,
    AsyncHandler,
    ConfigError,
    Device,
    Extent,
    Filter,
    Handler,
    NotHandled,
    RawHandler,
    ScsiError,
    Sense,
    Space,
)

__all__ = [
    "NOT_HANDLED",
    "AsyncHandler",
    "ConfigError",
    "Device",
    "Extent",
    "Filter",
    "Handler",
    "NotHandled",
    "RawHandler",
    "ScsiError",
    "Sense",
    "Space",
]

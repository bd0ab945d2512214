"""The plugin API: all that the author of a handler imports.

handler     a class that stores a LUN's bytes; its object is the open device.
device      what a handler is told of the LUN it serves, and where it reports events.
config      the string after the subtype, for example the path in file//srv/disk.img.
filter      what stands between a unit and a handler, and changes operations on their way.
capability  what a handler can do: that it defines `write`, `flush`, `unmap`, ... is the capability.
registry    where handlers are found: entry points, directories, a path.
"""

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import NOT_HANDLED, AsyncHandler, Handler, NotHandled, RawHandler
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Extent, Space
from tcmu_runner.scsi.sense import ScsiError, Sense

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

"""The plugin API: all that the author of a handler or filter imports.

handler: a class that stores a LUN's bytes; its object is the open device.
capability: what a handler can do: defining `write`, `flush`, `unmap`, ... declares the capability.

api         Handler, AsyncHandler, RawHandler
config      config strings and their options
device      Device: a handler's LUN, its log, and the events that the handler reports
errnos      the table from errno to SCSI status and sense
file_facts  identity of a file or block device, independent of its name; data and holes of a sparse file
filter      Filter; StackDefinition: a handler with filters above it, under a name of its own
reference   handlers and filters for the documentation
registry    finds handlers: entry points, directories, files; refuses files that others than root can change
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

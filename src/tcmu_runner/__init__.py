"""tcmu-runner: SCSI disks (LUNs); a Python handler stores their bytes.

Names imported from here and from tcmu_runner.testing are public, and all that handlers and filters need:

Handler, AsyncHandler, RawHandler  subclass one, and define what your storage can do
Filter                             stands between a unit and a handler, and changes operations on their way
Device                             a handler's LUN, its log, and the events that the handler reports
parse_options                      parses config strings with options into a dataclass
Buffers, iov                       a command's data, a list of memoryviews; and functions on it
Capabilities, Extent, Space        what a storage can do, where it has data, how much space it has
Operation, Read, Write, ...        what a filter gets, and what it yields to the layer below
Command, Status, NOT_HANDLED       a SCSI command as a RawHandler gets it, and the answers to it
ConfigError, ScsiError, ...        exceptions that refuse a device or a command; `sense` has common sense data

api_version grows when a change of these may require a change in handlers.
"""

from tcmu_runner import iov
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
from tcmu_runner.handler.config import parse_options
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi import sense
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import (
    CompareAndWrite,
    CryptoErase,
    Extents,
    Flush,
    HandleCommand,
    MeasureSpace,
    Operation,
    Pause,
    Read,
    Remote,
    Steps,
    Unmap,
    Write,
    WriteSame,
    WriteZeroes,
)
from tcmu_runner.scsi.profile import Capabilities
from tcmu_runner.scsi.sense import ScsiStatusError, Status

api_version = 2

__all__ = [
    "NOT_HANDLED",
    "AsyncHandler",
    "Buffers",
    "Capabilities",
    "Command",
    "CompareAndWrite",
    "ConfigError",
    "CryptoErase",
    "Device",
    "Extent",
    "Extents",
    "Filter",
    "Flush",
    "HandleCommand",
    "Handler",
    "MeasureSpace",
    "NotHandled",
    "Operation",
    "Pause",
    "RawHandler",
    "Read",
    "Remote",
    "ScsiError",
    "ScsiStatusError",
    "Sense",
    "Space",
    "Status",
    "Steps",
    "Unmap",
    "Write",
    "WriteSame",
    "WriteZeroes",
    "api_version",
    "iov",
    "parse_options",
    "sense",
]

"""tcmu-runner: SCSI disks (LUNs) whose bytes are stored by a Python handler.

What is imported from here and from tcmu_runner.testing is public, and all that handlers and filters need:

Handler, AsyncHandler, RawHandler  subclass one, and define what your storage can do
Filter                             stands between a unit and a handler, and changes operations on their way
Device                             what a handler knows of its LUN, and how it reports events
parse_options                      config strings with options, into a dataclass
Buffers, iov                       data as it comes: a list of memoryviews; and functions on them
Capabilities, Extent, Space        what a storage can do, where it has data, how much room it has
Operation, Read, Write, ...        what a filter sees, and what it gives to the layer below
Command, Status, NOT_HANDLED       what a RawHandler sees of a SCSI command, and how it answers
ConfigError, ScsiError, ...        how a device or a command is refused; `sense` has the usual sense data

api_version grows when something of this changes so that a handler may have to be changed, too.
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

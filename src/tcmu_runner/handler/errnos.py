"""THE table from errno to SCSI status and sense, for whatever a handler's OSError carries."""

import errno

from tcmu_runner.scsi.operations import Operation, Read
from tcmu_runner.scsi.sense import (
    COMMUNICATION_FAILURE,
    INTERNAL_TARGET_FAILURE,
    INVALID_OPCODE,
    SPACE_ALLOCATION_FAILED,
    UNRECOVERED_READ_ERROR,
    WRITE_ERROR,
    WRITE_PROTECTED,
    ScsiError,
    ScsiStatusError,
    Sense,
    Status,
)

# The storage may be back in a moment: BUSY makes initiators try again, sense would be an I/O error.
_BUSY = {
    errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED,
    errno.ECONNABORTED, errno.EPIPE, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EINTR,
}  # fmt: skip

_SENSE: dict[int, Sense] = {
    errno.ENOSPC: SPACE_ALLOCATION_FAILED,
    errno.EDQUOT: SPACE_ALLOCATION_FAILED,
    errno.EFBIG: SPACE_ALLOCATION_FAILED,
    errno.EROFS: WRITE_PROTECTED,
    errno.EPERM: WRITE_PROTECTED,
    errno.EACCES: WRITE_PROTECTED,
    errno.EBADF: INTERNAL_TARGET_FAILURE,
    errno.EOPNOTSUPP: INVALID_OPCODE,
    errno.ENODEV: COMMUNICATION_FAILURE,
    errno.ENXIO: COMMUNICATION_FAILURE,
    errno.ESHUTDOWN: COMMUNICATION_FAILURE,
    errno.ENOENT: COMMUNICATION_FAILURE,
    errno.ESTALE: COMMUNICATION_FAILURE,
}


def scsi_error(error: OSError, operation: Operation | None) -> ScsiError | ScsiStatusError:
    """How a command ends whose operation failed with this error. EIO and unknown codes are medium errors."""
    code = error.errno
    if code in _BUSY:
        return ScsiStatusError(Status.BUSY)
    if code == errno.ENOMEM:
        return ScsiStatusError(Status.TASK_SET_FULL)
    fallback = UNRECOVERED_READ_ERROR if isinstance(operation, Read) else WRITE_ERROR
    return ScsiError(_SENSE.get(code or errno.EIO, fallback))

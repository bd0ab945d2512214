"""THE table from errno to SCSI status and sense, for each OSError of a handler."""

import errno

from tcmu_runner.scsi.operations import Extents, Operation, Read
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

# Passing failures: with BUSY initiators retry; sense would be an I/O error.
_BUSY = {
    errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED,
    errno.ECONNABORTED, errno.EPIPE, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN,
    errno.ENETRESET, errno.EINTR,
}  # fmt: skip

_SENSE: dict[int, Sense] = {
    errno.EBADF: INTERNAL_TARGET_FAILURE,
    errno.EOPNOTSUPP: INVALID_OPCODE,
    errno.ENODEV: COMMUNICATION_FAILURE,
    errno.ENXIO: COMMUNICATION_FAILURE,
    errno.ESHUTDOWN: COMMUNICATION_FAILURE,
    errno.ENOENT: COMMUNICATION_FAILURE,
    errno.ESTALE: COMMUNICATION_FAILURE,
}

# Only for writes: a read needs neither space nor write access, so the sense would mislead an administrator.
_SENSE_OF_WRITES: dict[int, Sense] = {
    errno.ENOSPC: SPACE_ALLOCATION_FAILED,
    errno.EDQUOT: SPACE_ALLOCATION_FAILED,
    errno.EFBIG: SPACE_ALLOCATION_FAILED,
    errno.EROFS: WRITE_PROTECTED,
    errno.EPERM: WRITE_PROTECTED,
    errno.EACCES: WRITE_PROTECTED,
}

# Libraries raise these without an errno, for example asyncio and socket time-outs.
_CODE_OF_CLASS: tuple[tuple[type[OSError], int], ...] = (
    (TimeoutError, errno.ETIMEDOUT),
    (ConnectionError, errno.ECONNRESET),
    (BlockingIOError, errno.EAGAIN),
    (InterruptedError, errno.EINTR),
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
)
# Their errno is a number of OpenSSL or the resolver. By name: importing ssl would cost a worker 5 MB.
_FOREIGN_CODES = {"SSLError", "gaierror", "herror"}


def scsi_error(error: OSError, operation: Operation | None) -> ScsiError | ScsiStatusError:
    """The status or sense for a failed operation. EIO and unknown codes are medium errors."""
    code = _code(error)
    if code in _BUSY:
        return ScsiStatusError(Status.BUSY)
    if code == errno.ENOMEM:
        return ScsiStatusError(Status.TASK_SET_FULL)
    if isinstance(operation, Read | Extents):
        return ScsiError(_SENSE.get(code, UNRECOVERED_READ_ERROR))
    return ScsiError(_SENSE.get(code) or _SENSE_OF_WRITES.get(code, WRITE_ERROR))


def _code(error: OSError) -> int:
    if any(cls.__name__ in _FOREIGN_CODES for cls in type(error).__mro__):
        return errno.ECONNABORTED
    if error.errno is not None:
        return error.errno
    return next((code for cls, code in _CODE_OF_CLASS if isinstance(error, cls)), errno.EIO)

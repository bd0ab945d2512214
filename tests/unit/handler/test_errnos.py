"""What an initiator is told of a handler's OSError: SPC-5 table 51 and annex F.2, SAM-5 table 33."""

import errno
import socket
import ssl

import pytest

from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.scsi.operations import Extents, Flush, Operation, Read, Unmap, Write, WriteZeroes
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError

READ, WRITE = Read(0, []), Write(0, [])
BUSY, TASK_SET_FULL = 0x08, 0x28  # SAM-5 table 33


def sense(error: OSError, operation: Operation | None) -> tuple[int, int, int]:
    """(key, ASC, ASCQ)"""
    answer = scsi_error(error, operation)
    assert isinstance(answer, ScsiError)
    encoded = answer.sense.encode()
    return encoded[2], encoded[12], encoded[13]


def status(error: OSError, operation: Operation | None = WRITE) -> int:
    answer = scsi_error(error, operation)
    assert isinstance(answer, ScsiStatusError)
    return answer.status


@pytest.mark.parametrize("operation", [WRITE, Flush(), Unmap(0, 512), WriteZeroes(0, 512), None])
def test_a_failed_change_is_a_write_error(operation: Operation | None) -> None:
    assert sense(OSError(errno.EIO, "dead"), operation) == (0x3, 0x0C, 0x00)  # WRITE ERROR


@pytest.mark.parametrize("operation", [READ, Extents(0, 512)])
def test_a_failed_look_is_a_read_error(operation: Operation) -> None:
    assert sense(OSError(errno.EIO, "dead"), operation) == (0x3, 0x11, 0x00)  # UNRECOVERED READ ERROR


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_storage(code: int) -> None:
    assert sense(OSError(code, ""), WRITE) == (0x7, 0x27, 0x07)  # SPACE ALLOCATION FAILED WRITE PROTECT


@pytest.mark.parametrize("code", [errno.EROFS, errno.EPERM, errno.EACCES])
def test_a_storage_that_refuses_writes(code: int) -> None:
    assert sense(OSError(code, ""), WRITE) == (0x7, 0x27, 0x00)  # WRITE PROTECTED


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_read_is_never_write_protected(code: int) -> None:
    """An object store that forbids a read raises PermissionError, too."""
    assert sense(OSError(code, ""), READ) == (0x3, 0x11, 0x00)


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESTALE, errno.ESHUTDOWN])
def test_a_storage_that_is_gone(code: int) -> None:
    # LOGICAL UNIT COMMUNICATION FAILURE, key NOT READY
    assert sense(OSError(code, ""), READ) == sense(OSError(code, ""), WRITE) == (0x2, 0x08, 0x00)


def test_other_codes() -> None:
    assert sense(OSError(errno.EOPNOTSUPP, ""), WRITE) == (0x5, 0x20, 0x00)  # INVALID COMMAND OPERATION CODE
    assert sense(OSError(errno.EBADF, ""), READ) == (0x4, 0x44, 0x00)  # INTERNAL TARGET FAILURE
    assert sense(OSError(errno.EILSEQ, ""), READ) == (0x3, 0x11, 0x00)
    assert sense(OSError("no errno at all"), WRITE) == (0x3, 0x0C, 0x00)


@pytest.mark.parametrize(
    "code",
    [errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE,
     errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH],
)  # fmt: skip
def test_what_may_pass_is_tried_again(code: int) -> None:
    assert status(OSError(code, ""), READ) == status(OSError(code, "")) == BUSY


def test_no_memory() -> None:
    assert status(OSError(errno.ENOMEM, "")) == TASK_SET_FULL


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("timed out"),
        ConnectionResetError("Connection lost"),  # asyncio's transports
        ConnectionError("closed"),
        BlockingIOError(),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLError(1, "[SSL] handshake failure"),  # 1 is a number of OpenSSL's, not EPERM
    ],
    ids=repr,
)
def test_errors_of_libraries_without_an_errno_of_the_system(error: OSError) -> None:
    assert status(error) == BUSY


def test_classes_stand_for_their_errno() -> None:
    assert sense(PermissionError("denied"), WRITE) == (0x7, 0x27, 0x00)
    assert sense(FileNotFoundError("object is gone"), READ) == (0x2, 0x08, 0x00)

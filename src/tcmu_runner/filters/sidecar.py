"""The file that a filter keeps beside the data: one for each device, used by one process at a time.

It is found by the device's name. A record in it names the storage that it belongs to.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from urllib.parse import quote

from tcmu_runner import files
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.errors import ConfigError, DeviceError
from tcmu_runner.handler.device import Device, without_hba
from tcmu_runner.iov import Buffers

LOCK_SECONDS = 1.0  # to wait for a worker that has just died: its lock may end after its socket
OURS = b"tcmu-"  # the beginning of all these files
RECORD_AT = 1 << 10  # of each file; zeroes there in files of earlier versions
RECORD_ROOM = 2 << 10
_RECORD = Struct("<II")  # bytes that follow, their CRC-32


def path_of(device: Device, directory: Path, kind: str) -> Path:
    """The device's file in the directory, with `kind` as suffix: vol0.cow for user_0/vol0. Renames a file of
    an earlier version, which had the HBA in its name. Raises DeviceError."""
    path = directory / f"{quote(os.fsencode(without_hba(device.name)), safe='')}.{kind}"
    if not path.exists() and (old := _of_earlier_version(device, path)) is not None:
        try:
            old.rename(path)
        except OSError as error:
            text = f"{old}: {error.strerror}: rename it to {path.name}"
            raise DeviceError(text, error.errno or errno.EIO) from None
        device.log.info("%s of an earlier version: renamed to %s", old.name, path.name)
    return path


def _of_earlier_version(device: Device, path: Path) -> Path | None:
    """Files of several HBAs may be left, since a reboot can give the LUN another HBA. The one of the present
    HBA is surely the LUN's if it was written last: the daemon was then upgraded while it served the LUN."""
    name = re.compile(rf"user_\d+%2F{re.escape(path.name)}")
    try:
        found = sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))
    except OSError:
        return None  # `claim` reports what is wrong with the directory
    if len(found) < 2:
        return next(iter(found), None)
    newest = max(found, key=lambda each: each.stat().st_mtime_ns)
    if newest.name == f"{quote(os.fsencode(device.name), safe='')}{path.suffix}":
        return newest
    names = ", ".join(each.name for each in found)
    raise DeviceError(
        f"in {path.parent} are {names}: rename the one of this LUN to {path.name}, move the others away",
        errno.ENOTUNIQ,
    )


def expect(path: Path, device: Device, what: str) -> None:
    """Raises OSError if the LUN was served with the file before and it is missing now. An empty file counts
    as a new one."""
    if not path.exists():
        device.missing(f"{what} {path}", f"touch {path}")


def claim(path: Path, what: str, clock: Clock = MACHINE) -> int:
    """Opens the file, creates it if it is missing, and locks it until it is closed. what: its kind, for
    messages. Raises DeviceError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"{what} {path}: {error.strerror}; correct the directory"
        raise DeviceError(text, error.errno or errno.EIO) from None
    try:
        files.lock(fd, fcntl.LOCK_EX, LOCK_SECONDS, clock)
    except BlockingIOError:
        os.close(fd)
        raise DeviceError(f"{what} {path} is in use by another process", errno.EBUSY) from None
    except OSError as error:
        os.close(fd)
        text = f"{what} {path} cannot be locked: {error.strerror}; choose a directory of another file system"
        raise DeviceError(text, error.errno or errno.EIO) from None
    return fd


# -- the storage that it belongs to --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """A file's record of its storage. identity: see Plugin.identity. config: the LUN's config string, for
    messages."""

    identity: str
    config: str

    def __str__(self) -> str:
        return f"{self.config or 'a storage'} ({self.identity})"


def belongs_to(fd: int) -> StorageRecord | None:
    """None for a file without a record: a new one, or one of an earlier version."""
    size, check = _RECORD.unpack(pread(fd, _RECORD.size, RECORD_AT))
    record = pread(fd, min(size, RECORD_ROOM), RECORD_AT + _RECORD.size)
    if not size or zlib.crc32(record) != check:
        return None
    identity, _, config = os.fsdecode(record).partition("\0")
    return StorageRecord(identity, config)


def assign(fd: int, device: Device) -> None:
    """Records the storage below; does nothing if that has no identity."""
    if device.storage:
        record = os.fsencode(f"{device.storage}\0{device.config}")
        if len(record) > RECORD_ROOM:  # a deep stack: a hash, which is the same the next time
            record = hashlib.sha256(os.fsencode(device.storage)).hexdigest().encode() + b"\0"
        pwrite(fd, _RECORD.pack(len(record), zlib.crc32(record)) + record, RECORD_AT)


def forget(path: Path) -> StorageRecord | None:
    """Removes the record from a file that is not in use and returns it: the file then belongs to the storage
    that it is opened over next. Raises TcmuError or OSError."""
    if not path.is_file():
        raise DeviceError(f"{path} is no file: name one of DIRECTORY/*.cow, *.cache or *.sums", errno.ENOENT)
    fd = claim(path, "file")
    try:
        if pread(fd, len(OURS), 0) != OURS:
            raise ConfigError(f"{path} is no file of the filters cow, cache or verify: correct the path")
        was = belongs_to(fd)
        disown(fd)
        return was
    finally:
        os.close(fd)


def disown(fd: int) -> None:
    """Clears the record; on stable storage when it returns."""
    pwrite(fd, bytes(_RECORD.size), RECORD_AT)
    os.fsync(fd)


def check_storage(fd: int, path: Path, device: Device, what: str, way_out: str) -> None:
    """Refuses a file with content and a record of another storage; accepts one without a record. Raises
    ConfigError.

    Else a LUN of the same name over other data would read this content, and write it there.
    """
    kept = belongs_to(fd)
    if not device.storage or (kept is not None and _same(kept.identity, device.storage)):
        return
    if kept is not None:
        now = StorageRecord(device.storage, device.config)
        raise ConfigError(
            f"{what} {path} belongs to {kept}, and this is {now}: {way_out}; if it is a copy with the same "
            f"content, tcmu-runner overlay {path} adopt"
        )
    device.log.warning(
        "%s %s does not say which storage it belongs to (earlier versions noted none): taken for that of %s",
        what, path, device.storage,
    )  # fmt: skip
    assign(fd, device)


def _same(kept: str, identity: str) -> bool:
    return kept in (identity, hashlib.sha256(os.fsencode(identity)).hexdigest())


# -- whole transfers -------------------------------------------------------------------------------------


def pread(fd: int, length: int, offset: int) -> bytes:
    """Bytes beyond the end of the file read as zeroes."""
    content = b""
    while piece := os.pread(fd, length - len(content), offset + len(content)):
        content += piece
    return content.ljust(length, b"\0")


def pwritev(fd: int, data: Buffers, offset: int) -> None:
    """Writes all buffers, one behind the other."""
    for buffer in data:
        pwrite(fd, buffer, offset)
        offset += len(buffer)


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all bytes."""
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, offset)
        left, offset = left[done:], offset + done

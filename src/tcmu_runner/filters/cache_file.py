"""The file of `cache`: slots for chunks of the disk, and a table that says which are newer than the storage
below.

A header, a table with a word for each slot, and the slots. The file is valid until the machine restarts: a
killed process leaves its dirty chunks to the next one. After a power loss the file's content is void, as that
of a disk's volatile cache, so it is never synchronised.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.overlay import boot_id
from tcmu_runner.filters.sidecar import pwrite, pwritev
from tcmu_runner.handler.device import Device
from tcmu_runner.iov import Buffers

MAGIC, VERSION = b"tcmu-cac", 1
HEAD = Struct("<8sII16s")  # magic, version, chunk size, boot id
WORD = Struct("<Q")  # 0: free; else (chunk number + 1) * 2, plus 1 if dirty
TABLE_AT = 1 << 12
FOREIGN = (
    "it holds writes that are not stored there yet: serve that one again under this name, which stores them, "
    "or remove the file, which loses them"
)


class Slots:
    """Chunks by number. Only the thread that holds the lock of a part of the disk uses its chunks."""

    def __init__(self, fd: int, count: int, chunk: int) -> None:
        self.count = count
        self._fd = fd
        self._chunk = chunk
        self._data_at = TABLE_AT + -(-count * WORD.size // TABLE_AT) * TABLE_AT
        self._lock = threading.Lock()
        self._slots: OrderedDict[int, int] = OrderedDict()  # slot by chunk; least recently used first
        self._dirty: set[int] = set()
        self._free: list[int] = []

    @classmethod
    def open(cls, path: Path, size: int, chunk: int, device: Device) -> Slots:
        """size: bytes of the cache. Raises OSError or ConfigError."""
        fd = sidecar.claim(path, "cache", device.clock)
        try:
            alive = _check_head(fd, path, chunk)
            slots = cls(fd, max(size // chunk, 1), chunk)
            slots._recover(path, device, alive=alive)
        except BaseException:
            os.close(fd)
            raise
        return slots

    def close(self) -> None:
        os.close(self._fd)

    def __contains__(self, chunk: int) -> bool:
        with self._lock:
            return chunk in self._slots

    def is_dirty(self, chunk: int) -> bool:
        with self._lock:
            return chunk in self._dirty

    def within(self, first: int, last: int) -> list[int]:
        """The cached chunks among first..last."""
        with self._lock:
            return [chunk for chunk in self._slots if first <= chunk < last]

    def oldest(self, count: int) -> list[int]:
        """The least recently used chunks."""
        with self._lock:
            return [chunk for chunk, _ in zip(self._slots, range(count), strict=False)]

    def read(self, chunk: int, into: Buffers, skip: int = 0) -> None:
        """Reads from byte `skip` of the chunk on."""
        at = self._place(chunk) + skip
        for buffer in into:
            iov.scatter([buffer], os.pread(self._fd, len(buffer), at).ljust(len(buffer), b"\0"))
            at += len(buffer)

    def write(self, chunk: int, data: Buffers, skip: int = 0, *, dirty: bool) -> None:
        """Writes to a cached chunk; a dirty one stays dirty. OSError leaves it partly written."""
        pwritev(self._fd, data, self._place(chunk) + skip)
        if dirty and not self.is_dirty(chunk):
            self._mark(chunk, dirty=True)

    def add(self, chunk: int, data: Buffers, *, dirty: bool) -> bool:
        """Adds a whole chunk that is not cached. False: no slot is free."""
        with self._lock:
            if not self._free:
                return False
            slot = self._slots[chunk] = self._free.pop()
        try:
            pwritev(self._fd, data, self._data_at + slot * self._chunk)
            self._mark(chunk, dirty=dirty)
        except OSError:
            self.drop(chunk)
            return False
        return True

    def clean(self, chunk: int) -> None:
        """The chunk has been written to the storage below."""
        self._mark(chunk, dirty=False)

    def drop(self, chunk: int) -> None:
        """Removes the chunk if it is cached."""
        with self._lock:
            slot = self._slots.pop(chunk, None)
            self._dirty.discard(chunk)
            if slot is not None:
                pwrite(self._fd, bytes(WORD.size), TABLE_AT + slot * WORD.size)
                self._free.append(slot)

    def _mark(self, chunk: int, *, dirty: bool) -> None:
        with self._lock:
            word = WORD.pack((chunk + 1) * 2 + dirty)
            pwrite(self._fd, word, TABLE_AT + self._slots[chunk] * WORD.size)
            (self._dirty.add if dirty else self._dirty.discard)(chunk)

    def _place(self, chunk: int) -> int:
        with self._lock:
            self._slots.move_to_end(chunk)
            return self._data_at + self._slots[chunk] * self._chunk

    def _recover(self, path: Path, device: Device, *, alive: bool) -> None:
        """Takes over dirty chunks, not clean ones: the storage below may have been written since."""
        known = [(slot, chunk) for slot, chunk, dirty in self._table() if dirty] if alive else []
        if known:
            sidecar.check_storage(self._fd, path, device, "cache", FOREIGN)
        if known and known[-1][0] >= self.count:
            text = f"cache {path} holds data that is not written yet, and is larger: set size as before"
            raise ConfigError(text)
        os.ftruncate(self._fd, self._data_at + self.count * self._chunk)
        taken = dict(known)
        last = (device.size - 1) // self._chunk
        if len(set(taken.values())) < len(known) or not all(0 <= chunk <= last for _, chunk in known):
            raise ConfigError(
                f"cache {path} holds a chunk twice, or one behind the end of the disk: set dev_size as it "
                "was, or remove the file, which loses what it holds"
            )
        for slot in range(self.count):
            if slot not in taken:
                self._free.append(slot)
        words = [WORD.pack((taken[slot] + 1) * 2 + 1 if slot in taken else 0) for slot in range(self.count)]
        pwrite(self._fd, b"".join(words), TABLE_AT)
        for slot, chunk in known:
            self._slots[chunk] = slot
            self._dirty.add(chunk)
        head = HEAD.pack(MAGIC, VERSION, self._chunk, boot_id())
        pwrite(self._fd, head, 0)
        sidecar.assign(self._fd, device)

    def _table(self) -> Iterator[tuple[int, int, bool]]:
        table = os.pread(self._fd, self._data_at - TABLE_AT, TABLE_AT)
        for slot, (word,) in enumerate(WORD.iter_unpack(table[: len(table) // WORD.size * WORD.size])):
            if word:
                yield slot, word // 2 - 1, bool(word & 1)


def _check_head(fd: int, path: Path, chunk: int) -> bool:
    """Whether the file's content is of this boot."""
    found = os.pread(fd, HEAD.size, 0)
    if not found:
        return False
    if len(found) < HEAD.size or not found.startswith(MAGIC):
        raise ConfigError(f"{path} is no cache: move it away, or choose another directory")
    _, version, chunks, boot = HEAD.unpack(found)
    if (version, chunks) != (VERSION, chunk) and boot == boot_id():
        raise ConfigError(f"cache {path} is of a disk with other blocks: remove it if it is not needed")
    return bool(boot == boot_id())

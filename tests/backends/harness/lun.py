"""A LUN as an initiator sees it: blocking commands in bytes, which raise what the sense says."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Self

from tcmu_runner.embedded.initiator import Initiator, Result
from tcmu_runner.scsi.sense import Status

PATIENCE = 150.0  # seconds for one command
PAUSE = 0.05
UNIT_ATTENTION = 0x6
MISCOMPARE = (0xE, 0x1D, 0x00)
_numbers = itertools.count(1)


class SenseError(Exception):
    """sense: key, ASC, ASCQ."""

    def __init__(self, command: str, sense: tuple[int, int, int]) -> None:
        super().__init__(f"{command}: sense {sense[0]:X}/{sense[1]:02X}/{sense[2]:02X}")
        self.sense = sense


class Lun:
    """One session, for one thread. BUSY and unit attentions are answered by another try, as Linux does.

    Raises SenseError; EOFError or OSError when the target is gone.
    """

    def __init__(self, url: str) -> None:
        address, name, _ = url.removeprefix("iscsi://").split("/")
        host, _, port = address.rpartition(":")
        isid = b"\x80" + next(_numbers).to_bytes(5, "big")
        self._initiator = Initiator(host, int(port), isid=isid, time_out=PATIENCE)
        self._initiator.login(name)
        self.busy = 0  # how often the LUN was
        self.block_size = int.from_bytes(self._capacity()[8:12], "big")
        self.size = self.capacity()
        self.reads_zero = bool(self._capacity()[14] & 0x40)  # LBPRZ (SBC-4 table 78)
        self.unmaps = bool(self._page(0xB2)[5] & 0x80)  # LBPU (SBC-4 table 287)

    def close(self) -> None:
        self._initiator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def capacity(self) -> int:
        """Bytes, now."""
        return (int.from_bytes(self._capacity()[:8], "big") + 1) * self.block_size

    def _capacity(self) -> bytes:
        return self._run("READ CAPACITY(16)", struct.pack(">BBQIH", 0x9E, 0x10, 0, 32, 0), size=32)

    def _page(self, number: int) -> bytes:
        """Of vital product data; zeroes where the LUN has no such page."""
        try:
            page = self._run("INQUIRY", struct.pack(">BBBHB", 0x12, 1, number, 255, 0), size=255)
        except SenseError as error:
            assert error.sense == (0x5, 0x24, 0x00)
            page = b""
        return page.ljust(16, b"\0")

    def read(self, offset: int, length: int) -> bytes:
        data = self._run("READ(16)", self._cdb(0x88, offset, length), size=length)
        assert len(data) == length
        return data

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        self._run("WRITE(16)", self._cdb(0x8A, offset, len(data), 0x08 if fua else 0), data)

    def write_and_verify(self, offset: int, data: bytes) -> None:
        self._run("WRITE AND VERIFY(16)", self._cdb(0x8E, offset, len(data)), data)

    def verify(self, offset: int, data: bytes) -> bool:
        """Whether the bytes are these (BYTCHK 01b)."""
        return self._compares("VERIFY(16)", self._cdb(0x8F, offset, len(data), 0x02), data)

    def flush(self) -> None:
        self._run("SYNCHRONIZE CACHE(16)", self._cdb(0x91, 0, 0))

    def unmap(self, ranges: Sequence[tuple[int, int]]) -> None:
        block = self.block_size
        descriptors = b"".join(struct.pack(">QI4x", at // block, size // block) for at, size in ranges)
        data = struct.pack(">HH4x", len(descriptors) + 6, len(descriptors)) + descriptors
        self._run("UNMAP", struct.pack(">BB5xHB", 0x42, 0, len(data), 0), data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        cdb = self._cdb(0x93, offset, length, 0x08 if unmap else 0)
        self._run("WRITE SAME(16)", cdb, bytes(self.block_size))

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        self._run("WRITE SAME(16)", self._cdb(0x93, offset, length), block)

    def compare_and_write(self, offset: int, expected: bytes, data: bytes) -> bool:
        """Whether the bytes were as expected, and so are replaced."""
        blocks = len(data) // self.block_size
        cdb = struct.pack(">BBQ3xB2x", 0x89, 0, offset // self.block_size, blocks)
        return self._compares("COMPARE AND WRITE", cdb, expected + data)

    def unmapped(self, offset: int) -> list[tuple[int, int]]:
        """GET LBA STATUS: offset and length of what is not mapped, among the first extents from there on."""
        cdb = struct.pack(">BBQIH", 0x9E, 0x12, offset // self.block_size, 4096, 0)
        try:
            data = self._run("GET LBA STATUS", cdb, size=4096)
        except SenseError as error:
            assert error.sense in ((0x5, 0x20, 0x00), (0x5, 0x24, 0x00))  # this LUN cannot tell
            return []
        block = self.block_size
        found = [struct.unpack_from(">QIB3x", data, at) for at in range(8, len(data), 16)]
        return [(lba * block, count * block) for lba, count, state in found if state & 0xF]

    def read_all(self, step: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
        for offset in range(0, self.size, step):
            yield offset, self.read(offset, min(step, self.size - offset))

    def _cdb(self, opcode: int, offset: int, length: int, flags: int = 0) -> bytes:
        blocks = self.block_size
        return struct.pack(">BBQIH", opcode, flags, offset // blocks, length // blocks, 0)

    def _compares(self, name: str, cdb: bytes, data: bytes) -> bool:
        try:
            self._run(name, cdb, data)
        except SenseError as error:
            if error.sense != MISCOMPARE:
                raise
            return False
        return True

    def _run(self, name: str, cdb: bytes, data: bytes = b"", size: int = 0) -> bytes:
        deadline = time.monotonic() + PATIENCE
        while True:
            result = self._initiator.command(cdb, data, size)
            if result.status == Status.GOOD:
                return result.data
            if result.status == Status.CHECK_CONDITION:
                sense = _sense(result)
                if sense[0] != UNIT_ATTENTION:
                    raise SenseError(name, sense)
            else:
                assert result.status in (Status.BUSY, Status.TASK_SET_FULL), f"{name}: {result.status:#x}"
                assert time.monotonic() < deadline, f"{name}: BUSY for {PATIENCE} s"
                self.busy += 1
                time.sleep(PAUSE)


def _sense(result: Result) -> tuple[int, int, int]:
    """Of fixed format (SPC-5 4.4.3)."""
    return result.sense[2] & 0xF, result.sense[12], result.sense[13]

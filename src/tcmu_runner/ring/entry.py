"""Decodes entries of the ring without trusting them, and encodes them for the producer."""

from array import array
from collections.abc import Sequence
from typing import NoReturn

from tcmu_runner.ring.layout import (
    ALIGNMENT,
    CDB_LENGTHS,
    CMD,
    CMD_LENGTH,
    SHORT_LENGTH,
    TMR,
    TMR_ENTRY,
    TMR_LENGTH,
    Layout,
    align,
)
from tcmu_runner.ring.ticket import Ticket


class RingCorrupt(Exception):  # noqa: N818 - the state of the ring, not of the program
    """The area does not hold a ring; the message says what was found at which offset. Nothing was changed."""


class Request:
    """A SCSI command to be executed, and completed by its `id`.

    `data` is the main buffer, as slices of the area, in order: Data-Out already filled, or Data-In to be
    filled completely (it holds stale bytes of other commands). The ring does not say which. The sum of the
    lengths is what the transport expects, whatever the CDB says. A bidirectional command has its Data-In in
    `data_in`. Touch no slice after the command's completion, and drop them before the area is unmapped.
    """

    __slots__ = ("cdb", "data", "data_in", "id")

    def __init__(self, id: int, cdb: bytes, data: list[memoryview], data_in: Sequence[memoryview]) -> None:  # noqa: A002
        self.id = id
        self.cdb = cdb
        self.data = data
        self.data_in = data_in

    def __repr__(self) -> str:
        lengths = [len(part) for part in (*self.data, *self.data_in)]
        return f"<Request {self.id}: CDB {self.cdb.hex()}, buffers of {lengths} bytes>"


class TaskManagement:
    """A task management function (`TmrType`) that concerns these outstanding commands, or none.

    There is no answer to it, but the kernel's own answer to the initiator waits until all of them are
    completed, with whatever status.
    """

    __slots__ = ("ids", "type")

    def __init__(self, type: int, ids: Sequence[int]) -> None:  # noqa: A002
        self.type = type
        self.ids = ids

    def __repr__(self) -> str:
        return f"<TaskManagement {self.type} of {list(self.ids)}>"


class EntryReader:
    """Reads entries in `area`; its data area begins at the offset `data`. All methods raise RingCorrupt."""

    def __init__(self, area: memoryview, data: int, layout: Layout) -> None:
        self._area = area
        self._data, self._end = data, len(area)
        self._unpack_request = layout.request.unpack_from
        self._unpack_iovs = layout.iov.iter_unpack
        self._iov_offset, self._iov_size = layout.iov_offset, layout.iov.size

    def command(self, at: int, end: int) -> tuple[int, bytes, list[memoryview], Sequence[memoryview]]:
        """What a Request is made of, from the CMD entry that lies in area[at:end]."""
        area = self._area
        if end - at < CMD_LENGTH:
            raise RingCorrupt(f"command entry of {end - at} bytes at offset {at}")
        _, id_, _, _, main, bidi, dif, cdb, base, length = self._unpack_request(area, at)
        plain = main == 1 and not bidi and not dif  # as nearly all are: the lowest place of the CDB is known
        first = at + (CMD_LENGTH if plain else self._iov_offset + self._iov_size * (main + bidi + dif))
        if not first <= cdb <= end - ALIGNMENT:
            raise RingCorrupt(f"CDB at offset {cdb}, {main}+{bidi}+{dif} iovs, in the entry at {at}..{end}")
        cdb_end = cdb + (CDB_LENGTHS[area[cdb]] or 8 + area[cdb + 7])
        if cdb_end > end or not id_:
            raise RingCorrupt(f"command {id_} at offset {at}: CDB at {cdb}..{cdb_end}, entry ends at {end}")
        if plain:
            stop = base + length
            if base < self._data or stop > self._end:
                self._raise_buffer(at, base, length)
            return id_, area[cdb:cdb_end].tobytes(), [area[base:stop]], ()
        slices = self._slices(at, main + bidi)
        return id_, area[cdb:cdb_end].tobytes(), slices[:main], slices[main:] if bidi else ()

    def _slices(self, at: int, count: int) -> list[memoryview]:
        """The buffers that the first iovs of the entry at offset `at` describe."""
        slices = []
        first = at + self._iov_offset
        for base, length in self._unpack_iovs(self._area[first : first + self._iov_size * count]):
            if base < self._data or base + length > self._end:
                self._raise_buffer(at, base, length)
            slices.append(self._area[base : base + length])
        return slices

    def _raise_buffer(self, at: int, base: int, length: int) -> NoReturn:
        end = base + length
        raise RingCorrupt(f"buffer at {base}..{end} outside the data area, in the entry at offset {at}")

    def task_management(self, at: int, end: int) -> TaskManagement:
        """The TMR entry that lies in area[at:end]."""
        if end - at < TMR_LENGTH:
            raise RingCorrupt(f"task management entry of {end - at} bytes at offset {at}")
        _, _, _, _, type_, count = TMR_ENTRY.unpack_from(self._area, at)
        if count * 2 > end - at - TMR_LENGTH:
            raise RingCorrupt(f"task management entry of {end - at} bytes at offset {at} for {count} ids")
        first = at + TMR_LENGTH
        return TaskManagement(type_, self._area[first : first + 2 * count].cast("H").tolist())


def command_entry(layout: Layout, at: int, length: int, ticket: Ticket) -> bytes | bytearray:
    """The CMD entry of this length, as the layout has it, to be placed at the offset `at` in the area."""
    iovs, cdb, main = ticket.iovs, ticket.cdb, ticket.main
    count = len(iovs)
    if count == main == 1 and length == SHORT_LENGTH:  # as nearly always
        return layout.short.pack(length | CMD, ticket.id, 0, 0, 1, 0, 0, at + CMD_LENGTH, *iovs[0], cdb)
    where = layout.cdb_offset(count)
    entry = bytearray(length)
    base, size = iovs[0] if iovs else (0, 0)
    layout.request.pack_into(
        entry, 0, length | CMD, ticket.id, 0, 0, main, count - main, 0, at + where, base, size
    )
    for number in range(1, count):
        layout.iov.pack_into(entry, layout.iov_offset + number * layout.iov.size, *iovs[number])
    entry[where : where + len(cdb)] = cdb
    return entry


def tmr_entry(type_: int, ids: Sequence[int]) -> bytes:
    """The TMR entry for these commands."""
    length = align(TMR_LENGTH + 2 * len(ids))
    entry = TMR_ENTRY.pack(length | TMR, 0, 0, 0, type_, len(ids)) + array("H", ids).tobytes()
    return entry.ljust(length, b"\0")

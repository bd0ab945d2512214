"""Decoding single entries, whole and damaged: include/uapi/linux/target_core_user.h."""

from collections.abc import Callable
from sys import byteorder

import pytest

from tcmu_runner.ring.entry import EntryReader, Request, RingCorrupt, command_entry, tmr_entry
from tcmu_runner.ring.layout import ARM32, I386, LP64, Layout
from tcmu_runner.ring.ticket import Ticket

from .raw import Raw

READ_10 = bytes.fromhex("28 00 00 00 00 08 00 00 28 00")
READ_32 = bytes.fromhex("7f 00 00 00 00 00 00 18") + bytes(24)


def reader(raw: Raw) -> EntryReader:
    return EntryReader(raw.area, raw.data, LP64)


def request(entries: EntryReader, at: int, end: int) -> Request:
    return Request(*entries.command(at, end))


def whole(raw: Raw, at: int) -> tuple[int, int]:
    return at, at + (raw.get(at, "I") & ~7)


@pytest.mark.parametrize(
    ("tail", "length"),
    [("00", 6), ("5e", 10), ("a0", 12), ("8a", 16), ("7f000000000000fc", 260)],
)
def test_cdb_is_cut_to_its_length(tail: str, length: int) -> None:
    raw = Raw()
    cdb = bytes.fromhex(tail).ljust(length, b"\xee")
    found = request(reader(raw), *whole(raw, raw.command(1, cdb)))
    assert found.cdb == cdb


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 200])
def test_buffers(count: int) -> None:
    raw = Raw(size=8064)
    iovs = [(4096 * number, 4096 - number) for number in range(count)]
    raw = Raw(size=8064, data=4096 * 256)
    at = raw.command(7, READ_10, iovs)
    found = request(reader(raw), *whole(raw, at))
    for number, part in enumerate(found.data):
        part[0] = number + 1
    assert found.id == 7
    assert [len(part) for part in found.data] == [length for _, length in iovs]
    assert [raw.bytes[raw.data + start] for start, _ in iovs] == [number % 256 + 1 for number in range(count)]
    assert found.data_in == ()
    assert found.cdb == READ_10


@pytest.mark.parametrize(("out", "in_"), [(1, 1), (0, 2), (3, 4), (1, 0)])
def test_bidirectional(out: int, in_: int) -> None:
    raw = Raw()
    iovs = [(4096 * number, 512 + number) for number in range(out + in_)]
    found = request(reader(raw), *whole(raw, raw.command(1, READ_32, iovs[:out], iovs[out:])))
    assert [len(part) for part in found.data] == [length for _, length in iovs[:out]]
    assert [len(part) for part in found.data_in] == [length for _, length in iovs[out:]]
    assert found.cdb == READ_32


def test_the_last_byte_of_the_data_area() -> None:
    raw = Raw(data=4096)
    found = request(reader(raw), *whole(raw, raw.command(1, READ_10, [(0, 4096)])))
    found.data[0][-1] = 0xAA
    assert raw.bytes[-1] == 0xAA


def test_repr() -> None:
    raw = Raw()
    entries = reader(raw)
    found = request(entries, *whole(raw, raw.command(9, bytes(6), [(0, 512)])))
    assert repr(found) == "<Request 9: CDB 000000000000, buffers of [512] bytes>"
    task = entries.task_management(*whole(raw, raw.task_management(5, [9])))
    assert repr(task) == "<TaskManagement 5 of [9]>"


def shorten(raw: Raw, at: int) -> tuple[int, int]:
    return at, at + 104


def set_(offset: int, form: str, value: int) -> Callable[[Raw, int], tuple[int, int]]:
    def damage(raw: Raw, at: int) -> tuple[int, int]:
        raw.put(at + offset, form, value)
        return whole(raw, at)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, "command entry of 104 bytes at offset 128"),
        (set_(4, "H", 0), "command 0 at offset 128"),
        (set_(8, "I", 5), r"CDB at offset 240, 5\+0\+0 iovs, in the entry at 128..256"),
        (set_(8, "I", 0xFFFFFFFF), r"4294967295\+0\+0 iovs"),
        (set_(12, "I", 4), r"1\+4\+0 iovs"),
        (set_(16, "I", 4), r"1\+0\+4 iovs"),
        (set_(24, "Q", 128 + 63), "CDB at offset 191"),  # on top of the iov, which ends at 64
        (set_(24, "Q", 249), "CDB at offset 249"),
        (set_(24, "Q", 2**64 - 8), "CDB at offset 18446744073709551608"),
        (set_(24, "Q", 248), "command 3 at offset 128: CDB at 248..258, entry ends at 256"),
        (set_(48, "Q", 4095), "buffer at 4095..4607 outside the data area, in the entry at offset 128"),
        (set_(48, "Q", 2**64 - 1), "outside the data area"),
        (set_(56, "Q", 65536 + 1), "buffer at 4096..69633 outside the data area"),
        (set_(56, "Q", 2**64 - 1), "outside the data area"),
    ],
)
def test_damaged_command(damage: Callable[[Raw, int], tuple[int, int]], message: str) -> None:
    raw = Raw()
    at = raw.command(3, READ_10, [(0, 512)])
    with pytest.raises(RingCorrupt, match=message):
        request(reader(raw), *damage(raw, at))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_of_several_buffers_outside_the_data_area(number: int) -> None:
    raw = Raw()
    at = raw.command(3, READ_10, [(0, 512), (4096, 512)], [(8192, 512)])
    raw.put(at + 48 + 16 * number, "Q", 128)
    with pytest.raises(RingCorrupt, match=r"buffer at 128\.\.640"):
        request(reader(raw), *whole(raw, at))


def test_variable_length_cdb_beyond_the_entry() -> None:
    raw = Raw()
    at = raw.command(3, READ_32)
    raw.bytes[at + 112 + 7] = 0x19
    with pytest.raises(RingCorrupt, match=r"CDB at 240\.\.273, entry ends at 272"):
        request(reader(raw), *whole(raw, at))


@pytest.mark.parametrize("ids", [[], [1], [65535, 1, 2], [1, 2, 3, 4, 5]])
def test_task_management(ids: list[int]) -> None:
    raw = Raw()
    task = reader(raw).task_management(*whole(raw, raw.task_management(128, ids)))
    assert (task.type, task.ids) == (128, ids)


def test_task_management_too_short() -> None:
    raw = Raw()
    at = raw.entry(2, 24)
    with pytest.raises(RingCorrupt, match=r"task management entry of 24 bytes at offset 128$"):
        reader(raw).task_management(*whole(raw, at))


def test_task_management_with_too_many_ids() -> None:
    raw = Raw()
    at = raw.task_management(1, [1, 2, 3, 4])  # ids in 8 bytes: full
    raw.put(at + 12, "I", 5)
    with pytest.raises(RingCorrupt, match="task management entry of 40 bytes at offset 128 for 5 ids"):
        reader(raw).task_management(*whole(raw, at))


@pytest.mark.parametrize("bidi", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 6])
@pytest.mark.parametrize("cdb", [bytes(6), READ_10, READ_32])
def test_encoded_command(cdb: bytes, count: int, bidi: bool) -> None:
    raw = Raw()
    iovs = [(4096 * number, 512) for number in range(count)]
    main = count // 2 if bidi else count
    at = raw.command(5, cdb, iovs[:main], iovs[main:])
    ticket = Ticket(cdb, memoryview(b""), 0)
    ticket.id, ticket.main = 5, main
    ticket.iovs = [(raw.data + start, length) for start, length in iovs]
    start, end = whole(raw, at)
    assert command_entry(LP64, at, end - at, ticket) == raw.bytes[start:end]


@pytest.mark.parametrize("layout", [I386, ARM32])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_encoded_command_is_decoded_with_32_bits(layout: Layout, count: int) -> None:
    raw = Raw()
    ticket = Ticket(READ_10, memoryview(b""), 0)
    ticket.id, ticket.main = 5, count
    ticket.iovs = [(raw.data + 1024 * number, 512 + number) for number in range(count)]
    length = layout.entry_length(count, 10)
    raw.bytes[128 : 128 + length] = command_entry(layout, 128, length, ticket)
    found = request(EntryReader(raw.area, raw.data, layout), 128, 128 + length)
    assert (found.id, found.cdb) == (5, READ_10)
    assert [len(part) for part in found.data] == [512 + number for number in range(count)]


def test_i386_command() -> None:
    """iov_cnt at 8, cdb_off at 20, the iov's two 32-bit words at 44."""
    ticket = Ticket(bytes(6), memoryview(b""), 0)
    ticket.id, ticket.main, ticket.iovs = 5, 1, [(0x1000, 0x200)]
    entry = command_entry(I386, 128, 120, ticket)
    numbers = {at: int.from_bytes(entry[at : at + 4], byteorder) for at in range(0, 120, 4)}
    assert {at: number for at, number in numbers.items() if number and at > 4} == {
        8: 1,
        20: 128 + 112,
        44: 0x1000,
        48: 0x200,
    }


@pytest.mark.parametrize("ids", [[], [1], [65535, 1, 2, 3, 4]])
def test_encoded_task_management(ids: list[int]) -> None:
    raw = Raw()
    at, end = whole(raw, raw.task_management(5, ids))
    assert tmr_entry(5, ids) == raw.bytes[at:end]

"""A record is what was stored last or before that, whatever a write that was cut off has left."""

import os
import struct
import zlib
from collections.abc import Iterator

import pytest

from tcmu_runner.engine.unit_memory import FILE_SIZE, SLOT, Record


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("record")
    yield descriptor
    os.close(descriptor)


def again(file: int) -> Record:
    """As the next process has it."""
    return Record(file)


def test_what_was_stored_last_is_found(file: int) -> None:
    record = Record(file)
    assert (record.load(), record.empty) == (None, True)
    for number in range(5):
        record.store({"number": number})
        assert again(file).load() == {"number": number}
    assert not record.empty


def test_the_next_process_goes_on(file: int) -> None:
    for number in range(5):
        record = again(file)
        record.load()
        record.store({"number": number})
    assert again(file).load() == {"number": 4}


def test_what_is_there_already_is_not_written(file: int) -> None:
    record = Record(file)
    record.store({"a": 1})
    record.store({"b": 2})
    record.store({"b": 2})
    assert os.pread(file, FILE_SIZE, 0).count(b'{"a":1}') == 1


@pytest.mark.parametrize("cut", range(0, 34, 7))
def test_a_write_that_was_cut_off_leaves_what_was_before(file: int, cut: int) -> None:
    record = Record(file)
    record.store({"before": True})  # slot 1
    record.store({"after": True})  # slot 0
    os.pwrite(file, bytes(SLOT - cut), cut)
    assert again(file).load() == {"before": True}


@pytest.mark.parametrize("at", [0, 4, 8, 16, 20, 24])
def test_a_changed_byte_is_seen(file: int, at: int) -> None:
    Record(file).store({"a": 1})
    byte = os.pread(file, 1, SLOT + at)[0]
    os.pwrite(file, bytes((byte ^ 0x40,)), SLOT + at)
    assert again(file).load() is None


def test_what_is_too_long_is_refused_and_changes_nothing(file: int) -> None:
    record = Record(file)
    record.store({"a": 1})
    with pytest.raises(ValueError, match="too long"):
        record.store({"a": "x" * SLOT})
    assert again(file).load() == {"a": 1}


def test_what_is_lasting_is_on_the_disk(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    Record(file).store({"a": 1})
    assert not synced
    Record(file, lasting=True).store({"a": 2})
    assert synced == [file]


def test_anything_but_an_object_is_nothing(file: int) -> None:
    Record(file).store([1])  # type: ignore[arg-type]
    assert again(file).load() is None


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 4000])
def test_one_that_is_whole_and_no_json_counts_as_none(file: int, text: bytes) -> None:
    """A process that was taken over may have written it; the supervisor reads it."""
    rest = struct.pack("<QI", 1, len(text)) + text
    os.pwrite(file, b"TRS1" + struct.pack("<I", zlib.crc32(rest)) + rest, SLOT)
    assert Record(file).load() is None

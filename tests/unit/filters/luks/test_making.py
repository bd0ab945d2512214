"""A volume is made where it was asked for and where there is nothing; all else is refused and left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcmu_runner import ConfigError

from .volumes import HEADER, SIZE, Place, read, write


def test_without_being_asked_nothing_is_made(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.image.write_bytes(bytes(HEADER + SIZE))
    with pytest.raises(ConfigError, match=r"there is no LUKS volume: .* add create = true"):
        place.open()
    assert place.image.read_bytes() == bytes(HEADER + SIZE)


@pytest.mark.parametrize("offset", [0, 0x438, HEADER - 1, HEADER + SIZE - 512, HEADER + SIZE - 1])
def test_where_something_is_nothing_is_made(tmp_path: Path, offset: int) -> None:
    """A boot sector, ext4's magic number, the backup of a partition table, …"""
    place = Place(tmp_path)
    place.image.write_bytes(bytes(HEADER + SIZE))
    place.patch(offset, b"\x55")
    before = place.state()
    with pytest.raises(ConfigError, match="other data, which create = true does not overwrite"):
        place.create()
    assert place.state() == before


def test_a_second_time_it_is_opened(tmp_path: Path) -> None:
    place = Place(tmp_path)
    disk = place.create()
    write(disk, 1024, b"kept".ljust(512))
    disk.close()
    disk = place.create()
    assert read(disk, 1024, 512) == b"kept".ljust(512)
    disk.close()


@pytest.mark.parametrize(
    ("header", "remedy"), [(64 << 10, "needs 290816 bytes or more"), (HEADER + 512, "whole 4096")]
)
def test_a_header_that_has_no_room_is_refused(tmp_path: Path, header: int, remedy: str) -> None:
    place = Place(tmp_path, header=header)
    with pytest.raises(ConfigError, match=remedy):
        place.create()
    assert not any(place.image.read_bytes())


def test_without_a_key_nothing_is_made(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.key.unlink()
    with pytest.raises(ConfigError, match="No such file or directory"):
        place.create()
    assert not any(place.image.read_bytes())


def test_erased_data_cannot_be_read_by_an_old_header(tmp_path: Path) -> None:
    """The old headers come back, as from a backup of them alone; the key slots do not."""
    place = Place(tmp_path).created()
    headers = place.image.read_bytes()[:0x8000]
    disk = place.open()
    disk.crypto_erase()
    disk.close()
    place.patch(0, headers)
    with pytest.raises(Exception, match="opens no key slot"):
        place.open()


def test_without_its_key_file_nothing_is_erased(tmp_path: Path) -> None:
    place = Place(tmp_path)
    disk = place.create()
    write(disk, 0, b"kept".ljust(512))
    before, key = place.state(), place.key.read_bytes()
    place.key.unlink()
    with pytest.raises(ConfigError):
        disk.crypto_erase()
    disk.close()
    assert place.state() == before
    place.key.write_bytes(key)
    disk = place.open()
    assert read(disk, 0, 512) == b"kept".ljust(512)
    disk.close()


def test_with_all_key_slots_full_nothing_is_erased(tmp_path: Path) -> None:
    """This header has room for one."""
    place = Place(tmp_path, header=0x8000 + 258048)
    disk = place.create()
    write(disk, 0, b"kept".ljust(512))
    before = place.state()
    with pytest.raises(OSError, match="all key slots of the LUKS volume are full"):
        disk.crypto_erase()
    assert place.state() == before
    assert read(disk, 0, 512) == b"kept".ljust(512)
    disk.close()

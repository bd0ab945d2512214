"""Damaged headers, wrong keys: a clear error each, and no byte changed."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcmu_runner.errors import ConfigError, DeviceError, TcmuError
from tcmu_runner.filters.luks import kdf
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import HeaderError

from .volumes import Place, read, write

DATA = b"kept data".ljust(512)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    disk = made.create()
    write(disk, 0, DATA)
    disk.close()
    return made


def refused(place: Place, why: str, kind: type[Exception] = TcmuError) -> None:
    before = place.state()
    for options in ({}, {"create": True}):
        with pytest.raises(kind, match=why):
            place.open(**options)
    assert place.state() == before


@pytest.mark.parametrize(
    ("offset", "damage"),
    [
        (0, "its first header is gone"),
        (100, "at 0 the LUKS volume has a header whose checksum is wrong"),
        (0x1000, "at 0 the LUKS volume has a header whose checksum is wrong"),
        (0x4000, "at 16384 the LUKS volume has no header there"),
        (0x5010, "at 16384 the LUKS volume has a header whose checksum is wrong"),
    ],
)
def test_one_damaged_header_is_survived_and_said(
    place: Place, offset: int, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.patch(offset, b"\xff" * 16)
    before = place.state()
    disk = place.open()
    assert read(disk, 0, 512) == DATA
    disk.close()
    assert place.state() == before
    assert damage in caplog.text
    assert len(re.findall(r"at \d+ the LUKS", caplog.text)) == damage.count("at ")  # and nothing of data
    assert "the other copy is used; mend it with cryptsetup repair" in caplog.text
    caplog.clear()


TOO_LONG = (4 << 20).to_bytes(8, "big")  # bytes of a copy: a size that the format knows; the image has 3 MiB


def test_a_header_that_ends_behind_the_storage_is_damaged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.patch(8, TOO_LONG)
    disk = place.open()
    assert read(disk, 0, 512) == DATA
    disk.close()
    assert "at 0 the LUKS volume has a header that ends behind the storage: the other copy is" in caplog.text
    caplog.clear()


def test_two_headers_that_end_behind_the_storage_are_no_empty_storage(place: Place) -> None:
    place.patch(8, TOO_LONG)
    place.patch(0x4000 + 8, TOO_LONG)
    refused(place, r"has no header left \(at 0 .* ends behind the storage.*luksHeaderRestore", HeaderError)


def test_the_newer_header_counts(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    before = place.image.read_bytes()[:0x4000]
    disk = place.open()
    disk.crypto_erase()
    write(disk, 0, DATA)
    disk.close()
    place.patch(0, before)
    disk = place.open()
    assert read(disk, 0, 512) == DATA
    disk.close()
    assert "one of its headers is older than the other" in caplog.text
    caplog.clear()


def test_two_damaged_headers_are_refused(place: Place) -> None:
    place.patch(200, b"x")
    place.patch(0x4000 + 200, b"x")
    refused(place, "has no header left .* restore it with cryptsetup luksHeaderRestore", HeaderError)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(at=st.integers(0, 0x8000 - 64), junk=st.binary(min_size=1, max_size=64))
def test_whatever_stands_in_one_header_the_data_is_right_or_refused(
    place: Place, caplog: pytest.LogCaptureFixture, at: int, junk: bytes
) -> None:
    original = place.image.read_bytes()[at : at + len(junk)]
    place.patch(at, junk)
    try:
        disk = place.open()
        assert read(disk, 0, 512) == DATA
        disk.close()
    except TcmuError:
        pass
    place.patch(at, original)
    caplog.clear()


def test_a_wrong_key_is_refused(place: Place) -> None:
    place.key.write_bytes(b"another")
    refused(place, f"key file {place.key} opens no key slot .* tried 0: correct the key", DeviceError)
    with pytest.raises(DeviceError) as error:
        place.open()
    assert error.value.errno == errno.EKEYREJECTED


def test_a_newline_at_the_end_is_hinted_at(place: Place) -> None:
    place.key.write_bytes(place.key.read_bytes() + b"\n")
    refused(place, r"it ends with a newline, which is part of the key")


def test_damaged_key_material_is_refused(place: Place) -> None:
    place.patch(0x8000 + 4096, b"\xff" * 8)
    refused(place, "opens no key slot")


def test_the_key_is_in_no_error_and_no_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.open().close()
    place.key.write_bytes(b"wrong horse")
    with pytest.raises(DeviceError) as error:
        place.open()
    for text in (caplog.text, repr(error.value)):
        assert "horse" not in text


def test_a_reencryption_of_luks1_is_to_be_finished(place: Place) -> None:
    """Its header begins otherwise meanwhile, so that nobody opens it."""
    place.patch(0, b"LUKS\xde\xad\0\1")
    refused(place, "is in the middle of a reencryption: finish it with cryptsetup", HeaderError)


def test_a_key_slot_that_needs_what_is_not_there_leaves_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for argon2, or its library: another key slot needs neither."""
    place.cryptsetup(
        "luksAddKey", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "4096",
        "--new-key-slot", "1", "-q", after=(str(place.key),),
    )  # fmt: skip
    place.cryptsetup("config", "--key-slot", "1", "--priority", "prefer")

    def nothing(*_: object) -> Secret:
        raise ConfigError("argon2id needs the package argon2-cffi")

    monkeypatch.setattr(kdf, "_argon2", nothing)
    disk = place.open()
    assert read(disk, 0, 512) == DATA
    disk.close()
    place.key.write_bytes(b"another key")
    refused(
        place, "opens no key slot of .*, tried 1, 0: .*; the volume has a key slot 1 for which argon2id needs"
    )

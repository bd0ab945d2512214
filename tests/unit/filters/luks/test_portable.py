"""Tested beside the fast one in test_xts.py; here, that a volume is the same with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcmu_runner.filters.luks import xts as module

from .volumes import Place, read, write


def test_a_volume_is_the_same_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    disk = place.create()
    write(disk, 4096, b"written with OpenSSL".ljust(1024))
    disk.close()
    monkeypatch.setattr(module, "_libcrypto", None)
    disk = place.open()
    assert read(disk, 4096, 1024) == b"written with OpenSSL".ljust(1024)
    disk.close()

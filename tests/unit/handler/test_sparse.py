"""Data and holes of a sparse file, in whole blocks of a disk that begins somewhere in it."""

import os
from pathlib import Path

import pytest

from tcmu_runner.handler import sparse
from tcmu_runner.scsi.operations import Extent

KIB = 1024


@pytest.mark.parametrize("start", [0, 64 * KIB])
def test_data_and_holes(tmp_path: Path, start: int) -> None:
    """A block that is partly data is data; what lies behind the end of the file is a hole."""
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.truncate(start + 256 * KIB)
        os.pwrite(file.fileno(), b"x" * 4 * KIB, start + 68 * KIB)
        found = list(sparse.extents(file.fileno(), 0, 512 * KIB, 64 * KIB, start))
    assert found == [
        Extent(0, 64 * KIB, mapped=False),
        Extent(64 * KIB, 64 * KIB, mapped=True),
        Extent(128 * KIB, 384 * KIB, mapped=False),
    ]


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.write(b"x" * 256 * KIB)
        found = list(sparse.extents(file.fileno(), 64 * KIB, 64 * KIB, 4 * KIB))
    assert found == [Extent(64 * KIB, 64 * KIB, mapped=True)]


def test_a_file_that_cannot_tell_fails() -> None:
    """A pipe has no offsets: not to be taken for a hole (lseek(2), ESPIPE)."""
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            list(sparse.extents(reader, 0, 4096, 512))
    finally:
        os.close(reader)
        os.close(writer)

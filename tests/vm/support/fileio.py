"""A backstore of the kernel's own, as the peer of ours: a file served by LIO itself (core/fileio_0/NAME)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.configfs import TARGET, Backstore

EVERYTHING = ("emulate_tpu", "emulate_tpws", "emulate_caw", "emulate_3pc")
"""What LIO can do for a file, also what is off by default."""


@dataclass(frozen=True)
class Fileio(Backstore):
    """Removed like one of ours."""

    @property
    def path(self) -> Path:
        return TARGET / "core" / f"fileio_{self.hba}" / self.name


@contextmanager
def fileio(name: str, file: Path, size: int) -> Iterator[Fileio]:
    """Enabled, for the time of the block; its exports must have gone before its end."""
    backstore = Fileio(name)
    backstore.path.mkdir(parents=True)
    try:
        backstore.store("control", f"fd_dev_name={file},fd_dev_size={size},fd_buffered_io=1")
        backstore.store("enable", 1)
        for attribute in EVERYTHING:
            backstore.store(f"attrib/{attribute}", 1)
        yield backstore
    finally:
        backstore.remove()

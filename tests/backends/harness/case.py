"""Cases, and where they are found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.backend import Backend

NO_SERVER = dict.fromkeys(
    ("backend_killed", "backend_slow", "backend_gone"), "it stores in local files, without a server"
)


@dataclass(frozen=True, slots=True)
class Case:
    """make: the backend, from its directory and the size of the LUN. size, block_size: of the LUN, bytes.

    room: bytes of the file system that is filled up. shared: the name of what takes long to start, so that
    one process of pytest does all tests that use it. without: scenarios that do not apply, and why.
    complaints: patterns of what may be logged while the backend is away.
    """

    name: str
    make: Callable[[Path, int], Backend]
    size: int = 24 << 20
    block_size: int = 512
    room: int = 16 << 20
    shared: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The handler or filter that it is about."""
        return self.name.partition(" ")[0].partition("-")[0]


def all_cases() -> list[Case]:
    found: list[Case] = []
    for path in sorted((Path(__file__).parents[1] / "cases").glob("[!_]*.py")):
        found += importlib.import_module(f"cases.{path.stem}").CASES
    return found

"""Losing power in the middle of things."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

PIECE = 512  # bytes that are stored as a whole
Region = tuple[int, int]  # offset, length


class PowerCut(BaseException):
    """Nothing runs after it."""


class Power:
    """Files whose unsynchronised changes can be lost.

    files: the regions of each that matter. What lies in the page cache when the power goes reaches a file in
    any order: each piece of it is as it was at the file's last fdatasync, or as it is now. `cut_after` makes
    the power go at a coming fdatasync, before that has done anything. The disk itself syncs nothing: what
    has been stored is known here.
    """

    def __init__(
        self, files: Mapping[Path, Sequence[Region]], chance: random.Random, patch: pytest.MonkeyPatch
    ) -> None:
        self._files = files
        self._chance = chance
        self._syncs_left = 0
        self._stable: dict[Path, bytes] = {}

        def fdatasync(fd: int) -> None:
            self._syncs_left -= 1
            if not self._syncs_left:
                raise PowerCut
            path = Path(f"/proc/self/fd/{fd}").readlink()
            if path in files:
                self._stable[path] = self._content(path)

        patch.setattr(os, "fdatasync", fdatasync)

    def cut_after(self, syncs: int) -> None:
        self._syncs_left = syncs

    def settle(self) -> None:
        """Everything is on stable storage as it is now."""
        self._syncs_left = 0
        self._stable = {path: self._content(path) for path in self._files}

    def lose(self) -> None:
        """To be called when all files are closed."""
        for path, regions in self._files.items():
            now, stable, at = self._content(path), self._stable[path], 0
            with path.open("r+b") as file:
                for start, length in regions:
                    for offset in range(start, start + length, PIECE):
                        piece = self._chance.choice((stable, now))[at : at + PIECE]
                        os.pwrite(file.fileno(), piece, offset)
                        at += PIECE

    def _content(self, path: Path) -> bytes:
        with path.open("rb") as file:
            regions = self._files[path]
            parts = [os.pread(file.fileno(), length, at).ljust(length, b"\0") for at, length in regions]
            return b"".join(parts)

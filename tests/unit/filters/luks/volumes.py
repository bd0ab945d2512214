"""Volumes for the tests: small, and with key derivation that takes no time."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tcmu_runner.testing.stacked import Stacked, open_stack

SIZE = 2 << 20
HEADER = 1 << 20
QUICK: dict[str, object] = {"kdf": "pbkdf2", "kdf_time": 1000}


class Place:
    """A volume's image and its key file in a directory."""

    def __init__(self, directory: Path, *, header: int = HEADER, size: int = SIZE) -> None:
        self.image = directory / "disk.img"
        self.key = directory / "key"
        self.key.write_bytes(b"correct horse\0battery")
        self.header = header
        self.size = size

    def options(self, **more: object) -> dict[str, object]:
        return {"key_file": str(self.key), "header": self.header, **QUICK, **more}

    def open(self, *, block_size: int = 512, **more: object) -> Stacked:
        layer = ("luks", self.options(**more))
        return open_stack(f"file/{self.image}", layer, size=self.size, block_size=block_size)

    def create(self, *, block_size: int = 512, **more: object) -> Stacked:
        return self.open(block_size=block_size, create=True, **more)

    def created(self) -> Place:
        self.create().close()
        return self

    def state(self) -> str:
        """Of every byte of the image."""
        return hashlib.sha256(self.image.read_bytes()).hexdigest()

    def patch(self, offset: int, data: bytes) -> None:
        with self.image.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def format(self, *arguments: str, key_size: int = 512) -> Place:
        """By cryptsetup."""
        with self.image.open("wb") as file:
            file.truncate(self.header + self.size)
        self.cryptsetup("luksFormat", "-q", "--key-size", str(key_size), *arguments)
        return self

    def cryptsetup(self, command: str, *arguments: str, after: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            ["cryptsetup", command, "--key-file", self.key, *arguments, self.image, *after],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def write(disk: Stacked, offset: int, data: bytes) -> None:
    disk.write([memoryview(bytearray(data))], offset)


def read(disk: Stacked, offset: int, length: int) -> bytes:
    into = bytearray(length)
    disk.read([memoryview(into)], offset)
    return bytes(into)

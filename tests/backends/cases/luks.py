"""`luks` over a file, and over `zstd`."""

from __future__ import annotations

import os
from pathlib import Path

from harness import NO_SERVER, Backend, Case, stack

from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler import Device
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Registry
from tcmu_runner.scsi.operations import Flush, Write

PIECE = 1 << 20


def make_volume(config: str, below: str, layer: dict[str, object], size: int, *, zeroes: bool) -> None:
    """A new volume for a stack of this config string over the handler `below`, perhaps filled with zeroes."""
    registry = Registry()
    registry.load_entry_points()
    stack_name = config.partition("/")[0]
    layers = (Layer.parse("luks", {**layer, "create": True}),)
    registry.put(registry.definition(stack_name, below, layers))
    provider, parts = registry.find(config)
    stack = Stack.open(provider, provider.parse(parts.rest), Device("vault", size))
    perform = stack.perform()
    for at in range(0, size, PIECE) if zeroes else ():
        perform(Write(at, [memoryview(bytearray(PIECE))]))
    perform(Flush())
    stack.close()


class LuksBackend(Backend):
    """Filled with zeroes at first, since a new volume reads as noise; not where room is scarce."""

    below = "file"

    def __init__(self, directory: Path, size: int) -> None:
        super().__init__(directory, size)
        self._key = directory.with_name("key")
        self._key.write_bytes(b"a passphrase")
        self._layer: dict[str, object] = {
            "key_file": str(self._key), "header": "1M", "kdf_memory": "1M", "discard": True,
        }  # fmt: skip

    @property
    def settings(self) -> str:
        options = ", ".join(
            f"{name} = {'true' if value is True else repr(value)}" for name, value in self._layer.items()
        )
        return stack("vault", self.below, f'{{ filter = "luks", {options} }}')

    @property
    def config(self) -> str:
        return f"vault/{self.directory}/disk.img"

    def start(self) -> None:
        make_volume(
            self.config, self.below, self._layer, self.size, zeroes=not os.path.ismount(self.directory)
        )


class VaultBackend(LuksBackend):
    below = "zstd"


CASES = [
    Case("luks", LuksBackend, without=NO_SERVER),
    Case("luks over zstd", VaultBackend, room=28 << 20, without=NO_SERVER),
]

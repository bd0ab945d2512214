"""Filters over `nbd`: what each of them does while the server below is killed, stands still or is away."""

from __future__ import annotations

from cases.luks import make_volume
from cases.nbd import AWAY, PlainNbdkitBackend
from harness import Case, stack

HEADER = 1 << 20


class OverNbdBackend(PlainNbdkitBackend):
    """layer: the filter's table, with DIR for a directory of its own on this machine."""

    layer = ""

    @property
    def settings(self) -> str:
        own = self.directory.with_name("own")
        own.mkdir(exist_ok=True)
        return stack("filtered", "nbd", self.layer.replace("DIR", str(own)))

    @property
    def config(self) -> str:
        return f"filtered/unix{self.socket}"


class LuksBackend(OverNbdBackend):
    """A volume that is there, filled with zeroes."""

    layer = '{ filter = "luks", key_file = "DIR/key", header = "1M" }'

    def prepare(self) -> None:
        """The header needs room."""
        with (self.directory / "disk.img").open("wb") as image:
            image.truncate(self.size + HEADER)

    def start(self) -> None:
        first = self.process is None and not (self.directory / "server.log").exists()
        super().start()
        if first:
            key = self.directory.with_name("own") / "key"
            key.parent.mkdir(exist_ok=True)
            key.write_bytes(b"a passphrase")
            layer: dict[str, object] = {"key_file": str(key), "header": HEADER, "kdf_memory": "1M"}
            make_volume(self.config, "nbd", layer, self.size, zeroes=True)


class CowBackend(OverNbdBackend):
    layer = '{ filter = "cow", directory = "DIR" }'


class CacheBackend(OverNbdBackend):
    layer = '{ filter = "cache", directory = "DIR", size = "2M", mode = "write-back" }'


class VerifyBackend(OverNbdBackend):
    layer = '{ filter = "verify", directory = "DIR" }'


LOCAL = dict.fromkeys(("model", "served_killed", "fio_verify", "backend_full"), "as over a local file")
CASES = [
    Case(f"{name} over nbd", make, complaints=AWAY, without=LOCAL)
    for name, make in (
        ("luks", LuksBackend), ("cow", CowBackend), ("cache", CacheBackend), ("verify", VerifyBackend)
    )
]  # fmt: skip

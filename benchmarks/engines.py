"""LMDB beside SQLite as the storage of compressed chunks: what a random write of one chunk costs, and a read.

    python -m benchmarks.engines [DIRECTORY]     # needs the package lmdb; /dev/shm by default

Each engine is set as a LUN with a write-back cache needs it: what was written survives kill -9 at once, and
a power loss when it was flushed. SQLite's write-ahead log does that with `synchronous=NORMAL`: one fsync for
each flush. LMDB without fsync may be torn by a power loss, so each of its commits has to sync.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

CHUNKS, SIZE = 8192, 9000  # of 16 KiB, compressed
COUNT = 4000
FLUSH_EVERY = 256


class Engine(Protocol):
    def write(self, batch: list[tuple[int, bytes]]) -> None: ...

    def read(self, chunk: int) -> bytes: ...

    def flush(self) -> None: ...


class Sqlite:
    def __init__(self, directory: Path) -> None:
        self._database = sqlite3.connect(directory / "db", isolation_level=None, check_same_thread=False)
        for pragma in ("locking_mode=EXCLUSIVE", "auto_vacuum=INCREMENTAL", "journal_mode=WAL",
                       "synchronous=NORMAL", "wal_autocheckpoint=4096"):  # fmt: skip
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.execute("CREATE TABLE chunks (number INTEGER PRIMARY KEY, data BLOB)")
        self._log = os.open(directory / "db-wal", os.O_RDONLY)

    def write(self, batch: list[tuple[int, bytes]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("REPLACE INTO chunks VALUES (?, ?)", batch)
        self._database.execute("COMMIT")

    def read(self, chunk: int) -> bytes:
        found: tuple[bytes] = self._database.execute(
            "SELECT data FROM chunks WHERE number = ?", (chunk,)
        ).fetchone()
        return found[0]

    def flush(self) -> None:
        os.fdatasync(self._log)


class Lmdb:
    def __init__(self, directory: Path, *, sync: bool) -> None:
        lmdb = import_module("lmdb")  # which has no types
        self._environment = lmdb.open(str(directory), map_size=4 << 30, sync=sync, metasync=sync)

    def write(self, batch: list[tuple[int, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for chunk, data in batch:
                transaction.put(chunk.to_bytes(8, "big"), data)

    def read(self, chunk: int) -> bytes:
        with self._environment.begin() as transaction:
            found: bytes = transaction.get(chunk.to_bytes(8, "big"))
        return found

    def flush(self) -> None:
        self._environment.sync(True)


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "SQLite, WAL": Sqlite,
    "LMDB, each commit synced": lambda directory: Lmdb(directory, sync=True),
    "LMDB, unsafe (no sync)": lambda directory: Lmdb(directory, sync=False),
}


@contextmanager
def opened(name: str, below: Path) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(dir=below) as directory:
        engine = ENGINES[name](Path(directory))
        for start in range(0, CHUNKS, 256):
            engine.write([(chunk, os.urandom(SIZE)) for chunk in range(start, start + 256)])
        engine.flush()
        yield engine


def writes(engine: Engine, batch: int) -> float:
    """Chunks per second."""
    data, began, since = os.urandom(SIZE), time.perf_counter(), 0
    for _ in range(0, COUNT, batch):
        engine.write([(random.randrange(CHUNKS), data) for _ in range(batch)])
        since += batch
        if since >= FLUSH_EVERY:
            engine.flush()
            since = 0
    return COUNT / (time.perf_counter() - began)


def reads(engine: Engine) -> float:
    began = time.perf_counter()
    for _ in range(COUNT):
        engine.read(random.randrange(CHUNKS))
    return COUNT / (time.perf_counter() - began)


def main() -> None:
    below = Path(sys.argv[1] if len(sys.argv) > 1 else "/dev/shm")
    print(f"{'chunks per second, in ' + str(below):32}{'write':>8}{'write, 16 at once':>20}{'read':>8}")
    for name in ENGINES:
        with opened(name, below) as engine:
            print(f"{name:32}{writes(engine, 1):8.0f}{writes(engine, 16):20.0f}{reads(engine):8.0f}")


if __name__ == "__main__":
    main()

"""Chunks in an SQLite database: one file, and while it is open its write-ahead log beside it.

With `synchronous=NORMAL` a commit is a write to the log: it outlives this process, as a write to a plain file
does. What was committed before an fdatasync of the log outlives a power loss; SQLite itself syncs log and
database around a checkpoint, and finds the end of a torn log by its checksums (https://sqlite.org/wal.html).
That is what a disk with a volatile cache promises, so FLUSH is that fdatasync.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tcmu_runner import files

APPLICATION = 0x746D757A  # in the database's header: it is one of ours
FORMAT = 1
LONGEST = 2 << 20  # bytes of a value: a frame of a chunk of 1 MiB, and more than its head
PAGE = 4096  # bytes
CHECKPOINT = 1024  # pages in the log
SLACK = 1024  # free pages that the database keeps for the next writes
VACUUM = 1024  # pages given back at once, while others wait
RESERVE = 2 * CHECKPOINT * PAGE  # bytes of the file system left to UNMAP, which needs the log to free space
_SCHEMA = f"""
    PRAGMA application_id = {APPLICATION};
    PRAGMA user_version = {FORMAT};
    CREATE TABLE chunks (number INTEGER PRIMARY KEY, frame BLOB NOT NULL);
    CREATE UNIQUE INDEX present ON chunks (number);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_PUT = "INSERT INTO chunks VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET frame = excluded.frame"
_CODES = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}

Change = tuple[int, bytes | None]  # chunk number and frame; None: it is not kept any more


@dataclass(eq=False, slots=True)
class _Changes:
    """What one caller waits for. error: why it failed, once it is done."""

    changes: Sequence[Change]
    done: bool = False
    error: BaseException | None = field(default=None)

    @property
    def grows(self) -> bool:
        return any(frame is not None for _, frame in self.changes)


class Store:
    """Any thread may call. Methods raise OSError."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database
        self._lock = threading.Lock()  # of the database
        self._waiting: list[_Changes] = []
        self._waiting_lock = threading.Lock()
        self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Made if it is not there, or empty. It is this process's alone."""
        with _explained(path):
            database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                _prepare(path, database)
                store = cls(path, database)
            except BaseException:
                database.close()
                raise
        files.keep_names(path.parent)
        return store

    def close(self) -> None:
        with self._lock, _explained(self._path):
            self._database.close()
            os.close(self._log)

    def setting(self, name: str, default: int) -> int:
        """What the store was made with; `default` from now on, where it says nothing."""
        with self._lock, _explained(self._path):
            self._database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, default))
            value = self._one("SELECT value FROM settings WHERE name = ?", name)
        if not isinstance(value, int):  # SQLite keeps values of any type
            raise OSError(errno.EIO, f"{self._path}: its setting {name} is no number")
        return value

    def uuid(self) -> str:
        """Of this disk, wherever its file is moved to; made by who asks first."""
        with self._lock, _explained(self._path):
            query = "INSERT OR IGNORE INTO settings VALUES ('uuid', ?)"
            self._database.execute(query, (str(uuid4()),))
            return str(self._database.execute("SELECT value FROM settings WHERE name = 'uuid'").fetchone()[0])

    def frames(self, first: int, last: int) -> dict[int, bytes]:
        """Those that are kept of the chunks first..last."""
        with self._lock, _explained(self._path):
            query = "SELECT number, frame FROM chunks WHERE number BETWEEN ? AND ?"
            return dict(self._database.execute(query, (first, last)).fetchall())

    def present(self, first: int, last: int) -> list[int]:
        """Numbers of those that are kept, in order."""
        with self._lock, _explained(self._path):
            query = (
                "SELECT number FROM chunks INDEXED BY present WHERE number BETWEEN ? AND ? ORDER BY number"
            )
            return [number for (number,) in self._database.execute(query, (first, last))]

    def commit(self, changes: Sequence[Change]) -> None:
        """Returns when they are in the database. Callers that come meanwhile share the next transaction."""
        mine = _Changes(changes)
        with self._waiting_lock:
            self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                with self._waiting_lock:
                    batch, self._waiting = self._waiting, []
                self._commit_all(batch)
        if mine.error is not None:
            try:
                raise mine.error
            finally:
                del mine  # a circle of error and frame would keep the callers' buffers

    def _commit_all(self, batch: list[_Changes]) -> None:
        """Should all of them together fail, each is tried by itself."""
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                with _explained(self._path):
                    self._check_space(part)
                    self._transact([change for each in part for change in each.changes])
            except OSError as error:
                if len(part) > 1:
                    parts += [[each] for each in part]
                    continue
                part[0].error = error
            for each in part:
                each.done = True

    def _check_space(self, part: Iterable[_Changes]) -> None:
        if any(each.grows for each in part) and self.available < RESERVE:
            raise OSError(errno.ENOSPC, f"{self._path}: {os.strerror(errno.ENOSPC)}")

    def _transact(self, changes: Sequence[Change]) -> None:
        with self._transaction():
            puts = [change for change in changes if change[1] is not None]
            self._database.executemany(_PUT, puts)
            gone = [(number,) for number, frame in changes if frame is None]
            if gone:
                self._database.executemany("DELETE FROM chunks WHERE number = ?", gone)

    def delete(self, first: int, last: int) -> None:
        """The chunks first..last."""
        with self._lock, _explained(self._path), self._transaction():
            self._database.execute("DELETE FROM chunks WHERE number BETWEEN ? AND ?", (first, last))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite itself undoes it after some errors
                self._database.execute("ROLLBACK")
            raise

    def give_back(self) -> None:
        """Free pages, but for some, to the file system. Others get their turn in between."""
        gave = False
        while self._vacuum_some():
            gave = True
        if gave:
            with self._lock, _explained(self._path):
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # now the file is cut

    def _vacuum_some(self) -> bool:
        with self._lock, _explained(self._path):
            surplus = self._pragma("freelist_count") - SLACK
            if surplus <= 0:
                return False
            self._database.execute(f"PRAGMA incremental_vacuum({min(surplus, VACUUM)})").fetchall()
            return self._pragma("freelist_count") < surplus + SLACK

    def flush(self) -> None:
        """What was committed before survives a power loss."""
        os.fdatasync(self._log)

    # what it takes

    @property
    def used(self) -> int:
        """Bytes of chunks and what keeps them in order; without free pages and the log."""
        with self._lock, _explained(self._path):
            return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE

    @property
    def available(self) -> int:
        """Bytes of the file system."""
        system = os.statvfs(self._path)
        return system.f_bavail * system.f_frsize

    def count(self) -> int:
        """Chunks that are kept. Looks at an index of all of them: some ten million each second."""
        with self._lock, _explained(self._path):
            return int(self._one("SELECT count(*) FROM chunks INDEXED BY present"))

    def _pragma(self, name: str) -> int:
        return int(self._one(f"PRAGMA {name}"))

    def _one(self, query: str, *parameters: object) -> int:
        found: tuple[int] = self._database.execute(query, parameters).fetchone()
        return found[0]


def _prepare(path: Path, database: sqlite3.Connection) -> None:
    """Locks the database, and leaves it with a log that is on stable storage."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    empty = path.stat().st_size == 0
    if empty:
        database.execute(f"PRAGMA page_size = {PAGE}")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    elif (found := database.execute("PRAGMA application_id").fetchone()[0]) != APPLICATION:
        raise OSError(
            errno.EINVAL, f"{path} is a database of something else (application {found:#x}): correct the path"
        )
    elif database.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
        raise OSError(errno.EINVAL, f"{path} was made by a newer tcmu-runner: use that one")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA cache_size = -16384")  # KiB
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
    if empty:
        database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    database.execute("INSERT INTO settings VALUES ('opened', 1) ON CONFLICT DO UPDATE SET value = value + 1")
    database.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as OSErrors that name the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            text = "another process or LUN has it open"
        elif code == sqlite3.SQLITE_NOTADB:
            text = "it is no database: correct the path"
        else:
            text = str(error)
        raise OSError(_CODES.get(code, errno.EIO), f"{path}: {text}") from None

"""Chunks in an SQLite database: one file, and while it is open its write-ahead log beside it.

With `synchronous=NORMAL` a commit is a write to the log: it survives this process's death, as a write to a
plain file does. Commits before an fdatasync of the log survive a power loss; SQLite itself syncs log and
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

APPLICATION = 0x746D757A  # application_id in the header of our databases
FORMAT = 1
LONGEST = 2 << 20  # bytes of a value: more than the frame of an incompressible chunk of 1 MiB
PAGE = 4096  # bytes
CHECKPOINT = 1024  # pages in the log
SLACK = 1024  # free pages that the database keeps for the next writes
VACUUM = 1024  # pages given back while the lock is held
RESERVE = 2 * CHECKPOINT * PAGE  # free bytes that writes must leave: UNMAP needs log space to free space
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

Change = tuple[int, bytes | None]  # chunk number and frame; None: delete it


@dataclass(eq=False, slots=True)
class _Changes:
    """The changes of one caller of `commit`. error: why they failed, once `done`."""

    changes: Sequence[Change]
    done: bool = False
    error: BaseException | None = field(default=None)

    @property
    def grows(self) -> bool:
        return any(frame is not None for _, frame in self.changes)


class Store:
    """Methods may be called on any thread; they raise OSError."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database
        self._lock = threading.Lock()  # one thread at a time uses the connection
        self._waiting: list[_Changes] = []
        self._waiting_lock = threading.Lock()
        self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens or creates the database and locks it for this process."""
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
        """A setting that was stored when the database was created; stores `default` if there is none."""
        with self._lock, _explained(self._path):
            self._database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, default))
            value = self._one("SELECT value FROM settings WHERE name = ?", name)
        if not isinstance(value, int):  # SQLite keeps values of any type
            raise OSError(errno.EIO, f"{self._path}: its setting {name} is no number")
        return value

    def uuid(self) -> str:
        """The disk's own id, kept when the file is moved; the first call creates it."""
        with self._lock, _explained(self._path):
            query = "INSERT OR IGNORE INTO settings VALUES ('uuid', ?)"
            self._database.execute(query, (str(uuid4()),))
            return str(self._database.execute("SELECT value FROM settings WHERE name = 'uuid'").fetchone()[0])

    def frames(self, first: int, last: int) -> dict[int, bytes]:
        """The stored frames of the chunks first..last."""
        with self._lock, _explained(self._path):
            query = "SELECT number, frame FROM chunks WHERE number BETWEEN ? AND ?"
            return dict(self._database.execute(query, (first, last)).fetchall())

    def present(self, first: int, last: int) -> list[int]:
        """The numbers of the stored chunks of first..last, ascending."""
        with self._lock, _explained(self._path):
            query = (
                "SELECT number FROM chunks INDEXED BY present WHERE number BETWEEN ? AND ? ORDER BY number"
            )
            return [number for (number,) in self._database.execute(query, (first, last))]

    def commit(self, changes: Sequence[Change]) -> None:
        """Returns when the changes are committed. Callers that arrive meanwhile share the next
        transaction."""
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
                del mine  # else a reference cycle of error and frame would keep the callers' buffers

    def _commit_all(self, batch: list[_Changes]) -> None:
        """One transaction for all; if it fails, one for each caller."""
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
        """Deletes the chunks first..last."""
        with self._lock, _explained(self._path), self._transaction():
            self._database.execute("DELETE FROM chunks WHERE number BETWEEN ? AND ?", (first, last))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # after some errors SQLite has rolled back already
                self._database.execute("ROLLBACK")
            raise

    def give_back(self) -> None:
        """Gives free pages, except SLACK, back to the file system; releases the lock in between."""
        gave = False
        while self._vacuum_some():
            gave = True
        if gave:
            with self._lock, _explained(self._path):
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # truncates the file

    def _vacuum_some(self) -> bool:
        with self._lock, _explained(self._path):
            surplus = self._pragma("freelist_count") - SLACK
            if surplus <= 0:
                return False
            self._database.execute(f"PRAGMA incremental_vacuum({min(surplus, VACUUM)})").fetchall()
            return self._pragma("freelist_count") < surplus + SLACK

    def flush(self) -> None:
        """Makes earlier commits survive a power loss."""
        os.fdatasync(self._log)

    # what it takes

    @property
    def used(self) -> int:
        """Bytes of the database, without free pages and log."""
        with self._lock, _explained(self._path):
            return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE

    @property
    def available(self) -> int:
        """Free bytes of the file system."""
        system = os.statvfs(self._path)
        return system.f_bavail * system.f_frsize

    def count(self) -> int:
        """Stored chunks. Scans an index: about ten million entries a second."""
        with self._lock, _explained(self._path):
            return int(self._one("SELECT count(*) FROM chunks INDEXED BY present"))

    def _pragma(self, name: str) -> int:
        return int(self._one(f"PRAGMA {name}"))

    def _one(self, query: str, *parameters: object) -> int:
        found: tuple[int] = self._database.execute(query, parameters).fetchone()
        return found[0]


def _prepare(path: Path, database: sqlite3.Connection) -> None:
    """Locks the database and leaves it with an empty log on stable storage."""
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
    """Turns SQLite's errors into OSErrors that name the file."""
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

"""A place to put aside what is to be compared, or comes in another order, however much it is.

It is a file of SQLite's: memory stays flat. It holds names and numbers, and no content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.store import storage_full

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE entries (shelf TEXT, key BLOB, value BLOB, PRIMARY KEY (shelf, key)) WITHOUT ROWID;
CREATE TABLE counts (
  shelf TEXT, key BLOB, count INTEGER, highest INTEGER, line INTEGER, PRIMARY KEY (shelf, key)
) WITHOUT ROWID;
CREATE TABLE files (digest BLOB PRIMARY KEY, place INTEGER, size INTEGER) WITHOUT ROWID;
"""


@contextmanager
def full_told() -> Iterator[None]:
    """A disk that is full is told as that, whoever works with a desk within.

    Raises:
        ServiceError: STORAGE_FULL.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise storage_full() from None
        raise


class Desk:
    """Used by one thread."""

    def __init__(self, path: Path) -> None:
        """`path`: of a file that is not there; whoever has it removes it."""
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.executescript(_TABLES)
        self._base.execute("BEGIN")

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def put(self, shelf: str, key: bytes, value: bytes) -> bool:
        """Put an entry on a shelf; False where one is there under its key."""
        try:
            self._base.execute("INSERT INTO entries VALUES (?, ?, ?)", (shelf, key, value))
        except sqlite3.IntegrityError:
            return False
        return True

    def entries(self, shelf: str) -> Iterator[tuple[bytes, bytes]]:
        """All of a shelf in order of key."""
        query = "SELECT key, value FROM entries WHERE shelf = ? ORDER BY key"
        return map(tuple, self._base.execute(query, (shelf,)))

    def count(self, shelf: str, key: bytes, number: int, line: int) -> None:
        """Count one more under a key, and keep the highest number; the first line stays."""
        self._base.execute(
            "INSERT INTO counts VALUES (?1, ?2, 1, ?3, ?4) ON CONFLICT DO UPDATE SET "
            "count = count + 1, highest = max(highest, ?3)",
            (shelf, key, number, line),
        )

    def counted(self, shelf: str, key: bytes) -> tuple[int, int]:
        """How many were counted under a key, and the highest number."""
        query = "SELECT count, highest FROM counts WHERE shelf = ? AND key = ?"
        found: tuple[int, int] | None = self._base.execute(query, (shelf, key)).fetchone()
        return found or (0, 0)

    def counts(self, shelf: str) -> Iterator[tuple[bytes, int]]:
        """Keys with their counts, in order of key."""
        query = "SELECT key, count FROM counts WHERE shelf = ? ORDER BY key"
        return map(tuple, self._base.execute(query, (shelf,)))

    def missing(self, shelf: str, beside: str) -> tuple[bytes, int] | None:
        """A key that was counted on a shelf and not on the other one, and the line of it."""
        query = (
            "SELECT key, line FROM counts AS one WHERE shelf = ? AND NOT EXISTS (SELECT 1 FROM "
            "counts WHERE shelf = ? AND key = one.key) ORDER BY line LIMIT 1"
        )
        found: tuple[bytes, int] | None = self._base.execute(query, (shelf, beside)).fetchone()
        return found

    def put_file(self, digest: bytes, place: int, size: int) -> bool:
        """Note where the bytes of a digest begin; False where that is noted already."""
        try:
            self._base.execute("INSERT INTO files VALUES (?, ?, ?)", (digest, place, size))
        except sqlite3.IntegrityError:
            return False
        return True

    def file(self, digest: bytes) -> tuple[int, int] | None:
        """Where the bytes of a digest begin, and how many they are."""
        query = "SELECT place, size FROM files WHERE digest = ?"
        found: tuple[int, int] | None = self._base.execute(query, (digest,)).fetchone()
        return found

    def files(self) -> Iterator[tuple[bytes, int, int]]:
        """All of them in order of digest."""
        return map(tuple, self._base.execute("SELECT * FROM files ORDER BY digest"))

    def sizes(self) -> tuple[int, int]:
        """How many files there are, and how many bytes they have together."""
        found: tuple[int, int] = self._base.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM files"
        ).fetchone()
        return found

"""SQLite files in the tenant's folder, worked on in memory and written back as a whole.

SQLite itself opens no file: the bytes are read and written through the folder. So no path, journal
or attached file of a stranger matters, what fails changes nothing, and a reader sees the file
before or after.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import MIB, ToolError, failed, limit_exceeded
from services.runtime.toolbox.network.statements import ROWS_MAX, Rows

FILE_BYTES_MAX = 32 * MIB
SQL_LENGTH_MAX = 64 * 1024
_VALUE_BYTES_MAX = 8 * MIB
_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock."""
_LOCK_WAIT_S = 0.02
_MAGIC = b"SQLite format 3\0"
_VERSIONS = slice(18, 20)
"""Bytes of the header that say whether a write-ahead log is used."""

_READ = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION,
                   sqlite3.SQLITE_RECURSIVE})  # fmt: skip
_WRITE = _READ | {
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT,
}  # fmt: skip
_DEFINE = _WRITE | {
    sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_DROP_VIEW, sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_ANALYZE,
}  # fmt: skip
_FUNCTIONS_REFUSED = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
)

_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LENGTH: _VALUE_BYTES_MAX,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: SQL_LENGTH_MAX,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1000,
}


class SqliteFile:
    """One file's database, for one execution."""

    def __init__(self, folder: Folder, path: str, until: float) -> None:
        """`until`: when its statements end, on the monotonic clock."""
        self._folder, self._path, self._until = folder, path, until

    def query(self, sql: str, values: Sequence[Any] | Mapping[str, Any], *, changes: bool) -> Rows:
        """Execute one statement that only reads, or one that changes rows.

        Raises:
            ToolError: FILE_NOT_FOUND, PATH_REFUSED, LIMIT_EXCEEDED, TOOL_FAILED.
        """
        if not changes:
            with self._opened(_READ) as database:
                return _executed(database, sql, values)
        with self._locked(), self._opened(_WRITE) as database:
            rows = _executed(database, sql, values)
            self._write_back(database)
            return rows

    def define(self, sql: str) -> list[str]:
        """Execute statements that make, change or drop tables; make the file where it is not.

        Returns:
            Names of the tables afterwards.

        Raises:
            ToolError: as `query`.
        """
        with self._locked(), self._opened(_DEFINE, make=True) as database:
            with _told():
                database.executescript(f"BEGIN;{sql}\n;COMMIT")
            self._write_back(database)
            return [table["name"] for table in _tables(database)]

    def schema(self) -> list[dict[str, Any]]:
        """Tables and views with their columns.

        Raises:
            ToolError: as `query`.
        """
        with self._opened(None) as database, _told():
            return _tables(database)

    @contextlib.contextmanager
    def _opened(
        self, allowed: frozenset[int] | None, *, make: bool = False
    ) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        with contextlib.closing(database), _told():
            self._load(database, make=make)
            _bound(database, self._until)
            if allowed is not None:
                database.set_authorizer(_authorizer(allowed))
            yield database

    def _load(self, database: sqlite3.Connection, *, make: bool) -> None:
        try:
            data = self._folder.read(self._path, field="database", limit=FILE_BYTES_MAX)
        except ToolError as error:
            if make and error.reason == "FILE_NOT_FOUND":
                return
            raise
        if not data:
            return
        if not data.startswith(_MAGIC):
            raise failed(f"{self._path} is no SQLite database.", field="database")
        if data[_VERSIONS] != b"\1\1":
            self._check_log()
            data = data[: _VERSIONS.start] + b"\1\1" + data[_VERSIONS.stop :]
        database.deserialize(data)

    def _check_log(self) -> None:
        """What stands in a write-ahead log alone would be lost."""
        try:
            log = self._folder.read(f"{self._path}-wal", field="database", limit=FILE_BYTES_MAX)
        except ToolError as error:
            if error.reason == "FILE_NOT_FOUND":
                return
            raise
        if log:
            raise failed(f"{self._path} has a write-ahead log; end it first.", field="database")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time in the folder that holds the file."""
        holder, _ = self._folder.parent(self._path, field="database")
        try:
            while True:
                try:
                    fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= self._until:
                        raise failed(f"{self._path} is written to by others.") from None
                    time.sleep(_LOCK_WAIT_S)
            yield
        finally:
            os.close(holder)

    def _write_back(self, database: sqlite3.Connection) -> None:
        database.set_authorizer(None)
        data = database.serialize()
        if len(data) > FILE_BYTES_MAX:
            raise limit_exceeded("database", len(data), FILE_BYTES_MAX, "bytes")
        self._folder.write(self._path, data, field="database")


def _bound(database: sqlite3.Connection, until: float) -> None:
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA foreign_keys = ON")
    size = database.execute("PRAGMA page_size").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {FILE_BYTES_MAX // size}")
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    database.text_factory = lambda data: data.decode("utf-8", "replace")
    database.set_progress_handler(lambda: time.monotonic() > until, _STEPS)


def _authorizer(allowed: frozenset[int]) -> Any:
    def decide(action: int, first: str | None, second: str | None, *_: object) -> int:
        del first
        if action not in allowed:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS_REFUSED:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    return decide


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What SQLite says, as a failure of the tool."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            raise failed("The statement took too long and was ended.") from None
        raise failed(f"SQLite: {error}.") from None
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError) as error:
        raise failed(f"SQLite: {error}.") from None


def _executed(
    database: sqlite3.Connection, sql: str, values: Sequence[Any] | Mapping[str, Any]
) -> Rows:
    with _told():
        cursor = database.execute(sql, values)
        found = cursor.fetchmany(ROWS_MAX + 1)
    columns = [column[0] for column in cursor.description or ()]
    return Rows(
        columns=columns,
        rows=found[:ROWS_MAX],
        is_cut=len(found) > ROWS_MAX,
        affected=max(cursor.rowcount, 0),
    )


def _tables(database: sqlite3.Connection) -> list[dict[str, Any]]:
    listed = database.execute(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name LIMIT ?",
        (ROWS_MAX,),
    ).fetchall()
    return [
        {
            "name": name,
            "type": kind,
            "columns": [
                {"name": column, "type": type_, "nullable": not must, "primary_key": bool(key)}
                for column, type_, must, key in database.execute(
                    'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,)
                )
            ],
        }
        for name, kind in listed
    ]

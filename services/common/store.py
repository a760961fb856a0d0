"""An LMDB environment with one writer that groups commits. What it commits is the truth.

What LMDB does not do, this does (all measured before it was written, see ADR 0003):

- LMDB checks no data. Every value carries a checksum over its key and bytes and is verified on
  each read; a file that has lost its end is recognised before it is mapped, since reading past the
  end of a map kills the process.
- A commit costs one flush of the disk. All writes that wait share one, each in a child
  transaction, so that one that fails leaves nothing behind. They are acknowledged after it.
- After a failed flush LMDB goes on as if nothing had happened. Here the process ends instead.
- Two processes may not share a folder: a lock file says so before LMDB is touched.

Keys and what they mean belong to each engine's `layout`. This module knows bytes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from services.common import failpoints
from services.common.errors import Reason, ServiceError

T = TypeVar("T")

MAP_BYTES = 256 * 1024**3
"""Address space set aside for the file. Only what is written takes disk, so there is no need to
grow the map while readers are about."""

GROUP_MAX = 512
_META = "meta"
_SCHEMA = b"schema"
_REVISION = b"revision"
_U64 = struct.Struct(">Q")
_CHECKSUM = struct.Struct("<I")
_PAGE_HEADER_BYTES = 2 * 4096


@dataclass(frozen=True, slots=True)
class Schema:
    """Which databases a store has, and how an older one becomes a newer one."""

    kind: str
    """What is kept here, such as `state`; a folder of another kind is refused."""
    version: int
    """The version this code writes."""
    databases: Sequence[str]
    """Names of the databases, `meta` not among them."""
    migrations: Mapping[int, Callable[[Txn], None]]
    """From version n to n + 1, each in one transaction with its record."""


class View:
    """A consistent reading of the store. Values are verified as they are read."""

    def __init__(self, txn: Any, databases: Mapping[str, Any]) -> None:
        self._txn = txn
        self._databases = databases

    def get(self, database: str, key: bytes) -> bytes | None:
        """The value under a key.

        Raises:
            ServiceError: RECORD_CORRUPT where the stored bytes fail their checksum.
        """
        stored = self._txn.get(key, db=self._databases[database])
        return None if stored is None else _open_value(database, key, stored)

    def has(self, database: str, key: bytes) -> bool:
        """Whether a key is there; its value is not read."""
        return self._txn.get(key, db=self._databases[database]) is not None

    def scan(
        self, database: str, prefix: bytes, *, after: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix` and come after `after`, with values, in key order.

        Raises:
            ServiceError: RECORD_CORRUPT at a value that fails its checksum.
        """
        for key, stored in self._walk(database, prefix, after, values=True):
            yield key, _open_value(database, key, stored)

    def keys(self, database: str, prefix: bytes, *, after: bytes = b"") -> Iterator[bytes]:
        """Like `scan`, without the values."""
        return self._walk(database, prefix, after, values=False)

    def count(self, database: str) -> int:
        """How many keys a database has."""
        entries: int = self._txn.stat(self._databases[database])["entries"]
        return entries

    def revision(self) -> int:
        """The number of the last change."""
        stored = self._txn.get(_REVISION, db=self._databases[_META])
        return 0 if stored is None else _U64.unpack(_open_value(_META, _REVISION, stored))[0]

    def _walk(self, database: str, prefix: bytes, after: bytes, *, values: bool) -> Iterator[Any]:
        cursor = self._txn.cursor(db=self._databases[database])
        try:
            found = cursor.set_range(max(prefix, after + b"\0" if after else b""))
            if not found:
                return
            for entry in cursor.iternext(keys=True, values=values):
                key = entry[0] if values else entry
                if not key.startswith(prefix):
                    return
                yield entry
        finally:
            cursor.close()


class Txn(View):
    """One operation's writes. They become visible together, or not at all."""

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write a value with its checksum."""
        self._txn.put(key, _seal_value(key, value), db=self._databases[database])

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; False where it was not there."""
        removed: bool = self._txn.delete(key, db=self._databases[database])
        return removed

    def delete_prefix(self, database: str, prefix: bytes) -> int:
        """Remove every key that begins with `prefix`; how many there were."""
        doomed = list(self.keys(database, prefix))
        for key in doomed:
            self.delete(database, key)
        return len(doomed)

    def next_revision(self) -> int:
        """Take the next revision. An operation that changes nothing takes none."""
        revision = self.revision() + 1
        self.put(_META, _REVISION, _U64.pack(revision))
        return revision


Operation = Callable[[Txn], T]


@dataclass(slots=True)
class _Waiting:
    operation: Callable[[Txn], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Store:
    """One folder, one environment, one writer thread. Open it once, after any fork."""

    def __init__(
        self, path: Path, schema: Schema, *, on_fatal: Callable[[str], None], sync: bool = True
    ) -> None:
        """Open or create the store under `path`.

        Args:
            path: The folder; made where it is missing.
            schema: What is kept here.
            on_fatal: Called from the writer thread where a commit could not be flushed. It must
                end the process: what was answered before stands, nothing more may be answered.
            sync: False only in tests that prove that the crash tests can fail.

        Raises:
            ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT.
        """
        self.path = path
        self._on_fatal = on_fatal
        self._lock = _lock_folder(path)
        try:
            self._env = _open_environment(path, sync=sync, databases=len(schema.databases) + 1)
            names = (_META, *schema.databases)
            self._databases = {name: self._env.open_db(name.encode()) for name in names}
            self._prepare(schema)
        except BaseException:
            os.close(self._lock)
            raise
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"{schema.kind}-writer")
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[View]:
        """A view that does not change while it is open. Keep it open for moments only."""
        with self._env.begin(buffers=False) as txn:
            yield View(txn, self._databases)

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation in the writer thread; answer when it is on disk.

        Raises:
            ServiceError: what the operation raised (nothing of it is kept), or STORAGE_FULL.
        """
        if self._closing:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "The store is closing.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(operation, loop, loop.create_future())
        self._queue.put(waiting)
        result: T = await waiting.future
        return result

    def size_bytes(self) -> int:
        """Bytes of the data file on disk."""
        return (self.path / "data.mdb").stat().st_size

    def close(self) -> None:
        """Finish what waits, stop the writer, release the folder. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        self._queue.put(None)
        self._thread.join()
        self._env.close()
        os.close(self._lock)

    def _prepare(self, schema: Schema) -> None:
        with self._env.begin(write=True) as raw:
            txn = Txn(raw, self._databases)
            stored = txn.get(_META, _SCHEMA)
            if stored is None:
                _write_schema(txn, schema.kind, schema.version)
        if stored is not None:
            self._migrate(schema, stored)

    def _migrate(self, schema: Schema, stored: bytes) -> None:
        kind, _, number = stored.decode().partition(" ")
        version = int(number)
        if kind != schema.kind:
            raise ServiceError(
                Reason.STORE_NOT_WRITABLE,
                f"{self.path} holds a {kind} store, not a {schema.kind} store.",
                path=self.path,
            )
        if version > schema.version:
            raise ServiceError(
                Reason.SCHEMA_TOO_NEW,
                f"{self.path} was written by a newer release (schema {version}; this one reads up "
                f"to {schema.version}). Start the newer release, or restore a backup.",
                found=version,
                supported=schema.version,
            )
        for step in range(version, schema.version):
            with self._env.begin(write=True) as raw:
                txn = Txn(raw, self._databases)
                schema.migrations[step](txn)
                _write_schema(txn, schema.kind, step + 1)

    def _serve(self) -> None:
        running = True
        while running:
            group, running = self._gather()
            if group:
                self._commit(group)
                _answer(group)

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """All that wait now, at least one; False where the store is to close after them."""
        group: list[_Waiting] = []
        first = self._queue.get()
        while first is not None:
            group.append(first)
            if len(group) == GROUP_MAX:
                return group, True
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            with self._env.begin(write=True) as txn:
                for waiting in group:
                    self._run(txn, waiting)
                failpoints.hit("store.before_commit")
            failpoints.hit("store.after_commit")
        except lmdb.Error as error:
            self._fail(group, error)
        except OSError as error:
            self._fail(group, error)

    def _run(self, parent: Any, waiting: _Waiting) -> None:
        try:
            with self._env.begin(write=True, parent=parent) as child:
                waiting.result = waiting.operation(Txn(child, self._databases))
        except (lmdb.MapFullError, lmdb.DiskError):
            raise
        except Exception as error:  # noqa: BLE001  (it belongs to the caller, not to this thread)
            waiting.error = error

    def _fail(self, group: list[_Waiting], error: Exception) -> None:
        """Nothing of the group was kept: say so, and end the process unless room was the matter."""
        full = _is_full(error)
        answer: BaseException = (
            ServiceError(Reason.STORAGE_FULL, "The disk is full; nothing was written.")
            if full
            else ServiceError(Reason.INTERNAL, "The write could not be flushed to disk.")
        )
        for waiting in group:
            waiting.error = answer
        if not full:
            self._on_fatal(f"commit failed: {error}")


def exit_on_fatal(message: str) -> None:
    """End the process at once; the supervisor starts it again from what is on disk."""
    sys.stderr.write(f"fatal: {message}\n")
    sys.stderr.flush()
    os._exit(74)


def _answer(group: list[_Waiting]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for waiting in group:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, mine in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(group: list[_Waiting]) -> None:
    for waiting in group:
        if waiting.future.done():  # the caller has gone
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)


def _seal_value(key: bytes, value: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(value, zlib.crc32(key))) + value


def _open_value(database: str, key: bytes, stored: bytes) -> bytes:
    value = stored[_CHECKSUM.size :]
    sound = len(stored) >= _CHECKSUM.size and stored[: _CHECKSUM.size] == _CHECKSUM.pack(
        zlib.crc32(value, zlib.crc32(key))
    )
    if not sound:
        raise ServiceError(
            Reason.RECORD_CORRUPT,
            "A stored record fails its checksum and is not returned.",
            database=database,
            key=key.hex(),
        )
    return value


def _write_schema(txn: Txn, kind: str, version: int) -> None:
    txn.put(_META, _SCHEMA, f"{kind} {version}".encode())


def _lock_folder(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / "LOCK", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ServiceError(
            Reason.STORE_LOCKED,
            f"{path} is in use by another process; stop it or choose another data folder.",
            path=path,
        ) from error
    return lock


def _open_environment(path: Path, *, sync: bool, databases: int) -> Any:
    _refuse_truncated(path)
    try:
        env = lmdb.open(
            str(path),
            map_size=MAP_BYTES,
            max_dbs=databases,
            max_readers=512,
            sync=sync,
            metasync=sync,
            writemap=False,
            mode=0o600,
        )
    except (lmdb.ReadonlyError, lmdb.LockError, lmdb.DiskError, OSError) as error:
        raise _not_writable(path, error) from error
    except lmdb.Error as error:
        raise _damaged(path, str(error)) from error
    env.reader_check()
    return env


def _refuse_truncated(path: Path) -> None:
    """Compare the file's length with the last page that its newer meta page names.

    Layout of liblmdb 0.9: two meta pages; in each a 16-byte page header, then magic, version,
    address, map size, two database records of 48 bytes (the first of which starts with the page
    size), last page, transaction id.
    """
    file = path / "data.mdb"
    if not file.exists():
        return
    try:
        with file.open("rb") as data:
            head = data.read(_PAGE_HEADER_BYTES)
    except OSError as error:
        raise _not_writable(path, error) from error
    pages = [_meta_page(head, offset) for offset in (0, 4096)]
    sound = [page for page in pages if page is not None]
    if not sound:
        raise _damaged(path, "neither of its two header pages is whole")
    _, last_page, page_bytes = max(sound)
    if file.stat().st_size < (last_page + 1) * page_bytes:
        raise _damaged(path, "its end is missing")


def _meta_page(head: bytes, offset: int) -> tuple[int, int, int] | None:
    """(transaction, last page, page size) of one meta page, None where it is not one."""
    body = head[offset + 16 : offset + 16 + 136]
    if len(body) < 136 or body[:4] != b"\xde\xc0\xef\xbe":  # noqa: PLR2004  (size of MDB_meta)
        return None
    page_bytes = struct.unpack_from("<I", body, 24)[0]
    last_page, transaction = struct.unpack_from("<QQ", body, 120)
    return transaction, last_page, page_bytes


def _damaged(path: Path, why: str) -> ServiceError:
    return ServiceError(
        Reason.RECORD_CORRUPT,
        f"{path / 'data.mdb'} is damaged: {why}. Restore it from a backup.",
        key=path,
    )


def _not_writable(path: Path, error: Exception) -> ServiceError:
    return ServiceError(
        Reason.STORE_NOT_WRITABLE,
        f"The data folder {path} cannot be used: {error}.",
        path=path,
    )


def _is_full(error: Exception) -> bool:
    full_texts = ("No space left", "File too large", "Disk quota")
    return isinstance(error, lmdb.MapFullError | lmdb.DiskError) or any(
        text in str(error) for text in full_texts
    )

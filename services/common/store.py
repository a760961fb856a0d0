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
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from services.common import failpoints
from services.common.arrivals import Arrivals, Waiting, answer, closing
from services.common.datafile import DAMAGED, Folder, damaged, unusable
from services.common.errors import Reason, ServiceError
from services.common.view import META, Cipher, Schema, Txn, View

__all__ = ["Cipher", "Schema", "Store", "Txn", "View", "exit_on_fatal", "is_full", "storage_full"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

GROUP_MAX = 512
"""Most operations that share a flush."""

GROUP_BYTES_MAX = 32 * 1024**2
"""Once a transaction holds this much, the rest waits for the next one."""

RESERVE_BYTES = 2 * 1024**2
"""Room on the disk that is kept for removals."""

_ROOM_SCARCE_BYTES = 4 * GROUP_BYTES_MAX
"""With less than this on the disk each group asks what is free in the file."""

_PAGES_PER_BYTE = 2
"""Bytes of pages that a byte put may take: pages are half full at worst."""

_SCHEMA = b"schema"

COMPACT_BYTES_MIN = 16 * 1024**2
"""A smaller file is not worth making smaller."""
REWRITE_BYTES_MAX = 4 * 1024**3
"""Of a larger file writes would wait for too long."""
_USED_SHARE = 0.75
_TIDY_SHARE = 0.5
_TIDY_BYTES_MAX = 256 * 1024**2
_TIDY_EVERY_S = 60.0

Operation = Callable[[Txn], T]


@dataclass(slots=True)
class _Opened:
    """An environment and who reads from it. The last reader of a retired one closes it."""

    env: Any
    databases: dict[str, Any]
    readers: int = 0
    retired: bool = False


class Store:
    """One folder, one environment, one writer thread. Open it once, after any fork."""

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        on_fatal: Callable[[str], None],
        sync: bool = True,
        cipher: Cipher | None = None,
    ) -> None:
        """Open or create the store under `path`.

        Args:
            path: The folder; made where it is missing.
            schema: What is kept here.
            on_fatal: Called from the writer thread where a commit could not be flushed. It must
                end the process: what was answered before stands, nothing more may be answered.
            sync: False only in tests that prove that the crash tests can fail.
            cipher: How the values of some databases are kept; None: all have a checksum.

        Raises:
            ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT,
                STORAGE_FULL, and what the cipher raises.
        """
        self.path = path
        self._cipher = cipher
        self.on_commit: Callable[[set[str]], None] | None = None
        """Called in the event loop with what kept operations have touched; then those answer."""
        self._on_fatal = on_fatal
        self._folder = Folder(path)
        self._sync = sync
        self._names = (META, *schema.databases)
        self._opened: _Opened | None = None
        self._reading = threading.Lock()
        self._retiring: threading.Thread | None = None
        try:
            self._open(schema)
        except BaseException:
            self._release()
            raise
        self._arrivals = Arrivals()
        self._failed = False
        self.commits = 0
        """Groups that were committed."""
        self.writes = 0
        """Operations in those groups."""
        self._tidied = -_TIDY_EVERY_S
        # A daemon: a process that fails before it comes to close this must still be able to end.
        name = f"{schema.kind}-writer"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[View]:
        """A view that does not change while it is open. Keep it open for moments only.

        Raises:
            ServiceError: RECORD_CORRUPT where the file's pages make no sense, SERVICE_UNAVAILABLE
                once the store is closing.
        """
        with self._reading:
            if self._arrivals.closed or self._opened is None:
                raise closing()
            opened = self._opened
            opened.readers += 1
        try:
            with opened.env.begin(buffers=False) as txn:
                yield View(txn, opened.databases, self._cipher)
        except DAMAGED as error:
            raise damaged(self.path, str(error)) from error
        finally:
            self._left(opened)

    def snapshot(self) -> AbstractContextManager[View]:
        """A view for seconds, which another thread may read: here any is."""
        return self.read()

    async def write(self, operation: Operation[T], *, grows: bool = False) -> T:
        """Run an operation in the writer thread; answer when it is on disk.

        What `grows` leaves the last `RESERVE_BYTES` of the disk to what gives room back: a removal
        writes pages too before it frees any.

        Raises:
            ServiceError: what the operation raised (nothing of it is kept), STORAGE_FULL, or
                SERVICE_UNAVAILABLE once the store is closing.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(operation, loop, loop.create_future(), grows)
        self._arrivals.join(waiting)
        result: T = await waiting.future
        return result

    async def compact(self) -> bool:
        """Give back the room that removals left in the file, if that is much of it; whether it was.

        Writes wait while the file is copied; reads go on. A crash leaves the old file or the new.

        Raises:
            ServiceError: as `write`; STORAGE_FULL where there is no room for the copy.
        """
        size = self.size_bytes()
        if size < COMPACT_BYTES_MIN or self._used_bytes() >= _USED_SHARE * size:
            return False
        return await self.write(_COMPACT)

    async def tidy(self) -> bool:
        """Compact where more than half of the file is free; the copy must be short and have room.

        Call it every now and then: it copies once a minute at most, so that writes that make a
        file grow and shrink all the time wait for little.

        Raises:
            ServiceError: as `compact`. What else keeps the copy from being made is logged.
        """
        now = time.monotonic()
        size = self.size_bytes()
        if size < COMPACT_BYTES_MIN or now < self._tidied + _TIDY_EVERY_S:
            return False
        room = self._folder.room_bytes() - RESERVE_BYTES
        if self._used_bytes() > min(_TIDY_SHARE * size, _TIDY_BYTES_MAX, room):
            return False
        self._tidied = now
        try:
            return await self.write(_COMPACT)
        except (OSError, lmdb.Error) as error:
            _log.warning("the data file stays large", extra={"why": str(error)})
            return False

    async def rewrite(self) -> bool:
        """Copy what is used into a new file, so that nothing is left of what was removed.

        Whether it was; not where more is used than `REWRITE_BYTES_MAX`, or the disk has no room for
        the copy. Writes wait meanwhile; reads go on.

        Raises:
            ServiceError: as `compact`.
        """
        room = self._folder.room_bytes() - RESERVE_BYTES
        if self._used_bytes() > min(REWRITE_BYTES_MAX, room):
            return False
        try:
            return await self.write(_COMPACT)
        except (OSError, lmdb.Error) as error:
            _log.warning("the data file is not rewritten", extra={"why": str(error)})
            return False

    def _used_bytes(self) -> int:
        with self.read() as view:
            return view.used_bytes()

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged is still there after a power cut."""
        return self._sync

    @property
    def is_open(self) -> bool:
        """Whether reads and writes are answered."""
        return not (self._arrivals.closed or self._failed)

    def waiting_count(self) -> int:
        """Writes that wait for the writer."""
        return self._arrivals.count()

    def size_bytes(self) -> int:
        """Bytes of the data file on disk."""
        return self._folder.file.stat().st_size

    def close(self) -> None:
        """Finish what waits, stop the writer, release the folder. Safe to call twice."""
        if self._arrivals.close():
            self._thread.join()
            self._release()

    @property
    def _env(self) -> Any:
        assert self._opened is not None
        return self._opened.env

    @property
    def _databases(self) -> dict[str, Any]:
        assert self._opened is not None
        return self._opened.databases

    def _open(self, schema: Schema) -> None:
        env = self._folder.open(sync=self._sync, databases=len(self._names))
        try:
            self._opened = _Opened(env, {})
            if self._admit(env, schema) < schema.version:
                self._folder.keep_copy(env, f"before-schema-{schema.version}")
            self._opened = _Opened(env, self._databases_of(env))
            self._prepare(schema)
        except (lmdb.Error, OSError) as error:
            raise storage_full() if is_full(error) else unusable(self.path, error) from error
        self._folder.mark_created()

    def _databases_of(self, env: Any) -> dict[str, Any]:
        return {name: env.open_db(name.encode()) for name in self._names}

    def _left(self, opened: _Opened) -> None:
        with self._reading:
            opened.readers -= 1
            if opened.retired and not opened.readers:
                # The kernel takes its time to forget a large file, and a reader has none.
                self._retiring = threading.Thread(target=opened.env.close, name="store-retired")
                self._retiring.start()

    def _release(self) -> None:
        if self._retiring is not None:
            self._retiring.join()
        if self._opened is not None:
            self._opened.env.close()
        self._folder.release()

    def _admit(self, env: Any, schema: Schema) -> int:
        """The version of what is there. Before anything changes: not even a database is made."""
        version = schema.version
        with suppress(lmdb.NotFoundError), env.begin() as raw:
            meta = View(raw, {META: env.open_db(META.encode(), txn=raw, create=False)})
            stored = meta.get(META, _SCHEMA)
            if stored is not None:
                version = schema.stored_version(stored, self.path)
            if self._cipher is not None:
                self._cipher.admit(meta)
        return version

    def _prepare(self, schema: Schema) -> None:
        with self._changing() as txn:
            stored = txn.get(META, _SCHEMA)
            if stored is None:
                txn.put(META, _SCHEMA, schema.written(schema.version))
        version = schema.version if stored is None else schema.stored_version(stored, self.path)
        if self._cipher is not None:
            with self._changing() as txn:
                self._cipher.begin(txn)
        for step in range(version, schema.version):
            with self._changing() as txn:
                schema.migrations[step](txn)
                txn.put(META, _SCHEMA, schema.written(step + 1))

    @contextmanager
    def _changing(self) -> Iterator[Txn]:
        with self._env.begin(write=True) as raw:
            yield Txn(raw, self._databases, self._cipher)

    def _serve(self) -> None:
        together = 1
        while (first := self._arrivals.first()) is not None:
            group = [first]
            if first.operation is _COMPACT:
                self._compact(first)
            else:
                self._arrivals.gather(together)
                self._commit(group)
                together = len(group)
                self.commits += 1
                self.writes += together
            answer(group, self.on_commit)

    def _compact(self, waiting: Waiting) -> None:
        """Copy what is used into a new file, and go on with that one."""
        if self._failed:
            self._refuse([waiting], _not_flushed)
            return
        env = None
        try:
            env = self._folder.rewrite(sync=self._sync, databases=len(self._names))
            new = _Opened(env, self._databases_of(env))
            self._folder.put_in_place()
        except (lmdb.Error, OSError) as error:
            if env is not None:
                env.close()
            waiting.error = storage_full() if is_full(error) or self._folder.is_full() else error
            return
        with self._reading:
            old, self._opened = self._opened, new
            assert old is not None
            old.retired = True
            if not old.readers:
                old.env.close()
        try:
            self._folder.flush_names()
        except OSError as error:  # whatever is written from here on may have no name
            self._fail([waiting], error)
            return
        waiting.result = True

    def _commit(self, group: list[Waiting]) -> None:
        """Run the first of a group and all that wait meanwhile; keep them with one flush."""
        if self._failed:  # only where `on_fatal` did not end the process, as in tests
            self._refuse(group, _not_flushed)
            return
        try:
            self._forget_dead_readers()
            with self._env.begin(write=True) as txn:
                self._run_all(txn, group)
                failpoints.hit("store.before_commit")
            failpoints.hit("store.after_commit")
        except (lmdb.Error, OSError) as error:
            self._fail(group, error)

    def _forget_dead_readers(self) -> None:
        """Pages that a process was reading when it was killed would stay in the file for ever.

        Tools that copy or count may read beside this process. Asking costs less than a microsecond.
        """
        self._env.reader_check()

    def _run_all(self, parent: Any, group: list[Waiting]) -> None:
        room = self._room_bytes(parent)
        size = self._run(parent, group[0], room)
        while size < GROUP_BYTES_MAX and len(group) < GROUP_MAX:
            waiting = self._arrivals.more(unless=_COMPACT)
            if waiting is None:
                return
            group.append(waiting)
            size += self._run(parent, waiting, room - _PAGES_PER_BYTE * size)

    def _room_bytes(self, txn: Any) -> int:
        """What may be written still; what lies free in the file counts where the disk is short."""
        room = self._folder.room_bytes()
        if room < _ROOM_SCARCE_BYTES:
            room += self._folder.file.stat().st_size - View(txn, self._databases).used_bytes()
        return room

    def _run(self, parent: Any, waiting: Waiting, room: int) -> int:
        """Run one operation in a transaction of its own inside the group's; bytes it wrote."""
        try:
            with self._env.begin(write=True, parent=parent) as child:
                txn = Txn(child, self._databases, self._cipher)
                waiting.result = waiting.operation(txn)
                waiting.touched = txn.touched
                if waiting.grows:
                    _check_room(room - _PAGES_PER_BYTE * txn.put_bytes)
        except (lmdb.MapFullError, lmdb.DiskError):
            raise
        except DAMAGED as error:
            waiting.error = damaged(self.path, str(error))
            return 0
        except Exception as error:  # noqa: BLE001  (it belongs to the caller, not to this thread)
            waiting.error = error
            return 0
        return txn.put_bytes

    def _fail(self, group: list[Waiting], error: Exception) -> None:
        """Nothing of the group was kept: say so, and end the process unless room was the matter."""
        full = is_full(error) or (_is_io_error(error) and self._folder.is_full())
        if full and self._is_usable():
            self._refuse(group, storage_full)
            return
        self._failed = True
        self._refuse(group, _not_flushed)
        self._on_fatal(f"commit failed: {error}")

    def _is_usable(self) -> bool:
        """LMDB serves no more reads once it could not write a header page, for want of room too."""
        try:
            self._env.begin().abort()
        except lmdb.PanicError:
            return False
        return True

    def _refuse(self, group: list[Waiting], error: Callable[[], ServiceError]) -> None:
        for waiting in group:
            waiting.error = error()


def _COMPACT(txn: Txn) -> bool:  # noqa: N802  (a mark in the queue, not something that is run)
    raise AssertionError(txn)


def exit_on_fatal(message: str) -> None:
    """End the process at once; the supervisor starts it again from what is on disk."""
    sys.stderr.write(f"fatal: {message}\n")
    sys.stderr.flush()
    os._exit(74)


def _check_room(left: int) -> None:
    if left < RESERVE_BYTES:
        raise storage_full()


def storage_full() -> ServiceError:
    """What is said where there is no room."""
    return ServiceError(Reason.STORAGE_FULL, "The disk is full; nothing was written.")


def _not_flushed() -> ServiceError:
    return ServiceError(Reason.INTERNAL, "The write could not be flushed to disk.")


def _is_io_error(error: Exception) -> bool:
    """LMDB says this of a failed flush, and of a write cut short because the disk was full."""
    return "Input/output error" in str(error)


def is_full(error: Exception) -> bool:
    """Whether an error, of a store or of a file beside it, says that there is no room."""
    full_texts = ("No space left", "File too large", "Disk quota")
    return isinstance(error, lmdb.MapFullError | lmdb.DiskError) or any(
        text in str(error) for text in full_texts
    )

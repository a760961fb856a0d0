"""A store's folder: who holds it, whether its data file is whole, and how LMDB opens it.

LMDB trusts its file: one that has lost its end kills the process that maps it, and one that is
missing is quietly made anew. Both are looked at here before LMDB is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.repack import repack

MAP_BYTES = 256 * 1024**3
"""Address space set aside for the file. Only what is written takes disk, so there is no need to
grow the map while readers are about."""

READERS_MAX = 512

_DATA = "data.mdb"
_LOCK = "LOCK"
_ASIDE = "compacting"
_CREATED = b"created\n"
_YOUNG_BYTES_MAX = 256 * 1024
_ROOM_BYTES = 64 * 1024
_MAGIC = b"\xde\xc0\xef\xbe"
_META_OFFSET = 16
_META_BYTES = 136
_BY_SYSTEM = (OSError, lmdb.ReadonlyError, lmdb.LockError, lmdb.DiskError, lmdb.MemoryError)
_SYSTEM_SAYS = tuple(os.strerror(number) for number in errno.errorcode if number != errno.EINVAL)

DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.CursorFullError,
    lmdb.BadTxnError,  # what follows one of the others in the same transaction
)
"""What LMDB says of pages that make no sense."""


class Folder:
    """A folder that this process alone may use, until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the folder where it is missing, and take it.

        Raises:
            ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED.
        """
        self.path = path
        self.file = path / _DATA
        self._lock = _take(path)

    def open(self, *, sync: bool, databases: int) -> Any:
        """The LMDB environment of this folder.

        Raises:
            ServiceError: RECORD_CORRUPT where the file is damaged or gone, STORE_NOT_WRITABLE.
        """
        self.look()
        shutil.rmtree(self.path / _ASIDE, ignore_errors=True)
        try:
            env = _open(self.path, sync=sync, databases=databases)
        except (lmdb.Error, OSError) as error:
            raise unusable(self.path, error) from error
        env.reader_check()
        return env

    def rewrite(self, *, sync: bool, databases: int) -> Any:
        """Copy what the file holds into a new one aside, and open that.

        Raises:
            lmdb.Error, OSError: nothing has changed.
        """
        aside = self.path / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        repack(self.path, aside, databases=databases, map_bytes=MAP_BYTES)
        _flush(aside / _DATA)
        return _open(aside, sync=sync, databases=databases)

    def keep_copy(self, env: Any, name: str) -> None:
        """Leave a copy of the file as it is now in a folder of this name, for whoever wants it.

        Raises:
            lmdb.Error, OSError: there is none.
        """
        aside, kept = self.path / f"{name}.part", self.path / name
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        env.copy(str(aside))
        for path in (aside / _DATA, aside):
            _flush(path)
        shutil.rmtree(kept, ignore_errors=True)  # of a start that was cut off
        aside.replace(kept)
        _flush(self.path)

    def put_in_place(self) -> None:
        """Let the file aside take the name of the other; what is open stays open.

        Raises:
            OSError: the old file is still in place.
        """
        failpoints.hit("store.before_swap")
        (self.path / _ASIDE / _DATA).replace(self.file)

    def flush_names(self) -> None:
        """Make the new name last.

        Raises:
            OSError: whether it does is not known.
        """
        failpoints.hit("store.after_swap")
        _flush(self.path)
        shutil.rmtree(self.path / _ASIDE, ignore_errors=True)

    def mark_created(self) -> None:
        """Remember that the store has been on disk, names and all.

        From here on a file that is missing or empty is a loss, and not a store that is new.
        """
        if self._created():
            return
        try:
            _flush(self.path)
            with suppress(PermissionError):  # a parent that is not ours to read was there before
                _flush(self.path.parent)
            os.pwrite(self._lock, _CREATED, 0)
            os.fsync(self._lock)
        except OSError as error:
            raise not_writable(self.path, error) from error

    def is_full(self) -> bool:
        """Whether there is hardly room for a page, on the disk or under this process's limit."""
        return self.room_bytes() < _ROOM_BYTES

    def room_bytes(self) -> int:
        """By how much the file can grow, on the disk and under this process's limit."""
        disk = os.statvfs(self.path)
        allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        room = disk.f_bavail * disk.f_frsize
        if allowed != resource.RLIM_INFINITY:
            room = min(room, allowed - self.file.stat().st_size)
        return room

    def release(self) -> None:
        """Let others have the folder."""
        os.close(self._lock)

    def _created(self) -> bool:
        return os.pread(self._lock, len(_CREATED), 0) == _CREATED

    def look(self) -> None:
        """Refuse a file that LMDB would choke on; begin again where creation was interrupted.

        Raises:
            ServiceError: RECORD_CORRUPT, STORE_NOT_WRITABLE.
        """
        if not self.file.exists():
            if self._created():
                raise damaged(self.path, "it is missing")
            return
        newest = self._newest_meta()
        size = self.file.stat().st_size
        if newest is not None and newest[0] > 0:
            _, last_page, page_bytes = newest
            if size < (last_page + 1) * page_bytes:
                raise damaged(self.path, "its end is missing")
        elif not self._created() and size <= _YOUNG_BYTES_MAX:
            self.file.unlink()  # the power went before the first commit: nothing was ever kept
        else:
            raise damaged(self.path, "neither of its two header pages is whole")

    def _newest_meta(self) -> tuple[int, int, int] | None:
        try:
            with self.file.open("rb") as data:
                first = _meta_page(data.read(_META_OFFSET + _META_BYTES))
                data.seek(first[2] if first else os.sysconf("SC_PAGE_SIZE"))
                second = _meta_page(data.read(_META_OFFSET + _META_BYTES))
        except OSError as error:
            raise not_writable(self.path, error) from error
        return max((page for page in (first, second) if page), default=None)


def _take(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise not_writable(path, error) from error
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


def _flush(path: Path) -> None:
    """Flush a file, or a folder: a new file's name is on disk only once its folder is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, *, sync: bool, databases: int) -> Any:
    return lmdb.open(
        str(path),
        map_size=MAP_BYTES,
        max_dbs=databases,
        max_readers=READERS_MAX,
        sync=sync,
        metasync=sync,
        writemap=False,
        mode=0o600,
    )


def _meta_page(head: bytes) -> tuple[int, int, int] | None:
    """(transaction, last page, page size) of one meta page, None where it is not one.

    Layout of liblmdb 0.9: a page header of 16 bytes, then magic, version, address, map size, two
    database records of 48 bytes (the first begins with the page size), last page, transaction.
    """
    body = head[_META_OFFSET:]
    if len(body) < _META_BYTES or not body.startswith(_MAGIC):
        return None
    page_bytes = struct.unpack_from("<I", body, 24)[0]
    last_page, transaction = struct.unpack_from("<QQ", body, 120)
    return transaction, last_page, page_bytes


def unusable(path: Path, error: Exception) -> ServiceError:
    """Why a file could not be opened: the system refused, or what is in it makes no sense.

    Most of what the system says LMDB passes on in words only. Such a file may be whole, and nobody
    should put a backup in its place.
    """
    if isinstance(error, _BY_SYSTEM) or str(error).endswith(_SYSTEM_SAYS):
        return not_writable(path, error)
    return damaged(path, str(error))


def damaged(path: Path, why: str) -> ServiceError:
    """The file is not one that can be read."""
    return ServiceError(
        Reason.RECORD_CORRUPT,
        f"{path / _DATA} is damaged: {why}. Restore it from a backup.",
        key=path,
    )


def not_writable(path: Path, error: Exception) -> ServiceError:
    """The folder cannot be used as a store."""
    return ServiceError(
        Reason.STORE_NOT_WRITABLE,
        f"The data folder {path} cannot be used: {error}.",
        path=path,
    )

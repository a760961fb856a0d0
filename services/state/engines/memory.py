"""An ordered store in memory: for a deployment that may forget.

What LMDB offers of one transaction, over sorted dictionaries; so whatever is written over views and
transactions runs on either engine. Everything happens between two awaits. Nothing is ever half
done: a transaction that fails puts back what it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sortedcontainers import SortedDict

from services.common.errors import Reason, ServiceError
from services.common.view import META, Cipher, Txn, View

T = TypeVar("T")

_PAGE_BYTES = 4096


class MemoryStore:
    """Databases in sorted dictionaries, gone with the process."""

    durable = False

    def __init__(self, databases: Sequence[str], *, cipher: Cipher | None = None) -> None:
        """`databases`: their names; `cipher`: how values are kept, None: with a checksum."""
        self._cipher = cipher
        self._databases = {name: SortedDict() for name in (META, *databases)}
        self._open = True
        self.on_commit: Callable[[set[str]], None] | None = None
        if cipher is not None:
            cipher.begin(Txn(_Raw(), self._databases, cipher))

    @property
    def is_open(self) -> bool:
        """Whether reads and writes are answered."""
        return self._open

    @contextmanager
    def read(self) -> Iterator[View]:
        """What is there now. Nothing may be awaited while it is open."""
        self._check_open()
        yield View(_Raw(), self._databases, self._cipher)

    @contextmanager
    def snapshot(self) -> Iterator[View]:
        """A copy of what is there now; of keys and values that is, their bytes are shared."""
        self._check_open()
        copies = {name: SortedDict(database) for name, database in self._databases.items()}
        yield View(_Raw(), copies, self._cipher)

    async def write(self, operation: Callable[[Txn], T], *, grows: bool = False) -> T:
        """Run an operation; where it raises, nothing of it is kept."""
        del grows
        self._check_open()
        raw = _Raw()
        txn = Txn(raw, self._databases, self._cipher)
        try:
            result = operation(txn)
        except BaseException:
            raw.undo()
            raise
        if self.on_commit is not None and txn.touched:
            self.on_commit(txn.touched)
        return result

    async def tidy(self) -> bool:
        """Nothing lies free."""
        return False

    async def rewrite(self) -> bool:
        """There is no file."""
        return True

    def close(self) -> None:
        """Forget everything. Safe to call twice."""
        self._open = False
        for database in self._databases.values():
            database.clear()

    def _check_open(self) -> None:
        if not self._open:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "The store is closing.")


class _Raw:
    """A transaction as LMDB would give it, with a list of what to put back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, bytes, bytes | None]] = []

    def undo(self) -> None:
        for database, key, value in reversed(self._before):
            if value is None:
                database.pop(key, None)
            else:
                database[key] = value

    def get(self, key: bytes, *, db: Any) -> bytes | None:
        value: bytes | None = db.get(key)
        return value

    def put(self, key: bytes, value: bytes, *, db: Any, append: bool = False) -> bool:
        del append
        self._before.append((db, key, db.get(key)))
        db[key] = bytes(value)
        return True

    def delete(self, key: bytes, *, db: Any) -> bool:
        value = db.pop(key, None)
        if value is not None:
            self._before.append((db, key, value))
        return value is not None

    def stat(self, db: Any) -> dict[str, int]:
        size = sum(len(key) + len(value) for key, value in db.items())
        pages = -(-size // _PAGE_BYTES)
        return {
            "entries": len(db),
            "psize": _PAGE_BYTES,
            "leaf_pages": pages,
            "branch_pages": 0,
            "overflow_pages": 0,
        }

    def cursor(self, *, db: Any) -> _Cursor:
        return _Cursor(db, self)


class _Cursor:
    """Finds its place again with each step, so entries may come and go meanwhile."""

    def __init__(self, database: Any, raw: _Raw) -> None:
        self._database = database
        self._raw = raw
        self._key: bytes | None = None

    def set_range(self, key: bytes) -> bool:
        return self._stand(self._database.bisect_left(key))

    def last(self) -> bool:
        return self._stand(len(self._database) - 1)

    def prev(self) -> bool:
        return self._stand(self._database.bisect_left(self._key) - 1)

    def iternext(self, *, keys: bool = True, values: bool = True) -> Iterator[Any]:
        del keys
        while self._key is not None:
            key = self._key
            yield (key, self._database[key]) if values else key
            self._stand(self._database.bisect_right(key))

    def iterprev(self, *, keys: bool = True, values: bool = True) -> Iterator[Any]:
        del keys
        while self._key is not None:
            key = self._key
            yield (key, self._database[key]) if values else key
            self._stand(self._database.bisect_left(key) - 1)

    def putmulti(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in pairs:
            self._raw.put(key, value, db=self._database)

    def close(self) -> None:
        self._key = None

    def _stand(self, position: int) -> bool:
        inside = 0 <= position < len(self._database)
        self._key = self._database.keys()[position] if inside else None
        return inside

"""What a store's transactions read and write, each value with its checksum or sealed.

LMDB checks no data. Here every value carries a checksum over its key and bytes, or is sealed by a
cipher over the same, and is verified on each read. The checksum is zlib's crc32, computed by ISA-L,
which takes a fifth to a third of the time.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, Protocol

from isal.isal_zlib import crc32

from services.common.errors import Reason, ServiceError

META = "meta"
"""The database of the store itself."""

_REVISION = b"revision"
_U64 = struct.Struct(">Q")
_CHECKSUM = struct.Struct("<I")
_TAGGED = struct.Struct("<xI")

_AT_ONCE = 1000
_WORK_S = 0.0005
_REST_S = 0.0003


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

    def written(self, version: int) -> bytes:
        """How a store notes that it has this version."""
        return f"{self.kind} {version}".encode()

    def stored_version(self, written: bytes, path: object) -> int:
        """The version of the store at a path, from its note.

        Raises:
            ServiceError: STORE_NOT_WRITABLE where it is of another kind, SCHEMA_TOO_NEW.
        """
        kind, _, number = written.decode().partition(" ")
        if kind != self.kind:
            raise ServiceError(
                Reason.STORE_NOT_WRITABLE,
                f"{path} holds a {kind} store, not a {self.kind} store.",
                path=path,
            )
        if int(number) > self.version:
            raise ServiceError(
                Reason.SCHEMA_TOO_NEW,
                f"{path} was written by a newer release (schema {number}; this one reads up to "
                f"{self.version}). Start the newer release, or restore a backup.",
                found=number,
                supported=self.version,
            )
        return int(number)


class Cipher(Protocol):
    """Says how the values of some databases are kept. Keys are kept as they are.

    It reads its own keys through the view or transaction that it is asked in, so that what it
    makes there is kept or given up together with the values under it.
    """

    databases: frozenset[str]
    """Those whose values it keeps; the others have a checksum."""

    def seal(self, txn: Txn, database: str, key: bytes, value: bytes) -> bytes:
        """What is stored for a value."""

    def open(self, view: View, database: str, key: bytes, stored: bytes) -> bytes:
        """The value of what is stored.

        Raises:
            ServiceError: RECORD_CORRUPT where it is not what was stored under this key.
        """

    def seal_slice(self, txn: Txn, database: str, records: Slice) -> list[bytes]:
        """Like `seal`, of all records of a slice."""

    def open_slice(self, view: View, database: str, pairs: list[tuple[bytes, bytes]]) -> Slice:
        """Like `open`, of keys and what is stored under them.

        Raises:
            ServiceError: as `open`, for the first that is not sound.
        """

    def admit(self, view: View) -> None:
        """Look whether this cipher can read the store, before anything in it is touched.

        Args:
            view: Of `meta` alone.

        Raises:
            ServiceError: why it cannot.
        """

    def begin(self, txn: Txn) -> None:
        """Note in the store what must be held to read it from here on."""


class Slice:
    """Records in order of key that are read, or written, together.

    What a record costs a loop in Python to verify and to seal is a good part of what a migration
    takes; here both are done for all of a slice at once.
    """

    __slots__ = ("_sums", "keys", "values")

    def __init__(
        self, keys: list[bytes], values: Sequence[bytes], sums: list[int] | None = None
    ) -> None:
        """`sums`: over each key, where they are known."""
        self.keys = keys
        self.values = values
        self._sums = list(map(crc32, keys)) if sums is None else sums

    def with_values(self, values: Sequence[bytes]) -> Slice:
        """Other values under the same keys."""
        return Slice(self.keys, values, self._sums)

    def checksums(self) -> Iterator[int]:
        """Over each key and value."""
        return map(crc32, self.values, self._sums)


class View:
    """A consistent reading of the store. Values are verified as they are read."""

    def __init__(
        self, txn: Any, databases: Mapping[str, Any], cipher: Cipher | None = None
    ) -> None:
        self._txn = txn
        self._databases = databases
        self._cipher = cipher
        self._sealed: frozenset[str] = frozenset() if cipher is None else cipher.databases
        self.memo: dict[object, Any] = {}
        """The cipher's own; what it has read of its keys here."""

    def get(self, database: str, key: bytes) -> bytes | None:
        """The value under a key.

        Raises:
            ServiceError: RECORD_CORRUPT where the stored bytes fail their checksum.
        """
        stored = self._txn.get(key, db=self._databases[database])
        return None if stored is None else self._open(database, key, stored)

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
            yield key, self._open(database, key, stored)

    def slice(self, database: str, prefix: bytes, *, limit: int, after: bytes = b"") -> Slice:
        """The first `limit` records of what `scan` gives, read at once.

        Raises:
            ServiceError: RECORD_CORRUPT where one of them fails its checksum.
        """
        pairs = self._first(database, prefix, after, limit, values=True)
        while pairs and not pairs[-1][0].startswith(prefix):
            pairs.pop()
        if database in self._sealed:
            assert self._cipher is not None
            return self._cipher.open_slice(self, database, pairs)
        return open_slice(database, pairs)

    def key_slice(
        self, database: str, prefix: bytes, *, limit: int, after: bytes = b""
    ) -> list[bytes]:
        """The first `limit` keys of what `keys` gives, read at once."""
        keys: list[bytes] = self._first(database, prefix, after, limit, values=False)
        while keys and not keys[-1].startswith(prefix):
            keys.pop()
        return keys

    def back(
        self, database: str, prefix: bytes, *, before: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix` and come before `before`, with values, the last first.

        Raises:
            ServiceError: RECORD_CORRUPT at a value that fails its checksum.
        """
        cursor = self._txn.cursor(db=self._databases[database])
        try:
            stop = before or _end_of(prefix)
            found = cursor.set_range(stop) if stop else False
            if not (cursor.prev() if found else cursor.last()):
                return
            for key, stored in cursor.iterprev(keys=True, values=True):
                if not key.startswith(prefix):
                    return
                yield key, self._open(database, key, stored)
        finally:
            cursor.close()

    def between(self, database: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` up to, not including, `stop`, with values, in key order.

        Raises:
            ServiceError: RECORD_CORRUPT at a value that fails its checksum.
        """
        for key, stored in self._walk(database, b"", start, values=True, included=True):
            if key >= stop:
                return
            yield key, self._open(database, key, stored)

    def keys(self, database: str, prefix: bytes, *, after: bytes = b"") -> Iterator[bytes]:
        """Like `scan`, without the values."""
        return self._walk(database, prefix, after, values=False)

    def stored(
        self, database: str, prefix: bytes, *, after: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Like `scan`, with what is stored instead of the value; nothing is verified."""
        return self._walk(database, prefix, after, values=True)

    def count(self, database: str) -> int:
        """How many keys a database has."""
        entries: int = self._txn.stat(self._databases[database])["entries"]
        return entries

    def used_bytes(self) -> int:
        """Bytes of pages that hold something, of all databases."""
        total = 0
        for database in self._databases.values():
            told = self._txn.stat(database)
            pages = told["branch_pages"] + told["leaf_pages"] + told["overflow_pages"]
            total += told["psize"] * pages
        return total

    def revision(self) -> int:
        """The number of the last change."""
        stored = self._txn.get(_REVISION, db=self._databases[META])
        return 0 if stored is None else _U64.unpack(open_value(META, _REVISION, stored))[0]

    def _open(self, database: str, key: bytes, stored: bytes) -> bytes:
        if database in self._sealed:
            assert self._cipher is not None
            return self._cipher.open(self, database, key, stored)
        return open_value(database, key, stored)

    def _first(
        self, database: str, prefix: bytes, after: bytes, limit: int, *, values: bool
    ) -> list[Any]:
        """Up to `limit` entries from a place on, those behind the prefix included."""
        cursor = self._txn.cursor(db=self._databases[database])
        try:
            found = cursor.set_range(max(prefix, after + b"\0" if after else b""))
            entries = cursor.iternext(keys=True, values=values)
            return list(itertools.islice(entries, limit)) if found else []
        finally:
            cursor.close()

    def _walk(
        self, database: str, prefix: bytes, after: bytes, *, values: bool, included: bool = False
    ) -> Iterator[Any]:
        cursor = self._txn.cursor(db=self._databases[database])
        try:
            start = after if included or not after else after + b"\0"
            found = cursor.set_range(max(prefix, start))
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

    def __init__(
        self, txn: Any, databases: Mapping[str, Any], cipher: Cipher | None = None
    ) -> None:
        super().__init__(txn, databases, cipher)
        self.put_bytes = 0
        """Bytes of keys and values written so far."""
        self.touched: set[str] = set()
        """What whoever waits for changes is told of, once this is kept."""
        self._rested: float | None = None

    def patient(self) -> Txn:
        """This one, which from here on rests now and then.

        For what nobody waits for: a search that comes meanwhile wants the interpreter several
        times, and would wait each time as long as a thread may keep it.
        """
        self._rested = time.perf_counter()
        return self

    def get(self, database: str, key: bytes) -> bytes | None:
        """See View."""
        self._rest()
        return super().get(database, key)

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write a value with its checksum, or sealed."""
        sealed = self._seal(database, key, value)
        self._txn.put(key, sealed, db=self._databases[database])
        self.put_bytes += len(key) + len(sealed)

    def put_slice(self, database: str, records: Slice) -> None:
        """Like `put`, of all records of a slice."""
        sealed = self._seal_slice(database, records)
        cursor = self._txn.cursor(db=self._databases[database])
        try:
            cursor.putmulti(zip(records.keys, sealed, strict=True))
        finally:
            cursor.close()
        self.put_bytes += sum(map(len, records.keys + sealed))

    def append(self, database: str, key: bytes, value: bytes) -> None:
        """Like `put`; where the key comes after all others, pages are filled instead of halved."""
        sealed, place = self._seal(database, key, value), self._databases[database]
        if not self._txn.put(key, sealed, db=place, append=True):
            self._txn.put(key, sealed, db=place)
        self.put_bytes += len(key) + len(value)

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; False where it was not there."""
        self._rest()
        removed: bool = self._txn.delete(key, db=self._databases[database])
        return removed

    def delete_prefix(self, database: str, prefix: bytes) -> int:
        """Remove every key that begins with `prefix`; how many there were."""
        doomed = list(self.keys(database, prefix))
        for key in doomed:
            self.delete(database, key)
        return len(doomed)

    def restore(self, database: str, change: Callable[[bytes, bytes], bytes]) -> None:
        """Store anew what is stored under each key: for migrations of how values are kept."""
        place, after = self._databases[database], b""
        while part := list(itertools.islice(self.stored(database, b"", after=after), _AT_ONCE)):
            for key, stored in part:
                self._txn.put(key, change(key, stored), db=place)
            after = part[-1][0]

    def next_revision(self) -> int:
        """Take the next revision. An operation that changes nothing takes none."""
        revision = self.revision() + 1
        self.put(META, _REVISION, _U64.pack(revision))
        return revision

    def raise_revision(self, revision: int) -> None:
        """Go on from this revision, where the last one is less: what comes in has been at it."""
        if revision > self.revision():
            self.put(META, _REVISION, _U64.pack(revision))

    def _seal(self, database: str, key: bytes, value: bytes) -> bytes:
        if database in self._sealed:
            assert self._cipher is not None
            return self._cipher.seal(self, database, key, value)
        return seal_value(key, value)

    def _seal_slice(self, database: str, records: Slice) -> list[bytes]:
        if database in self._sealed:
            assert self._cipher is not None
            return self._cipher.seal_slice(self, database, records)
        return seal_slice(records)

    def _rest(self) -> None:
        if self._rested is not None and time.perf_counter() > self._rested + _WORK_S:
            time.sleep(_REST_S)
            self._rested = time.perf_counter()


def _end_of(prefix: bytes) -> bytes:
    """The least key that comes after all that begin with `prefix`; empty where there is none."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1]) if cut else b""


def seal_value(key: bytes, value: bytes) -> bytes:
    """A value with its checksum before it."""
    return _CHECKSUM.pack(crc32(value, crc32(key))) + value


def open_value(database: str, key: bytes, stored: bytes, *, at: int = 0) -> bytes:
    """The value behind a checksum, before which there are `at` zero bytes.

    Raises:
        ServiceError: RECORD_CORRUPT where it is another's, or not whole.
    """
    begin = at + _CHECKSUM.size
    value = stored[begin:]
    checksum = _CHECKSUM.pack(crc32(value, crc32(key)))
    sound = len(stored) >= begin and stored[:begin] == bytes(at) + checksum
    if not sound:
        raise record_corrupt(database, key, "fails its checksum")
    return value


def seal_slice(records: Slice, *, tagged: bool = False) -> list[bytes]:
    """The values of a slice with their checksums; `tagged`: each with a zero byte before it."""
    head = _TAGGED if tagged else _CHECKSUM
    return list(map(add, map(head.pack, records.checksums()), records.values))


def open_slice(database: str, pairs: list[tuple[bytes, bytes]], *, tagged: bool = False) -> Slice:
    """A slice of what `seal_slice` made, with its keys.

    Raises:
        ServiceError: RECORD_CORRUPT at the first value that fails its checksum.
    """
    head = _TAGGED if tagged else _CHECKSUM
    opened = Slice([key for key, _ in pairs], [stored[head.size :] for _, stored in pairs])
    sums = b"".join([stored[: head.size] for _, stored in pairs])
    form = "xI" if tagged else "I"
    if struct.pack(f"<{form * len(pairs)}", *opened.checksums()) != sums:
        for key, stored in pairs:  # one of these says which it is
            open_value(database, key, stored, at=head.size - _CHECKSUM.size)
    return opened


def record_corrupt(database: str, key: bytes, why: str) -> ServiceError:
    """What is stored under a key is not what was put there."""
    return ServiceError(
        Reason.RECORD_CORRUPT,
        f"A stored record {why} and is not returned.",
        database=database,
        key=key.hex(),
    )

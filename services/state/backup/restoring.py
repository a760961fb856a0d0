"""Puts a tenant's records back to those of a backup, a slice at a time.

Whatever is found is made like the backup: what is the same stays, what differs is written, what is
too much goes. So a restore that was cut off is repeated from the beginning, and writes only what it
had not come to. Index entries go and come with their records.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from services.common.errors import ServiceError
from services.common.store import Txn, View
from services.state import areas
from services.state.areas import Records
from services.state.backup import chunks
from services.state.backup.chunks import UnsoundError
from services.state.backup.folder import CHUNKS, BackupFolder
from services.state.backup.model import (
    ChunkRef,
    Damage,
    DatabasePart,
    Delta,
    TenantPart,
    corrupt,
)
from services.state.layout import tenant_prefix
from services.state.session_ends import note_end

SLICE_RECORDS = 1000
SLICE_BYTES = 1024**2

Row = tuple[bytes, bytes]


class Slice:
    """Records of a backup that lie next to each other, and the range of keys they stand for."""

    __slots__ = ("behind", "end", "records", "rows")

    def __init__(self, records: Records, behind: bytes, end: bytes, rows: list[Row]) -> None:
        self.records = records
        self.behind = behind
        """Keys after this one belong to the range."""
        self.end = end
        """Keys up to this one do; empty: all that begin with the tenant."""
        self.rows = rows


def read_file(folder: BackupFolder, tenant: str, ref: ChunkRef, key: bytes | None) -> bytes:
    """A chunk's plain bytes.

    Raises:
        ServiceError: BACKUP_CORRUPT.
    """
    path = folder.file_path(tenant, CHUNKS, ref.name)
    try:
        return _plain(path, ref, key)
    except UnsoundError as error:
        folder.found_unsound(path, str(error))
        raise corrupt(folder.named(path), str(error)) from None


def damages_of(folder: BackupFolder, part: TenantPart, key: bytes | None) -> Iterator[Damage]:
    """Reads every file of a tenant's part, and every record in it."""
    records = [(ref, _check) for database in part.databases for ref in database.chunks]
    blobs = [(ref, _plain) for blob in part.blobs for ref in blob.chunks]
    for ref, read in (*records, *blobs):
        path = folder.file_path(part.tenant, CHUNKS, ref.name)
        try:
            read(path, ref, key)
        except UnsoundError as error:
            folder.found_unsound(path, str(error))
            yield Damage(folder.named(path), str(error))
        else:
            folder.found_sound(path)


def _check(path: Path, ref: ChunkRef, key: bytes | None) -> None:
    plain = _plain(path, ref, key)
    count = sum(1 for _ in chunks.read_records(plain))
    if (len(plain), count) != (ref.plain_bytes, ref.record_count):
        raise UnsoundError("holds something else than the manifest says")


def _plain(path: Path, ref: ChunkRef, key: bytes | None) -> bytes:
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        raise UnsoundError("is missing") from None
    except OSError as error:
        raise UnsoundError(f"cannot be read: {error}") from None
    return chunks.read_chunk(ref.name, stored, key)


def rows_of(
    folder: BackupFolder, tenant: str, database: DatabasePart, key: bytes | None
) -> Iterator[Row]:
    """A database's records as they are stored, in key order."""
    prefix = tenant_prefix(tenant)
    for ref in database.chunks:
        for own, value in chunks.read_records(read_file(folder, tenant, ref, key)):
            yield prefix + own, value


def slices_of(folder: BackupFolder, part: TenantPart, key: bytes | None) -> Iterator[Slice]:
    """All that a backup has of a tenant, and the ranges in which it has nothing."""
    parts = {database.name: database for database in part.databases}
    for records in areas.KEPT:
        behind = b""
        database = parts.get(records.database)
        rows = rows_of(folder, part.tenant, database, key) if database else iter(())
        while taken := list(_taken(rows)):
            end = taken[-1][0]
            yield Slice(records, behind, end, taken)
            behind = end
        yield Slice(records, behind, b"", [])


def _taken(rows: Iterator[Row]) -> Iterator[Row]:
    size = 0
    for row in islice(rows, SLICE_RECORDS):
        yield row
        size += len(row[0]) + len(row[1])
        if size >= SLICE_BYTES:
            return


def extra_keys(view: View, part: Slice, prefix: bytes) -> Iterator[bytes]:
    """Keys in the slice's range that the backup has not."""
    kept = {key for key, _ in part.rows}
    for key in view.keys(part.records.database, prefix, after=part.behind):
        if part.end and key > part.end:
            return
        if key not in kept:
            yield key


def compare(view: View, part: Slice, prefix: bytes, delta: Delta) -> None:
    """Count what `put_rows` and `drop_extra` would do."""
    delta.removed += sum(1 for _ in extra_keys(view, part, prefix))
    for key, value in part.rows:
        _count(delta, _found(view, part.records.database, key), key, value)


def drop_extra(txn: Txn, part: Slice, prefix: bytes, delta: Delta, *, now_ns: int) -> bool:
    """Remove keys that the backup has not, a slice of them; whether there may be more."""
    doomed = list(islice(extra_keys(txn, part, prefix), SLICE_RECORDS))
    for key in doomed:
        if _ends(part.records, _found(txn, part.records.database, key), None):
            note_end(txn, key, now_ns)
        _remove(txn, part.records, key)
    delta.removed += len(doomed)
    return len(doomed) == SLICE_RECORDS


def put_rows(txn: Txn, part: Slice, delta: Delta, *, now_ns: int) -> None:
    """Write what is not as the backup has it. Index entries that are missing come too."""
    for key, value in part.rows:
        stored = _found(txn, part.records.database, key)
        _count(delta, stored, key, value)
        if part.records.tombs:
            txn.delete(part.records.tombs, key)
        if stored != value:
            if _ends(part.records, stored, value):
                note_end(txn, key, now_ns)
            if stored is not None:
                _remove(txn, part.records, key)
            txn.put(part.records.database, key, value)
        for database, entry, content in part.records.entries(key, value):
            if not txn.has(database, entry):
                txn.put(database, entry, content)


def clear(txn: Txn, database: str, prefix: bytes) -> bool:
    """Remove a slice of what begins with a prefix; whether there may be more."""
    doomed = list(islice(txn.keys(database, prefix), SLICE_RECORDS))
    for key in doomed:
        txn.delete(database, key)
    return len(doomed) == SLICE_RECORDS


def _ends(records: Records, before: bytes | None, after: bytes | None) -> bool:
    return records.is_ended is not None and records.is_ended(before, after)


def _remove(txn: Txn, records: Records, key: bytes) -> None:
    stored = _found(txn, records.database, key)
    if stored:
        for database, entry, _ in records.entries(key, stored):
            txn.delete(database, entry)
    txn.delete(records.database, key)
    if records.tombs:
        txn.put(records.tombs, key, b"")


def _found(view: View, database: str, key: bytes) -> bytes | None:
    """What is stored; nothing that is sound where it is damaged, and so it is written anew."""
    try:
        return view.get(database, key)
    except ServiceError:
        return b""


def _count(delta: Delta, stored: bytes | None, key: bytes, value: bytes) -> None:
    if stored == value:
        delta.unchanged += 1
        return
    if stored is None:
        delta.added += 1
    else:
        delta.changed += 1
    delta.written_bytes += len(key) + len(value)

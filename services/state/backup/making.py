"""Makes a backup of one view: all of it is of one revision, and writers go on meanwhile.

It runs in a thread of its own and rests now and then, so that calls that come meanwhile need not
wait for the interpreter. Chunks are compressed, sealed and written by a second thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.state import areas
from services.state.backup import chunks
from services.state.backup.blobs import BlobCare, known_blobs
from services.state.backup.folder import CHUNKS, BackupFolder
from services.state.backup.model import BlobRef, ChunkRef, DatabasePart, TenantPart
from services.state.blob_format import BlobKey
from services.state.layout import SESSION_DUE, sessions, tenant_prefix

_WORK_S = 0.0005
_REST_S = 0.00005
_LOOK_EVERY = 32
_RECORDS_FIRST = 4
_RECORDS_AT_ONCE = 64
_BYTES_AT_ONCE = 256 * 1024
_AHEAD = 4
"""Chunks that may wait to be written."""

Row = tuple[bytes, bytes]

_BEHIND_TENANT = b"\1"
"""Comes after NUL: behind all keys of a tenant, before those of the next."""


@dataclass(frozen=True, slots=True)
class Written:
    """A chunk that is in the folder, and the bytes that it added there."""

    ref: ChunkRef
    written_bytes: int


class Maker:
    """Writes tenants' records into the folder."""

    def __init__(self, folder: BackupFolder, *, stop: threading.Event, full: bool = False) -> None:
        """`full`: write every chunk anew, whatever is there. `stop`: give up where it is set."""
        self._stop = stop
        self._folder = folder
        self._full = full
        self._writer = ThreadPoolExecutor(1, "backup-writer")
        self._key: bytes | None = None
        self.written_bytes = 0

    def tenant(self, view: View, tenant: str, key: bytes | None, sealed_key: str) -> TenantPart:
        """All of a tenant's records in a view; their files are on disk, names included.

        Raises:
            ServiceError: RECORD_CORRUPT, STORAGE_FULL.
            OSError: the folder cannot be written.
        """
        prefix = tenant_prefix(tenant)
        found = {each.database: sliced(view, each.database, prefix) for each in areas.KEPT}
        part = self.part(tenant, found, key, sealed_key, strip=len(prefix))
        return msgspec.structs.replace(part, erasing=erased_sessions(view, tenant))

    def part(
        self,
        tenant: str,
        found: Mapping[str, Iterator[Row]],
        key: bytes | None,
        sealed_key: str,
        *,
        strip: int,
    ) -> TenantPart:
        """Records of databases, in key order.

        Args:
            tenant: Whose they are.
            found: Database → its records.
            key: What files are sealed with; None: they are not.
            sealed_key: The same as the manifest has it.
            strip: How many bytes at the beginning of each key are left out.

        Raises:
            ServiceError: STORAGE_FULL; what the iterators raise.
            OSError: the folder cannot be written.
        """
        self._key = key
        parts = [
            self._database(tenant, name, chunks.cut(rested(rows, self._stop), strip), key)
            for name, rows in found.items()
        ]
        self._folder.flush_names(tenant)
        kept = [part for part in parts if part.record_count]
        return TenantPart(tenant, kept, sealed_key=sealed_key)

    def blobs(
        self, part: TenantPart, care: BlobCare, before: TenantPart | None, found: list[BlobKey]
    ) -> TenantPart:
        """The part with a tenant's blobs; those that the backup before has are not read again.

        Raises:
            ServiceError: ARTIFACT_CORRUPT, STORAGE_FULL, SERVICE_UNAVAILABLE.
        """
        same_key = before is not None and before.sealed_key == part.sealed_key
        known = known_blobs(self._folder, before if same_key and not self._full else None)
        refs = []
        for tenant, digest in found:
            check_going(self._stop)
            ref = known.get(digest.hex())
            refs.append(ref or care.copy(tenant, digest, self._writing(tenant)))
        self._folder.flush_names(part.tenant)
        return msgspec.structs.replace(part, blobs=refs)

    def taken_in(
        self, part: TenantPart, found: Iterable[tuple[bytes, Iterator[bytes]]]
    ) -> TenantPart:
        """The part with blobs that come from elsewhere: digest and bytes.

        Raises:
            ServiceError: STORAGE_FULL, SERVICE_UNAVAILABLE; what the iterators raise.
        """
        write = self._writing(part.tenant)
        refs = []
        for digest, pieces in found:
            parts = [write(piece) for piece in pieces]
            refs.append(BlobRef(digest.hex(), sum(each.plain_bytes for each in parts), parts))
        self._folder.flush_names(part.tenant)
        return msgspec.structs.replace(part, blobs=refs)

    def _writing(self, tenant: str) -> Callable[[bytes], ChunkRef]:
        def write(plain: bytes) -> ChunkRef:
            check_going(self._stop)
            written = self._write(tenant, [plain], 0, self._key)
            self.written_bytes += written.written_bytes
            return written.ref

        return write

    def close(self) -> None:
        """End the thread that writes."""
        self._writer.shutdown(cancel_futures=True)

    def _database(
        self, tenant: str, name: str, found: Iterator[tuple[list[bytes], int]], key: bytes | None
    ) -> DatabasePart:
        waiting: list[Future[Written]] = []
        done: list[Written] = []
        for pieces, count in found:
            waiting.append(self._writer.submit(self._write, tenant, pieces, count, key))
            if len(waiting) > _AHEAD:
                done.append(waiting.pop(0).result())
        done += [each.result() for each in waiting]
        self.written_bytes += sum(each.written_bytes for each in done)
        return DatabasePart(
            name=name,
            record_count=sum(each.ref.record_count for each in done),
            plain_bytes=sum(each.ref.plain_bytes for each in done),
            chunks=[each.ref for each in done],
        )

    def _write(self, tenant: str, pieces: list[bytes], count: int, key: bytes | None) -> Written:
        plain = b"".join(pieces)
        name = chunks.name_of(plain, key)
        path = self._folder.file_path(tenant, CHUNKS, name)
        if not self._full and (size := _size_of_sound(path, name, key)):
            return Written(ChunkRef(name, count, len(plain), size), 0)
        stored = chunks.write_chunk(name, plain, key)
        self._folder.put(path, stored)
        return Written(ChunkRef(name, count, len(plain), len(stored)), len(stored))


def _size_of_sound(path: Path, name: str, key: bytes | None) -> int:
    """How large a chunk's file is; 0 where it is not there or damaged, and so is written anew."""
    try:
        stored = path.read_bytes()
        chunks.read_chunk(name, stored, key)
    except (OSError, chunks.UnsoundError):
        return 0
    return len(stored)


def erased_sessions(view: View, tenant: str) -> list[str]:
    """Sessions that were deleted, and of which something is still to be erased."""
    places = view.keys(SESSION_DUE, sessions.erase_prefix(tenant))
    return [sessions.split_due_key(place)[3] for place in places]


def tenants_of(view: View) -> list[str]:
    """Every tenant that has something, in order."""
    found: set[str] = set()
    for records in areas.KEPT:
        behind = b""
        while (key := next(view.keys(records.database, b"", after=behind), None)) is not None:
            tenant = key.partition(b"\0")[0]
            found.add(tenant.decode())
            behind = tenant + _BEHIND_TENANT
    return sorted(found)


def sliced(view: View, database: str, prefix: bytes) -> Iterator[Row]:
    """Like a scan, but records are read and verified several at a time, as many as are small."""
    after, limit = b"", _RECORDS_FIRST
    while (part := view.slice(database, prefix, limit=limit, after=after)).keys:
        yield from zip(part.keys, part.values, strict=True)
        after = part.keys[-1]
        each = sum(map(len, part.values)) // len(part.keys) + 1
        limit = max(1, min(_RECORDS_AT_ONCE, _BYTES_AT_ONCE // each))


def rested(
    records: Iterator[tuple[bytes, bytes]], stop: threading.Event
) -> Iterator[tuple[bytes, bytes]]:
    """The records, with a rest every now and then for whoever waits for the interpreter.

    Raises:
        ServiceError: SERVICE_UNAVAILABLE where `stop` is set meanwhile.
    """
    until = time.perf_counter() + _WORK_S
    for number, record in enumerate(records):
        yield record
        if number % _LOOK_EVERY == 0 and time.perf_counter() > until:
            check_going(stop)
            time.sleep(_REST_S)
            until = time.perf_counter() + _WORK_S


def check_going(stop: threading.Event) -> None:
    """Give up where the process is stopping.

    Raises:
        ServiceError: SERVICE_UNAVAILABLE.
    """
    if stop.is_set():
        raise ServiceError(Reason.SERVICE_UNAVAILABLE, "The process is stopping.")

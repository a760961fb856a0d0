"""Copies of collections in files of their own, and collections made of them again.

A file holds the collection's row and its living records, checked by one digest over all, which the
store registers. A restore reads the whole of it before it changes anything, writes it to a
collection that nobody sees, and exchanges that with the one that is there in one step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.limits import SNAPSHOTS_MAX
from services.common.store import Txn, View, is_full, storage_full
from services.vector.allowances import Allowance
from services.vector.checks import check_collection
from services.vector.engines import layout, places, reads
from services.vector.engines.changes import Change, Place
from services.vector.engines.core import Core
from services.vector.engines.layout import CollectionRow, Payload, SnapshotRow
from services.vector.engines.writes import Records
from services.vector.model import SnapshotInfo
from services.vector.refusals import snapshot_not_found
from services.vector.segments import container
from services.vector.segments.container import FileRefusedError

_log = logging.getLogger(__name__)

RESTORING = "~restore~"
"""What the ids of collections begin with that are being restored."""
_AT_ONCE = 1000


class _Head(msgspec.Struct, frozen=True):
    row: msgspec.Raw


class Snapshots:
    """Of every tenant of a store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._folder = core.store.path / "snapshots"
        self._half_restored = self._clean()

    async def create(self, place: Place) -> SnapshotInfo:
        """Keep a copy of a collection as it is now."""
        snapshot_id = secrets.token_hex(8)
        if len(self.list(place[0], None)) >= SNAPSHOTS_MAX:
            raise limit_exceeded("snapshots", SNAPSHOTS_MAX + 1, SNAPSHOTS_MAX)
        now_ns, path = self._core.now_ns(), self._path(snapshot_id)
        key = layout.snapshot_key(place[0], snapshot_id)
        try:
            row = await asyncio.to_thread(self._write, place, path, now_ns)
            await self._core.store.write(
                lambda txn: txn.put(layout.SNAPSHOTS, key, layout.pack(row)), grows=True
            )
        except (OSError, ServiceError) as error:
            self._remove(path)
            raise storage_full() if is_full(error) else error from None
        return _info(snapshot_id, row)

    def list(self, tenant: str, scope: str | None, collection_id: str = "") -> list[SnapshotInfo]:
        """Snapshots, the newest first."""
        prefix = layout.tenant_prefix(tenant)
        with self._core.store.read() as view:
            found = [
                _info(key.rpartition(b"\0")[2].decode(), layout.unpack_snapshot(value))
                for key, value in view.scan(layout.SNAPSHOTS, prefix)
            ]
        fitting = [
            each
            for each in found
            if scope in {None, each.scope} and collection_id in {"", each.collection_id}
        ]
        return sorted(fitting, key=lambda each: (-each.create_time_ns, each.snapshot_id))

    async def restore(
        self, tenant: str, snapshot_id: str, scope: str, collection_id: str
    ) -> tuple[int, int]:
        """Put a collection back, in one step; records and revision."""
        registered = self._registered(tenant, snapshot_id)
        row, records = await asyncio.to_thread(_read, self._path(snapshot_id), registered.digest)
        target = (tenant, scope or registered.scope, collection_id or registered.collection_id)
        check_collection(target[2], row.dimension)
        self._core.allowances.get(tenant).check_dimension(row.dimension)
        hidden = (target[0], target[1], RESTORING + secrets.token_hex(8))
        bare = msgspec.structs.replace(_emptied(row), expire_time_ns=layout.NEVER, role="incoming")
        await self._core.write(
            lambda txn: places.create(txn, hidden, bare, now_ns=self._core.now_ns())
        )
        try:
            count = await self._fill(hidden, records)
            allowance = self._core.allowances.get(tenant)
            change = await self._core.write(
                lambda txn: _put_in_place(
                    txn, target, hidden, row, now_ns=self._core.now_ns(), allowance=allowance
                )
            )
        except BaseException:
            await asyncio.shield(self._drop(hidden))
            raise
        return count, change.revision

    async def delete(self, tenant: str, snapshot_id: str) -> int:
        """Remove a snapshot; 0 where it is not there."""
        key = layout.snapshot_key(tenant, snapshot_id)
        removed = await self._core.store.write(lambda txn: txn.delete(layout.SNAPSHOTS, key))
        if removed:
            self._remove(self._path(snapshot_id))
        return int(removed)

    async def purge(self, tenant: str) -> None:
        """Remove all of a tenant's."""
        for each in self.list(tenant, None):
            await self.delete(tenant, each.snapshot_id)

    async def drop_half_restored(self) -> None:
        """Remove what a crash left of restores."""
        while self._half_restored:
            await self._drop(self._half_restored.pop())

    def _clean(self) -> set[Place]:
        """Remove files that nothing registers, before one is written; what was half restored."""
        with self._core.store.read() as view:
            known = {key.rpartition(b"\0")[2].decode() for key in view.keys(layout.SNAPSHOTS, b"")}
            half = {
                layout.split_place(key)
                for key in view.keys(layout.COLLECTIONS, b"")
                if key.rpartition(b"\0")[2].startswith(RESTORING.encode())
            }
        for path in self._folder.glob("*"):
            if path.stem not in known:
                self._remove(path)
        return half

    def _remove(self, path: Path) -> None:
        """Remove a file; one that stays is in nobody's way, and goes at the next start."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the file %s cannot be removed: %s", path.name, error.strerror)

    def _path(self, snapshot_id: str) -> Path:
        return self._folder / f"{snapshot_id}.snapshot"

    def _registered(self, tenant: str, snapshot_id: str) -> SnapshotRow:
        if not snapshot_id.isascii() or not snapshot_id.isalnum():
            raise snapshot_not_found(snapshot_id)
        with self._core.store.read() as view:
            value = view.get(layout.SNAPSHOTS, layout.snapshot_key(tenant, snapshot_id))
        if value is None:
            raise snapshot_not_found(snapshot_id)
        return layout.unpack_snapshot(value)

    def _write(self, place: Place, path: Path, now_ns: int) -> SnapshotRow:
        with self._core.store.read() as view:
            row = reads.need_row(view, place, now_ns)
            arrays = _arrays(view, row, now_ns)
            revision = view.revision()
        digest = container.write(path, _Head(msgspec.Raw(msgspec.json.encode(row))), arrays)
        return SnapshotRow(
            scope=place[1],
            collection_id=place[2],
            create_time_ns=now_ns,
            revision=revision,
            record_count=len(arrays["payload_ends"]),
            size_bytes=path.stat().st_size,
            digest=digest,
        )

    async def _fill(self, place: Place, records: Sequence[tuple[Any, Payload]]) -> int:
        for start in range(0, len(records), _AT_ONCE):
            some = records[start : start + _AT_ONCE]
            await self._core.write(
                lambda txn, some=some: _append(txn, place, some, self._core.now_ns()),  # type: ignore[misc]
                grows=True,
            )
        return len(records)

    async def _drop(self, place: Place) -> None:
        with contextlib.suppress(ServiceError):
            await self._core.write(lambda txn: places.doom(txn, place, txn.next_revision()))


def _arrays(view: View, row: CollectionRow, now_ns: int) -> dict[str, Any]:
    vectors, payloads = [], []
    prefix = layout.member_key(row.namespace, row.member)
    for _, value in view.scan(layout.IDS, prefix):
        entry = layout.unpack_entry(value)
        if entry.expire_time_ns <= now_ns:
            continue
        place = layout.label_key(row.namespace, entry.label)
        vectors.append(view.get(layout.VECTORS, place) or b"")
        payloads.append(view.get(layout.PAYLOADS, place) or b"")
    return {
        "vectors": np.frombuffer(b"".join(vectors), "<f4"),
        "payloads": np.frombuffer(b"".join(payloads), np.uint8),
        "payload_ends": np.cumsum([len(each) for each in payloads], dtype=np.uint64),
    }


def _read(path: Path, digest: str) -> tuple[CollectionRow, list[tuple[Any, Payload]]]:
    try:
        file = container.read(path, digest)
    except FileRefusedError as refusal:
        raise ServiceError(
            Reason.RECORD_CORRUPT,
            f"The snapshot cannot be restored: {refusal}. Nothing was changed.",
            key=path.name,
        ) from None
    row = msgspec.json.decode(file.head_as(_Head).row, type=CollectionRow)
    vectors = file.arrays["vectors"].reshape(-1, row.dimension)
    return row, list(zip(vectors, _payloads(file), strict=True))


def _payloads(file: container.Container) -> Iterator[Payload]:
    text = memoryview(cast("Any", file.arrays["payloads"]))
    start = 0
    for end in file.arrays["payload_ends"].tolist():
        yield layout.unpack_payload(bytes(text[start:end]))
        start = end


def _append(txn: Txn, place: Place, some: Sequence[tuple[Any, Payload]], now_ns: int) -> Change:
    row = reads.need_row(txn, place, now_ns)
    records = Records(txn, layout.collection_key(*place), row, now_ns)
    revision = txn.next_revision()
    for vector, payload in some:
        records.put(
            vector,
            msgspec.structs.replace(
                payload, revision=revision, ingest_time_ns=now_ns, member=row.member
            ),
        )
    records.finish(revision)
    change = Change(revision)
    change.add(row.namespace, records.edit)
    return change


def _put_in_place(
    txn: Txn,
    target: Place,
    hidden: Place,
    row: CollectionRow,
    *,
    now_ns: int,
    allowance: Allowance,
) -> Change:
    """Give the restored records the name; what had it goes."""
    vectors, size = reads.total(txn, target[0], now_ns)
    if reads.row(txn, target, now_ns) is None:
        places.create(txn, target, _emptied(row), now_ns=now_ns)
    revision = txn.next_revision()
    places.exchange(txn, target, hidden, now_ns=now_ns, revision=revision, role="incoming")
    change = Change(revision, gone=places.doom(txn, hidden, revision).gone)
    then_vectors, then_size = reads.total(txn, target[0], now_ns)
    allowance.check_room(
        then_vectors, then_size, more_vectors=then_vectors - vectors, more_bytes=then_size - size
    )
    return change


def _emptied(row: CollectionRow) -> CollectionRow:
    return msgspec.structs.replace(
        row, role="", record_count=0, stored_bytes=0, history_count=0, history_bytes=0
    )


def _info(snapshot_id: str, row: SnapshotRow) -> SnapshotInfo:
    return SnapshotInfo(
        snapshot_id=snapshot_id,
        scope=row.scope,
        collection_id=row.collection_id,
        create_time_ns=row.create_time_ns,
        revision=row.revision,
        record_count=row.record_count,
        size_bytes=row.size_bytes,
        digest=row.digest,
    )

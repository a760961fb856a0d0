"""What the embedded engine does inside a transaction, and what that changes in memory.

Each function runs in the store's writer thread, in a child transaction: it writes all of what it
says or, where it raises, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from services.common.store import Txn
from services.vector.checks import Batch
from services.vector.engines import layout
from services.vector.engines.layout import CollectionRow, Entry, Payload
from services.vector.model import NewRecord, Vector
from services.vector.refusals import collection_exists, collection_not_found

Place = tuple[str, str, str]
"""Tenant, scope and collection."""


@dataclass(slots=True)
class Edit:
    """What one transaction changed in one namespace, in the order removed, then added."""

    removed: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    record_ids: list[str] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    expire_times_ns: list[int] = field(default_factory=list)
    removed_bytes: int = 0
    added_bytes: int = 0


@dataclass(slots=True)
class Change:
    """What one transaction changed. One that changed nothing has taken no revision."""

    revision: int
    edits: dict[int, Edit] = field(default_factory=dict)
    """By namespace."""
    dropped: list[int] = field(default_factory=list)
    """Namespaces whose collection is gone."""
    count: int = 0
    """Records removed, those that were only replaced by their like not among them."""


def create(txn: Txn, place: Place, row: CollectionRow, *, if_absent: bool = False) -> Change:
    """Write a collection's row; the revision becomes its namespace.

    Raises:
        ServiceError: COLLECTION_EXISTS, unless `if_absent`.
    """
    key = layout.collection_key(*place)
    if txn.has(layout.COLLECTIONS, key):
        if if_absent:
            return Change(txn.revision())
        raise collection_exists(*place[1:])
    revision = txn.next_revision()
    made = msgspec.structs.replace(row, namespace=revision)
    txn.put(layout.COLLECTIONS, key, layout.pack_row(made))
    txn.put(layout.NAMESPACES, layout.namespace_key(revision), key)
    return Change(revision)


def upsert(
    txn: Txn,
    place: Place,
    batch: Batch,
    *,
    namespace: int,
    now_ns: int,
    replace_prefixes: Sequence[str],
) -> Change:
    """Write a batch that was checked against the collection that `namespace` was.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND, also where another has taken its name since.
    """
    key = layout.collection_key(*place)
    row = _row(txn, key)
    if row is None or row.namespace != namespace:
        raise collection_not_found(*place[1:])
    edit = Edit()
    replaced = _remove_all(txn, namespace, _with_prefixes(txn, namespace, replace_prefixes), edit)
    if not batch.records and not replaced:
        return Change(txn.revision())
    revision = txn.next_revision()
    for label, (record_id, record) in enumerate(batch.records.items(), row.next_label):
        _remove_all(txn, namespace, [record_id], edit)
        payload = _payload(record_id, record, batch.metadata[record_id], revision, now_ns)
        _put_record(txn, namespace, label, record=record, payload=payload, edit=edit)
    _put_row(txn, key, row, edit)
    return Change(revision, {namespace: edit}, count=replaced)


def remove(txn: Txn, place: Place, record_ids: Sequence[str], prefixes: Sequence[str]) -> Change:
    """Remove records by id and by the beginning of their id."""
    key = layout.collection_key(*place)
    row = _row(txn, key)
    if row is None:
        return Change(txn.revision())
    edit = Edit()
    count = _remove_all(txn, row.namespace, record_ids, edit)
    count += _remove_all(txn, row.namespace, _with_prefixes(txn, row.namespace, prefixes), edit)
    if not count:
        return Change(txn.revision())
    _put_row(txn, key, row, edit)
    return Change(txn.next_revision(), {row.namespace: edit}, count=count)


def drop(txn: Txn, prefix: bytes, *, whole_key: bool = False) -> Change:
    """Remove the collections whose key begins with `prefix`, or is it. `erase` does the rest."""
    rows = [
        (key, layout.unpack_row(value))
        for key, value in txn.scan(layout.COLLECTIONS, prefix)
        if not whole_key or key == prefix
    ]
    for key, row in rows:
        txn.delete(layout.COLLECTIONS, key)
        txn.delete(layout.NAMESPACES, layout.namespace_key(row.namespace))
        txn.put(layout.DOOMED, layout.namespace_key(row.namespace), b"")
    revision = txn.next_revision() if rows else txn.revision()
    dropped = [row.namespace for _, row in rows]
    return Change(revision, dropped=dropped, count=sum(row.record_count for _, row in rows))


def expire(txn: Txn, now_ns: int, limit: int) -> Change:
    """Remove up to `limit` records whose time has come, the longest expired first."""
    due: dict[int, list[str]] = {}
    for number, (key, record_id) in enumerate(txn.scan(layout.EXPIRY, b"")):
        expire_time_ns, namespace, _ = layout.read_expiry_key(key)
        if expire_time_ns > now_ns or number == limit:
            break
        due.setdefault(namespace, []).append(record_id.decode())
    change = Change(txn.revision())
    for namespace, record_ids in due.items():
        place = txn.get(layout.NAMESPACES, layout.namespace_key(namespace))
        row = None if place is None else _row(txn, place)
        if place is None or row is None:  # doomed: `erase` removes record and entry together
            continue
        edit = Edit()
        change.count += _remove_all(txn, namespace, record_ids, edit)
        change.edits[namespace] = edit
        _put_row(txn, place, row, edit)
    if change.count:
        change.revision = txn.next_revision()
    return change


def erase(txn: Txn, namespace: int, limit: int) -> int:
    """Remove up to `limit` records of a collection that is gone; 0 when none is left.

    Nobody can see them any more, so this takes no revision.
    """
    prefix = layout.namespace_key(namespace)
    doomed = [key for key, _ in zip(txn.keys(layout.IDS, prefix), range(limit), strict=False)]
    _remove_all(txn, namespace, map(layout.read_record_id, doomed), Edit())
    if not doomed:
        txn.delete(layout.DOOMED, prefix)
    return len(doomed)


def _row(txn: Txn, key: bytes) -> CollectionRow | None:
    value = txn.get(layout.COLLECTIONS, key)
    return None if value is None else layout.unpack_row(value)


def _with_prefixes(txn: Txn, namespace: int, prefixes: Sequence[str]) -> Iterator[str]:
    for prefix in prefixes:
        for key in list(txn.keys(layout.IDS, layout.id_key(namespace, prefix))):
            yield layout.read_record_id(key)


def _remove_all(txn: Txn, namespace: int, record_ids: Iterable[str], edit: Edit) -> int:
    count = 0
    for record_id in record_ids:
        key = layout.id_key(namespace, record_id)
        value = txn.get(layout.IDS, key)
        if value is None:
            continue
        count += 1
        entry = layout.unpack_entry(value)
        place = layout.label_key(namespace, entry.label)
        txn.delete(layout.IDS, key)
        txn.delete(layout.VECTORS, place)
        txn.delete(layout.PAYLOADS, place)
        if entry.expire_time_ns != layout.NEVER:
            txn.delete(
                layout.EXPIRY, layout.expiry_key(entry.expire_time_ns, namespace, entry.label)
            )
        edit.removed.append(entry.label)
        edit.removed_bytes += entry.size_bytes
    return count


def _payload(
    record_id: str, record: NewRecord, metadata: bytes, revision: int, now_ns: int
) -> Payload:
    return Payload(
        record_id=record_id,
        revision=revision,
        ingest_time_ns=now_ns,
        expire_time_ns=layout.NEVER if record.ttl_ns is None else now_ns + record.ttl_ns,
        event_time_ns=record.event_time_ns,
        metadata=msgspec.Raw(metadata),
        text=record.text,
    )


def _put_record(
    txn: Txn, namespace: int, label: int, *, record: NewRecord, payload: Payload, edit: Edit
) -> None:
    vector = record.vector.astype("<f4", copy=False).tobytes()
    size = len(vector) + len(payload.metadata) + len(payload.text.encode())
    entry = Entry(label, payload.expire_time_ns, payload.revision, size)
    place = layout.label_key(namespace, label)
    txn.append(layout.VECTORS, place, vector)
    txn.append(layout.PAYLOADS, place, layout.pack_payload(payload))
    txn.put(layout.IDS, layout.id_key(namespace, payload.record_id), layout.pack_entry(entry))
    if payload.expire_time_ns != layout.NEVER:
        key = layout.expiry_key(payload.expire_time_ns, namespace, label)
        txn.put(layout.EXPIRY, key, payload.record_id.encode())
    edit.labels.append(label)
    edit.record_ids.append(payload.record_id)
    edit.vectors.append(record.vector)
    edit.expire_times_ns.append(payload.expire_time_ns)
    edit.added_bytes += size


def _put_row(txn: Txn, key: bytes, row: CollectionRow, edit: Edit) -> None:
    changed = msgspec.structs.replace(
        row,
        next_label=row.next_label + len(edit.labels),
        record_count=row.record_count + len(edit.labels) - len(edit.removed),
        stored_bytes=row.stored_bytes + edit.added_bytes - edit.removed_bytes,
    )
    txn.put(layout.COLLECTIONS, key, layout.pack_row(changed))

"""A collection that has outgrown rows shared with others gets rows of its own."""

from __future__ import annotations

import logging

import msgspec

from services.common.errors import ServiceError
from services.common.store import Txn
from services.vector.engines import layout, places, postings, reads
from services.vector.engines.changes import Change, Gone
from services.vector.engines.core import Core
from services.vector.engines.layout import OWN, CollectionRow
from services.vector.model import Isolation

_log = logging.getLogger(__name__)

_PUT_ASIDE_MAX = 20_000
"""Rows that move in one step; a collection that has grown past this at once stays where it is."""


async def promote(core: Core, tenant: str, scope: str, collection_id: str) -> None:
    """Move a collection of a hybrid tenant once it has more records than need no graph.

    The write that made it grow is done, whatever comes of this; the next one tries again.
    """
    place = (tenant, scope, collection_id)
    with core.store.read() as view:
        row = reads.row(view, place, core.now_ns())
        if row is None or not _has_grown(row, core.exact_threshold):
            return
        if reads.isolation(view, tenant) is not Isolation.HYBRID:
            return
    key = layout.collection_key(*place)
    try:
        await core.write(lambda txn: _move(txn, key, core.exact_threshold))
    except ServiceError as error:
        _log.warning("a collection stays among shared rows: %s", error.message)


def _has_grown(row: CollectionRow, threshold: int) -> bool:
    return row.member != OWN and threshold < row.record_count <= _PUT_ASIDE_MAX


def _move(txn: Txn, key: bytes, threshold: int) -> Change:
    """Copy a collection's rows, its history's among them, under labels of its own."""
    value = txn.get(layout.COLLECTIONS, key)
    row = None if value is None else layout.unpack_row(value)
    if row is None or not _has_grown(row, threshold):
        return Change(txn.revision())
    revision = txn.next_revision()
    namespace = places.new_namespace(txn, row, revision)
    old = postings.to_array(postings.members(txn, row.namespace, row.member))
    living = []
    for label, old_label in enumerate(old.tolist()):
        metadata = _copy(txn, row, old_label, namespace, label)
        if metadata is not None:
            living.append((label, metadata))
    postings.add(txn, namespace, living)
    space = reads.need_namespace(txn, namespace)
    moved = msgspec.structs.replace(space, next_label=len(old))
    txn.put(layout.NAMESPACES, layout.namespace_key(namespace), layout.pack(moved))
    txn.delete(layout.MEMBERS, layout.member_key(row.namespace, row.member))
    txn.put(layout.DOOMED, layout.member_key(row.namespace, row.member), b"")
    txn.put(layout.MEMBERS, layout.member_key(namespace, OWN), key)
    kept = msgspec.structs.replace(row, namespace=namespace, member=OWN)
    txn.put(layout.COLLECTIONS, key, layout.pack(kept))
    return Change(revision, gone=[Gone(row.namespace, row.member, shared=True)])


def _copy(txn: Txn, row: CollectionRow, old_label: int, namespace: int, label: int) -> bytes | None:
    """Copy one row; its metadata where it lives."""
    payload = reads.need_payload(txn, row.namespace, old_label)
    vector = reads.need_vector(txn, row.namespace, old_label)
    place = layout.label_key(namespace, label)
    txn.append(layout.VECTORS, place, vector.tobytes())
    txn.append(layout.PAYLOADS, place, layout.pack(msgspec.structs.replace(payload, member=OWN)))
    end = txn.get(layout.ENDS, layout.label_key(row.namespace, old_label))
    if end is not None:
        txn.put(layout.ENDS, place, end)
        due_ns = layout.unpack_end(end).due_ns
        txn.put(layout.HISTORY, layout.due_key(due_ns, namespace, label), b"")
        return None
    stored = txn.get(layout.IDS, layout.id_key(row.namespace, row.member, payload.record_id))
    assert stored is not None, "a living row is listed"
    entry = msgspec.structs.replace(layout.unpack_entry(stored), label=label)
    key = layout.id_key(namespace, OWN, payload.record_id)
    txn.put(layout.IDS, key, layout.pack_entry(entry))
    if payload.expire_time_ns != layout.NEVER:
        due = layout.due_key(payload.expire_time_ns, namespace, label)
        txn.put(layout.EXPIRY, due, payload.record_id.encode())
    return bytes(payload.metadata)

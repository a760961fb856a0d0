"""What the embedded engine does to collections, scopes and tenants inside a transaction.

Each function runs in the store's writer thread, in a child transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.common.store import Txn
from services.vector.engines import layout, postings, reads
from services.vector.engines.changes import Change, Gone, Place
from services.vector.engines.layout import OWN, CollectionRow, NamespaceRow, ScopeRow
from services.vector.model import CollectionChanges, Isolation
from services.vector.refusals import collection_exists, collection_not_found, records_changed

SHADOW = "~"
_POOLED = {Isolation.METADATA, Isolation.HYBRID}


def create(
    txn: Txn, place: Place, row: CollectionRow, *, now_ns: int, if_absent: bool = False
) -> Change:
    """Write a collection's row, and give it a namespace or a part in one.

    Raises:
        ServiceError: COLLECTION_EXISTS, unless `if_absent`.
    """
    key = layout.collection_key(*place)
    if reads.row(txn, place, now_ns) is not None:
        if if_absent:
            return Change(txn.revision())
        raise collection_exists(*place[1:])
    gone = _end_scope(txn, place, now_ns)
    gone += _drop_rows(txn, [key, *_shadow_keys(txn, key)])
    revision = txn.next_revision()
    namespace, member = _room(txn, place[0], row, revision)
    made = msgspec.structs.replace(row, namespace=namespace, member=member)
    _put_row(txn, key, made)
    txn.put(layout.MEMBERS, layout.member_key(namespace, member), key)
    return Change(revision, gone=gone)


def update(txn: Txn, place: Place, changes: CollectionChanges, *, now_ns: int) -> Change:
    """Change settings.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND.
    """
    key = layout.collection_key(*place)
    row = reads.row(txn, place, now_ns)
    if row is None:
        raise collection_not_found(*place[1:])
    fields: dict[str, object] = {}
    if changes.default_ttl_ns is not None:
        fields["default_ttl_ns"] = changes.default_ttl_ns or None
    if changes.history_window_ns is not None:
        fields["history_window_ns"] = changes.history_window_ns
        if changes.history_window_ns > row.history_window_ns:
            fields["history_start_ns"] = now_ns  # what ended before is not kept for as long
    if changes.ttl_ns is not None:
        fields["expire_time_ns"] = now_ns + changes.ttl_ns if changes.ttl_ns else layout.NEVER
    if changes.ef_search is not None:
        fields["hnsw"] = (*row.hnsw[:2], changes.ef_search, row.hnsw[3])
    changed = msgspec.structs.replace(row, **fields)
    if changed == row:
        return Change(txn.revision())
    _forget_ending(txn, key, row.expire_time_ns)
    _put_row(txn, key, changed)
    return Change(txn.next_revision())


def configure_scope(
    txn: Txn, scope: tuple[str, str], *, record_ttl_ns: int | None, ttl_ns: int | None, now_ns: int
) -> Change:
    """Change a scope's settings."""
    key = layout.scope_key(*scope)
    gone = _end_scope(txn, (*scope, ""), now_ns)
    old = reads.scope_row(txn, *scope, now_ns)
    new = ScopeRow(
        record_ttl_ns=old.record_ttl_ns if record_ttl_ns is None else record_ttl_ns or None,
        expire_time_ns=_ending(old.expire_time_ns, ttl_ns, now_ns),
    )
    if new == old and not gone:
        return Change(txn.revision())
    _forget_ending(txn, key, old.expire_time_ns)
    if new == ScopeRow():
        txn.delete(layout.SCOPES, key)
    else:
        txn.put(layout.SCOPES, key, layout.pack(new))
        _note_ending(txn, key, new.expire_time_ns)
    return Change(txn.next_revision(), gone=gone)


def drop(txn: Txn, place: Place, *, now_ns: int) -> Change:
    """Remove a collection and its shadow. `erase` does the rest."""
    key = layout.collection_key(*place)
    row = reads.row(txn, place, now_ns)
    if row is None:
        return Change(txn.revision())
    gone = _drop_rows(txn, [key, *_shadow_keys(txn, key)])
    return Change(txn.next_revision(), gone=gone, count=row.record_count)


def drop_scope(txn: Txn, tenant: str, scope: str, *, now_ns: int) -> Change:
    """Remove every collection of a scope; its settings stay."""
    rows = list(reads.rows(txn, tenant, scope, now_ns=now_ns))
    count = sum(row.record_count for _, row in rows)
    gone = _end_scope(txn, (tenant, scope, ""), now_ns)
    gone += _drop_rows(txn, list(txn.keys(layout.COLLECTIONS, layout.scope_prefix(tenant, scope))))
    return Change(txn.next_revision() if gone else txn.revision(), gone=gone, count=count)


def purge(txn: Txn, tenant: str, *, now_ns: int) -> Change:
    """Forget all that a tenant has."""
    rows = list(reads.rows(txn, tenant, None, now_ns=now_ns))
    prefix = layout.tenant_prefix(tenant)
    gone = _drop_rows(txn, list(txn.keys(layout.COLLECTIONS, prefix)))
    for key, value in list(txn.scan(layout.SCOPES, prefix)):
        _forget_ending(txn, key, layout.unpack_scope(value).expire_time_ns)
        txn.delete(layout.SCOPES, key)
    txn.delete_prefix(layout.SNAPSHOTS, prefix)
    txn.delete(layout.TENANTS, tenant.encode())
    count = sum(row.record_count for _, row in rows)
    return Change(txn.next_revision() if gone else txn.revision(), gone=gone, count=count)


def end_due(txn: Txn, now_ns: int, limit: int) -> Change:
    """Remove collections and scopes whose time has come, up to `limit` of them."""
    gone: list[Gone] = []
    for number, ending in enumerate(list(txn.keys(layout.ENDINGS, b""))):
        time_ns, key = layout.read_ending_key(ending)
        if time_ns > now_ns or number == limit:
            break
        if txn.has(layout.COLLECTIONS, key):
            gone += _drop_rows(txn, [key, *_shadow_keys(txn, key)])
        else:
            tenant, scope = key.decode().split("\0")
            gone += _end_scope(txn, (tenant, scope, ""), now_ns)
        txn.delete(layout.ENDINGS, ending)
    return Change(txn.next_revision() if gone else txn.revision(), gone=gone)


def swap_shadow(txn: Txn, place: Place, *, records_revision: int, now_ns: int) -> Change:
    """Exchange a collection's records with its shadow's.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND, REVISION_MISMATCH.
    """
    tenant, scope, collection_id = place
    shadow_place = (tenant, scope, SHADOW + collection_id)
    row, shadow = reads.row(txn, place, now_ns), reads.row(txn, shadow_place, now_ns)
    if row is None or shadow is None:
        raise collection_not_found(scope, collection_id)
    if row.records_revision != records_revision:
        raise records_changed(collection_id, row.records_revision, records_revision)
    revision = txn.next_revision()
    exchange(txn, place, shadow_place, now_ns=now_ns, revision=revision, role="previous")
    return Change(revision)


def exchange(
    txn: Txn, place: Place, other_place: Place, *, now_ns: int, revision: int, role: str
) -> None:
    """Exchange the records of two collections that are there; settings stay with their names."""
    keys = layout.collection_key(*place), layout.collection_key(*other_place)
    rows = [layout.unpack_row(txn.get(layout.COLLECTIONS, key) or b"") for key in keys]
    for key, mine, theirs in ((keys[0], rows[0], rows[1]), (keys[1], rows[1], rows[0])):
        moved = msgspec.structs.replace(
            theirs,
            default_ttl_ns=mine.default_ttl_ns,
            history_window_ns=mine.history_window_ns,
            history_start_ns=now_ns,
            expire_time_ns=mine.expire_time_ns,
            create_time_ns=mine.create_time_ns,
            role="" if key == keys[0] else role,
            records_revision=revision,
        )
        txn.put(layout.COLLECTIONS, key, layout.pack(moved))
        txn.put(layout.MEMBERS, layout.member_key(moved.namespace, moved.member), key)


def doom(txn: Txn, place: Place, revision: int) -> Change:
    """Remove a collection that only this engine knows of."""
    return Change(revision, gone=_drop_rows(txn, [layout.collection_key(*place)]))


def configure_tenant(txn: Txn, tenant: str, isolation: Isolation) -> Isolation:
    """Note how a tenant is kept apart, unless it has collections; how it is."""
    held = next(txn.keys(layout.COLLECTIONS, layout.tenant_prefix(tenant)), None)
    if held is None:
        txn.put(layout.TENANTS, tenant.encode(), isolation.value.encode())
    return reads.isolation(txn, tenant)


def count_history(txn: Txn, namespace: int, member: int, size: int) -> None:
    """Take one record off what a collection keeps for its history."""
    key = txn.get(layout.MEMBERS, layout.member_key(namespace, member))
    value = None if key is None else txn.get(layout.COLLECTIONS, key)
    if key is None or value is None:
        return
    row = layout.unpack_row(value)
    changed = msgspec.structs.replace(
        row, history_count=row.history_count - 1, history_bytes=row.history_bytes - size
    )
    txn.put(layout.COLLECTIONS, key, layout.pack(changed))


def erase(txn: Txn, namespace: int, member: int, limit: int) -> int:
    """Remove up to `limit` things of a collection that is gone; 0 when none is left.

    Nobody can see them any more, so this takes no revision.
    """
    space = reads.namespace_row(txn, namespace)
    if space is None:
        txn.delete(layout.DOOMED, layout.member_key(namespace, member))
        return 0
    labels = _labels_of(txn, namespace, member, space, limit)
    removed = [(label, _erase_record(txn, namespace, label)) for label in labels]
    if space.shared:
        living = [(label, metadata) for label, metadata in removed if metadata is not None]
        postings.remove(txn, namespace, living)
        postings.remove_members(txn, namespace, member, labels)
    if labels:
        return len(labels)
    if not space.shared:
        if count := postings.drop(txn, namespace, limit):
            return count
        txn.delete_prefix(layout.SEGMENTS, layout.namespace_key(namespace))
        txn.delete(layout.NAMESPACES, layout.namespace_key(namespace))
    txn.delete(layout.DOOMED, layout.member_key(namespace, member))
    return 0


def _labels_of(txn: Txn, namespace: int, member: int, space: NamespaceRow, limit: int) -> list[int]:
    if space.shared:
        members = postings.to_array(postings.members(txn, namespace, member))
        return [int(label) for label in members[:limit]]
    keys = txn.keys(layout.PAYLOADS, layout.namespace_key(namespace))
    return [layout.read_label(key) for key, _ in zip(keys, range(limit), strict=False)]


def _erase_record(txn: Txn, namespace: int, label: int) -> bytes | None:
    """Remove all that a label has; its metadata where it was living."""
    place = layout.label_key(namespace, label)
    payload = reads.need_payload(txn, namespace, label)
    end = txn.get(layout.ENDS, place)
    if end is not None:
        due = layout.due_key(layout.unpack_end(end).due_ns, namespace, label)
        txn.delete(layout.HISTORY, due)
        txn.delete(layout.ENDS, place)
    else:
        txn.delete(layout.IDS, layout.id_key(namespace, payload.member, payload.record_id))
        if payload.expire_time_ns != layout.NEVER:
            txn.delete(layout.EXPIRY, layout.due_key(payload.expire_time_ns, namespace, label))
    txn.delete(layout.VECTORS, place)
    txn.delete(layout.PAYLOADS, place)
    return None if end is not None else bytes(payload.metadata)


def _room(txn: Txn, tenant: str, row: CollectionRow, revision: int) -> tuple[int, int]:
    """A namespace of its own, or a place among others, as the tenant's isolation says."""
    if reads.isolation(txn, tenant) not in _POOLED:
        return _new_namespace(txn, row, revision, shared=False), OWN
    pool = layout.pool_key(row)
    value = txn.get(layout.POOLS, pool)
    namespace = layout.read_namespace(value) if value else None
    if namespace is None:
        namespace = _new_namespace(txn, row, revision, shared=True)
        txn.put(layout.POOLS, pool, layout.namespace_key(namespace))
    space = reads.need_namespace(txn, namespace)
    taken = msgspec.structs.replace(space, next_member=space.next_member + 1)
    txn.put(layout.NAMESPACES, layout.namespace_key(namespace), layout.pack(taken))
    return namespace, space.next_member


def _new_namespace(txn: Txn, row: CollectionRow, revision: int, *, shared: bool) -> int:
    space = NamespaceRow(row.dimension, row.metric, row.hnsw, shared)
    txn.put(layout.NAMESPACES, layout.namespace_key(revision), layout.pack(space))
    return revision


def new_namespace(txn: Txn, row: CollectionRow, revision: int) -> int:
    """A namespace for one collection."""
    return _new_namespace(txn, row, revision, shared=False)


def _drop_rows(txn: Txn, keys: Sequence[bytes]) -> list[Gone]:
    gone = []
    for key in keys:
        value = txn.get(layout.COLLECTIONS, key)
        if value is None:
            continue
        row = layout.unpack_row(value)
        txn.delete(layout.COLLECTIONS, key)
        _forget_ending(txn, key, row.expire_time_ns)
        member = layout.member_key(row.namespace, row.member)
        txn.delete(layout.MEMBERS, member)
        txn.put(layout.DOOMED, member, b"")
        gone.append(Gone(row.namespace, row.member, row.member != OWN))
    return gone


def _end_scope(txn: Txn, place: Place, now_ns: int) -> list[Gone]:
    """Where a scope's time has come, remove its collections and its settings."""
    key = layout.scope_key(*place[:2])
    value = txn.get(layout.SCOPES, key)
    if value is None or layout.unpack_scope(value).expire_time_ns > now_ns:
        return []
    txn.delete(layout.SCOPES, key)
    _forget_ending(txn, key, layout.unpack_scope(value).expire_time_ns)
    return _drop_rows(txn, list(txn.keys(layout.COLLECTIONS, layout.scope_prefix(*place[:2]))))


def _shadow_keys(txn: Txn, key: bytes) -> list[bytes]:
    tenant, scope, collection_id = layout.split_place(key)
    shadow = layout.collection_key(tenant, scope, SHADOW + collection_id)
    return [shadow] if txn.has(layout.COLLECTIONS, shadow) else []


def _put_row(txn: Txn, key: bytes, row: CollectionRow) -> None:
    txn.put(layout.COLLECTIONS, key, layout.pack(row))
    _note_ending(txn, key, row.expire_time_ns)


def _note_ending(txn: Txn, key: bytes, time_ns: int) -> None:
    if time_ns != layout.NEVER:
        txn.put(layout.ENDINGS, layout.ending_key(time_ns, key), b"")


def _forget_ending(txn: Txn, key: bytes, time_ns: int) -> None:
    if time_ns != layout.NEVER:
        txn.delete(layout.ENDINGS, layout.ending_key(time_ns, key))


def _ending(old_ns: int, ttl_ns: int | None, now_ns: int) -> int:
    if ttl_ns is None:
        return old_ns
    return now_ns + ttl_ns if ttl_ns else layout.NEVER

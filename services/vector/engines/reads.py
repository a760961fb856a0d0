"""What the embedded engine reads straight from the store."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from services.common.limits import MIB
from services.common.store import View
from services.vector.engines import layout
from services.vector.engines.layout import CollectionRow, Entry, Payload
from services.vector.engines.writes import Place
from services.vector.filters import matches
from services.vector.model import (
    Collection,
    EmbeddingIdentity,
    Filter,
    Mask,
    Metric,
    Record,
    RecordPage,
)
from services.vector.refusals import collection_not_found

EXAMINED_MAX = 2000
"""Records that one page of a list looks at, so that a filter that fits few of them cannot hold up
other calls. The page then ends early."""
PAGE_BYTES_MAX = 3 * MIB
"""Vectors, metadata and text after which a page ends. It then fits into the 4 MiB that a gRPC
client takes unless told otherwise."""

_decode = msgspec.msgpack.Decoder(dict).decode


def new_row(
    dimension: int, metric: Metric, embedding: EmbeddingIdentity | None, now_ns: int
) -> CollectionRow:
    """The row of a collection to be; its namespace is given when it is written."""
    identity = None
    if embedding is not None:
        identity = (
            embedding.provider,
            embedding.model,
            embedding.dimension,
            embedding.weights_hash,
        )
    return CollectionRow(0, dimension, metric.value, identity, now_ns)


def collection(
    scope: str, collection_id: str, row: CollectionRow, indexed_count: int = 0
) -> Collection:
    """A row as callers see it."""
    return Collection(
        scope=scope,
        collection_id=collection_id,
        dimension=row.dimension,
        metric=Metric(row.metric),
        embedding=None if row.embedding is None else EmbeddingIdentity(*row.embedding),
        create_time_ns=row.create_time_ns,
        record_count=row.record_count,
        indexed_count=indexed_count,
    )


def row(view: View, place: Place) -> CollectionRow | None:
    """A collection's row, if there is one."""
    value = view.get(layout.COLLECTIONS, layout.collection_key(*place))
    return None if value is None else layout.unpack_row(value)


def need_row(view: View, place: Place) -> CollectionRow:
    """A collection's row.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND.
    """
    found = row(view, place)
    if found is None:
        raise collection_not_found(*place[1:])
    return found


def rows(
    view: View, tenant: str, scope: str | None, *, after: tuple[str, str] | None = None
) -> Iterator[tuple[tuple[str, str], CollectionRow]]:
    """Scope, name and row of a tenant's collections, in order, behind `after`."""
    prefix = layout.scope_prefix(tenant, scope) if scope else layout.tenant_prefix(tenant)
    start = layout.collection_key(tenant, *after) if after else b""
    for key, value in view.scan(layout.COLLECTIONS, prefix, after=start):
        yield layout.split_collection_key(key), layout.unpack_row(value)


def record_by_id(
    view: View, namespace: int, record_id: str, *, mask: Mask, now_ns: int
) -> Record | None:
    """A record that is there and has not expired."""
    value = view.get(layout.IDS, layout.id_key(namespace, record_id))
    if value is None:
        return None
    entry = layout.unpack_entry(value)
    return None if entry.expire_time_ns <= now_ns else record(view, namespace, entry.label, mask)


def record(view: View, namespace: int, label: int, mask: Mask) -> Record:
    """The record under a label that is known to exist."""
    place = layout.label_key(namespace, label)
    return _record(view, place, _payload(view, place), mask)


def metadata(view: View, namespace: int, label: int) -> bytes | None:
    """MessagePack of a record's metadata."""
    value = view.get(layout.PAYLOADS, layout.label_key(namespace, label))
    return None if value is None else bytes(layout.unpack_payload(value).metadata)


def page(
    view: View,
    namespace: int,
    *,
    after: str,
    limit: int,
    where: Filter | None,
    mask: Mask,
    now_ns: int,
) -> RecordPage:
    """Records in order of id. Ends early after EXAMINED_MAX of them, or PAGE_BYTES_MAX."""
    found: list[Record] = []
    cursor, size = after, 0
    entries = _entries(view, namespace, after)
    for number, (record_id, entry) in enumerate(entries):
        if len(found) == limit or number == EXAMINED_MAX or size > PAGE_BYTES_MAX:
            return RecordPage(records=found, cursor=cursor, revision=view.revision())
        cursor = record_id
        if entry.expire_time_ns <= now_ns:
            continue
        place = layout.label_key(namespace, entry.label)
        payload = _payload(view, place)
        if where is None or matches(where, _decode(payload.metadata)):
            found.append(_record(view, place, payload, mask))
            size += entry.size_bytes
    return RecordPage(records=found, cursor=None, revision=view.revision())


def _entries(view: View, namespace: int, after: str) -> Iterator[tuple[str, Entry]]:
    prefix = layout.namespace_key(namespace)
    start = layout.id_key(namespace, after) if after else b""
    for key, value in view.scan(layout.IDS, prefix, after=start):
        yield layout.read_record_id(key), layout.unpack_entry(value)


def _payload(view: View, place: bytes) -> Payload:
    value = view.get(layout.PAYLOADS, place)
    assert value is not None, "a label has a payload as long as it is listed"
    return layout.unpack_payload(value)


def _record(view: View, place: bytes, payload: Payload, mask: Mask) -> Record:
    vector = None
    if mask.vector:
        stored = view.get(layout.VECTORS, place)
        assert stored is not None, "a label has a vector as long as it is listed"
        vector = np.frombuffer(stored, "<f4")
    never = payload.expire_time_ns == layout.NEVER
    return Record(
        record_id=payload.record_id,
        vector=vector,
        metadata=_decode(payload.metadata) if mask.metadata else {},
        text=payload.text if mask.text else "",
        event_time_ns=payload.event_time_ns,
        expire_time_ns=None if never else payload.expire_time_ns,
        ingest_time_ns=payload.ingest_time_ns,
        revision=payload.revision,
    )

"""What the embedded engine reads straight from the store."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from services.common.limits import MIB
from services.common.store import View
from services.vector.engines import layout, postings
from services.vector.engines.changes import Place
from services.vector.engines.layout import (
    CollectionRow,
    EndRow,
    Entry,
    NamespaceRow,
    Payload,
    ScopeRow,
)
from services.vector.engines.matching import matching
from services.vector.filters import matches
from services.vector.model import (
    Collection,
    CollectionSettings,
    EmbeddingIdentity,
    Filter,
    Hnsw,
    Isolation,
    Mask,
    Metric,
    Quantization,
    Record,
    RecordPage,
    Vector,
)
from services.vector.refusals import collection_not_found
from services.vector.segments.rows import Int64s

EXAMINED_MAX = 2000
"""Records that one page of a list looks at, so that a filter that fits few of them cannot hold up
other calls. The page then ends early."""
PAGE_BYTES_MAX = 3 * MIB
"""Vectors, metadata and text after which a page ends. It then fits into the 4 MiB that a gRPC
client takes unless told otherwise."""

_decode = msgspec.msgpack.Decoder(dict).decode


def new_row(
    dimension: int,
    metric: Metric,
    embedding: EmbeddingIdentity | None,
    settings: CollectionSettings,
    *,
    now_ns: int,
    role: str = "",
) -> CollectionRow:
    """The row of a collection to be; its namespace is given when it is written."""
    hnsw = settings.hnsw
    identity = None
    if embedding is not None:
        identity = (
            embedding.provider,
            embedding.model,
            embedding.dimension,
            embedding.weights_hash,
        )
    return CollectionRow(
        namespace=0,
        member=layout.OWN,
        dimension=dimension,
        metric=metric.value,
        embedding=identity,
        create_time_ns=now_ns,
        hnsw=(hnsw.m, hnsw.ef_construction, hnsw.ef_search, hnsw.quantization.value),
        default_ttl_ns=settings.default_ttl_ns,
        history_window_ns=settings.history_window_ns,
        history_start_ns=now_ns,
        expire_time_ns=layout.NEVER if settings.ttl_ns is None else now_ns + settings.ttl_ns,
        role=role,
    )


def hnsw_of(row: CollectionRow | NamespaceRow) -> Hnsw:
    """How graphs are built."""
    m, ef_construction, ef_search, quantization = row.hnsw
    return Hnsw(
        m=m,
        ef_construction=ef_construction,
        ef_search=ef_search,
        quantization=Quantization(quantization),
    )


def embedding_of(row: CollectionRow) -> EmbeddingIdentity | None:
    """What made a collection's vectors."""
    return None if row.embedding is None else EmbeddingIdentity(*row.embedding)


def collection(
    scope: str, collection_id: str, row: CollectionRow, indexed_count: int = 0
) -> Collection:
    """A row as callers see it."""
    never = row.expire_time_ns == layout.NEVER
    return Collection(
        scope=scope,
        collection_id=collection_id,
        dimension=row.dimension,
        metric=Metric(row.metric),
        embedding=embedding_of(row),
        create_time_ns=row.create_time_ns,
        record_count=row.record_count,
        indexed_count=indexed_count,
        hnsw=hnsw_of(row),
        default_ttl_ns=row.default_ttl_ns,
        history_window_ns=row.history_window_ns,
        expire_time_ns=None if never else row.expire_time_ns,
        history_count=row.history_count,
        role=row.role,
    )


def row(view: View, place: Place, now_ns: int) -> CollectionRow | None:
    """A collection's row, if there is one whose time, and whose scope's time, has not come."""
    value = view.get(layout.COLLECTIONS, layout.collection_key(*place))
    if value is None:
        return None
    found = layout.unpack_row(value)
    if found.expire_time_ns <= now_ns or _scope_ended(view, *place[:2], now_ns):
        return None
    return found


def need_row(view: View, place: Place, now_ns: int) -> CollectionRow:
    """A collection's row.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND.
    """
    found = row(view, place, now_ns)
    if found is None:
        raise collection_not_found(*place[1:])
    return found


def rows(
    view: View,
    tenant: str,
    scope: str | None,
    *,
    now_ns: int,
    after: tuple[str, str] | None = None,
) -> Iterator[tuple[tuple[str, str], CollectionRow]]:
    """Scope, name and row of a tenant's collections, in order, behind `after`; no shadows."""
    prefix = layout.scope_prefix(tenant, scope) if scope else layout.tenant_prefix(tenant)
    start = layout.collection_key(tenant, *after) if after else b""
    ended: dict[str, bool] = {}
    for key, value in view.scan(layout.COLLECTIONS, prefix, after=start):
        found, place = layout.unpack_row(value), layout.split_collection_key(key)
        if place[0] not in ended:
            ended[place[0]] = _scope_ended(view, tenant, place[0], now_ns)
        if not (found.role or ended[place[0]] or found.expire_time_ns <= now_ns):
            yield place, found


def total(view: View, tenant: str, now_ns: int) -> tuple[int, int]:
    """Records of a tenant, and the bytes of them and of their histories."""
    records = size = 0
    for _, row in rows(view, tenant, None, now_ns=now_ns):
        records += row.record_count
        size += row.stored_bytes + row.history_bytes
    return records, size


def incoming(view: View) -> list[Place]:
    """Every collection with a shadow whose vectors are being made."""
    found = []
    for key, value in view.scan(layout.COLLECTIONS, b""):
        tenant, scope, collection_id = layout.split_place(key)
        if layout.unpack_row(value).role == "incoming" and collection_id[1:2] != "~":
            found.append((tenant, scope, collection_id.removeprefix("~")))
    return [place for place in found if not place[2].startswith("restore~")]


def scope_row(view: View, tenant: str, scope: str, now_ns: int) -> ScopeRow:
    """A scope's settings; none where its time has come."""
    value = view.get(layout.SCOPES, layout.scope_key(tenant, scope))
    found = ScopeRow() if value is None else layout.unpack_scope(value)
    return ScopeRow() if found.expire_time_ns <= now_ns else found


def record_ttl(view: View, place: Place, found: CollectionRow) -> int | None:
    """Time to live of a record that is written without one."""
    value = view.get(layout.SCOPES, layout.scope_key(*place[:2]))
    of_scope = None if value is None else layout.unpack_scope(value).record_ttl_ns
    return found.default_ttl_ns if of_scope is None else of_scope


def isolation(view: View, tenant: str) -> Isolation:
    """How a tenant is kept apart."""
    value = view.get(layout.TENANTS, tenant.encode())
    return Isolation.NAMESPACE if value is None else Isolation(value.decode())


def namespace_row(view: View, namespace: int) -> NamespaceRow | None:
    """A namespace, if it is there."""
    value = view.get(layout.NAMESPACES, layout.namespace_key(namespace))
    return None if value is None else layout.unpack_namespace(value)


def need_namespace(view: View, namespace: int) -> NamespaceRow:
    """A namespace that a collection has."""
    found = namespace_row(view, namespace)
    assert found is not None, "a collection's namespace is there as long as the collection is"
    return found


def need_payload(view: View, namespace: int, label: int) -> Payload:
    """What belongs to a label that is known to exist."""
    value = view.get(layout.PAYLOADS, layout.label_key(namespace, label))
    assert value is not None, "a label has a payload as long as it is listed"
    return layout.unpack_payload(value)


def need_vector(view: View, namespace: int, label: int) -> Vector:
    """The vector under a label that is known to exist."""
    value = view.get(layout.VECTORS, layout.label_key(namespace, label))
    assert value is not None, "a label has a vector as long as it is listed"
    return np.frombuffer(value, "<f4")


def need_end(view: View, namespace: int, label: int) -> EndRow:
    """The end of a label that is kept for the history."""
    value = view.get(layout.ENDS, layout.label_key(namespace, label))
    assert value is not None, "a label in the history has an end"
    return layout.unpack_end(value)


def matching_labels(view: View, found: CollectionRow, where: Filter) -> Int64s:
    """Labels of a collection's records that match, rising; expired ones that were not swept are."""
    number = found.namespace

    def read(label: int) -> bytes | None:
        return metadata(view, number, label)

    labels = matching(view, number, where, read_metadata=read)
    if found.member != layout.OWN:
        labels &= postings.members(view, number, found.member)
    return postings.to_array(labels)


def record_by_id(
    view: View,
    found: CollectionRow,
    record_id: str,
    *,
    mask: Mask,
    now_ns: int,
    row_filter: Filter | None = None,
) -> Record | None:
    """A record that is there, has not expired and, if asked, matches."""
    value = view.get(layout.IDS, layout.id_key(found.namespace, found.member, record_id))
    if value is None:
        return None
    entry = layout.unpack_entry(value)
    if entry.expire_time_ns <= now_ns:
        return None
    payload = need_payload(view, found.namespace, entry.label)
    if row_filter is not None and not matches(row_filter, _decode(payload.metadata)):
        return None
    return _record(view, found.namespace, entry.label, payload, mask)


def record(view: View, namespace: int, label: int, mask: Mask) -> Record:
    """The record under a label that is known to exist."""
    payload = need_payload(view, namespace, label)
    return _record(view, namespace, label, payload, mask)


def metadata(view: View, namespace: int, label: int) -> bytes | None:
    """MessagePack of a record's metadata."""
    value = view.get(layout.PAYLOADS, layout.label_key(namespace, label))
    return None if value is None else bytes(layout.unpack_payload(value).metadata)


def page(
    view: View,
    found: CollectionRow,
    *,
    after: str,
    limit: int,
    where: Filter | None,
    mask: Mask,
    prefix: str,
    now_ns: int,
) -> RecordPage:
    """Records in order of id. Ends early after EXAMINED_MAX of them, or PAGE_BYTES_MAX."""
    records: list[Record] = []
    cursor, size, namespace = after, 0, found.namespace
    entries = _entries(view, found, after, prefix)
    for number, (record_id, entry) in enumerate(entries):
        if len(records) == limit or number == EXAMINED_MAX or size > PAGE_BYTES_MAX:
            return RecordPage(records=records, cursor=cursor, revision=view.revision())
        cursor = record_id
        if entry.expire_time_ns <= now_ns:
            continue
        payload = need_payload(view, namespace, entry.label)
        if where is None or matches(where, _decode(payload.metadata)):
            records.append(_record(view, namespace, entry.label, payload, mask))
            size += entry.size_bytes
    return RecordPage(records=records, cursor=None, revision=view.revision())


def _entries(
    view: View, found: CollectionRow, after: str, prefix: str
) -> Iterator[tuple[str, Entry]]:
    place = (found.namespace, found.member)
    start = layout.id_key(*place, after) if after else b""
    for key, value in view.scan(layout.IDS, layout.id_key(*place, prefix), after=start):
        yield layout.read_record_id(key), layout.unpack_entry(value)


def _record(view: View, namespace: int, label: int, payload: Payload, mask: Mask) -> Record:
    never = payload.expire_time_ns == layout.NEVER
    return Record(
        record_id=payload.record_id,
        vector=need_vector(view, namespace, label) if mask.vector else None,
        metadata=_decode(payload.metadata) if mask.metadata else {},
        text=payload.text if mask.text else "",
        event_time_ns=payload.event_time_ns,
        expire_time_ns=None if never else payload.expire_time_ns,
        ingest_time_ns=payload.ingest_time_ns,
        revision=payload.revision,
    )


def _scope_ended(view: View, tenant: str, scope: str, now_ns: int) -> bool:
    value = view.get(layout.SCOPES, layout.scope_key(tenant, scope))
    return value is not None and layout.unpack_scope(value).expire_time_ns <= now_ns

"""How a store of an older release becomes one of this."""

from __future__ import annotations

import struct

import msgspec

from services.common.store import Schema, Txn
from services.vector.engines import layout, postings
from services.vector.engines.layout import OWN, CollectionRow, NamespaceRow, Payload
from services.vector.model import Hnsw

_HNSW = Hnsw()
_AS_BEFORE = (_HNSW.m, _HNSW.ef_construction, _HNSW.ef_search, _HNSW.quantization.value)
_OLD_ID = struct.Struct(">Q")


class _OldRow(msgspec.Struct, array_like=True):
    """A collection's row in version 1."""

    namespace: int
    dimension: int
    metric: str
    embedding: tuple[str, str, int, str] | None
    create_time_ns: int
    next_label: int = 0
    record_count: int = 0
    stored_bytes: int = 0


def _to_version_2(txn: Txn) -> None:
    """Namespaces get rows of their own, ids a member, and records postings."""
    txn.delete_prefix(layout.NAMESPACES, b"")
    doomed = list(txn.keys(layout.DOOMED, b""))
    for key in doomed:  # what they hold is erased by its label
        txn.delete(layout.DOOMED, key)
        _move_namespace(txn, layout.read_namespace(key), NamespaceRow(1, "dot", _AS_BEFORE))
        txn.put(layout.DOOMED, key + layout.namespace_key(OWN), b"")
    for key, value in list(txn.scan(layout.COLLECTIONS, b"")):
        old = msgspec.msgpack.decode(value, type=_OldRow)
        space = NamespaceRow(old.dimension, old.metric, _AS_BEFORE, next_label=old.next_label)
        _move_namespace(txn, old.namespace, space)
        row = CollectionRow(
            namespace=old.namespace,
            member=OWN,
            dimension=old.dimension,
            metric=old.metric,
            embedding=old.embedding,
            create_time_ns=old.create_time_ns,
            hnsw=_AS_BEFORE,
            record_count=old.record_count,
            stored_bytes=old.stored_bytes,
            records_revision=txn.revision(),
        )
        txn.put(layout.COLLECTIONS, key, layout.pack(row))
        txn.put(layout.MEMBERS, layout.member_key(old.namespace, OWN), key)


def _move_namespace(txn: Txn, number: int, space: NamespaceRow) -> None:
    prefix = layout.namespace_key(number)
    txn.put(layout.NAMESPACES, prefix, layout.pack(space))
    for key, value in list(txn.scan(layout.IDS, prefix)):
        txn.delete(layout.IDS, key)
        txn.put(layout.IDS, prefix + layout.namespace_key(OWN) + key[_OLD_ID.size :], value)
    records = []
    for key, value in txn.scan(layout.PAYLOADS, prefix):
        payload: Payload = layout.unpack_payload(value)
        records.append((layout.read_label(key), bytes(payload.metadata)))
    postings.add(txn, number, records)


SCHEMA = Schema(
    kind="vector",
    version=2,
    databases=layout.DATABASES,
    migrations={1: _to_version_2},
)

"""Keys and values of the embedded engine, and nothing else.

A collection gets a number, its namespace: the revision that made it, so never given twice. A record
gets a label, counted up within its namespace and never given twice either: writing a record again
gives it a new label. So the order of labels is the order of writing, and whoever knows the labels
up to some point knows all that was written up to it; no log is kept beside them.

| database | key | value |
|---|---|---|
| collections | tenant NUL scope NUL collection | CollectionRow |
| vectors | namespace, label | float32, little-endian, as it was sent |
| payloads | namespace, label | Payload |
| ids | namespace, record id | Entry |
| expiry | expire time, namespace, label | record id |
| namespaces | namespace | key in collections |
| doomed | namespace | nothing; its collection is gone, its records wait to be erased |
| embeddings | cache key | vector |
| embedding_order | time of writing, cache key | nothing |

No key is the beginning of another one's part: namespaces and labels have eight bytes, and NUL
cannot occur in a tenant, scope or collection.
"""

from __future__ import annotations

import struct

import msgspec

from services.common.store import Schema

COLLECTIONS = "collections"
VECTORS = "vectors"
PAYLOADS = "payloads"
IDS = "ids"
EXPIRY = "expiry"
NAMESPACES = "namespaces"
DOOMED = "doomed"
EMBEDDINGS = "embeddings"
EMBEDDING_ORDER = "embedding_order"

SCHEMA = Schema(
    kind="vector",
    version=1,
    databases=(
        COLLECTIONS,
        VECTORS,
        PAYLOADS,
        IDS,
        EXPIRY,
        NAMESPACES,
        DOOMED,
        EMBEDDINGS,
        EMBEDDING_ORDER,
    ),
    migrations={},
)

NEVER = 2**63 - 1
"""The expire time of a record that does not expire."""

_NUMBER = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_TRIPLE = struct.Struct(">QQQ")
_ENTRY = struct.Struct(">QQQI")


class CollectionRow(msgspec.Struct, frozen=True, array_like=True):
    """A collection as stored."""

    namespace: int
    dimension: int
    metric: str
    embedding: tuple[str, str, int, str] | None
    create_time_ns: int
    next_label: int = 0
    record_count: int = 0
    stored_bytes: int = 0


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to a vector."""

    record_id: str
    revision: int
    ingest_time_ns: int
    expire_time_ns: int
    event_time_ns: int | None
    metadata: msgspec.Raw
    text: str


class Entry(msgspec.Struct, frozen=True):
    """Where a record is, and what is needed to list or remove it without reading it."""

    label: int
    expire_time_ns: int
    revision: int
    size_bytes: int


_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(CollectionRow).decode
_decode_payload = msgspec.msgpack.Decoder(Payload).decode


def collection_key(tenant: str, scope: str, collection_id: str) -> bytes:
    """Key of a collection's row."""
    return scope_prefix(tenant, scope) + _part(collection_id)


def scope_prefix(tenant: str, scope: str) -> bytes:
    """What the keys of a scope's collections begin with."""
    return tenant_prefix(tenant) + _part(scope) + b"\0"


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of a tenant's collections begin with."""
    return _part(tenant) + b"\0"


def split_collection_key(key: bytes) -> tuple[str, str]:
    """Scope and collection of a row's key."""
    _, scope, collection_id = key.split(b"\0")
    return scope.decode(), collection_id.decode()


def namespace_key(namespace: int) -> bytes:
    """Key of a namespace, and what the keys of its records begin with."""
    return _NUMBER.pack(namespace)


def read_namespace(key: bytes) -> int:
    """The namespace that a key begins with."""
    return int(_NUMBER.unpack_from(key)[0])


def label_key(namespace: int, label: int) -> bytes:
    """Key of a vector and of a payload."""
    return _PAIR.pack(namespace, label)


def read_label(key: bytes) -> int:
    """The label at the end of a key of `vectors`."""
    return int(_NUMBER.unpack_from(key, 8)[0])


def id_key(namespace: int, record_id: str) -> bytes:
    """Key of an entry, and what the keys of ids with this beginning begin with."""
    return _NUMBER.pack(namespace) + record_id.encode()


def read_record_id(key: bytes) -> str:
    """The record id in a key of `ids`."""
    return key[8:].decode()


def expiry_key(expire_time_ns: int, namespace: int, label: int) -> bytes:
    """Key in `expiry`."""
    return _TRIPLE.pack(expire_time_ns, namespace, label)


def read_expiry_key(key: bytes) -> tuple[int, int, int]:
    """Expire time, namespace and label."""
    time_ns, namespace, label = _TRIPLE.unpack(key)
    return time_ns, namespace, label


def order_key(time_ns: int, key: bytes) -> bytes:
    """Key in `embedding_order`."""
    return _NUMBER.pack(time_ns) + key


def read_order_key(key: bytes) -> bytes:
    """The cache key in a key of `embedding_order`."""
    return key[8:]


def pack_entry(entry: Entry) -> bytes:
    """Value in `ids`."""
    return _ENTRY.pack(entry.label, entry.expire_time_ns, entry.revision, entry.size_bytes)


def unpack_entry(value: bytes) -> Entry:
    """An entry from its value."""
    return Entry(*_ENTRY.unpack(value))


def pack_row(row: CollectionRow) -> bytes:
    """Value in `collections`."""
    return _encode(row)


def unpack_row(value: bytes) -> CollectionRow:
    """A collection's row from its value."""
    return _decode_row(value)


def pack_payload(payload: Payload) -> bytes:
    """Value in `payloads`."""
    return _encode(payload)


def unpack_payload(value: bytes) -> Payload:
    """A payload from its value."""
    return _decode_payload(value)


def _part(text: str) -> bytes:
    assert "\0" not in text, "NUL separates the parts of a key"
    return text.encode()

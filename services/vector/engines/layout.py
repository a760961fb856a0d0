"""Keys and values of the embedded engine, and nothing else.

A collection's records lie in a namespace, a number that is never given twice. Most namespaces
belong to one collection; in a shared one each collection is a member, again by a number of its own.
A record gets a label, counted up within its namespace and never given twice either: writing a
record again gives it a new label. So the order of labels is the order of writing, what stands under
a label never changes, and no log is kept beside it.

| database | key | value |
|---|---|---|
| collections | tenant NUL scope NUL collection | CollectionRow |
| namespaces | namespace | NamespaceRow |
| members | namespace, member | key in collections |
| vectors | namespace, label | float32, little-endian, as it was sent |
| payloads | namespace, label | Payload |
| ids | namespace, member, record id | Entry |
| expiry | expire time, namespace, label | record id |
| ends | namespace, label | EndRow: a record that is kept for the history |
| history | time at which it may go, namespace, label | nothing |
| scopes | tenant NUL scope | ScopeRow |
| endings | expire time, key in collections or scopes | nothing |
| doomed | namespace, member | nothing; its collection is gone, its records wait to be erased |
| segments | namespace, segment | SegmentRow |
| pools | what namespaces are shared by | namespace |
| tenants | tenant | isolation |
| snapshots | tenant NUL snapshot | SnapshotRow |
| embeddings | cache key | vector |
| embedding_order | time of writing, cache key | nothing |

No key is the beginning of another one's part: numbers have eight bytes, and NUL cannot occur in a
tenant, scope or collection.
"""

from __future__ import annotations

import struct

import msgspec

COLLECTIONS = "collections"
NAMESPACES = "namespaces"
MEMBERS = "members"
VECTORS = "vectors"
PAYLOADS = "payloads"
IDS = "ids"
EXPIRY = "expiry"
ENDS = "ends"
HISTORY = "history"
SCOPES = "scopes"
ENDINGS = "endings"
DOOMED = "doomed"
SEGMENTS = "segments"
POOLS = "pools"
TENANTS = "tenants"
SNAPSHOTS = "snapshots"
EMBEDDINGS = "embeddings"
EMBEDDING_ORDER = "embedding_order"
POSTINGS = "postings"

DATABASES = (
    COLLECTIONS,
    NAMESPACES,
    MEMBERS,
    VECTORS,
    PAYLOADS,
    IDS,
    EXPIRY,
    ENDS,
    HISTORY,
    SCOPES,
    ENDINGS,
    DOOMED,
    SEGMENTS,
    POOLS,
    TENANTS,
    SNAPSHOTS,
    EMBEDDINGS,
    EMBEDDING_ORDER,
    POSTINGS,
)

NEVER = 2**63 - 1
"""The expire time of what does not expire."""
OWN = 0
"""The member of a namespace that belongs to one collection."""

_NUMBER = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_TRIPLE = struct.Struct(">QQQ")
_ENTRY = struct.Struct(">QQQI")
_END = struct.Struct(">QQI")


class CollectionRow(msgspec.Struct, frozen=True, array_like=True):
    """A collection as stored."""

    namespace: int
    member: int
    dimension: int
    metric: str
    embedding: tuple[str, str, int, str] | None
    create_time_ns: int
    hnsw: tuple[int, int, int, str]
    """m, ef_construction, ef_search, quantization."""
    default_ttl_ns: int | None = None
    history_window_ns: int = 0
    expire_time_ns: int = NEVER
    role: str = ""
    record_count: int = 0
    stored_bytes: int = 0
    history_count: int = 0
    history_bytes: int = 0
    records_revision: int = 0
    """Of the last change of its records."""
    history_start_ns: int = 0
    """From when on its history is whole."""


class NamespaceRow(msgspec.Struct, frozen=True, array_like=True):
    """A namespace as stored."""

    dimension: int
    metric: str
    hnsw: tuple[int, int, int, str]
    shared: bool = False
    next_label: int = 0
    next_member: int = OWN + 1


class ScopeRow(msgspec.Struct, frozen=True, array_like=True):
    """A scope's settings as stored."""

    record_ttl_ns: int | None = None
    expire_time_ns: int = NEVER


class SegmentRow(msgspec.Struct, frozen=True, array_like=True):
    """A segment's file as registered."""

    file: str
    digest: str


class SnapshotRow(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot as registered."""

    scope: str
    collection_id: str
    create_time_ns: int
    revision: int
    record_count: int
    size_bytes: int
    digest: str


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to a vector."""

    record_id: str
    revision: int
    ingest_time_ns: int
    expire_time_ns: int
    event_time_ns: int | None
    metadata: msgspec.Raw
    text: str
    member: int = OWN


class Entry(msgspec.Struct, frozen=True):
    """Where a record is, and what is needed to list or remove it without reading it."""

    label: int
    expire_time_ns: int
    revision: int
    size_bytes: int


class EndRow(msgspec.Struct, frozen=True):
    """Until when a record counted, and from when on nobody can ask for it any more."""

    end_ns: int
    due_ns: int
    size_bytes: int


_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(CollectionRow).decode
_decode_namespace = msgspec.msgpack.Decoder(NamespaceRow).decode
_decode_scope = msgspec.msgpack.Decoder(ScopeRow).decode
_decode_segment = msgspec.msgpack.Decoder(SegmentRow).decode
_decode_snapshot = msgspec.msgpack.Decoder(SnapshotRow).decode
_decode_payload = msgspec.msgpack.Decoder(Payload).decode


def collection_key(tenant: str, scope: str, collection_id: str) -> bytes:
    """Key of a collection's row."""
    return scope_prefix(tenant, scope) + _part(collection_id)


def scope_prefix(tenant: str, scope: str) -> bytes:
    """What the keys of a scope's collections begin with."""
    return scope_key(tenant, scope) + b"\0"


def scope_key(tenant: str, scope: str) -> bytes:
    """Key of a scope's settings."""
    return tenant_prefix(tenant) + _part(scope)


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of a tenant's collections, scopes and snapshots begin with."""
    return _part(tenant) + b"\0"


def split_collection_key(key: bytes) -> tuple[str, str]:
    """Scope and collection of a row's key."""
    _, scope, collection_id = key.split(b"\0")
    return scope.decode(), collection_id.decode()


def split_place(key: bytes) -> tuple[str, str, str]:
    """Tenant, scope and collection of a row's key."""
    tenant, scope, collection_id = key.split(b"\0")
    return tenant.decode(), scope.decode(), collection_id.decode()


def namespace_key(namespace: int) -> bytes:
    """Key of a namespace, and what the keys of what it holds begin with."""
    return _NUMBER.pack(namespace)


def read_namespace(key: bytes) -> int:
    """The namespace that a key begins with."""
    return int(_NUMBER.unpack_from(key)[0])


def member_key(namespace: int, member: int) -> bytes:
    """Key in `members` and `doomed`, and what the keys of a member's ids begin with."""
    return _PAIR.pack(namespace, member)


def read_pair(key: bytes) -> tuple[int, int]:
    """Namespace and member of such a key; namespace and label of the next."""
    first, second = _PAIR.unpack_from(key)
    return first, second


def label_key(namespace: int, label: int) -> bytes:
    """Key of a vector, of a payload and of an end."""
    return _PAIR.pack(namespace, label)


def read_label(key: bytes) -> int:
    """The label in such a key."""
    return int(_NUMBER.unpack_from(key, 8)[0])


def id_key(namespace: int, member: int, record_id: str) -> bytes:
    """Key of an entry, and what the keys of ids with this beginning begin with."""
    return _PAIR.pack(namespace, member) + record_id.encode()


def read_record_id(key: bytes) -> str:
    """The record id in a key of `ids`."""
    return key[16:].decode()


def due_key(time_ns: int, namespace: int, label: int) -> bytes:
    """Key in `expiry` and `history`."""
    return _TRIPLE.pack(time_ns, namespace, label)


def read_due_key(key: bytes) -> tuple[int, int, int]:
    """Time, namespace and label of such a key."""
    time_ns, namespace, label = _TRIPLE.unpack(key)
    return time_ns, namespace, label


def ending_key(time_ns: int, key: bytes) -> bytes:
    """Key in `endings`, and in `embedding_order`."""
    return _NUMBER.pack(time_ns) + key


def read_ending_key(key: bytes) -> tuple[int, bytes]:
    """Time and key of such a key."""
    return int(_NUMBER.unpack_from(key)[0]), key[8:]


def segment_key(namespace: int, segment: int) -> bytes:
    """Key in `segments`."""
    return _PAIR.pack(namespace, segment)


def pool_key(row: CollectionRow) -> bytes:
    """Key in `pools`: collections with the same one can share rows."""
    m, ef_construction, _, quantization = row.hnsw
    return f"{row.dimension} {row.metric} {m} {ef_construction} {quantization}".encode()


def snapshot_key(tenant: str, snapshot_id: str) -> bytes:
    """Key in `snapshots`."""
    return tenant_prefix(tenant) + _part(snapshot_id)


def pack_entry(entry: Entry) -> bytes:
    """Value in `ids`."""
    return _ENTRY.pack(entry.label, entry.expire_time_ns, entry.revision, entry.size_bytes)


def unpack_entry(value: bytes) -> Entry:
    """An entry from its value."""
    return Entry(*_ENTRY.unpack(value))


def pack_end(end: EndRow) -> bytes:
    """Value in `ends`."""
    return _END.pack(end.end_ns, end.due_ns, end.size_bytes)


def unpack_end(value: bytes) -> EndRow:
    """An end from its value."""
    return EndRow(*_END.unpack(value))


def pack(row: msgspec.Struct) -> bytes:
    """Value of a row of any kind but an entry and an end."""
    return _encode(row)


def unpack_row(value: bytes) -> CollectionRow:
    """A collection's row from its value."""
    return _decode_row(value)


def unpack_namespace(value: bytes) -> NamespaceRow:
    """A namespace's row from its value."""
    return _decode_namespace(value)


def unpack_scope(value: bytes) -> ScopeRow:
    """A scope's row from its value."""
    return _decode_scope(value)


def unpack_segment(value: bytes) -> SegmentRow:
    """A segment's row from its value."""
    return _decode_segment(value)


def unpack_snapshot(value: bytes) -> SnapshotRow:
    """A snapshot's row from its value."""
    return _decode_snapshot(value)


def unpack_payload(value: bytes) -> Payload:
    """A payload from its value."""
    return _decode_payload(value)


def _part(text: str) -> bytes:
    assert "\0" not in text, "NUL separates the parts of a key"
    return text.encode()

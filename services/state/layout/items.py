"""Items, when they end, and what has changed.

| database | key | value |
|---|---|---|
| items | tenant NUL scope NUL key | header, content |
| expiry | expire time, key in `items` | nothing |
| changes | tenant NUL revision, number in the revision | kind, moment, scope NUL key (NUL cause) |
| tenants | tenant | revision up to which changes were let go, how many are kept |

An expiry entry exists exactly where an item with that expire time does. Each call that changes
something takes a revision, and leaves at least one change record of it, in the same transaction.
The longest key has 441 bytes; LMDB allows 511.

A value of 1 KiB and more is kept as an lz4 block where that saves an eighth of it. Its length
stands before the block, and is checked before anything is unpacked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

import lz4.block

from services.common.errors import Reason, ServiceError
from services.common.limits import STATE_VALUE_BYTES_MAX
from services.state.layout import EXPIRY, tenant_prefix
from services.state.model import Encoding, Item, Value

_NEVER = 2**63 - 1
KEY_BYTES_MAX = 511
"""What LMDB allows."""
_HEADER = struct.Struct(">BQQQQ")
_MOMENT = struct.Struct(">Q")
_CHANGE_KEY = struct.Struct(">QI")
_CHANGE = struct.Struct(">BQ")
_KEPT = struct.Struct(">QQ")
_LENGTH = struct.Struct(">I")
_ENDS = struct.Struct(">Q")
_ENDS_AT = _HEADER.size - _ENDS.size
_PACKED = 0x80
"""In the byte of the encoding: the value is a block of lz4."""
_SENSITIVE = 0x40
"""In the same byte: the value is marked as sensitive."""
_PACKED_FROM_BYTES = 1024
_SAVED_SHARE = 8
"""A packed value is kept where it saves one in so many bytes."""


class ChangeKind(IntEnum):
    """What happened. The numbers are stored.

    Up to 9 it happened to an item; from 10 to 24 to a session, whose scope the record has, with a
    checkpoint's id as key where it is about one.
    """

    SET = 1
    DELETE = 2
    INCREMENT = 3
    EXPIRE = 4
    PURGE = 5
    """All that a tenant had here."""
    SESSION_CREATE = 10
    SESSION_UPDATE = 11
    SESSION_SAVE = 12
    SESSION_SUSPEND = 13
    SESSION_RESUME = 14
    SESSION_COMPLETE = 15
    SESSION_FAIL = 16
    SESSION_ARCHIVE = 17
    SESSION_DELETE = 18
    SESSION_EXPIRE = 19
    """Completed because its time was up."""
    CHECKPOINT_CREATE = 20
    CHECKPOINT_RESTORE = 21
    CHECKPOINT_DELETE = 22
    ARTIFACT_STORED = 30
    """A version; the record's key is its name."""
    ARTIFACT_DELETED = 31
    ARTIFACTS_DELETED = 32
    """All of a scope, or, without one, of the tenant."""
    ARTIFACTS_RESTORED = 33
    """All of a scope are as they were once."""
    RESTORE = 55
    """All that a tenant has here is that of a backup."""
    MIGRATED = 60
    """Items of the scope whose keys begin with the key have another form; of all scopes where the
    scope is empty."""
    SCHEMA_PUT = 61
    SCHEMA_DELETED = 62
    """A schema's version (NAME@VERSION), or all of it (NAME)."""
    MIGRATION = 63
    """A migration began or ended; its id is the key."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change record; the item's new revision is the record's own."""

    revision: int
    number: int
    """Its place among the changes of its revision, from 0."""
    kind: ChangeKind
    time_ns: int
    """When it was made."""
    tenant: str
    scope: str
    key: str
    correlation_id: str = ""
    """Request id of the call that made it; empty where none did."""


def item_key(tenant: str, scope: str, key: str) -> bytes:
    """Key of an item; with an empty key or a beginning of one, what such keys begin with."""
    assert "\0" not in tenant + scope + key, "NUL separates the parts of a key"
    return f"{tenant}\0{scope}\0{key}".encode()


def split_item_key(stored: bytes) -> tuple[str, str, str]:
    """Tenant, scope and key."""
    tenant, scope, key = stored.decode().split("\0")
    return tenant, scope, key


def pack_item(item: Item) -> bytes:
    """Value in `items`."""
    assert item.value is not None, "an item is stored with its value"
    assert item.revision > 0, "a stored item has a revision"
    expire_time_ns = _NEVER if item.expire_time_ns is None else item.expire_time_ns
    packed, content = _pack_content(item.value.content)
    header = _HEADER.pack(
        item.value.encoding | packed | (_SENSITIVE if item.value.is_sensitive else 0),
        item.revision,
        item.create_time_ns,
        item.update_time_ns,
        expire_time_ns,
    )
    return header + content


def unpack_item(key: str, stored: bytes, *, values: bool = True) -> Item:
    """An item from its value in `items`; `values`: with its own.

    Raises:
        ServiceError: RECORD_CORRUPT where a packed value is not what it says.
    """
    encoding, revision, create_time_ns, update_time_ns, expire_time_ns = _HEADER.unpack_from(stored)
    return Item(
        key=key,
        value=_unpack_value(encoding, key, stored) if values else None,
        revision=revision,
        create_time_ns=create_time_ns,
        update_time_ns=update_time_ns,
        expire_time_ns=None if expire_time_ns == _NEVER else expire_time_ns,
    )


def ends_ns(stored: bytes) -> int:
    """When an item ends, from its value in `items`; without end a moment that never comes."""
    ends: int = _ENDS.unpack_from(stored, _ENDS_AT)[0]
    return ends


def is_sensitive(stored: bytes) -> bool:
    """Whether an item's value is marked as sensitive, from its value in `items`."""
    return bool(stored[0] & _SENSITIVE)


def plain_bytes(stored: bytes) -> int:
    """How many bytes an item's value has, from its value in `items`."""
    if stored[0] & _PACKED:
        length: int = _LENGTH.unpack_from(stored, _HEADER.size)[0]
        return length
    return len(stored) - _HEADER.size


def _pack_content(content: bytes) -> tuple[int, bytes]:
    """The flag of a packed value, and its bytes, where packing pays."""
    length = len(content)
    if length >= _PACKED_FROM_BYTES:
        block = lz4.block.compress(content, store_size=False)
        if len(block) + _LENGTH.size <= length - length // _SAVED_SHARE:
            return _PACKED, _LENGTH.pack(length) + block
    return 0, content


def _unpack_value(encoding: int, key: str, stored: bytes) -> Value:
    content = stored[_HEADER.size :]
    if encoding & _PACKED:
        content = _unpack_content(key, content)
    kind = Encoding(encoding & ~(_PACKED | _SENSITIVE))
    return Value(kind, content, is_sensitive(stored))


def _unpack_content(key: str, packed: bytes) -> bytes:
    length = _LENGTH.unpack_from(packed)[0] if len(packed) >= _LENGTH.size else 0
    content = b""
    if 0 < length <= STATE_VALUE_BYTES_MAX:
        with suppress(lz4.block.LZ4BlockError):
            content = lz4.block.decompress(packed[_LENGTH.size :], uncompressed_size=length)
    if not content or len(content) != length:
        raise ServiceError(
            Reason.RECORD_CORRUPT,
            "A stored value cannot be unpacked and is not returned.",
            database="items",
            key=key,
        )
    return content


PLAIN_BYTES_MAX = _PACKED_FROM_BYTES - 1
"""Content up to this is never packed."""
HEADER_BYTES = _HEADER.size
"""What comes before the content of a value in `items`."""
REVISION = slice(1, 9)
"""Where in it the revision is."""
CREATE_TIME = slice(9, 17)
"""Where in it the create time is."""
NEVER_ENDS_AT = 25
"""Where in it the first byte of the expire time is."""
NEVER_ENDS = _NEVER >> 56
"""That byte in an item without an end; no end that there may be begins so."""


def header_parts(*, revision: int, update_time_ns: int) -> tuple[bytes, bytes]:
    """What comes before and after the create time in a header of JSON without an end."""
    header = _HEADER.pack(Encoding.JSON, revision, 0, update_time_ns, _NEVER)
    return header[: CREATE_TIME.start], header[CREATE_TIME.stop :]


def ended(stored: bytes, now_ns: int) -> int | None:
    """The expire time of a value in `items` whose time has come."""
    expire_time_ns = ends_ns(stored)
    return expire_time_ns if expire_time_ns <= now_ns else None


def restamped(values: Sequence[bytes], *, revision: int, now_ns: int) -> list[bytes]:
    """Values in `items`, written anew at a revision."""
    head, _ = header_parts(revision=revision, update_time_ns=0)
    join, number, moment = b"".join, head[1:], _MOMENT.pack(now_ns)
    return [
        join((stored[:1], number, stored[CREATE_TIME], moment, stored[NEVER_ENDS_AT:]))
        for stored in values
    ]


def with_content(stored: bytes, content: bytes, *, revision: int, now_ns: int) -> bytes:
    """A value in `items` with another JSON content; revision 0: its own and its time stay."""
    item = unpack_item("", stored)
    return pack_item(
        Item(
            key="",
            value=Value(Encoding.JSON, content, is_sensitive(stored)),
            revision=revision or item.revision,
            create_time_ns=item.create_time_ns,
            update_time_ns=now_ns if revision else item.update_time_ns,
            expire_time_ns=item.expire_time_ns,
        )
    )


def expiry_key(expire_time_ns: int, stored_key: bytes) -> bytes:
    """Key in `expiry`."""
    return _MOMENT.pack(expire_time_ns) + stored_key


def split_expiry_key(stored: bytes) -> tuple[int, bytes]:
    """Expire time and the item's key in `items`."""
    return _MOMENT.unpack_from(stored)[0], stored[_MOMENT.size :]


def index_entries(stored_key: bytes, stored: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Database, key and value of each index entry that an item has."""
    expire_time_ns = _HEADER.unpack_from(stored)[4]
    if expire_time_ns != _NEVER:
        yield EXPIRY, expiry_key(expire_time_ns, stored_key), b""


def change_key(tenant: str, revision: int, number: int) -> bytes:
    """Key in `changes`."""
    return tenant_prefix(tenant) + _CHANGE_KEY.pack(revision, number)


def split_change_key(stored_key: bytes) -> tuple[str, int, int]:
    """Tenant, revision and number in the revision."""
    tenant, _, place = stored_key.partition(b"\0")
    return tenant.decode(), *_CHANGE_KEY.unpack(place)


def revision_prefix(tenant: str, revision: int) -> bytes:
    """What the keys of all changes of a tenant in a revision begin with."""
    return tenant_prefix(tenant) + _MOMENT.pack(revision)


def pack_change(
    kind: ChangeKind, time_ns: int, scope: str, key: str, correlation_id: str = ""
) -> bytes:
    """Value in `changes`."""
    cause = f"\0{correlation_id}" if correlation_id else ""
    return _CHANGE.pack(kind, time_ns) + f"{scope}\0{key}{cause}".encode()


def unpack_change(stored_key: bytes, stored: bytes) -> Change:
    """A change record from its key and value."""
    tenant, revision, number = split_change_key(stored_key)
    kind, time_ns = _CHANGE.unpack_from(stored)
    scope, key, *cause = stored[_CHANGE.size :].decode().split("\0")
    return Change(revision, number, ChangeKind(kind), time_ns, tenant, scope, key, "".join(cause))


@dataclass(frozen=True, slots=True)
class Kept:
    """Which changes of a tenant are kept."""

    compacted_revision: int = 0
    """Changes up to this revision may have been let go."""
    count: int = 0
    """How many change records there are."""


def pack_kept(kept: Kept) -> bytes:
    """Value in `tenants`."""
    return _KEPT.pack(kept.compacted_revision, kept.count)


def unpack_kept(stored: bytes | None) -> Kept:
    """From a value in `tenants`; None is that of a tenant without changes."""
    return Kept() if stored is None else Kept(*_KEPT.unpack(stored))

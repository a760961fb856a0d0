"""Keys and values of the embedded engine, and nothing else.

| database | key | value |
|---|---|---|
| items | tenant NUL scope NUL key | header, content |
| expiry | expire time, key in `items` | nothing |
| changes | revision, number in the revision | kind, key in `items` |

NUL cannot occur in a tenant, scope or key, so no tenant's or scope's keys begin with another's.
Numbers are unsigned, big-endian, of eight bytes (four for a number in a revision), so that keys
come in their order. The longest key has 441 bytes; LMDB allows 511.

An expiry entry exists exactly where an item with that expire time does. For each revision from the
oldest that is kept to the newest there is at least one change record. Items, expiry entries and
change records of one call are written in one transaction.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from services.common.store import Schema
from services.state.model import Encoding, Item, Value

ITEMS = "items"
EXPIRY = "expiry"
CHANGES = "changes"

SCHEMA = Schema(kind="state", version=1, databases=(ITEMS, EXPIRY, CHANGES), migrations={})

_NEVER = 2**63 - 1
_HEADER = struct.Struct(">BQQQQ")
_MOMENT = struct.Struct(">Q")
_CHANGE_KEY = struct.Struct(">QI")


class ChangeKind(IntEnum):
    """What happened to an item. The numbers are stored."""

    SET = 1
    DELETE = 2
    INCREMENT = 3
    EXPIRE = 4
    PURGE = 5
    """All of a tenant's items, or an older record of its whose scope and key were erased."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change record; the item's new revision is the record's own."""

    revision: int
    number: int
    """Its place among the changes of its revision, from 0."""
    kind: ChangeKind
    tenant: str
    scope: str
    key: str


def item_key(tenant: str, scope: str, key: str) -> bytes:
    """Key of an item; with an empty key or a beginning of one, what such keys begin with."""
    assert "\0" not in tenant + scope + key, "NUL separates the parts of a key"
    return f"{tenant}\0{scope}\0{key}".encode()


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of a tenant's items begin with."""
    assert "\0" not in tenant, "NUL separates the parts of a key"
    return f"{tenant}\0".encode()


def split_item_key(stored: bytes) -> tuple[str, str, str]:
    """Tenant, scope and key."""
    tenant, scope, key = stored.decode().split("\0")
    return tenant, scope, key


def pack_item(item: Item) -> bytes:
    """Value in `items`."""
    assert item.value is not None, "an item is stored with its value"
    assert item.revision > 0, "a stored item has a revision"
    expire_time_ns = _NEVER if item.expire_time_ns is None else item.expire_time_ns
    header = _HEADER.pack(
        item.value.encoding,
        item.revision,
        item.create_time_ns,
        item.update_time_ns,
        expire_time_ns,
    )
    return header + item.value.content


def unpack_item(key: str, stored: bytes) -> Item:
    """An item from its value."""
    encoding, revision, create_time_ns, update_time_ns, expire_time_ns = _HEADER.unpack_from(stored)
    return Item(
        key=key,
        value=Value(Encoding(encoding), stored[_HEADER.size :]),
        revision=revision,
        create_time_ns=create_time_ns,
        update_time_ns=update_time_ns,
        expire_time_ns=None if expire_time_ns == _NEVER else expire_time_ns,
    )


def expiry_key(expire_time_ns: int, stored_key: bytes) -> bytes:
    """Key in `expiry`."""
    return _MOMENT.pack(expire_time_ns) + stored_key


def split_expiry_key(stored: bytes) -> tuple[int, bytes]:
    """Expire time and the item's key in `items`."""
    return _MOMENT.unpack_from(stored)[0], stored[_MOMENT.size :]


def change_key(revision: int, number: int) -> bytes:
    """Key in `changes`."""
    return _CHANGE_KEY.pack(revision, number)


def revision_prefix(change: bytes) -> bytes:
    """What the keys of all changes of the same revision begin with."""
    return change[: _MOMENT.size]


def pack_change(kind: ChangeKind, stored_key: bytes) -> bytes:
    """Value in `changes`."""
    return bytes([kind]) + stored_key


def unpack_change(key: bytes, stored: bytes) -> Change:
    """A change record from its key and value."""
    revision, number = _CHANGE_KEY.unpack(key)
    return Change(revision, number, ChangeKind(stored[0]), *split_item_key(stored[1:]))

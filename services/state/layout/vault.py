"""The key ring, and how a value says how it is kept.

| database | key | value |
|---|---|---|
| keys | tenant NUL | version of the data key that new values are sealed with |
| keys | tenant NUL, version of four bytes | master key's id, create time, wrapped data key |
| keys | tenant NUL, `ff ff ff ff` | the same, of the key for the files of the tenant's artifacts |
| meta | `master` | see `MasterRecord` |

A value of a sealed database begins with a byte that says how it is kept: 0, then a checksum of
four bytes and the value; or 1, then the data key's version, a nonce of twelve bytes, and what
AES-256-GCM made of the value, its tag last. Database and key are its associated data, so a value
that was moved under another key, or into another tenant, does not open.
"""

from __future__ import annotations

import struct

import msgspec

from services.common.view import open_value, seal_value

BLOB_KEY = 2**32 - 1
"""In the place of a version: the key of files. It is made once and goes with the tenant."""
ID_BYTES = 8
NONCE_BYTES = 12

_HEAD = struct.Struct(">cI")
_VERSION = struct.Struct(">I")
_KEY = struct.Struct(f">{ID_BYTES}sQ")
_PLAIN = b"\0"
_SEALED = b"\1"


class DataKey(msgspec.Struct, frozen=True):
    """One version of a tenant's data key, as it is stored."""

    master_id: bytes
    """The master key that it is wrapped with."""
    create_time_ns: int
    wrapped: bytes
    """Nonce, and what AES-256-GCM made of the key."""


class MasterRecord(msgspec.Struct, frozen=True):
    """What a store that is encrypted notes of its master key."""

    master_id: bytes
    """The key that new data keys are wrapped with."""
    previous_id: bytes = b""
    """While data keys are moved from one master key to the next: the one that they come from."""
    plain_left: bool = False
    """Whether values from before the store was encrypted may be left."""
    proof: bytes = b""
    """Nonce and tag over the fields above, which only a holder of the master key can make."""


def ring_prefix(tenant: bytes) -> bytes:
    """Key of what says which version is current; what all of a tenant's keys begin with."""
    return tenant + b"\0"


def version_key(tenant: bytes, version: int) -> bytes:
    """Key of one version."""
    return ring_prefix(tenant) + _VERSION.pack(version)


def split_version_key(stored_key: bytes) -> tuple[str, int]:
    """Tenant and version; version 0 is what says which one is current."""
    tenant, _, version = stored_key.partition(b"\0")
    return tenant.decode(), _VERSION.unpack(version)[0] if version else 0


def pack_version(version: int) -> bytes:
    """Value that says which version is current."""
    return _VERSION.pack(version)


def unpack_version(stored: bytes) -> int:
    """The version that is current."""
    version: int = _VERSION.unpack(stored)[0]
    return version


def pack_data_key(key: DataKey) -> bytes:
    """Value of one version."""
    return _KEY.pack(key.master_id, key.create_time_ns) + key.wrapped


def unpack_data_key(stored: bytes) -> DataKey:
    """One version from its value."""
    master_id, create_time_ns = _KEY.unpack_from(stored)
    return DataKey(master_id, create_time_ns, stored[_KEY.size :])


def pack_head(version: int) -> bytes:
    """What a sealed value begins with."""
    return _HEAD.pack(_SEALED, version)


def sealed_version(stored: bytes) -> int | None:
    """The data key's version of what is stored; None where it is not sealed."""
    if not stored.startswith(_SEALED) or len(stored) < _HEAD.size:
        return None
    version: int = _HEAD.unpack_from(stored)[1]
    return version


def sealed_parts(stored: bytes) -> tuple[bytes, bytes, bytes]:
    """Head, nonce and sealed bytes."""
    begin = _HEAD.size + NONCE_BYTES
    return stored[: _HEAD.size], stored[_HEAD.size : begin], stored[begin:]


def pack_plain(key: bytes, value: bytes) -> bytes:
    """A value with a checksum."""
    return _PLAIN + seal_value(key, value)


def unpack_plain(database: str, key: bytes, stored: bytes) -> bytes:
    """The value of what `pack_plain` made.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    return open_value(database, key, stored, at=1)

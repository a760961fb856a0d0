"""The audit log.

| database | key | value |
|---|---|---|
| audit | sequence | hash before, hash, body |
| audit_heads | `head` | sequence and hash of the last entry, tag over both |
| audit_names | tenant NUL sequence | salt and what the request named; nothing: it was erased |

The last one is also the order of a tenant's entries; the tenant is empty where there is none.
"""

from __future__ import annotations

import struct

from services.common.audit_chain import HASH_BYTES, Head
from services.state.layout import tenant_prefix

HEAD_KEY = b"head"

_U64 = struct.Struct(">Q")


def entry_key(sequence: int) -> bytes:
    """Key in `audit`."""
    return _U64.pack(sequence)


def name_key(tenant: str, sequence: int) -> bytes:
    """Key in `audit_names`."""
    return tenant_prefix(tenant) + _U64.pack(sequence)


def sequence_of(stored: bytes) -> int:
    """From a key of either."""
    return int(_U64.unpack(stored[-_U64.size :])[0])


def pack_head(head: Head, key: bytes) -> bytes:
    """Value in `audit_heads`."""
    return _U64.pack(head.sequence) + head.hash + head.tag(key)


def unpack_head(stored: bytes | None) -> tuple[Head, bytes]:
    """Head and tag."""
    if stored is None:
        return Head(), b""
    at = _U64.size + HASH_BYTES
    return Head(sequence_of(stored[: _U64.size]), stored[_U64.size : at]), stored[at:]

"""Writes that were made under a request id, so that a repeated one does nothing.

| database | key | value |
|---|---|---|
| requests | tenant NUL request id | time of the write, digest of what it asked for, answer |
| request_times | time, key in `requests` | nothing |
"""

from __future__ import annotations

import struct

import msgspec

from services.state.layout import tenant_prefix

_TIME = struct.Struct(">Q")


class Made(msgspec.Struct, frozen=True, array_like=True):
    """Value in `requests`, as msgpack."""

    time_ns: int
    digest: bytes
    answer: bytes
    """As msgpack."""


def request_key(tenant: str, request_id: str) -> bytes:
    """Key in `requests`."""
    assert "\0" not in request_id, "NUL separates the parts of a key"
    return tenant_prefix(tenant) + request_id.encode()


def tenant_of(stored: bytes) -> str:
    """Whose write a key in `requests` is of."""
    return stored.partition(b"\0")[0].decode()


def time_key(time_ns: int, stored_key: bytes) -> bytes:
    """Key in `request_times`."""
    return _TIME.pack(time_ns) + stored_key


def split_time_key(stored: bytes) -> tuple[int, bytes]:
    """Time and the key in `requests`."""
    return _TIME.unpack_from(stored)[0], stored[_TIME.size :]


def pack_made(made: Made) -> bytes:
    """Value in `requests`."""
    return msgspec.msgpack.encode(made)


def unpack_made(stored: bytes) -> Made:
    """From a value in `requests`."""
    return msgspec.msgpack.decode(stored, type=Made)

"""Artifacts, in which order they came, and who needs which bytes.

| database | key | value |
|---|---|---|
| artifacts | tenant NUL scope NUL name NUL version | the record, MessagePack |
| artifact_names | tenant NUL scope NUL name | newest version ever, how many there are |
| artifact_order | tenant NUL scope NUL sequence | name NUL version |
| artifact_digests | tenant NUL digest scope NUL sequence | nothing |
| artifact_scopes | tenant NUL scope | last sequence ever |
| blob_refs | tenant NUL digest | how many records need the blob |
| blob_tombs | tenant NUL digest | nothing |

An entry in `blob_tombs` says that nobody needs the blob any more and that it is still to be
removed. The longest key has 442 bytes; LMDB allows 511.
"""

from __future__ import annotations

import struct

import msgspec

from services.state.artifact_model import Artifact
from services.state.layout import tenant_prefix

_NUMBER = struct.Struct(">Q")
_NAME = struct.Struct(">QQ")
DIGEST_BYTES = 32

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Artifact).decode


def name_key(tenant: str, scope: str, name: str) -> bytes:
    """Key in `artifact_names`."""
    assert "\0" not in tenant + scope + name, "NUL separates the parts of a key"
    return f"{tenant}\0{scope}\0{name}".encode()


def versions_prefix(tenant: str, scope: str, name: str) -> bytes:
    """What the keys of all versions of a name begin with."""
    return name_key(tenant, scope, name) + b"\0"


def artifact_key(tenant: str, scope: str, name: str, version: int) -> bytes:
    """Key in `artifacts`."""
    return versions_prefix(tenant, scope, name) + _NUMBER.pack(version)


def split_artifact_key(stored: bytes) -> tuple[str, str, str, int]:
    """Tenant, scope, name and version."""
    head, version = stored[: -_NUMBER.size - 1], stored[-_NUMBER.size :]
    tenant, scope, name = head.decode().split("\0")
    return tenant, scope, name, _NUMBER.unpack(version)[0]


def scope_key(tenant: str, scope: str) -> bytes:
    """Key in `artifact_scopes`."""
    return f"{tenant}\0{scope}".encode()


def scope_prefix(tenant: str, scope: str) -> bytes:
    """What all keys of a scope begin with, in `artifacts`, `artifact_names`, `artifact_order`."""
    return f"{tenant}\0{scope}\0".encode()


def order_key(tenant: str, scope: str, sequence: int) -> bytes:
    """Key in `artifact_order`."""
    return scope_prefix(tenant, scope) + _NUMBER.pack(sequence)


def sequence_of(stored_key: bytes) -> int:
    """The sequence at the end of a key in `artifact_order` or `artifact_digests`."""
    sequence: int = _NUMBER.unpack(stored_key[-_NUMBER.size :])[0]
    return sequence


def pack_order(name: str, version: int) -> bytes:
    """Value in `artifact_order`."""
    return name.encode() + b"\0" + _NUMBER.pack(version)


def unpack_order(stored: bytes) -> tuple[str, int]:
    """Name and version."""
    return stored[: -_NUMBER.size - 1].decode(), _NUMBER.unpack(stored[-_NUMBER.size :])[0]


def digest_prefix(tenant: str, digest: bytes, scope: str) -> bytes:
    """What the keys of a digest in a scope begin with, in `artifact_digests`."""
    return blob_key(tenant, digest) + scope.encode() + b"\0"


def digest_key(tenant: str, digest: bytes, scope: str, sequence: int) -> bytes:
    """Key in `artifact_digests`."""
    return digest_prefix(tenant, digest, scope) + _NUMBER.pack(sequence)


def blob_key(tenant: str, digest: bytes) -> bytes:
    """Key in `blob_refs` and `blob_tombs`."""
    assert len(digest) == DIGEST_BYTES, "a digest has 32 bytes"
    return tenant_prefix(tenant) + digest


def split_blob_key(stored: bytes) -> tuple[str, bytes]:
    """Tenant and digest."""
    return stored[: -DIGEST_BYTES - 1].decode(), stored[-DIGEST_BYTES:]


def pack_artifact(artifact: Artifact) -> bytes:
    """Value in `artifacts`."""
    return _encode(artifact)


def unpack_artifact(stored: bytes) -> Artifact:
    """An artifact from its value."""
    return _decode(stored)


def pack_number(number: int) -> bytes:
    """Value in `artifact_scopes` and `blob_refs`."""
    return _NUMBER.pack(number)


def unpack_number(stored: bytes | None) -> int:
    """From such a value; absent is 0."""
    return 0 if stored is None else _NUMBER.unpack(stored)[0]


def pack_name(newest: int, count: int) -> bytes:
    """Value in `artifact_names`."""
    return _NAME.pack(newest, count)


def unpack_name(stored: bytes | None) -> tuple[int, int]:
    """Newest version ever, and how many there are; absent is (0, 0)."""
    return (0, 0) if stored is None else _NAME.unpack(stored)

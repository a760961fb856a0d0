"""Records in key order, cut into chunks where their keys say so, and chunks as files' bytes.

Where a chunk ends is told by the hash of a record's key and by its size, not by where it stands:
a record more or less changes the chunk that it is in, and the ones behind it stay as they are. So
the next backup finds them there already.

A chunk's plain bytes are records: length of key, length of value, key, value. The key is without
the tenant. As a file it has a header, the plain bytes compressed where that pays and sealed where
the store is, and a checksum of all that: one bit that differs is found.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator

import lz4.block
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK_BYTES = 1024**2
"""What a chunk holds on average."""
_CHUNK_BYTES_MIN = 256 * 1024
CHUNK_BYTES_MAX = 4 * 1024**2
"""Past this a chunk ends wherever it is; one record may be more than that."""

RECORD = struct.Struct(">HI")
_HEADER = struct.Struct(">4sBI")
_MAGIC = b"LSC1"
_COMPRESSED = 1
_SEALED = 2
_NONCE_BYTES = 12
_DIGEST_BYTES = 16
_PER_BYTE = 2**32 // CHUNK_BYTES
"""Of the 2**32 values of a key's hash, how many end a chunk, for each byte of the record."""


class UnsoundError(Exception):
    """Bytes are not those of the chunk that they should be; the text says why."""


def cut(records: Iterable[tuple[bytes, bytes]], strip: int) -> Iterator[tuple[list[bytes], int]]:
    """Chunks as pieces to be joined, and how many records each has.

    Args:
        records: In key order.
        strip: How many bytes at the beginning of each key are left out.
    """
    pieces: list[bytes] = []
    size = count = 0
    for key, value in records:
        own = key[strip:]
        record_bytes = len(own) + len(value)
        pieces += (RECORD.pack(len(own), len(value)), own, value)
        size += record_bytes
        count += 1
        if size >= _CHUNK_BYTES_MIN and (
            zlib.crc32(own) < record_bytes * _PER_BYTE or size >= CHUNK_BYTES_MAX
        ):
            yield pieces, count
            pieces = []
            size = count = 0
    if pieces:
        yield pieces, count


def read_records(plain: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys without the tenant, and values.

    Raises:
        UnsoundError: the bytes end within a record.
    """
    place, end = 0, len(plain)
    while place < end:
        if end - place < RECORD.size:
            raise UnsoundError("ends within a record")
        key_bytes, value_bytes = RECORD.unpack_from(plain, place)
        place += RECORD.size
        if end - place < key_bytes + value_bytes:
            raise UnsoundError("ends within a record")
        middle = place + key_bytes
        yield plain[place:middle], plain[middle : middle + value_bytes]
        place = middle + value_bytes


def name_of(plain: bytes, key: bytes | None) -> str:
    """A chunk's name. With a key it tells who has none nothing of what is in it."""
    digest = blake3(plain) if key is None else blake3(plain, key=key)
    return digest.hexdigest()


def write_chunk(name: str, plain: bytes, key: bytes | None) -> bytes:
    """A chunk as its file's bytes."""
    flags, body = 0, plain
    packed = lz4.block.compress(plain, store_size=False)
    if len(packed) < len(plain):
        flags, body = _COMPRESSED, packed
    if key is not None:
        flags |= _SEALED
        nonce = os.urandom(_NONCE_BYTES)
        body = nonce + AESGCM(key).encrypt(nonce, body, name.encode())
    head = _HEADER.pack(_MAGIC, flags, len(plain))
    digest = blake3(head + body).digest(length=_DIGEST_BYTES)
    return head + body + digest


def read_chunk(name: str, stored: bytes, key: bytes | None) -> bytes:
    """A chunk's plain bytes from its file's.

    Raises:
        UnsoundError: one bit is not as it was, or the key is not the one that it was sealed with.
    """
    if len(stored) < _HEADER.size + _DIGEST_BYTES:
        raise UnsoundError("is cut short")
    if blake3(stored[:-_DIGEST_BYTES]).digest(length=_DIGEST_BYTES) != stored[-_DIGEST_BYTES:]:
        raise UnsoundError("fails its checksum")
    magic, flags, size = _HEADER.unpack_from(stored)
    if magic != _MAGIC or flags & ~(_COMPRESSED | _SEALED):
        raise UnsoundError("is no chunk that this release can read")
    body = stored[_HEADER.size : -_DIGEST_BYTES]
    if flags & _SEALED:
        body = _unseal(name, body, key)
    plain = body
    if flags & _COMPRESSED:
        plain = lz4.block.decompress(body, uncompressed_size=size)
    if name_of(plain, key) != name:
        raise UnsoundError("holds something else than its name says")
    return plain


def _unseal(name: str, body: bytes, key: bytes | None) -> bytes:
    if key is None:
        raise UnsoundError("is encrypted, and there is no key")
    try:
        return AESGCM(key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], name.encode())
    except InvalidTag:
        raise UnsoundError("was sealed with another key") from None

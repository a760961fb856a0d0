"""The file of a blob: its bytes in frames, so that a part can be read without the whole.

| part | bytes |
|---|---|
| magic, format version | 8 |
| file id | 16 random bytes |
| frames | each: a byte that names the codec, and the content, sealed together |
| footer, sealed | plain size, frame size, number of frames, sealed length of each frame |
| length of the footer, magic | 8 |

Every frame holds `FRAME_BYTES` of the content, the last one what is left. A frame's seal covers the
file id and its number, the footer's covers the file id and the blob's digest: frames that changed
places, a file under another's name, a file that has lost its end are all noticed. What a seal is
says `Sealing`: a checksum, or a cipher's tag where the store is encrypted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

import lz4.block
from blake3 import blake3

from services.common.limits import ARTIFACT_COMPRESS_BYTES_MIN

FRAME_BYTES = 256 * 1024

_MAGIC = b"LSBLOB\x00\x01"
_END_MAGIC = b"BOLB"
_FILE_ID_BYTES = 16
_FOOTER = struct.Struct(">QII")
_LENGTH = struct.Struct(">I")
_END = struct.Struct(">I4s")
_NUMBER = struct.Struct(">Q")
_TAG_BYTES = 16
_PLAIN = b"\x00"
_LZ4 = b"\x01"
_SAMPLES = 4
_SAMPLE_BYTES = 4096

Content = bytes | bytearray | memoryview
"""Bytes that are not copied without need: a copy of a gigabyte takes as long as its digest."""


class BlobKey(NamedTuple):
    """Which blob."""

    tenant: str
    digest: bytes
    """blake3 of the plain bytes, 32 bytes."""


class Damaged(Exception):  # noqa: N818  (says what the file is)
    """The stored bytes are not what was written."""


class Sealing(Protocol):
    """Makes pieces of a blob so that a change is noticed, and perhaps unreadable to others."""

    def seal_chunk(self, tenant: str, context: bytes, plain: bytes) -> bytes:
        """What is to be stored; `context` (file id, and number or digest) is bound to it."""

    def open_chunk(self, tenant: str, context: bytes, sealed: bytes) -> Content:
        """What was sealed.

        Raises:
            Damaged: it was not sealed so, for this tenant and context.
        """


class Checksums:
    """Seals by a checksum: blake3, cut to 16 bytes."""

    def seal_chunk(self, tenant: str, context: bytes, plain: bytes) -> bytes:
        """See Sealing."""
        return _checksum(tenant, context, plain) + plain

    def open_chunk(self, tenant: str, context: bytes, sealed: bytes) -> Content:
        """See Sealing."""
        plain = memoryview(sealed)[_TAG_BYTES:]
        if sealed[:_TAG_BYTES] != _checksum(tenant, context, plain):
            raise Damaged("a checksum does not hold")
        return plain


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were written."""

    digest: bytes
    """blake3 of the plain bytes, 32 bytes."""
    size_bytes: int
    stored_bytes: int
    """What the file takes."""


class BlobWriter:
    """Writes a blob's file from its beginning to its end. Holds one frame in memory."""

    def __init__(self, file: BinaryIO, tenant: str, sealing: Sealing) -> None:
        self._file = file
        self._tenant = tenant
        self._sealing = sealing
        self._file_id = os.urandom(_FILE_ID_BYTES)
        self._hasher = blake3()
        self._waiting = bytearray()
        self._lengths: list[int] = []
        self._shrinks = True
        """Whether the frame before did; the first one is tried."""
        self.size_bytes = 0
        """Of the content, so far."""
        file.write(_MAGIC + self._file_id)

    def write(self, content: bytes) -> None:
        """Take the next bytes."""
        self._hasher.update(content)
        self.size_bytes += len(content)
        rest = memoryview(content)
        if self._waiting:
            missing = FRAME_BYTES - len(self._waiting)
            self._waiting += rest[:missing]
            rest = rest[missing:]
            if len(self._waiting) == FRAME_BYTES:
                self._write_frame(self._waiting)
                self._waiting = bytearray()
        while len(rest) >= FRAME_BYTES:
            self._write_frame(rest[:FRAME_BYTES])
            rest = rest[FRAME_BYTES:]
        self._waiting += rest

    def finish(self) -> Blob:
        """Write what is left, and the footer."""
        if self._waiting:
            self._write_frame(self._waiting)
            self._waiting = bytearray()
        digest = self._hasher.digest()
        footer = _FOOTER.pack(self.size_bytes, FRAME_BYTES, len(self._lengths))
        footer += b"".join(map(_LENGTH.pack, self._lengths))
        sealed = self._sealing.seal_chunk(self._tenant, self._file_id + digest, footer)
        self._file.write(sealed + _END.pack(len(sealed), _END_MAGIC))
        return Blob(digest, self.size_bytes, self._file.tell())

    def _write_frame(self, content: Content) -> None:
        context = self._file_id + _NUMBER.pack(len(self._lengths))
        sealed = self._sealing.seal_chunk(self._tenant, context, self._encoded(content))
        self._file.write(sealed)
        self._lengths.append(len(sealed))

    def _encoded(self, content: Content) -> bytes:
        """With lz4 where that is smaller. Behind a frame that was not, samples are tried first."""
        pays = self.size_bytes > ARTIFACT_COMPRESS_BYTES_MIN
        if pays and (self._shrinks or _may_shrink(content)):
            packed: bytes = lz4.block.compress(content, store_size=False)
            self._shrinks = len(packed) < len(content)
            if self._shrinks:
                return _LZ4 + packed
        return b"".join((_PLAIN, content))


class BlobReader:
    """Reads parts of a blob, each verified. Close it; not safe to use from two threads."""

    def __init__(self, file: BinaryIO, tenant: str, digest: bytes, sealing: Sealing) -> None:
        """Reads the footer.

        Raises:
            Damaged: it is not that of this blob, or the file is longer or shorter than it says.
        """
        self._file = file
        self._tenant = tenant
        self._sealing = sealing
        self.digest = digest
        file_bytes = file.seek(0, os.SEEK_END)
        begin = len(_MAGIC) + _FILE_ID_BYTES
        head = self._pick(0, begin)
        if not head.startswith(_MAGIC) or file_bytes < begin + _END.size:
            raise Damaged("it does not begin as a blob does")
        self._file_id = head[len(_MAGIC) :]
        footer_bytes, magic = _END.unpack(self._pick(file_bytes - _END.size, _END.size))
        footer_start = file_bytes - _END.size - footer_bytes
        if magic != _END_MAGIC or footer_start < begin:
            raise Damaged("its end is missing")
        sealed = self._pick(footer_start, footer_bytes)
        footer = sealing.open_chunk(tenant, self._file_id + digest, sealed)
        self.size_bytes, self._frame_bytes, count = _FOOTER.unpack_from(footer)
        lengths = [each[0] for each in _LENGTH.iter_unpack(footer[_FOOTER.size :])]
        self._starts = [begin]
        for length in lengths:
            self._starts.append(self._starts[-1] + length)
        if len(lengths) != count or self._starts[-1] != footer_start:
            raise Damaged("its parts do not fill it")

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` on; fewer than `length` at the end.

        Raises:
            Damaged: a frame is not what was written.
        """
        end = min(offset + length, self.size_bytes)
        if offset >= end:
            return b""
        first, last = offset // self._frame_bytes, (end - 1) // self._frame_bytes
        frames = [self._frame(number) for number in range(first, last + 1)]
        frames[-1] = frames[-1][: end - last * self._frame_bytes]
        frames[0] = frames[0][offset - first * self._frame_bytes :]
        return b"".join(frames)

    def verify(self) -> None:
        """Read all of it.

        Raises:
            Damaged: it is not the content of this digest.
        """
        hasher = blake3()
        for content in self.pieces():
            hasher.update(content)
        if hasher.digest() != self.digest:
            raise Damaged("its digest is another")

    def pieces(self) -> Iterator[Content]:
        """The content from its beginning, a frame at a time."""
        return map(self._frame, range(len(self._starts) - 1))

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._file.close()

    def _frame(self, number: int) -> Content:
        start, end = self._starts[number : number + 2]
        context = self._file_id + _NUMBER.pack(number)
        encoded = self._sealing.open_chunk(self._tenant, context, self._pick(start, end - start))
        size = min(self._frame_bytes, self.size_bytes - number * self._frame_bytes)
        return _decode(encoded, size)

    def _pick(self, start: int, length: int) -> bytes:
        self._file.seek(max(start, 0))
        found = self._file.read(length)
        if len(found) != length:
            raise Damaged("its end is missing")
        return found


def _checksum(tenant: str, context: bytes, plain: Content) -> bytes:
    hasher = blake3(f"{tenant}\0".encode() + context)
    hasher.update(plain)
    return hasher.digest(length=_TAG_BYTES)


def _may_shrink(content: Content) -> bool:
    """Whether a sample does; of what has no room for samples nothing is known."""
    step = len(content) // _SAMPLES
    if step < _SAMPLE_BYTES:
        return True
    view = memoryview(content)
    samples = (view[number * step :][:_SAMPLE_BYTES] for number in range(_SAMPLES))
    return any(
        len(lz4.block.compress(sample, store_size=False)) < _SAMPLE_BYTES for sample in samples
    )


def _decode(encoded: Content, size: int) -> Content:
    codec, content = encoded[:1], memoryview(encoded)[1:]
    unpacked: Content = content
    if codec == _LZ4:
        try:
            unpacked = lz4.block.decompress(content, uncompressed_size=size)
        except lz4.block.LZ4BlockError:
            raise Damaged("a part cannot be unpacked") from None
    if len(unpacked) != size:
        raise Damaged("a part has another length")
    return unpacked

"""What a tool's process notes of itself in a file that outlives the host; both ends read here.

One byte says that the body has begun. Behind it stands, once it is known, what came of it: the same
bytes as the last frame holds, with their length, kind and checksum. The checksum tells a torn note
from a whole one; nothing here tells an honest tool from another, so a note counts as little as a
frame does.
"""

from __future__ import annotations

import os
import resource
import struct
import zlib
from dataclasses import dataclass

UNDONE = 0
"""Kind of a note: the host was lost before anything could be done."""

_MARK = b"b"
_HEAD = struct.Struct("<IBI")
"""Length of the data in bytes, kind, checksum of both and of the data."""
HEAD_BYTES = len(_MARK) + _HEAD.size


@dataclass(frozen=True, slots=True)
class Noted:
    """What a receipt says."""

    has_begun: bool
    """Whether the body was entered."""
    kind: int = -1
    """Of the last frame, or `UNDONE`; -1: what came of it is not known."""
    data: bytes = b""
    """The last frame's."""

    @property
    def is_whole(self) -> bool:
        """Whether it says what came of it."""
        return self.kind >= 0


class Receipt:
    """The end of the tool's process; without a descriptor nothing is noted."""

    def __init__(self, descriptor: int = -1, bytes_max: int = 0) -> None:
        """`bytes_max`: of a note's data, as of a frame's."""
        self.descriptor = descriptor
        self.bytes_max = bytes_max

    def begin(self) -> None:
        """From now on something may have been done.

        Raises:
            OSError: where it cannot be noted; then nothing may be done.
        """
        if self.descriptor >= 0:
            os.pwrite(self.descriptor, _MARK, 0)

    def note(self, kind: int, data: bytes) -> None:
        """What came of it. Where there is no room, whoever is still there is told all the same."""
        if self.descriptor < 0 or len(data) > self.bytes_max:
            return
        rest = memoryview(_HEAD.pack(len(data), kind, _checksum(kind, data)) + data)
        at = len(_MARK)
        try:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            while rest:
                written = os.pwrite(self.descriptor, rest, at)
                rest, at = rest[written:], at + written
        except OSError:
            return


def read(descriptor: int, bytes_max: int) -> Noted:
    """What a receipt says; what is torn, too long or nonsense says that it has begun."""
    text = os.pread(descriptor, HEAD_BYTES + bytes_max + 1, 0)
    if not text:
        return Noted(has_begun=False)
    if text[:1] != _MARK or not HEAD_BYTES <= len(text) <= HEAD_BYTES + bytes_max:
        return Noted(has_begun=True)
    length, kind, checksum = _HEAD.unpack_from(text, len(_MARK))
    data = text[HEAD_BYTES:]
    if len(data) != length or _checksum(kind, data) != checksum:
        return Noted(has_begun=True)
    return Noted(has_begun=True, kind=kind, data=data)


def _checksum(kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<IB", len(data), kind)))

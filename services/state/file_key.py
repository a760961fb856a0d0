"""Sealing with one key: nonces that do not come twice, and the key of a file.

Nonces count up from a random beginning: 64 bits that are drawn when the process starts and after
each 2^32 values, then a counter. Two values under one key share a nonce only where two processes
have drawn the same beginning: for 2^16 starts of one store the chance is 2^-33. So a data key is
good for 2^48 values. A process must not be forked, nor go on twice from one snapshot of its memory.
"""

from __future__ import annotations

import itertools
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import Reason, ServiceError

KEY_BYTES = 32
NONCE_BYTES = 12

CHUNK_BYTES_MORE = NONCE_BYTES + 16
"""By how much a sealed chunk is longer: nonce and tag."""

_COUNTER = struct.Struct(">I")
_PREFIX_BYTES = 8


class Nonces:
    """96 bits that no other value of this process has, and hardly one of any other."""

    def __init__(self, *, limit: int = 2**32) -> None:
        """`limit`: values after which the beginning is drawn anew."""
        self._limit = limit
        self._counts = itertools.count()
        self._beginnings: dict[int, bytes] = {}

    def take(self) -> bytes:
        """The next. Safe from any thread."""
        turn, count = divmod(next(self._counts), self._limit)
        beginning = self._beginnings.get(turn)
        if beginning is None:
            beginning = self._beginnings.setdefault(turn, os.urandom(_PREFIX_BYTES))
        return beginning + _COUNTER.pack(count)


class FileKey:
    """A key for the chunks of one file, or of the files of one backup. It does not show itself.

    Each chunk is bound to its place, so that chunks do not change places or files. That the last
    one is there the caller has to know, from a count or a digest that it keeps elsewhere.
    """

    def __init__(self, raw: bytes | None = None) -> None:
        """`raw`: the key of a file that is there; None: a new one."""
        self.raw = os.urandom(KEY_BYTES) if raw is None else raw
        """The key itself; to be kept sealed or wrapped only."""
        self._aead = AESGCM(self.raw)

    def seal_chunk(self, place: bytes, chunk: bytes | memoryview) -> bytes:
        """What is to be written for a chunk, `CHUNK_BYTES_MORE` longer.

        Args:
            place: Names file and chunk, such as `items 17`; the same is needed to open it.
            chunk: The bytes.
        """
        nonce = _NONCES.take()
        return nonce + self._aead.encrypt(nonce, chunk, place)

    def open_chunk(self, place: bytes, sealed: bytes | memoryview) -> bytes:
        """The bytes that were sealed for this place.

        Raises:
            ServiceError: RECORD_CORRUPT where they are not what was sealed for it with this key.
        """
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise ServiceError(
                Reason.RECORD_CORRUPT,
                "A chunk of a file fails its seal and is not returned.",
                key=place.decode("utf-8", "replace"),
            ) from None


_NONCES = Nonces()

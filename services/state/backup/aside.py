"""Files that are wanted for a while only: archives on their way out and in.

What they hold is in clear, and the store may be encrypted: so each is encrypted on the disk, with a
key that is in memory and nowhere else. What a crash leaves of one cannot be read by anybody, and
goes with the next start.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from services.common.store import RESERVE_BYTES, is_full, storage_full

_ROOM_BYTES = 2 * RESERVE_BYTES
_BUFFER_BYTES = 256 * 1024
_KEY_BYTES = 32
_BLOCK_BYTES = 16


class Aside:
    """One file. It is written from its beginning to its end, and then read."""

    def __init__(self, path: Path) -> None:
        """`path`: nobody else's; whoever has this removes it."""
        self._path = path
        self._key = b""

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._path.stat().st_size

    def writing(self) -> BinaryIO:
        """The file, to be written anew; closed by the caller.

        Its writing, flushing and closing raise ServiceError, STORAGE_FULL, where the disk is full.
        """
        self._key = os.urandom(_KEY_BYTES)  # one key never covers two contents
        return io.BufferedWriter(_Covered(self._path, "wb", self._key), _BUFFER_BYTES)

    def reading(self) -> BinaryIO:
        """The file, to be read anywhere; closed by the caller."""
        return io.BufferedReader(_Covered(self._path, "rb", self._key), _BUFFER_BYTES)

    def beside(self, name: str) -> Aside:
        """Another one, whose name begins as this one's."""
        return Aside(self._path.with_name(f"{self._path.name}.{name}"))

    def remove(self) -> None:
        """Remove the file. Safe to call twice, and where it was never written."""
        self._path.unlink(missing_ok=True)


class _Covered(io.RawIOBase):
    """A file under AES in counter mode, so that it can be read from anywhere."""

    def __init__(self, path: Path, mode: Literal["rb", "wb"], key: bytes) -> None:
        super().__init__()
        self._file = path.open(mode, buffering=0)
        self._mode = mode
        self._key = key
        self._cipher: Any = None
        self._place = 0
        self._covered_to = -1
        """Where the cipher goes on."""

    def readable(self) -> bool:
        return self._mode == "rb"

    def writable(self) -> bool:
        return self._mode == "wb"

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = self._file.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, target: Any) -> int:
        found = self._file.read(len(target)) or b""
        target[: len(found)] = self._cover(found)
        return len(found)

    def write(self, content: Any) -> int:
        begin = self._place
        covered = self._cover(bytes(content))
        self._check_room()
        try:
            written = self._file.write(covered) or 0
        except OSError as error:
            raise storage_full() if is_full(error) else error from None
        self._place = begin + written
        return written

    def close(self) -> None:
        self._file.close()
        super().close()

    def _check_room(self) -> None:
        """Leave the store room: others write to it meanwhile.

        Raises:
            ServiceError: STORAGE_FULL.
        """
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            raise storage_full()

    def _cover(self, content: bytes) -> bytes:
        """Encrypt or decrypt, which is the same, what is at this place, and go on behind it."""
        if self._covered_to != self._place:
            block, rest = divmod(self._place, _BLOCK_BYTES)
            counter = modes.CTR(block.to_bytes(_BLOCK_BYTES, "big"))
            self._cipher = Cipher(algorithms.AES(self._key), counter).encryptor()
            self._cipher.update(bytes(rest))
        covered: bytes = self._cipher.update(content)
        self._place += len(content)
        self._covered_to = self._place
        return covered

"""A file of named arrays with a head, checked as a whole before a byte of it is believed.

A damaged graph makes usearch crash, loop or answer wrongly (measured; ADR 0004), so nothing of a
file is looked at before its digest fits its bytes. It is written aside, flushed, and renamed.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from services.common import failpoints

_MAGIC = b"LLMSPSG2"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<I")
_ALIGNED = 64
_READ_BYTES = 4 << 20

Head = TypeVar("Head", bound=msgspec.Struct)


class FileRefusedError(Exception):
    """A file that must not be used; the text says why."""


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    head: msgspec.Raw
    arrays: dict[str, tuple[int, int, str, list[int]]]
    """Offset behind the index, bytes, dtype, shape."""


@dataclass(frozen=True)
class Container:
    """An open file. Its arrays are views of the mapped file."""

    head: bytes
    arrays: Mapping[str, NDArray[Any]]
    digest: str
    size_bytes: int

    def head_as(self, kind: type[Head]) -> Head:
        """The head.

        Raises:
            FileRefusedError: where another release wrote it.
        """
        try:
            return msgspec.json.decode(self.head, type=kind)
        except msgspec.DecodeError:
            raise FileRefusedError("another release wrote it") from None


def write(path: Path, head: msgspec.Struct, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write a file aside and put it in place; its digest.

    Raises:
        OSError: nothing stands under `path` that was not there before.
    """
    parts, places, offset = [], {}, 0
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        parts.append(flat)
        places[name] = (offset, flat.nbytes, flat.dtype.str, list(flat.shape))
        offset += _padded(flat.nbytes)
    index = msgspec.json.encode(_Index(msgspec.Raw(msgspec.json.encode(head)), places))
    index += b" " * (_padded(_prologue(len(index))) - _prologue(len(index)))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_suffix(".new")
    try:
        digest = _write(aside, index, parts)
        failpoints.hit("index.before_rename")
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)
    return digest


def read(path: Path, digest: str | None = None) -> Container:
    """Map a file.

    Args:
        path: Where.
        digest: What its digest must be; None: what the file says itself.

    Raises:
        FileRefusedError: where it is missing, damaged, or another one.
    """
    try:
        with path.open("rb") as file:
            told, fits = _checked(file)
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is empty"
        raise FileRefusedError(f"it cannot be read: {why}") from None
    if not fits:
        raise FileRefusedError("its digest does not fit its bytes")
    body = content[len(_MAGIC) + _DIGEST_BYTES :]
    if digest is not None and told.hex() != digest:
        raise FileRefusedError("it is not the file that was registered")
    length = _LENGTH.unpack_from(body)[0]
    start = _prologue(length)
    try:
        index = msgspec.json.decode(body[4 : 4 + length], type=_Index)
    except msgspec.DecodeError:
        raise FileRefusedError("another release wrote it") from None
    arrays = {
        name: np.frombuffer(content, dtype, _count(shape), start + offset).reshape(shape)
        for name, (offset, _, dtype, shape) in index.arrays.items()
    }
    return Container(bytes(index.head), arrays, told.hex(), len(content))


def _count(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _checked(file: BinaryIO) -> tuple[bytes, bool]:
    """The digest that a file tells, and whether it fits; read, not mapped, to take no memory."""
    head = file.read(len(_MAGIC) + _DIGEST_BYTES)
    digest = blake3(max_threads=blake3.AUTO)
    while part := file.read(_READ_BYTES):
        digest.update(part)
    told = head[len(_MAGIC) :]
    return told, head.startswith(_MAGIC) and told == digest.digest()


def _prologue(index_bytes: int) -> int:
    return len(_MAGIC) + _DIGEST_BYTES + _LENGTH.size + index_bytes


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _write(aside: Path, index: bytes, parts: list[NDArray[Any]]) -> str:
    digest = blake3(max_threads=blake3.AUTO)
    with aside.open("wb") as file:
        file.seek(len(_MAGIC) + _DIGEST_BYTES)

        def put(data: Any) -> None:
            digest.update(data)
            file.write(data)

        put(_LENGTH.pack(len(index)) + index)
        for part in parts:
            put(part.reshape(-1).view(np.uint8) if part.nbytes else b"")
            put(bytes(_padded(part.nbytes) - part.nbytes))
        file.seek(0)
        file.write(_MAGIC + digest.digest())
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

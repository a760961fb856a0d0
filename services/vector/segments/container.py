"""A file of named arrays with a head, checked as a whole before a byte of it is believed.

A damaged graph makes usearch crash, loop or answer wrongly (measured; ADR 0004), so nothing of a
file is looked at before its digest fits its bytes. It is written aside, flushed, and renamed.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from services.common import failpoints
from services.vector.segments.footprint import unmap_array

_MAGIC = b"LLMSPSG2"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<I")
_ALIGNED = 64
_READ_BYTES = 4 << 20
_FEW_ROWS = 1024
"""Reading each by itself takes as long as looking at 20 times as many through a mapping."""

Head = TypeVar("Head", bound=msgspec.Struct)


class FileRefusedError(Exception):
    """A file that must not be used; the text says why."""


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    head: msgspec.Raw
    arrays: dict[str, tuple[int, int, str, list[int]]]
    """Offset behind the index, bytes, dtype, shape."""


class _Descriptor:
    """An open file, closed with whatever holds this last."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be opened
            os.close(self.number)


class StoredRows:
    """Rows of an array of a file, (n, any), that are read when they are wanted.

    A page that is looked at through a mapping stays in memory, and 15 around it: of rows that are
    wanted here and there, soon all would.
    """

    def __init__(self, file: _Descriptor, array: NDArray[Any], offset: int) -> None:
        self.nbytes = array.nbytes
        self._file, self._array, self._offset = file, array, offset

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of some rows, in their order."""
        if len(rows) > _FEW_ROWS:
            found: NDArray[Any] = self._array[rows]
            unmap_array(self._array)
            return found
        read, number, size = os.pread, self._file.number, self._array.strides[0]
        parts = [read(number, size, self._offset + row * size) for row in rows.tolist()]
        return np.frombuffer(b"".join(parts), self._array.dtype).reshape(-1, self._array.shape[1])


@dataclass(frozen=True)
class Container:
    """An open file. Its arrays are views of the mapped file."""

    head: bytes
    arrays: Mapping[str, NDArray[Any]]
    digest: str
    size_bytes: int
    _offsets: Mapping[str, int]
    _file: _Descriptor

    def stored(self, name: str) -> StoredRows:
        """An array, to be read row by row."""
        return StoredRows(self._file, self.arrays[name], self._offsets[name])

    def head_as(self, kind: type[Head]) -> Head:
        """The head.

        Raises:
            FileRefusedError: where another release wrote it.
        """
        try:
            return msgspec.json.decode(self.head, type=kind)
        except msgspec.DecodeError:
            raise FileRefusedError("another release wrote it") from None


def write(
    path: Path, head: msgspec.Struct, arrays: Mapping[str, NDArray[Any]], *, lasting: bool = True
) -> str:
    """Write a file aside and put it in place; its digest.

    Args:
        path: Where.
        head: What is said of all arrays.
        arrays: By name.
        lasting: Whether it is to be there after a power cut.

    Raises:
        OSError: nothing stands under `path`.
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
        digest = _write(aside, index, parts, lasting=lasting)
        failpoints.hit("index.before_rename")
        aside.replace(path)
        if lasting:
            _flush_folder(path.parent)
            _flush_folder(path.parent.parent)  # the folder itself may be new
    except OSError:
        aside.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
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
        opened = _Descriptor(path)
        with os.fdopen(opened.number, "rb", closefd=False) as file:
            told, fits = _checked(file)
        content = memoryview(mmap.mmap(opened.number, 0, access=mmap.ACCESS_READ))
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
    places = index.arrays.items()
    offsets = {name: start + offset for name, (offset, *_) in places}
    arrays = {
        name: np.frombuffer(content, dtype, _count(shape), offsets[name]).reshape(shape)
        for name, (_, _, dtype, shape) in places
    }
    return Container(bytes(index.head), arrays, told.hex(), len(content), offsets, opened)


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


def _write(aside: Path, index: bytes, parts: list[NDArray[Any]], *, lasting: bool) -> str:
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
        if lasting:
            os.fsync(file.fileno())
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

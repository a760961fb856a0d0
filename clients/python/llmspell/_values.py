"""Python values ⇄ the contract's values: metadata, payloads, vectors, times. No I/O."""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, SupportsIndex

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from llmspell.errors import InvalidArgument
from llmspell.types import Encoding, VectorLike
from llmspell.v1.state_pb2 import Payload
from llmspell.v1.types_pb2 import ListValue, MapValue, Value, Vector

_INT64 = range(-(2**63), 2**63)
_INT32 = range(-(2**31), 2**31)
_DEPTH_MAX = 64
_FLOAT_BYTES = 4
_SECONDS_MAX = 9_000_000_000
"""What nanoseconds in 64 bits can count."""


def to_value(value: Any, path: str, depth: int = 0) -> Value:
    """A Python value as the contract's; `path` is named where it cannot be one."""
    if depth > _DEPTH_MAX:
        raise _invalid(path, f"is nested more than {_DEPTH_MAX} deep")
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, float):
        return Value(double_value=_finite(value, path))
    if isinstance(value, SupportsIndex):  # int, and numpy's whole numbers
        return Value(int_value=_int64(value, path))
    return _to_text_or_compound(value, path, depth)


def to_fields(metadata: Mapping[str, Any], path: str) -> dict[str, Value]:
    """A record's or a document's metadata as the contract's map."""
    try:
        return {_text_key(key, path): to_value(metadata[key], f"{path}.{key}") for key in metadata}
    except InvalidArgument:
        refuse_cycle(metadata, path)
        raise


def to_map(values: Mapping[str, Any], path: str) -> MapValue:
    """Values by name, as the contract's map."""
    return MapValue(fields=to_fields(values, path))


def from_value(value: Value) -> Any:
    """The contract's value as a Python value."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list_value":
        return [from_value(entry) for entry in value.list_value.values]
    if kind == "map_value":
        return from_fields(value.map_value.fields)
    return getattr(value, kind)


def from_fields(fields: Mapping[str, Value]) -> dict[str, Any]:
    """The contract's map as a dictionary, in order of name."""
    return {name: from_value(fields[name]) for name in sorted(fields)}


def to_payload(value: Any, *, text: bool = False, sensitive: bool = False) -> Payload:
    """An item's value: bytes stay bytes, `text` keeps a `str` as it is, the rest is JSON."""
    if isinstance(value, bytes | bytearray | memoryview):
        return Payload(raw=bytes(value), sensitive=sensitive)
    if text:
        if not isinstance(value, str):
            raise _invalid("value", f"must be a str to be kept as text, not {_kind(value)}")
        return Payload(text=value, sensitive=sensitive)
    try:
        document = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        refuse_cycle(value, "value")
        raise _invalid("value", f"cannot be written as JSON: {error}") from None
    return Payload(json=document, sensitive=sensitive)


def refuse_cycle(value: Any, root: str) -> None:
    """Say so where a value holds itself, and where it does.

    Raises:
        InvalidArgument: VALUE_CYCLIC with the path, such as `value.a.b[3] → value.a`.
    """
    path = _cycle_in(value, root)
    if path:
        raise InvalidArgument(
            f"{root} contains itself ({path}).",
            reason="VALUE_CYCLIC",
            metadata={"field": root, "path": path},
        )


def _cycle_in(value: Any, root: str) -> str:
    """The first cycle's path, in the order of writing; empty where there is none."""
    walk = [(root, iter([(root, value)]))]
    opened: dict[int, str] = {}
    held: list[int] = []
    while walk:
        entry = next(walk[-1][1], None)
        if entry is None:
            walk.pop()
            if held:
                opened.pop(held.pop())
            continue
        path, inner = entry
        if id(inner) in opened:
            return f"{path} → {opened[id(inner)]}"
        if isinstance(inner, Mapping | list | tuple):
            opened[id(inner)] = path
            held.append(id(inner))
            walk.append((path, _inside(inner, path)))
    return ""


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            plain = isinstance(key, str) and key.isidentifier()
            yield f"{path}.{key}" if plain else f"{path}[{key!r}]", inner
    else:
        for number, inner in enumerate(value):
            yield f"{path}[{number}]", inner


def from_payload(payload: Payload) -> tuple[Any, Encoding | None]:
    """An item's value, and how it is kept; None where the payload is unset."""
    match payload.WhichOneof("encoding"):
        case "json":
            return json.loads(payload.json), "json"
        case "text":
            return payload.text, "text"
        case "raw":
            return payload.raw, "raw"
        case _:
            return None, None


def to_vector(vector: VectorLike, path: str = "vector") -> Vector:
    """Numbers as packed little-endian float32; a float32 buffer is copied as it is."""
    if isinstance(vector, bytes | bytearray | str):
        raise _invalid(path, "must be numbers; give bytes as array('f') or numpy.frombuffer(…)")
    if getattr(vector, "ndim", 1) != 1:
        raise _invalid(path, "must have one axis")
    return Vector(f32=_packed(vector, path))


class Rows:
    """The rows of a matrix as packed little-endian float32, taken piece by piece."""

    def __init__(self, matrix: Any, path: str) -> None:
        """Takes a numpy array of any numbers, or a buffer of float32, with two axes."""
        self.count, self.dimension = (int(length) for length in matrix.shape)
        self._converted = hasattr(matrix, "astype")
        self._matrix: Any = matrix if self._converted else _flat(matrix, path)
        if not self.dimension:
            raise _invalid(path, "must have columns")

    def take(self, start: int, end: int) -> bytes:
        """Some rows in one piece."""
        if self._converted:
            return bytes(self._matrix[start:end].astype("<f4").tobytes())
        row_bytes = _FLOAT_BYTES * self.dimension
        return bytes(self._matrix[start * row_bytes : end * row_bytes])


def is_matrix(vectors: Any) -> bool:
    """Whether this has two axes, and so is many vectors in one piece."""
    return getattr(vectors, "ndim", 1) == 2  # noqa: PLR2004  (rows and columns)


def from_vector(vector: Vector) -> array[float]:
    """A vector as an `array('f')`, which numpy reads without copying."""
    numbers = array("f", vector.values)
    if vector.f32:
        numbers.frombytes(vector.f32)
        _swap_where_big_endian(numbers)
    return numbers


def to_timestamp(time: datetime | None, path: str) -> Timestamp | None:
    """A point in time; it must say its time zone."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise _invalid(path, "must have a time zone, such as datetime.now(UTC)")
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def from_timestamp(message: Any, field: str) -> datetime | None:
    """A time field of a message, None where it is unset."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(tzinfo=UTC)


def to_duration(seconds: float | None, path: str, *, or_zero: bool = False) -> Duration | None:
    """A length of time; what is too long for its purpose is the service's to say."""
    if seconds is None:
        return None
    zero = or_zero and seconds == 0
    if not (0 < seconds <= _SECONDS_MAX or zero):  # NaN is not either
        raise _invalid(path, f"must be more than 0 and at most {_SECONDS_MAX} seconds")
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def from_duration(message: Any, field: str) -> float | None:
    """A length of time in seconds, None where it is unset."""
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    return duration.seconds + duration.nanos / 1e9


def uint32(value: SupportsIndex, path: str) -> int:
    """A number that is not negative and fits the wire."""
    number = int32(value, path)
    if number < 0:
        raise _invalid(path, "must not be negative")
    return number


def int32(value: SupportsIndex, path: str) -> int:
    """A number that fits the wire; what it may be is the service's to say."""
    number = value.__index__()
    if number not in _INT32:
        raise _invalid(path, f"is too large: {number}")
    return number


def _flat(matrix: Any, path: str) -> memoryview:
    try:
        view = memoryview(matrix)
    except TypeError:
        view = None
    little = sys.byteorder == "little"
    if view is None or view.format != "f" or not view.c_contiguous or not little:
        raise _invalid(path, "must be a numpy array, or a contiguous buffer of float32")
    return view.cast("B")


def _packed(vector: VectorLike, path: str) -> bytes:
    try:
        view = memoryview(vector)  # type: ignore[arg-type]  # asks whether it is a buffer
    except TypeError:
        pass
    else:
        if view.format == "f" and view.c_contiguous and sys.byteorder == "little":
            return view.tobytes()
    try:
        numbers = array("f", vector)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(path, f"must be numbers: {error}") from None
    _swap_where_big_endian(numbers)
    return numbers.tobytes()


def _swap_where_big_endian(numbers: array[float]) -> None:
    if sys.byteorder == "big":
        numbers.byteswap()


def _to_text_or_compound(value: Any, path: str, depth: int) -> Value:
    if value is None:
        return Value()
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Value(bytes_value=bytes(value))
    return _to_compound(value, path, depth + 1)


def _to_compound(value: Any, path: str, depth: int) -> Value:
    if isinstance(value, Mapping):
        fields = {
            _text_key(key, path): to_value(entry, f"{path}.{key}", depth)
            for key, entry in value.items()
        }
        return Value(map_value=MapValue(fields=fields))
    if isinstance(value, Sequence):
        entries = [to_value(entry, f"{path}[{n}]", depth) for n, entry in enumerate(value)]
        return Value(list_value=ListValue(values=entries))
    raise _invalid(
        path, f"must be null, bool, int, float, str, bytes, list or dict, not {_kind(value)}"
    )


def _text_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise _invalid(path, f"must have keys of type str, not {_kind(key)}")
    return key


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise _invalid(path, "must be a finite number")
    return value


def _int64(value: SupportsIndex, path: str) -> int:
    number = value.__index__()
    if number not in _INT64:
        raise _invalid(path, "must fit into 64 bits")
    return number


def _kind(value: Any) -> str:
    return type(value).__name__


def _invalid(path: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{path} {rule}.", metadata={"field": path, "rule": rule})

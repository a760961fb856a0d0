"""Times and durations as they travel, in nanoseconds and checked."""

from __future__ import annotations

from typing import Any

from llmspell.v1 import vector_pb2

from services.common.errors import field_invalid
from services.vector.model import Span

_SECOND_NS = 10**9
_INT64 = 2**63


def read_time(message: Any, name: str, field: str = "") -> int | None:
    """Nanoseconds since the epoch of a Timestamp field; None where it is not set.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if not message.HasField(name):
        return None
    time = getattr(message, name)
    time_ns = time.seconds * _SECOND_NS + time.nanos
    if not 0 <= time.nanos < _SECOND_NS or not -_INT64 < time_ns < _INT64:
        raise field_invalid(_path(field, name), "must be a time between the years 1678 and 2261")
    return int(time_ns)


def read_duration(message: Any, name: str, field: str = "") -> int | None:
    """Nanoseconds of a Duration field; None where it is not set.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if not message.HasField(name):
        return None
    duration = getattr(message, name)
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= _SECOND_NS or seconds * nanos < 0:
        raise field_invalid(_path(field, name), "must be a valid duration")
    return int(seconds * _SECOND_NS + nanos)


def read_span(message: Any, name: str) -> Span | None:
    """A TimeRange field; None where it is not set.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if not message.HasField(name):
        return None
    span: vector_pb2.TimeRange = getattr(message, name)
    return Span(
        start_ns=read_time(span, "start_time", name), end_ns=read_time(span, "end_time", name)
    )


def _path(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name

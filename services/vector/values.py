"""How metadata values compare: numbers by amount, everything by kind."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta

from services.vector.model import Value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|z|[+-]\d\d:\d\d)", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SECOND_NS = 10**9
_MOMENT_MAX = 2**63


def kind_of(value: Value) -> str:
    """`boolean`, `number`, `text`, or the name of another type. Kinds are never equal."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal: 1 equals 1.0, true does not equal 1."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return kind_of(left) == kind_of(right) and left == right


def parse_moment(value: Value) -> int | None:
    """Nanoseconds since 1970 of what may be a moment; None where it is none.

    RFC 3339 text with an offset, a date (midnight UTC), or a number of seconds.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        within = math.isfinite(value) and abs(value) <= _MOMENT_MAX / _SECOND_NS
        moment = round(value * _SECOND_NS) if within else None
    elif isinstance(value, str):
        moment = _from_text(value)
    else:
        return None
    return moment if moment is not None and -_MOMENT_MAX < moment < _MOMENT_MAX else None


def _from_text(text: str) -> int | None:
    try:
        if _DATE.fullmatch(text):
            return (date.fromisoformat(text) - _EPOCH.date()).days * 86400 * _SECOND_NS
        parts = _RFC3339.fullmatch(text)
        if parts is None:
            return None
        day, clock, fraction, offset = parts.groups()
        whole = datetime.fromisoformat(f"{day}T{clock}{offset.upper().replace('Z', '+00:00')}")
    except ValueError:
        return None
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    return seconds * _SECOND_NS + int((fraction or ".0")[1:].ljust(9, "0"))

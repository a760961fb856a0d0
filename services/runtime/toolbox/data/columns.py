"""What is in a column: its type, what is missing, and its statistics, in one pass."""

from __future__ import annotations

import math
import re
import statistics
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.runtime.toolbox.data import tables

UNIQUE_MAX = 100_000
"""Different values that are counted; more are told as this many."""
SAMPLES = 5

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}/\d{4}|\d{1,2}\.\d{1,2}\.\d{4}")
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?"
)
_INTEGER = re.compile(r"[+-]?\d+")

_TYPES: dict[str, Callable[[str], bool]] = {
    "integer": lambda cell: tables.is_number(cell) and bool(_INTEGER.fullmatch(cell)),
    "float": tables.is_number,
    "boolean": lambda cell: cell.lower() in ("true", "false", "yes", "no"),
    "date": lambda cell: bool(_DATE.fullmatch(cell)),
    "datetime": lambda cell: bool(_MOMENT.fullmatch(cell)),
}
"""In the order in which they are tried; otherwise string."""
_NUMERIC = ("integer", "float")
_EXACT_MAX = 2**53
_NULL_LENGTH_MAX = max(map(len, tables.NULLS))


@dataclass(slots=True)
class Column:
    """What has been seen of one column."""

    name: str
    _types: list[str] = field(default_factory=lambda: list(_TYPES))
    """Types that every cell so far has."""
    _numbers: array[float] = field(default_factory=lambda: array("d"))
    _seen: set[str] = field(default_factory=set)
    _samples: list[str] = field(default_factory=list)
    _null_count: int = 0
    _count: int = 0
    _least: str | None = None
    _most: str | None = None

    def add(self, cell: str) -> None:
        """Look at the next cell."""
        plain = cell.strip()
        if len(plain) <= _NULL_LENGTH_MAX and plain.lower() in tables.NULLS:
            self._null_count += 1
            return
        self._count += 1
        if plain not in self._seen:
            self._add_new(plain)
        if self._types and self._types[0] in _NUMERIC:
            self._numbers.append(float(plain))

    def _add_new(self, plain: str) -> None:
        """What a value that has not been seen yet says of the column."""
        if self._types:
            self._types = [name for name in self._types if _TYPES[name](plain)]
        if len(self._seen) < UNIQUE_MAX:
            self._seen.add(plain)
            if len(self._samples) < SAMPLES:
                self._samples.append(plain[:200])
        if self._least is None or plain < self._least:
            self._least = plain
        if self._most is None or plain > self._most:
            self._most = plain

    def told(self) -> dict[str, Any]:
        """What there is to tell."""
        kind = self._types[0] if self._types and self._count else "string"
        kind = kind if self._count else "empty"
        numeric = kind in _NUMERIC
        as_told: Callable[[float], float] = _as_integer if kind == "integer" else float
        numbers = self._numbers
        return {
            "name": self.name,
            "data_type": kind,
            "null_count": self._null_count,
            "unique_count": len(self._seen),
            "min_value": as_told(min(numbers)) if numeric else self._least,
            "max_value": as_told(max(numbers)) if numeric else self._most,
            "mean": _or_none(statistics.fmean, numbers) if numeric else None,
            "median": _or_none(statistics.median, numbers) if numeric else None,
            "std_dev": _or_none(_deviation, numbers) if numeric and len(numbers) > 1 else None,
            "sample_values": self._samples,
        }


def _deviation(numbers: array[float]) -> float:
    """Of a sample; as exact as `statistics.stdev` to a float's last digits, and much quicker."""
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _or_none(compute: Callable[[array[float]], float], numbers: array[float]) -> float | None:
    """None where the numbers are too large to compute with."""
    try:
        value = compute(numbers)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _as_integer(number: float) -> float:
    """Whole, as far as a float tells whole numbers apart."""
    return int(number) if abs(number) <= _EXACT_MAX else number

"""Metadata by field, so that a filter looks at each different value once instead of each record.

A column is made when a filter first asks for its field, and grows with the block it belongs to.
Rows never change, so what was read once stays true. Values are compared as stored bytes here; what
they mean to a test is `filters.passes`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeGuard

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.vector import filters
from services.vector.model import (
    All,
    AnyOf,
    Condition,
    Equals,
    Filter,
    Not,
    Range,
    Test,
    Value,
)

FIELDS_MAX = 32
"""Columns kept for a collection; the ones longest unused go."""

_EXACT_MAX = 2**53
_COMPARE = {
    "equals": np.equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
_UNKNOWN = -1
_ABSENT = 0

_decode_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_decode_value = msgspec.msgpack.Decoder().decode

ReadMetadata = Callable[[int], bytes | None]
"""From a row number to the MessagePack of its metadata; None where it cannot be read any more."""


class _Column:
    """For each row the number of its value; 0 means that the field is absent."""

    def __init__(self) -> None:
        self.codes = np.full(0, _UNKNOWN, np.int32)
        self.values: list[Value] = [None]
        self.read_rows = 0
        self._numbers: dict[bytes, int] = {}
        self._floats = np.empty(0)
        self._others: list[int] = []

    def reserve(self, rows: int) -> None:
        """Have a place for so many rows."""
        if rows > len(self.codes):
            codes = np.full(max(rows, 2 * len(self.codes)), _UNKNOWN, np.int32)
            codes[: len(self.codes)] = self.codes
            self.codes = codes

    def learn(self, row: int, stored: bytes | None) -> None:
        """Note a row's value; None: the field is absent."""
        if stored is None:
            self.codes[row] = _ABSENT
            return
        number = self._numbers.get(stored)
        if number is None:
            number = self._numbers[stored] = len(self.values)
            self.values.append(_decode_value(stored))
        self.codes[row] = number

    def numbers(self) -> tuple[NDArray[np.float64], list[int]]:
        """Each value as float64, NaN where it is none, and the places of those that are not."""
        known = len(self._floats)
        if known < len(self.values):
            fresh = self.values[known:]
            self._others += [known + n for n, value in enumerate(fresh) if not _is_exact(value)]
            floats = [float(value) if _is_exact(value) else np.nan for value in fresh]
            self._floats = np.concatenate([self._floats, floats])
        return self._floats, self._others


class Columns:
    """The columns of one block. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[str, _Column] = OrderedDict()

    def unread(self, filter: Filter, rows: int) -> int:  # noqa: A002  (the contract's word)
        """How many rows `mask` would have to read, at most."""
        with self._lock:
            known = [self._columns.get(field) for field in filters.fields(filter)]
            return max((rows - (c.read_rows if c else 0) for c in known), default=0)

    def mask(
        self,
        filter: Filter,  # noqa: A002  (the contract's word)
        alive: NDArray[np.bool_],
        read_metadata: ReadMetadata,
    ) -> NDArray[np.bool_]:
        """Which rows match, (n,). What it says of rows that are not alive means nothing."""
        names = filters.fields(filter)
        with self._lock:
            columns = {name: self._column(name) for name in names}
            self._read(columns, alive, read_metadata)
            return _mask(filter, columns, len(alive))

    def _column(self, name: str) -> _Column:
        column = self._columns.setdefault(name, _Column())
        self._columns.move_to_end(name)
        if len(self._columns) > max(FIELDS_MAX, 1):
            self._columns.popitem(last=False)
        return column

    def _read(
        self, columns: dict[str, _Column], alive: NDArray[np.bool_], read_metadata: ReadMetadata
    ) -> None:
        missing = np.zeros(len(alive), np.bool_)
        for column in columns.values():
            column.reserve(len(alive))
            column.read_rows = max(column.read_rows, len(alive))
            missing |= column.codes[: len(alive)] == _UNKNOWN
        paths = [(column, name.split(".")) for name, column in columns.items()]
        for row in np.flatnonzero(missing & alive).tolist():
            metadata = read_metadata(row)
            if metadata is None:
                continue
            entries = _decode_map(metadata)
            for column, path in paths:
                column.learn(row, _stored(entries, path))


def _stored(entries: dict[str, msgspec.Raw], path: Sequence[str]) -> bytes | None:
    """The stored bytes under a path; None where something on the way is absent or not a map."""
    found = entries.get(path[0])
    for name in path[1:]:
        if found is None or not _is_map(found):
            return None
        found = _decode_map(found).get(name)
    return None if found is None else bytes(found)


def _is_map(stored: msgspec.Raw) -> bool:
    kind = bytes(stored)[0]
    return 0x80 <= kind <= 0x8F or kind in {0xDE, 0xDF}  # noqa: PLR2004  (MessagePack's maps)


def _mask(
    filter: Filter,  # noqa: A002  (the contract's word)
    columns: dict[str, _Column],
    rows: int,
) -> NDArray[np.bool_]:
    match filter:
        case Condition(field, test):
            return _passing(columns[field], test)[columns[field].codes[:rows]]
        case Not(part):
            return ~_mask(part, columns, rows)
        case All(parts):
            found = np.ones(rows, np.bool_)
            for part in parts:
                found &= _mask(part, columns, rows)
            return found
        case AnyOf(parts):
            found = np.zeros(rows, np.bool_)
            for part in parts:
                found |= _mask(part, columns, rows)
            return found


def _passing(column: _Column, test: Test) -> NDArray[np.bool_]:
    """For each value's number whether it passes."""
    bounds = _number_bounds(test)
    if bounds is None:
        each = (filters.passes(test, value) for value in column.values)
        return np.fromiter(each, np.bool_, len(column.values))
    numbers, others = column.numbers()
    passing = np.ones(len(numbers), np.bool_)
    for name, bound in bounds:
        passing &= _COMPARE[name](numbers, bound)  # false for the NaN that stands for the others
    for place in others:
        passing[place] = filters.passes(test, column.values[place])
    return passing


def _number_bounds(test: Test) -> list[tuple[str, float]] | None:
    """A test as comparisons with float64 numbers; None where it is none, or would lose digits."""
    if isinstance(test, Equals):
        bounds: list[tuple[str, Value]] = [("equals", test.value)]
    elif isinstance(test, Range):
        bounds = test.bounds()
    else:
        return None
    exact = [(name, float(bound)) for name, bound in bounds if _is_exact(bound)]
    return exact if len(exact) == len(bounds) else None


def _is_exact(value: Value) -> TypeGuard[float]:
    """Whether a value is a number that float64 holds to the last digit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= _EXACT_MAX

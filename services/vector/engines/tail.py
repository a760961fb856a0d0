"""The rows of a namespace that no segment holds: all of a small one, the newest of a large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.vector.model import Metric
from services.vector.segments.rows import (
    NEVER,
    NO_TIME,
    Bools,
    Floats,
    Halves,
    Int64s,
    Reach,
    Table,
    Vectors,
    ended,
    history_count,
    kept_rows,
    prepare,
    split,
)

_Number = TypeVar("_Number", bound=np.generic)

_ROWS_FIRST = 16
_DEAD_ROWS_MIN = 256
_GROWTH = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Rows to be added, in the order of their labels."""

    labels: Sequence[int] | Int64s
    record_ids: Sequence[str]
    vectors: Floats
    """As they were sent, (n, dimension)."""
    ingest_times_ns: Sequence[int] | Int64s
    event_times_ns: Sequence[int] | Int64s
    """NO_TIME where there is none."""
    expire_times_ns: Sequence[int] | Int64s
    """NEVER where there is none."""
    members: Sequence[int] | Int64s
    revision: int


class Tail:
    """Arrays that grow. Changed by one thread only."""

    _high: Halves
    _low: Halves
    _labels: Int64s
    _ingest: Int64s
    _event: Int64s | None
    _expire: Int64s | None
    _ends: Int64s | None
    _members: Int64s | None
    _squares: Floats | None
    _alive: Bools
    _record_ids: list[str]
    _reach: Reach
    _revision: int
    _count: int
    _alive_count: int

    def __init__(self, dimension: int, metric: Metric, *, shared: bool) -> None:
        self._dimension = dimension
        self._metric = metric
        self._shared = shared
        self._clear(_ROWS_FIRST)

    def append(self, new: Arrivals) -> None:
        """Add rows; every label is larger than all before it."""
        first, end = self._count, self._count + len(new.labels)
        self._reserve(end)
        rows, squares, reach = prepare(new.vectors, self._metric)
        self._high[first:end], self._low[first:end] = split(rows)
        self._labels[first:end] = new.labels
        self._ingest[first:end] = new.ingest_times_ns
        self._event = self._with(self._event, new.event_times_ns, first, NO_TIME)
        self._expire = self._with(self._expire, new.expire_times_ns, first, NEVER)
        if self._ends is not None:
            self._ends[first:end] = NEVER
        if self._members is not None:
            self._members[first:end] = new.members
        if self._squares is not None:
            self._squares[first:end] = squares
        self._alive[first:end] = True
        self._record_ids.extend(new.record_ids)
        self._reach = self._reach.joined(reach)
        self._revision = max(self._revision, new.revision)
        self._count = end
        self._alive_count += len(new.labels)

    def remove(self, labels: Int64s, ends_ns: Int64s) -> None:
        """Mark rows dead; labels that are not here are passed over.

        Args:
            labels: Rising.
            ends_ns: When that was; NO_TIME: they are kept for no history.
        """
        self._alive, self._ends = ended(self.table(), labels, ends_ns, self._alive, self._ends)
        self._alive_count = int(self._alive[: self._count].sum())
        kept = self._alive_count + history_count(self.table())
        if self._count - kept > max(_DEAD_ROWS_MIN, self._count // 4):
            self.keep(kept_rows(self.table()))

    def keep(self, rows: Int64s) -> None:
        """Go on with some rows only, in new arrays; tables made before keep the old ones."""
        old = self.table()
        self._clear(max(_ROWS_FIRST, len(rows)))
        end = self._count = len(rows)
        self._high[:end] = old.vectors.high[rows]
        self._low[:end] = old.vectors.low[rows]
        self._labels[:end] = old.labels[rows]
        self._ingest[:end] = old.ingest_times_ns[rows]
        self._event = _picked(old.event_times_ns, rows, len(self._labels))
        self._expire = _picked(old.expire_times_ns, rows, len(self._labels))
        self._ends = _picked(old.ends_ns, rows, len(self._labels))
        self._members = _picked(old.members, rows, len(self._labels))
        self._squares = _picked(old.squares, rows, len(self._labels))
        self._alive[:end] = old.alive[rows]
        self._record_ids = [old.record_ids[row] for row in rows.tolist()]
        self._reach, self._revision = old.reach, old.revision
        self._alive_count = int(old.alive[rows].sum())

    def table(self) -> Table:
        """The rows now."""
        end = self._count
        return Table(
            vectors=Vectors(self._high[:end], self._low[:end]),
            reach=self._reach,
            labels=self._labels[:end],
            record_ids=self._record_ids,
            ingest_times_ns=self._ingest[:end],
            event_times_ns=_head(self._event, end),
            expire_times_ns=_head(self._expire, end),
            ends_ns=_head(self._ends, end),
            members=_head(self._members, end),
            squares=_head(self._squares, end),
            alive=self._alive[:end],
            alive_count=self._alive_count,
            revision=self._revision,
        )

    def size_bytes(self) -> int:
        """Memory of the vectors."""
        return self._high.nbytes + self._low.nbytes

    def _clear(self, capacity: int) -> None:
        self._high = np.empty((capacity, self._dimension), np.uint16)
        self._low = np.empty((capacity, self._dimension), np.uint16)
        self._labels = np.empty(capacity, np.int64)
        self._ingest = np.empty(capacity, np.int64)
        self._event = None
        self._expire = None
        self._ends = None
        self._members = np.zeros(capacity, np.int64) if self._shared else None
        self._squares = np.empty(capacity, np.float32) if self._metric is Metric.L2 else None
        self._alive = np.ones(capacity, np.bool_)
        self._record_ids = []
        self._reach = Reach()
        self._revision = 0
        self._count = 0
        self._alive_count = 0

    def _reserve(self, rows: int) -> None:
        """Make room. Pages that nothing was written to take no memory, so room may be generous."""
        if rows <= len(self._labels):
            return
        count = self._count
        capacity = rows if not count else max(rows, int(_GROWTH * len(self._labels)))
        self._high = _grown(self._high, count, capacity)
        self._low = _grown(self._low, count, capacity)
        self._labels = _grown(self._labels, count, capacity)
        self._ingest = _grown(self._ingest, count, capacity)
        self._event = None if self._event is None else _grown(self._event, count, capacity)
        self._expire = None if self._expire is None else _grown(self._expire, count, capacity)
        self._ends = None if self._ends is None else _grown(self._ends, count, capacity)
        self._members = None if self._members is None else _grown(self._members, count, capacity)
        self._squares = None if self._squares is None else _grown(self._squares, count, capacity)
        self._alive = _grown(self._alive, count, capacity)

    def _with(
        self, array: Int64s | None, values: Sequence[int] | Int64s, first: int, absent: int
    ) -> Int64s | None:
        """The array with the new rows' values; made only once one of them is not absent."""
        new = np.asarray(values, np.int64)
        if array is None:
            if (new == absent).all():
                return None
            array = np.full(len(self._labels), absent, np.int64)
        array[first : first + len(new)] = new
        return array


def _grown(array: NDArray[_Number], count: int, capacity: int) -> NDArray[_Number]:
    larger = np.empty((capacity, *array.shape[1:]), array.dtype)
    larger[:count] = array[:count]
    return larger


def _head(array: NDArray[_Number] | None, end: int) -> NDArray[_Number] | None:
    return None if array is None else array[:end]


def _picked(array: NDArray[_Number] | None, rows: Int64s, capacity: int) -> NDArray[_Number] | None:
    if array is None:
        return None
    picked = np.empty(capacity, array.dtype)
    picked[: len(rows)] = array[rows]
    return picked

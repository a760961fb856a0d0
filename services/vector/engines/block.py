"""The records of one collection as arrays in memory, in the order of their labels.

Rows are only ever added behind the others, and a removal replaces the array of flags instead of
changing it. So a snapshot costs nothing, and may be searched in another thread while records are
written and removed: it goes on showing one revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.vector.engines.columns import Columns
from services.vector.engines.layout import NEVER
from services.vector.model import Metric

_Number = TypeVar("_Number", np.float32, np.int64)

_ROWS_FIRST = 16
_DEAD_ROWS_MIN = 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A block as it was at one revision; n rows, some of which may be dead."""

    rows: NDArray[np.float32]
    """Vectors, (n, dimension); of length 1 under cosine."""
    labels: NDArray[np.int64]
    """Rising, (n,)."""
    record_ids: list[str]
    """At least n; those behind belong to later revisions."""
    expire_times_ns: NDArray[np.int64]
    """(n,)."""
    revisions: NDArray[np.int64]
    """The revision that wrote each row, (n,)."""
    squares: NDArray[np.float32]
    """Squared length of each row under l2, (n,)."""
    alive: NDArray[np.bool_]
    """False where the record was removed or written again, (n,)."""
    alive_count: int
    expires: bool
    """Whether any row has an expire time."""
    length_max: float
    """No row is longer."""
    columns: Columns
    """Metadata of these rows, field by field."""

    def rows_of(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers of the labels that are here; the others are left out."""
        rows: NDArray[np.int64] = np.searchsorted(self.labels, labels)
        inside = rows < len(self.labels)
        rows, labels = rows[inside], labels[inside]
        found: NDArray[np.int64] = rows[self.labels[rows] == labels]
        return found

    def first_row_after(self, label: int) -> int:
        """The first row with a larger label."""
        return int(np.searchsorted(self.labels, label, side="right"))


class Block:
    """Arrays that grow. Changed by one thread only."""

    _rows: NDArray[np.float32]
    _squares: NDArray[np.float32]
    _labels: NDArray[np.int64]
    _expire_times_ns: NDArray[np.int64]
    _revisions: NDArray[np.int64]
    _alive: NDArray[np.bool_]
    _record_ids: list[str]
    _columns: Columns
    _expires: bool
    _length_max: float
    _count: int
    _alive_count: int

    def __init__(self, dimension: int, metric: Metric) -> None:
        self._dimension = dimension
        self._metric = metric
        self._reset(_ROWS_FIRST)

    def append(
        self,
        labels: Sequence[int] | NDArray[np.int64],
        record_ids: Sequence[str],
        vectors: NDArray[np.float32],
        expire_times_ns: Sequence[int] | NDArray[np.int64],
        revisions: int | NDArray[np.int64],
    ) -> None:
        """Add rows; every label is larger than all before it."""
        first, end = self._count, self._count + len(labels)
        self._reserve(end)
        rows, squares, length_max = _prepare(vectors, self._metric)
        self._rows[first:end] = rows
        self._squares[first:end] = squares
        self._labels[first:end] = labels
        self._expire_times_ns[first:end] = expire_times_ns
        self._revisions[first:end] = revisions
        self._record_ids.extend(record_ids)
        self._expires = self._expires or bool((self._expire_times_ns[first:end] != NEVER).any())
        self._length_max = max(self._length_max, length_max)
        self._count = end
        self._alive_count += len(labels)

    def remove(self, labels: Sequence[int]) -> None:
        """Mark the rows of these labels dead; labels that are not here are passed over."""
        rows = self.snapshot().rows_of(np.sort(np.asarray(labels, np.int64)))
        rows = rows[self._alive[rows]]
        if not len(rows):
            return
        self._alive = self._alive.copy()
        self._alive[rows] = False
        self._alive_count -= len(rows)
        dead = self._count - self._alive_count
        if dead > max(_DEAD_ROWS_MIN, self._count // 4):
            self._compact()

    def snapshot(self) -> Snapshot:
        """What the block holds now."""
        end = self._count
        return Snapshot(
            rows=self._rows[:end],
            labels=self._labels[:end],
            record_ids=self._record_ids,
            expire_times_ns=self._expire_times_ns[:end],
            revisions=self._revisions[:end],
            squares=self._squares[:end],
            alive=self._alive[:end],
            alive_count=self._alive_count,
            expires=self._expires,
            length_max=self._length_max,
            columns=self._columns,
        )

    def size_bytes(self) -> int:
        """Memory of the vectors."""
        return self._rows.nbytes

    def _reset(self, capacity: int) -> None:
        self._rows = np.empty((capacity, self._dimension), np.float32)
        self._squares = np.empty(capacity, np.float32)
        self._labels = np.empty(capacity, np.int64)
        self._expire_times_ns = np.empty(capacity, np.int64)
        self._revisions = np.empty(capacity, np.int64)
        self._alive = np.ones(capacity, np.bool_)
        self._record_ids = []
        self._columns = Columns()
        self._expires = False
        self._length_max = 0.0
        self._count = 0
        self._alive_count = 0

    def _reserve(self, rows: int) -> None:
        """Make room. Pages that nothing was written to take no memory, so room may be generous."""
        capacity = len(self._labels)
        if rows <= capacity:
            return
        capacity = max(rows, 2 * capacity)
        self._rows = _grown(self._rows, self._count, capacity)
        self._squares = _grown(self._squares, self._count, capacity)
        self._labels = _grown(self._labels, self._count, capacity)
        self._expire_times_ns = _grown(self._expire_times_ns, self._count, capacity)
        self._revisions = _grown(self._revisions, self._count, capacity)
        alive = np.ones(capacity, np.bool_)
        alive[: self._count] = self._alive[: self._count]
        self._alive = alive

    def _compact(self) -> None:
        """Move what is alive into new arrays. Snapshots keep the old ones."""
        old = self.snapshot()
        keep = np.flatnonzero(old.alive)
        self._reset(max(_ROWS_FIRST, len(keep)))
        end = len(keep)
        self._rows[:end] = old.rows[keep]
        self._squares[:end] = old.squares[keep]
        self._labels[:end] = old.labels[keep]
        self._expire_times_ns[:end] = old.expire_times_ns[keep]
        self._revisions[:end] = old.revisions[keep]
        self._record_ids = [old.record_ids[row] for row in keep]
        self._expires = bool((self._expire_times_ns[:end] != NEVER).any())
        self._length_max = old.length_max
        self._count = self._alive_count = end


def _grown(array: NDArray[_Number], count: int, capacity: int) -> NDArray[_Number]:
    larger = np.empty((capacity, *array.shape[1:]), array.dtype)
    larger[:count] = array[:count]
    return larger


def _prepare(
    vectors: NDArray[np.float32], metric: Metric
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Rows, their squared lengths (used under l2 only), and the greatest length."""
    squares = np.empty(len(vectors))
    rows = np.empty_like(vectors)
    for start in range(0, len(vectors), 4096):  # float64 of a part, not of all
        part = vectors[start : start + 4096].astype(np.float64)
        found = (part * part).sum(axis=1)
        squares[start : start + 4096] = found
        if metric is Metric.COSINE:
            part /= np.sqrt(found)[:, None]
        rows[start : start + 4096] = part
    if metric is Metric.COSINE:
        return rows, np.ones(len(rows), np.float32), 1.0
    longest = float(np.sqrt(squares.max(initial=0.0)))
    return rows, squares.astype(np.float32), longest

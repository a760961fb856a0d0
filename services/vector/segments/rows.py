"""Vectors and what a search must know of their records, as arrays.

A float32 is kept as two halves of 16 bits: `high`, the number rounded to bf16, and `low`, its own
lower bits. The first alone is what a scan or a graph compares, at half the memory traffic; both
together are the number again, to the last bit. So there is one copy of each vector, and a score is
always that of the vector as it was sent.

A table is what a search sees: rows in the order of their labels, at one revision. Rows are only
ever added behind the others, and whatever changes of a row is an array that is replaced, never
written to. So a table costs nothing, and may be searched in any thread while records come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numkong as nk
import numpy as np
from numpy.typing import NDArray

from services.vector.model import Metric

if TYPE_CHECKING:
    from services.vector.segments.container import StoredRows
    from services.vector.segments.graph import Graph

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEVER = 2**63 - 1
"""The expire time, or the end, of a record that has none."""
NO_TIME = -(2**63)
"""The event time of a record that has none."""

_HALF = 16
_CARRY = 0x8000
_AT_ONCE = 4096


def split(rows: Floats) -> tuple[Halves, Halves]:
    """The upper half of each number, rounded to bf16 (ties away from zero), and the lower half."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    low = bits.astype(np.uint16)
    high = ((bits + np.uint32(_CARRY)) >> np.uint32(_HALF)).astype(np.uint16)
    return high, low


def join(high: Halves, low: Halves) -> Floats:
    """The numbers that `split` was given: a lower half that made it round up counts as negative."""
    bits = high.astype(np.int32)
    bits <<= _HALF
    bits += low.view(np.int16)
    return bits.view(np.float32)


def widen(high: Halves) -> Floats:
    """The upper halves as numbers."""
    bits = high.astype(np.uint32)
    bits <<= np.uint32(_HALF)
    return bits.view(np.float32)


def dots(
    rows: NDArray[Any], other: NDArray[Any], kind: Literal["bf16", "f32"]
) -> NDArray[np.float64]:
    """Inner products, row by row; of one row the same whatever stands beside it."""
    if not len(rows):
        return np.zeros(0)
    found: NDArray[np.float64] = np.asarray(nk.dot(rows, other, dtype=kind))
    return found


def multiplied(rows: Halves, others: Halves) -> Floats:
    """Inner products of each of some upper halves with each of others, (n, m), in float32."""
    packed = nk.dots_pack(_tensor(others), dtype="bf16")
    return np.asarray(nk.dots_packed(_tensor(rows), packed))


def _tensor(halves: Halves) -> Any:
    """A copy that numkong knows to be bf16, which NumPy has no type for."""
    tensor = nk.empty(halves.shape, dtype="bf16")
    np.asarray(memoryview(tensor))[:] = halves
    return tensor


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of a table, (n, dimension), of length 1 under cosine."""

    high: Halves
    low: Halves | StoredRows
    slots: NDArray[np.int32] | None = None
    """Where each row's upper half stands in `high`; None: in order."""

    def products(self, probe: Halves) -> NDArray[np.float64]:
        """Of every row with a probe, both as upper halves."""
        found = dots(self.high, probe, "bf16")
        return found if self.slots is None else found[self.slots]

    def coarse(self, rows: Int64s) -> Halves:
        """Upper halves of some rows."""
        return self.high[rows if self.slots is None else self.slots[rows]]

    def exact(self, rows: Int64s) -> Floats:
        """Some rows as they are."""
        return join(self.coarse(rows), self.low[rows])


@dataclass(frozen=True, slots=True)
class Reach:
    """How far products of upper halves may be from those of the rows."""

    length: float = 0.0
    """No row is longer."""
    residue: float = 0.0
    """No row is further from its upper half (Euclidean)."""

    def joined(self, other: Reach) -> Reach:
        """What holds for the rows of both."""
        return Reach(max(self.length, other.length), max(self.residue, other.residue))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows at one revision; n of them, some of which may be gone."""

    vectors: Vectors
    reach: Reach
    labels: Int64s
    """Rising, (n,)."""
    record_ids: Sequence[str]
    """At least n; those behind belong to later revisions."""
    ingest_times_ns: Int64s
    """(n,)."""
    event_times_ns: Int64s | None
    """(n,), NO_TIME where there is none; None: no row has one."""
    expire_times_ns: Int64s | None
    """(n,), NEVER where there is none; None: no row has one."""
    ends_ns: Int64s | None
    """(n,): when the row was replaced or removed, NEVER while it lives, NO_TIME where it is kept
    for no history; None: as `alive` says, and no history is kept."""
    members: Int64s | None
    """Whose each row is, in rows that collections share, (n,)."""
    squares: Floats | None
    """Squared length of each row under l2, (n,)."""
    alive: Bools
    """False where the record was removed or written again, (n,)."""
    alive_count: int
    revision: int
    """Of the last row."""
    graph: Graph | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def rows_of(self, labels: Int64s) -> Int64s:
        """Row numbers of those labels that are here, which rise as the labels do."""
        if not len(self.labels) or not len(labels):
            return np.zeros(0, np.int64)
        first, last = int(self.labels[0]), int(self.labels[-1])
        inside = labels[np.searchsorted(labels, first) : np.searchsorted(labels, last, "right")]
        if last - first + 1 == len(self.labels):
            dense: Int64s = inside - first
            return dense
        rows: Int64s = np.searchsorted(self.labels, inside)
        found: Int64s = rows[self.labels[rows] == inside]
        return found


def ended(
    table: Table, labels: Int64s, times_ns: Int64s, alive: Bools, ends_ns: Int64s | None
) -> tuple[Bools, Int64s | None]:
    """Which rows live, and when the others ended, once some labels have ended.

    Args:
        table: The rows.
        labels: Rising; those that are not here are passed over.
        times_ns: When each ended; NO_TIME: it is kept for no history, or not any more.
        alive: The table's, or a longer array that begins with it.
        ends_ns: Likewise.

    Returns:
        New arrays, or the old ones where nothing changes.
    """
    rows = table.rows_of(labels)
    if not len(rows):
        return alive, ends_ns
    times = times_ns[np.searchsorted(labels, table.labels[rows])]
    if ends_ns is not None:
        ends_ns = ends_ns.copy()
    elif (times != NO_TIME).any():
        ends_ns = np.where(alive, NEVER, NO_TIME)
    if ends_ns is not None:
        ends_ns[rows] = times
    alive = alive.copy()
    alive[rows] = False
    return alive, ends_ns


def history_count(table: Table) -> int:
    """Rows that have ended and are kept for the history."""
    return 0 if table.ends_ns is None else int((~table.alive & (table.ends_ns != NO_TIME)).sum())


def kept_rows(table: Table) -> Int64s:
    """Rows that live or are kept for the history."""
    keep = table.alive if table.ends_ns is None else table.alive | (table.ends_ns != NO_TIME)
    rows: Int64s = np.flatnonzero(keep)
    return rows


def prepare(vectors: Floats, metric: Metric) -> tuple[Floats, Floats | None, Reach]:
    """Rows as they are kept, their squared lengths under l2, and their reach."""
    rows = np.empty(vectors.shape, np.float32)
    squares = np.empty(len(vectors))
    residues = np.empty(len(vectors))
    for start in range(0, len(vectors), _AT_ONCE):  # float64 of a part, not of all
        place = slice(start, start + _AT_ONCE)
        part = vectors[place].astype(np.float64)
        squares[place] = (part * part).sum(axis=1)
        if metric is Metric.COSINE:
            part /= np.sqrt(squares[place])[:, None]
        rows[place] = part
        rest = rows[place] - widen(split(rows[place])[0])
        residues[place] = np.sqrt((rest.astype(np.float64) ** 2).sum(axis=1))
    length = 1.0 if metric is Metric.COSINE else float(np.sqrt(squares.max(initial=0.0)))
    reach = Reach(length, float(residues.max(initial=0.0)))
    return rows, squares.astype(np.float32) if metric is Metric.L2 else None, reach

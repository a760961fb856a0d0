"""The nearest rows of tables.

Two steps. The first compares upper halves, all rows at once, and keeps every row that could be
among the nearest given how far such a product may be off. The second compares those few as they
were sent, in float64, each row by itself. So a score does not depend on which rows stood beside it,
on the number of queries in a call, or on whether a graph was used; and equal vectors score equal.

With x' the upper half of x, |x·q - x'·q'| <= |x - x'| |q| + |x'| |q - q'|, and both distances are
known: the first as the greatest of the table (`Reach.residue`), the second from the probe. What
float32 sums add is bounded by n u |x| |q| with u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, 3.1), taken generously; a constant covers numbers too small for bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.vector.model import Metric, Vector
from services.vector.segments.rows import (
    Bools,
    Floats,
    Halves,
    Int64s,
    Reach,
    Table,
    dots,
    multiplied,
    split,
    widen,
)

_UNIT = 2.0**-24
_TINY = 1e-30
_ROWS_AT_ONCE = 4096
_MULTIPLIED_AT_ONCE = 512
_GROUP = 16
_PRODUCTS_MAX = 1 << 22
"""So many products of matrices are held at once, 16 MB."""

Keys = TypeVar("Keys", Floats, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Probes:
    """Vectors to look for, (b, dimension) each, ready to be compared with rows."""

    sent: Floats
    """As they were sent."""
    nodes: Floats
    """As a graph takes them: of length 1 under cosine."""
    halves: Halves
    """Upper halves of those."""
    lengths: NDArray[np.float64]
    """Euclidean lengths as sent, (b,)."""
    residues: NDArray[np.float64]
    """How far each node is from its upper half, (b,)."""
    metric: Metric

    def __len__(self) -> int:
        return len(self.sent)


def probes(vectors: Sequence[Vector], metric: Metric) -> Probes:
    """Prepare vectors that were checked; each comes out the same whatever stands beside it."""
    sent = np.array(vectors, np.float32)
    lengths = np.sqrt(dots(sent, sent, "f32"))
    nodes = sent
    if metric is Metric.COSINE:
        nodes = (sent / lengths[:, None]).astype(np.float32)
    halves = split(nodes)[0]
    rest = nodes - widen(halves)
    residues = np.sqrt(dots(rest, rest, "f32"))
    return Probes(sent, nodes, halves, lengths, residues, metric)


def all_rows(table: Table, some: Probes, place: int, visible: Bools, limit: int) -> Int64s:
    """Rows that may be among the `limit` nearest of the visible ones; every row is looked at."""
    if some.metric is Metric.MANHATTAN:
        rows: Int64s = np.flatnonzero(visible)
        return rows
    keys = _keys(table.vectors.products(some.halves[place]), table.squares, some.metric)
    keys[~visible] = -np.inf
    near = _within(keys, _slack(table.reach, some, place), limit)
    return near[visible[near]]


def some_rows(
    table: Table, some: Probes, places: Sequence[int], rows: Int64s, limit: int
) -> list[Int64s]:
    """Of some rows those that may be among the `limit` nearest, for each of some probes."""
    if len(rows) <= limit or some.metric is Metric.MANHATTAN:
        return [rows] * len(places)
    squares = None if table.squares is None else table.squares[rows]
    if at_once(len(places), len(rows)):
        products = _products(table, rows, some.halves[list(places)])
        slacks = [_slack(table.reach, some, place) for place in places]
        each = _each_within(_keys(products, squares, some.metric), slacks, limit)
        return [rows[near] for near in each]
    coarse = table.vectors.coarse(rows)
    found = []
    for place in places:
        keys = _keys(dots(coarse, some.halves[place], "bf16"), squares, some.metric)
        found.append(rows[_within(keys, _slack(table.reach, some, place), limit)])
    return found


def at_once(probes: int, rows: int) -> bool:
    """Whether so many probes are compared with so many rows by products of matrices."""
    return 1 < probes <= _PRODUCTS_MAX // max(1, rows)


def scores(
    table: Table, rows: Int64s, some: Probes, owners: Int64s, *, repeated: bool = False
) -> Floats:
    """Scores of rows, row n with probe `owners[n]`, computed in float64 and rounded once.

    Where many of them are `repeated`, each is read once.
    """
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        whose = owners[part] if len(some) > 1 else 0
        exact = _exact(table, rows[part], repeated=repeated)
        found[part] = _compare(exact, some.sent[whose], some.lengths[whose], some.metric)
    return found


def _products(table: Table, rows: Int64s, probes: Halves) -> Floats:
    """Of each probe with some rows, both as upper halves, (b, n)."""
    found = np.empty((len(probes), len(rows)), np.float32)
    for start in range(0, len(rows), _MULTIPLIED_AT_ONCE):
        part = slice(start, start + _MULTIPLIED_AT_ONCE)
        found[:, part] = multiplied(table.vectors.coarse(rows[part]), probes).T
    return found


def _exact(table: Table, rows: Int64s, *, repeated: bool) -> Floats:
    """Rows as they are."""
    if not repeated:
        return table.vectors.exact(rows)
    distinct, places = np.unique(rows, return_inverse=True)
    return table.vectors.exact(distinct)[places]


def _compare(
    rows: Floats, sent: Floats, lengths: float | NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """Scores of rows with one vector, or with one each."""
    if metric is Metric.COSINE:
        norms = np.sqrt(dots(rows, rows, "f32"))
        cosine = dots(rows, sent, "f32")
        cosine /= norms * lengths
        np.clip(cosine, -1.0, 1.0, out=cosine)
        return cosine
    if metric is Metric.DOT:
        return dots(rows, sent, "f32")
    apart = rows.astype(np.float64)
    apart -= sent
    far: NDArray[np.float64] = np.abs(apart).sum(axis=1)
    if metric is Metric.L2:
        far = np.sqrt((apart * apart).sum(axis=1))
    return -far


def _keys(products: Keys, squares: Floats | None, metric: Metric) -> Keys:
    """What is larger for nearer rows."""
    if metric is Metric.L2 and squares is not None:
        products = 2 * products - squares
    return products


def _slack(reach: Reach, some: Probes, place: int) -> float:
    """How far two keys may be off together."""
    length = 1.0 if some.metric is Metric.COSINE else float(some.lengths[place])
    off = reach.residue * length + (reach.length + reach.residue) * float(some.residues[place])
    off += (some.sent.shape[1] + 8) * _UNIT * reach.length * length + _TINY
    if some.metric is Metric.L2:
        off = 2 * off + 8 * _UNIT * (reach.length + length) ** 2
    return float(2 * off)


def _within(keys: NDArray[np.float64], slack: float, limit: int) -> Int64s:
    if len(keys) <= limit:
        every: Int64s = np.arange(len(keys))
        return every
    near: Int64s = np.flatnonzero(keys >= _reached(keys[None], limit)[0] - slack)
    return near


def _each_within(keys: Floats, slacks: Sequence[float], limit: int) -> list[Int64s]:
    """As `_within`, for the keys of several probes, (b, more than `limit`)."""
    least = _reached(keys, limit) - np.array(slacks)
    below = np.nextafter(least.astype(np.float32), -np.float32(np.inf))
    whose, near = np.nonzero(keys >= below[:, None])
    return np.split(near, np.searchsorted(whose, np.arange(1, len(keys))))


def _reached(keys: Keys, limit: int) -> Keys:
    """A number that at least `limit` of each probe's keys reach, and hardly more, (b,).

    The `limit`-th of the greatest of groups, where there are many: to sort those is soon done.
    """
    groups = keys.shape[1] // _GROUP
    if groups >= 8 * limit:
        keys = keys[:, : groups * _GROUP].reshape(len(keys), _GROUP, groups).max(axis=1)
    last = keys.shape[1] - limit
    found: Keys = np.partition(keys, last, axis=1)[:, last]
    return found

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
    split,
    widen,
)

_UNIT = 2.0**-24
_TINY = 1e-30
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """A vector to look for, ready to be compared with rows."""

    sent: Floats
    """As it was sent."""
    node: Floats
    """As a graph takes it: of length 1 under cosine."""
    half: Halves
    """Upper half of that."""
    length: float
    """Euclidean length as sent."""
    residue: float
    """How far `node` is from its upper half."""


def probe(vector: Vector, metric: Metric) -> Probe:
    """Prepare a vector that was checked."""
    sent = np.ascontiguousarray(vector, np.float32)
    length = float(np.sqrt(dots(sent[None], sent, "f32")[0]))
    node = (sent / np.float64(length)).astype(np.float32) if metric is Metric.COSINE else sent
    half = split(node[None])[0]
    rest = node - widen(half)[0]
    residue = float(np.sqrt(dots(rest[None], rest, "f32")[0]))
    return Probe(sent, node, half[0], length, residue)


def all_rows(table: Table, each: Probe, metric: Metric, visible: Bools, limit: int) -> Int64s:
    """Rows that may be among the `limit` nearest of the visible ones; every row is looked at."""
    if metric is Metric.MANHATTAN:
        rows: Int64s = np.flatnonzero(visible)
        return rows
    keys = _keys(table.vectors.products(each.half), table.squares, metric)
    keys[~visible] = -np.inf
    near = _within(keys, _slack(table.reach, each, metric), limit)
    return near[visible[near]]


def some_rows(
    table: Table, probes: Sequence[Probe], metric: Metric, rows: Int64s, limit: int
) -> list[Int64s]:
    """Of some rows those that may be among the `limit` nearest, for each probe."""
    if len(rows) <= limit or metric is Metric.MANHATTAN:
        return [rows] * len(probes)
    coarse = table.vectors.coarse(rows)
    squares = None if table.squares is None else table.squares[rows]
    found = []
    for each in probes:
        keys = _keys(dots(coarse, each.half, "bf16"), squares, metric)
        found.append(rows[_within(keys, _slack(table.reach, each, metric), limit)])
    return found


def scores(table: Table, rows: Int64s, each: Probe, metric: Metric) -> Floats:
    """Scores of rows, computed in float64 and rounded once."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = table.vectors.exact(rows[start : start + _ROWS_AT_ONCE])
        found[start : start + _ROWS_AT_ONCE] = _compare(part, each.sent, each.length, metric)
    return found


def many_scores(
    table: Table, rows: Int64s, sent: Floats, lengths: NDArray[np.float64], metric: Metric
) -> Floats:
    """Scores of pairs: row n with vector n of `sent`, whose lengths are given."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        place = slice(start, start + _ROWS_AT_ONCE)
        found[place] = _compare(
            table.vectors.exact(rows[place]), sent[place], lengths[place], metric
        )
    return found


def distance(score: float, metric: Metric) -> float:
    """The distance that belongs to a score; smaller is nearer."""
    return 1.0 - score if metric is Metric.COSINE else -score


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


def _keys(
    products: NDArray[np.float64], squares: Floats | None, metric: Metric
) -> NDArray[np.float64]:
    """What is larger for nearer rows."""
    if metric is Metric.L2 and squares is not None:
        products = 2 * products - squares
    return products


def _slack(reach: Reach, each: Probe, metric: Metric) -> float:
    """How far two keys may be off together."""
    length = 1.0 if metric is Metric.COSINE else each.length
    off = reach.residue * length + (reach.length + reach.residue) * each.residue
    off += (len(each.half) + 8) * _UNIT * reach.length * length + _TINY
    if metric is Metric.L2:
        off = 2 * off + 8 * _UNIT * (reach.length + length) ** 2
    return 2 * off


def _within(keys: NDArray[np.float64], slack: float, limit: int) -> Int64s:
    if len(keys) <= limit:
        every: Int64s = np.arange(len(keys))
        return every
    worst = float(np.partition(keys, len(keys) - limit)[len(keys) - limit])
    near: Int64s = np.flatnonzero(keys >= worst - slack)
    return near

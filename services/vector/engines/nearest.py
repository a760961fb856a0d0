"""The nearest rows of a snapshot.

Two steps. The first compares in float32, all rows at once by one matrix product, and keeps every
row that could be among the nearest given how far such a product may be off. The second compares
those few in float64, each row by itself. So a score does not depend on which rows stood beside it,
on the number of queries in a call, or on whether a graph was used; and equal vectors score equal.

The bound is the usual one for an inner product of n terms, n * u * |x| * |q| with u = 2^-24
(Higham, Accuracy and Stability of Numerical Algorithms, 3.1), taken generously.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.vector.engines.block import Snapshot
from services.vector.model import Metric, Vector

Rows = NDArray[np.int64]
Visible = NDArray[np.bool_] | None
"""Which rows may be found; None: all."""
Ranked = list[tuple[int, float]]
"""Row and score, best first; equal scores in order of record id."""

_UNIT = 2.0**-24
_FLOATS_AT_ONCE = 8_000_000
_ROWS_AT_ONCE = 4096
_GATHER_SHARE = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """A vector to look for, ready to be compared with rows."""

    wide: NDArray[np.float64]
    """Of length 1 under cosine."""
    narrow: NDArray[np.float32]
    """The same, rounded."""
    length: float
    """Its Euclidean length."""


def probe(vector: Vector, metric: Metric) -> Probe:
    """Prepare a vector that was checked."""
    wide = vector.astype(np.float64)
    length = float(np.sqrt((wide * wide).sum()))
    if metric is Metric.COSINE:
        wide, length = wide / length, 1.0
    return Probe(wide, wide.astype(np.float32), length)


def scan(
    snapshot: Snapshot, probes: Sequence[Probe], metric: Metric, visible: Visible, limit: int
) -> list[Ranked]:
    """The `limit` nearest visible rows to each probe; every row is looked at."""
    rows, candidates = snapshot.rows, None
    if visible is not None:
        candidates = np.flatnonzero(visible)
        if len(candidates) * _GATHER_SHARE < len(rows):
            rows = rows[candidates]
    found: list[Ranked] = []
    step = max(1, _FLOATS_AT_ONCE // max(1, len(rows)))
    for start in range(0, len(probes), step):
        part = probes[start : start + step]
        keys = np.stack([each.narrow for each in part]) @ rows.T
        if candidates is not None and len(rows) != len(candidates):
            keys = keys[:, candidates]
        for each, key in zip(part, keys, strict=True):
            near = _candidates(snapshot, each, metric, key, candidates=candidates, limit=limit)
            found.append(rank(snapshot, near, each, metric, limit))
    return found


def rank(snapshot: Snapshot, rows: Rows, probe: Probe, metric: Metric, limit: int) -> Ranked:
    """The `limit` best of some rows."""
    scores = _scores(snapshot, rows, probe, metric)
    if len(rows) > limit:
        worst = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        rows, scores = rows[scores >= worst], scores[scores >= worst]
    ranked = list(zip(rows.tolist(), scores.tolist(), strict=True))
    ranked.sort(key=lambda pair: (-pair[1], snapshot.record_ids[pair[0]]))
    return ranked[:limit]


def distance(score: float, metric: Metric) -> float:
    """The distance that belongs to a score; smaller is nearer."""
    return 1.0 - score if metric is Metric.COSINE else -score


def _candidates(
    snapshot: Snapshot,
    probe: Probe,
    metric: Metric,
    products: NDArray[np.float32],
    *,
    candidates: Rows | None,
    limit: int,
) -> Rows:
    """Rows that may be among the `limit` nearest, by their products with the probe."""
    keys = products
    reach = snapshot.length_max * probe.length
    if metric is Metric.L2:
        squares = snapshot.squares if candidates is None else snapshot.squares[candidates]
        keys = 2 * products - squares
        reach = (snapshot.length_max + probe.length) ** 2
    if len(keys) <= limit:
        near: Rows = np.arange(len(keys))
    else:
        worst = float(np.partition(keys, len(keys) - limit)[len(keys) - limit])
        slack = 4 * (snapshot.rows.shape[1] + 8) * _UNIT * reach
        near = np.flatnonzero(keys >= worst - slack)
    return near if candidates is None else candidates[near]


def _scores(snapshot: Snapshot, rows: Rows, probe: Probe, metric: Metric) -> NDArray[np.float32]:
    """Scores in float64, rounded once. Each row is summed by itself, in the same order."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = snapshot.rows[rows[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        if metric is Metric.L2:
            part -= probe.wide
            found = -np.sqrt((part * part).sum(axis=1))
        else:
            found = (part * probe.wide).sum(axis=1)
        if metric is Metric.COSINE:
            found = np.clip(found / np.sqrt((part * part).sum(axis=1)), -1.0, 1.0)
        scores[start : start + _ROWS_AT_ONCE] = found
    return scores

"""The nearest rows of a snapshot, and what a snapshot is."""

import numpy as np
import pytest

from services.vector.engines import nearest
from services.vector.engines.block import Block
from services.vector.engines.layout import NEVER
from services.vector.model import Metric


def block_of(rows, metric):
    """A block of these rows."""
    block = Block(rows.shape[1], metric)
    names = [f"{n:05}" for n in range(len(rows))]
    block.append(range(len(rows)), names, rows, [NEVER] * len(rows), 1)
    return block


def truth(rows, query, metric):
    """Row numbers by score in float64, then by number; scores rounded as they are told."""
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        scores = -np.linalg.norm(rows - query, axis=1)
    else:
        scores = (rows * query).sum(axis=1)
    if metric is Metric.COSINE:
        scores /= np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return np.lexsort((np.arange(len(rows)), -scores.astype(np.float32)))


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.L2])
@pytest.mark.parametrize("offset", [0, 10, 1000])
@pytest.mark.parametrize("visible_share", [None, 0.9, 0.1])
def test_small_differences_between_large_numbers_count(metric, offset, visible_share):
    """The order is float64's even where float32 cannot tell the rows apart."""
    random = np.random.default_rng(offset)
    rows = (offset + random.normal(size=(3000, 64))).astype(np.float32)
    query = rows[5]
    visible = None if visible_share is None else random.random(3000) < visible_share
    probe = nearest.probe(query, metric)
    [found] = nearest.scan(block_of(rows, metric).snapshot(), [probe], metric, visible, 25)
    expected = [n for n in truth(rows, query, metric) if visible is None or visible[n]]
    assert [row for row, _ in found] == expected[:25]


def test_a_score_depends_on_nothing_but_the_two_vectors():
    """The same bits alone, among many, in a batch, and from any place in the block."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(517, 33)).astype(np.float32)
    rows[[3, 250, 516]] = rows[100]
    queries = random.normal(size=(7, 33)).astype(np.float32)
    probes = [nearest.probe(query, Metric.COSINE) for query in queries]
    snapshot = block_of(rows, Metric.COSINE).snapshot()
    together = nearest.scan(snapshot, probes, Metric.COSINE, None, 517)
    for probe, ranked in zip(probes, together, strict=True):
        assert nearest.scan(snapshot, [probe], Metric.COSINE, None, 517) == [ranked]
        scores = dict(ranked)
        assert len({scores[row] for row in (3, 100, 250, 516)}) == 1
        few = nearest.rank(snapshot, np.array([3, 9]), probe, Metric.COSINE, 2)
        assert dict(few) == {row: scores[row] for row in (3, 9)}


def test_a_snapshot_stays_as_it_was():
    """Rows that are added, removed or moved together later do not show in it."""
    rows = np.random.default_rng(2).normal(size=(3000, 4)).astype(np.float32)
    block = block_of(rows, Metric.L2)
    snapshot = block.snapshot()
    before = snapshot.rows.copy()
    block.remove([5, 7, 9999])
    assert block.snapshot().alive_count == 2998
    block.append([3000], ["late"], rows[:1], [NEVER], 2)
    block.remove(range(100, 3000))
    late = block.snapshot()
    assert len(late.labels) == late.alive_count == 99
    assert late.labels.tolist() == [n for n in range(100) if n not in {5, 7}] + [3000]
    assert late.record_ids[-1] == "late"
    assert snapshot.alive.all()
    assert (snapshot.rows == before).all()
    assert snapshot.rows_of(np.array([7, 2999, 3000, 3])).tolist() == [7, 2999, 3]
    assert snapshot.first_row_after(10) == 11

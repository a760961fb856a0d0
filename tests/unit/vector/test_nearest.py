"""Halves of numbers, and the nearest rows found through them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.vector.engines import nearest
from services.vector.engines.tail import Arrivals, Tail
from services.vector.model import Metric
from services.vector.segments.rows import NEVER, NO_TIME, join, split, widen

DIMENSION = 5
numbers = st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from(
    [0.0, -0.0, 1e-38, 1e-45, 1.0, 1.00390625, 1.0000001, -3.5]
)


@given(arrays(np.float32, (3, DIMENSION), elements=numbers))
def test_halves_are_the_number_again(rows):
    """To the last bit; and the upper half is as near as bf16 can be."""
    high, low = split(rows)
    assert join(high, low).view(np.uint32).tolist() == rows.view(np.uint32).tolist()
    assert (np.abs(widen(high) - rows) <= np.abs(rows) * 2.0**-8 + 1e-40).all()


def table_of(rows, metric):
    """A table of rows."""
    tail = Tail(DIMENSION, metric, shared=False)
    count = len(rows)
    tail.append(
        Arrivals(
            labels=range(count),
            record_ids=[f"{n:03}" for n in range(count)],
            vectors=rows,
            ingest_times_ns=[1] * count,
            event_times_ns=[NO_TIME] * count,
            expire_times_ns=[NEVER] * count,
            members=[0] * count,
            revision=1,
        )
    )
    return tail.table()


def by_definition(rows, vector, metric):
    """Scores in float64."""
    wide, probe = rows.astype(np.float64), vector.astype(np.float64)
    if metric is Metric.L2:
        return -np.linalg.norm(wide - probe, axis=1)
    if metric is Metric.MANHATTAN:
        return -np.abs(wide - probe).sum(axis=1)
    products = wide @ probe
    if metric is Metric.DOT:
        return products
    return products / (np.linalg.norm(wide, axis=1) * np.linalg.norm(probe))


# Near each other on purpose: what bf16 cannot tell apart must not be lost.
near = st.floats(0.875, 1.125, width=32) | st.floats(-2, 2, width=32)
scales = st.sampled_from([1e-18, 1e-3, 1.0, 1e6, 1e17])


@pytest.mark.parametrize("metric", Metric)
@given(
    rows=arrays(np.float32, (40, DIMENSION), elements=near),
    vector=arrays(np.float32, (DIMENSION,), elements=near),
    scale=scales,
    limit=st.integers(1, 5),
)
def test_no_row_that_is_among_the_nearest_is_left_out(metric, rows, vector, scale, limit):
    """Whatever the upper halves say, and however large or small the numbers are."""
    rows, vector = rows * np.float32(scale), vector * np.float32(scale)
    rows = rows[np.abs(rows).sum(axis=1) > 0]
    if len(rows) <= limit or not np.abs(vector).sum() > 0:
        return
    table = table_of(rows, metric)
    probes = nearest.probes([vector], metric)
    expected = by_definition(rows, vector, metric)
    worst = np.sort(expected)[-limit]
    must = set(np.flatnonzero(expected > worst).tolist())
    every = np.ones(len(rows), np.bool_)
    found = nearest.all_rows(table, probes, 0, every, limit)
    some = nearest.some_rows(table, probes, [0], np.arange(len(rows)), limit)[0]
    assert must <= set(found.tolist())
    assert must <= set(some.tolist())
    several = nearest.probes([-vector, vector, vector], metric)
    _, *both = nearest.some_rows(table, several, range(3), np.arange(len(rows)), limit)
    assert all(must <= set(each.tolist()) for each in both)
    scores = nearest.scores(table, found, probes, np.zeros(len(found), int))
    assert np.allclose(scores, expected[found].astype(np.float32), rtol=2e-6, atol=1e-6)


def test_a_row_scores_the_same_whatever_stands_beside_it():
    """So equal vectors tie: alone and among other rows, alone and among other queries."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(50, DIMENSION)).astype(np.float32)
    rows[7] = rows[31]
    table, owners = table_of(rows, Metric.COSINE), np.zeros(50, int)
    one, several = (nearest.probes(rows[:count], Metric.COSINE) for count in (1, 9))
    together = nearest.scores(table, np.arange(50), one, owners)
    among = nearest.scores(table, np.arange(50), several, owners)
    alone = [nearest.scores(table, np.array([n]), one, owners[:1])[0] for n in range(50)]
    assert together.tolist() == among.tolist() == [float(score) for score in alone]
    assert together[7] == together[31]

"""Claims about services.vector.fusion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vector.fusion import diverse, reciprocal_ranks, weighted_scores

ids = st.lists(st.sampled_from("abcdefgh"), unique=True)
scores = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1e6, 1e6))
weights = st.tuples(st.floats(0, 10), st.floats(0, 10))


def test_reciprocal_ranks_are_those_of_the_paper():
    """The sum of weight / (60 + rank), ranks from 1; an id that a ranking lacks adds nothing."""
    fused = reciprocal_ranks([["a", "b"], ["b", "c"]], (1.0, 2.0))
    assert fused == {"a": 1 / 61, "b": 1 / 62 + 2 / 61, "c": 2 / 62}


@given(ids, ids, weights)
def test_better_in_both_rankings_is_not_worse_fused(one, other, both):
    """Whoever comes first in each ranking that has either keeps his place."""
    fused = reciprocal_ranks([one, other], both)
    assert fused.keys() == {*one, *other}
    for a in fused:
        for b in fused:
            places = [
                (r.index(a) if a in r else 99, r.index(b) if b in r else 99) for r in (one, other)
            ]
            if all(first <= second for first, second in places):
                assert fused[a] >= fused[b]


@given(scores, scores, weights)
def test_weighted_scores_lie_between_nothing_and_the_weights(one, other, both):
    """Each ranking adds 0 to its weight, whatever range its scores have."""
    fused = weighted_scores([one, other], both)
    assert fused.keys() == one.keys() | other.keys()
    assert all(0 <= score <= sum(both) + 1e-9 for score in fused.values())


def test_weighted_scores_are_brought_to_one_range():
    """The least of a ranking counts 0, the greatest 1; equal ones are all the greatest."""
    assert weighted_scores([{"a": 30.0, "b": 10.0, "c": 20.0}, {"c": 0.2, "d": 0.2}], (1, 3)) == {
        "a": 1.0,
        "b": 0.0,
        "c": 3.5,
        "d": 3.0,
    }


def test_diversity_passes_over_what_says_the_same():
    """The best comes first, its copy last."""
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    relevance = [1.0, 0.9, 0.5]
    assert diverse(relevance, vectors, strength=0.7, limit=3) == [0, 2, 1]
    assert diverse(relevance, vectors, strength=0.0, limit=3) == [0, 1, 2]
    assert diverse(relevance, vectors, strength=1.0, limit=2) == [0, 2]
    assert diverse([], np.empty((0, 2), np.float32), strength=0.5, limit=2) == []


@given(st.integers(1, 12), st.integers(1, 15), st.floats(0, 1), st.integers(0, 99))
def test_diversity_follows_its_formula(count, limit, strength, seed):
    """Each choice has the largest (1 - s) * relevance - s * nearness to those chosen before."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = sorted(random.random(count), reverse=True)
    chosen = diverse(relevance, vectors, strength=strength, limit=limit)
    assert len(chosen) == len(set(chosen)) == min(count, limit)
    least, most = min(relevance), max(relevance)
    worth = [(r - least) / (most - least) if most > least else 1.0 for r in relevance]

    def gain(each, before):
        near = max((float(vectors[each] @ vectors[b]) for b in before), default=0.0)
        return (1 - strength) * worth[each] - strength * near

    for number, choice in enumerate(chosen):
        left = set(range(count)) - set(chosen[:number])
        best = max(gain(each, chosen[:number]) for each in left)
        assert gain(choice, chosen[:number]) == pytest.approx(best, abs=1e-5)


@pytest.mark.timeout(20)
def test_diversity_is_quick_at_its_limits():
    """A thousand of a thousand candidates are chosen in a moment."""
    vectors = np.eye(1000, 1024, dtype=np.float32)
    chosen = diverse([1.0 - n / 1000 for n in range(1000)], vectors, strength=0.5, limit=1000)
    assert chosen == list(range(1000))

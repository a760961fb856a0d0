"""Two rankings into one, and a ranking into one that says something new each time. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

RANK_K = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""


def reciprocal_ranks(
    rankings: Sequence[Sequence[str]], weights: Sequence[float], k: int = RANK_K
) -> dict[str, float]:
    """For each id the sum over rankings of weight / (k + rank), ranks from 1."""
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, record_id in enumerate(ranking, 1):
            scores[record_id] = scores.get(record_id, 0.0) + weight / (k + rank)
    return scores


def weighted_scores(
    rankings: Sequence[Mapping[str, float]], weights: Sequence[float]
) -> dict[str, float]:
    """For each id the weighted sum of its scores, each ranking brought to 0…1; absent counts 0."""
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for record_id, share in _shares(ranking).items():
            scores[record_id] = scores.get(record_id, 0.0) + weight * share
    return scores


def diverse(
    relevance: Sequence[float],
    vectors: NDArray[np.float32],
    *,
    strength: float,
    limit: int,
) -> list[int]:
    """Places of up to `limit` candidates by maximal marginal relevance (Carbonell, Goldstein 1998).

    Args:
        relevance: Of each candidate, the best first.
        vectors: Of each, (n, dimension), of length 1.
        strength: 0 looks at relevance alone, 1 at novelty alone.
        limit: How many to choose.
    """
    worth = np.array(list(_shares(dict(enumerate(relevance))).values()))
    nearest = np.zeros(len(worth))
    chosen: list[int] = []
    while len(chosen) < min(limit, len(worth)):
        gains = (1 - strength) * worth - strength * nearest
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        likeness = vectors @ vectors[best]
        nearest = np.maximum(nearest, likeness) if chosen else likeness.astype(np.float64)
        chosen.append(best)
    return chosen


def _shares(ranking: Mapping[str, float] | Mapping[int, float]) -> dict[str, float]:
    """Scores from 0, the least, to 1, the greatest; equal ones are all 1."""
    if not ranking:
        return {}
    least, most = min(ranking.values()), max(ranking.values())
    if most == least:
        return dict.fromkeys(ranking, 1.0)  # type: ignore[arg-type]
    return {each: (score - least) / (most - least) for each, score in ranking.items()}  # type: ignore[misc]

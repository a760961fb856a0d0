"""Scores of the memory engine: one record after the other, by the definition."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.vector.engines.kept import masked
from services.vector.model import Hit, Metric, Query, Record, Vector

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


def nearest(vector: Vector, found: Sequence[Record], metric: Metric, query: Query) -> list[Hit]:
    """The nearest of some records."""
    wide = vector.astype(np.float64)
    scored = [(_score(wide, record, metric), record) for record in found]
    return _hits(scored, query, cosine=metric is Metric.COSINE)


def bm25(text: str, found: Sequence[Record], texts: Sequence[str], query: Query) -> list[Hit]:
    """The records that share a word with a text; `texts` are all of the collection."""
    counts = [Counter(_words(each)) for each in texts]
    average = sum(map(Counter.total, counts)) / max(1, len(counts)) or 1.0
    scored = []
    for record in found:
        words = Counter(_words(record.text))
        score = 0.0
        for word in dict.fromkeys(_words(text)):
            held = sum(word in each for each in counts)
            rarity = math.log(1 + (len(counts) - held + 0.5) / (held + 0.5))
            length = _K1 * (1 - _B + _B * words.total() / average)
            score += rarity * words[word] * (_K1 + 1) / (words[word] + length)
        if score > 0:
            scored.append((score, record))
    return _hits(scored, query, cosine=False)


def _hits(scored: list[tuple[float, Record]], query: Query, *, cosine: bool) -> list[Hit]:
    scored.sort(key=lambda pair: (-pair[0], pair[1].record_id))
    least = -np.inf if query.score_threshold is None else query.score_threshold
    return [
        Hit(
            record=Record(record_id=record.record_id)
            if query.columns
            else masked(record, query.mask),
            score=score,
            distance=1 - score if cosine else -score,
        )
        for score, record in scored[: query.limit]
        if score >= least
    ]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _score(query: NDArray[np.float64], record: Record, metric: Metric) -> float:
    assert record.vector is not None
    stored = record.vector.astype(np.float64)
    if metric is Metric.L2:
        return float(np.float32(-np.linalg.norm(stored - query)))
    if metric is Metric.MANHATTAN:
        return float(np.float32(-np.abs(stored - query).sum()))
    product = float((stored * query).sum())
    if metric is Metric.DOT:
        return float(np.float32(product))
    cosine = product / float(np.linalg.norm(stored) * np.linalg.norm(query))
    return float(np.float32(min(1.0, max(-1.0, cosine))))

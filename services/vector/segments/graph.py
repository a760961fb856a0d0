"""One HNSW graph (Malkov and Yashunin, arXiv:1603.09320) over the rows of a segment.

It never changes: what is gone stays in it, and whoever searches it drops that. Keys are row
numbers. Searches may run in any thread; usearch lets one in at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from services.vector.model import Hnsw, Metric, Quantization
from services.vector.segments.rows import Floats, Int64s

EF_MIN = 48
"""Least width of a search that names none."""
EF_MAX = 512
"""Greatest width that is measured when a graph is built."""
RECALL_DEFAULT = 0.98
"""What a search aims at that asks for nothing: measured among the segment's own rows, which is a
little easier than what callers ask for."""
MEASURED_AT = 10
"""How many of the nearest a measured recall is about."""
_OVERSAMPLING = {Quantization.BF16: 1, Quantization.I8: 4}


def new_index(dimension: int, metric: Metric, hnsw: Hnsw, *, grows: bool = True) -> Index:
    """An empty graph for rows of a metric; without `grows` to be searched only, in less memory."""
    return Index(
        ndim=dimension + (metric is Metric.DOT),
        metric="ip" if metric is Metric.COSINE else "l2sq",
        dtype=hnsw.quantization.value,
        connectivity=hnsw.m,
        expansion_add=hnsw.ef_construction,
        expansion_search=EF_MIN,
        enable_key_lookups=grows,
    )


def as_nodes(rows: Floats, metric: Metric, *, length: float, scale: float) -> Floats:
    """Rows in the form that a graph takes.

    Under `dot`, one coordinate more makes all rows equally long: then the nearest by Euclidean
    distance has the greatest product (Bachrach et al. 2014), which a graph can find.
    """
    if metric is Metric.DOT:
        squares = (rows.astype(np.float64) ** 2).sum(axis=1)
        more = np.sqrt(np.maximum(length * length - squares, 0.0))
        rows = np.concatenate([rows, more[:, None].astype(np.float32)], axis=1)
    return rows if scale == 1.0 else rows * np.float32(scale)


class Graph:
    """A graph in a buffer that outlives it."""

    def __init__(
        self,
        buffer: NDArray[np.uint8],
        *,
        dimension: int,
        metric: Metric,
        hnsw: Hnsw,
        scale: float,
        recalls: Sequence[tuple[int, float]],
    ) -> None:
        """Look at a graph that was saved.

        Args:
            buffer: What usearch saved.
            dimension: Length of the rows.
            metric: How nearness is measured.
            hnsw: How it was built.
            scale: What rows were multiplied with.
            recalls: Widths of the search and the recall@10 that each had.
        """
        self._metric = metric
        self._scale = scale
        self._recalls = recalls
        self._oversampling = _OVERSAMPLING[hnsw.quantization]
        self._buffer = buffer
        self._index = new_index(dimension, metric, hnsw, grows=False)
        self._index.view(memoryview(cast("Any", buffer)))
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def width(self, recall: float, count: int) -> int | None:
        """The least width that had this recall; wider where more than ten are wanted.

        None where no width had it.
        """
        for ef, measured in self._recalls:
            if measured >= recall:
                return max(ef, EF_MIN, ef * count // (4 * MEASURED_AT), count)
        return None

    def widest(self, count: int) -> int:
        """The greatest width that is worth its time."""
        return max(self._recalls[-1][0] if self._recalls else EF_MAX, count)

    def enough(self, count: int) -> int:
        """How many nodes to ask for, so that the `count` nearest rows are among them."""
        return self._oversampling * count

    def search(self, probes: Floats, count: int, width: int, threads: int) -> Int64s:
        """Rows of up to `count` near nodes for each probe, (b, count); -1 where there are fewer."""
        nodes = probes if self._metric is not Metric.DOT else _extended(probes)
        if self._scale != 1.0:
            nodes = nodes * np.float32(self._scale)
        with self._lock:  # the width is a property of the index, not an argument
            self._index.expansion_search = width  # type: ignore[misc]
            found: Any = self._index.search(nodes, count, threads=threads)
        rows: Int64s = np.asarray(found.keys).astype(np.int64).reshape(len(probes), -1)
        counts = np.asarray(getattr(found, "counts", rows.shape[1])).reshape(-1, 1)
        rows[np.arange(rows.shape[1]) >= counts] = -1
        return rows


def _extended(probes: Floats) -> Floats:
    return np.concatenate([probes, np.zeros((len(probes), 1), np.float32)], axis=1)

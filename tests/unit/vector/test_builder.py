"""What the builder makes of many rows with several threads."""

import os

import numpy as np

from services.vector.model import Hnsw, Metric, Quantization
from services.vector.segments import builder
from services.vector.segments.graph import as_nodes, new_index
from services.vector.segments.rows import split, widen

ROWS, DIMENSION = 6_000, 16


def unreached(index, nodes):
    """How many nodes a wide search for themselves does not find."""
    index.expansion_search = 512
    return int((index.search(nodes, 1).keys[:, 0] != np.arange(len(nodes))).sum())


def test_every_row_is_reached():
    """Rows that threads added past each other are found, as those that lost their links are."""
    rows = np.random.default_rng(7).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    high = split(rows)[0]
    length = float(np.linalg.norm(rows, axis=1).max())
    job = builder.Job(
        sources=[],
        target="",
        namespace=1,
        dimension=DIMENSION,
        metric=Metric.DOT,
        m=16,
        ef_construction=64,
        quantization=Quantization.BF16,
        threads=max(2, os.cpu_count() or 2),
    )
    index = new_index(DIMENSION, job.metric, Hnsw(m=16, ef_construction=64))
    nodes = as_nodes(widen(high), job.metric, length=length, scale=1.0)
    index.add(np.arange(ROWS, dtype=np.uint64), nodes, threads=job.threads)
    builder._reconnect(index, high, job, length, 1.0)
    assert len(index) == ROWS
    assert unreached(index, nodes) == 0

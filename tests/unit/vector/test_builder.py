"""What the builder makes of many rows with several threads."""

import os

import numpy as np
import pytest

from services.vector.model import Hnsw, Metric, Quantization
from services.vector.segments import builder
from services.vector.segments import saved as layout
from services.vector.segments.container import FileRefusedError
from services.vector.segments.graph import as_nodes, new_index
from services.vector.segments.rows import split, widen

ROWS, DIMENSION = 6_000, 16


def unfound(index, nodes):
    """The nodes that a search for themselves does not find, however wide it is."""
    left = np.arange(len(nodes))
    for expansion in (512, len(nodes)):  # the second one goes wherever a link leads
        index.expansion_search = expansion
        left = left[index.search(nodes[left], 1).keys.reshape(-1) != left] if len(left) else left
    return left.tolist()


def test_every_row_is_reached():
    """Rows that threads added past each other are found, as those that lost their links are."""
    rows = np.random.default_rng(7).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    high = split(rows)[0]
    length = float(np.linalg.norm(rows, axis=1).max())
    job = builder.Job(
        source="",
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
    builder._connected(index, high, job, length, 1.0)
    assert len(index) == ROWS
    assert unfound(index, nodes) == []


def test_a_row_that_no_link_leads_to_is_named():
    """Here all links to one are bent back to where they come from."""
    rows = np.random.default_rng(7).normal(size=(500, DIMENSION)).astype(np.float32)
    index = new_index(DIMENSION, Metric.COSINE, Hnsw(m=16, ef_construction=64))
    index.add(np.arange(1000, 1500, dtype=np.uint64), rows, threads=1)
    saved = index.save()
    before = set(layout.weak(np.frombuffer(saved, np.uint8)).tolist())
    keys, near, entry = layout._bottom(np.frombuffer(saved, np.uint8))
    lost = next(n for n in range(len(rows)) if n != entry and keys[n] not in before)
    for place, row in enumerate(near):
        told = row[row >= 0].astype(np.uint32)
        bent = np.where(told == lost, np.uint32(place), told)
        saved = saved.replace(told.tobytes(), bent.tobytes())
    after = set(layout.weak(np.frombuffer(saved, np.uint8)).tolist())
    assert keys[lost] in after
    assert before <= after


def test_links_of_another_layout_are_refused():
    """What is shorter, or counts otherwise, is not read as if it fitted."""
    index = new_index(DIMENSION, Metric.COSINE, Hnsw(m=16, ef_construction=64))
    index.add(np.arange(50, dtype=np.uint64), np.eye(50, DIMENSION, dtype=np.float32) + 1)
    saved = np.frombuffer(index.save(), np.uint8)
    with pytest.raises(FileRefusedError):
        layout.weak(saved[:-1])

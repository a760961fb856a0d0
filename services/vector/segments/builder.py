"""The process that builds segments, beside the one that serves.

usearch holds the interpreter's lock while it saves, and a graph takes both cores for seconds: in
here neither is in a search's way. It reads jobs, a line of JSON each, and answers with a line each;
it ends when its input ends. It knows files only: no store, no tenant.

`python -m services.vector.segments.builder`
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import usearch
from numpy.typing import NDArray

from services.common.lifetime import end_with_parent
from services.vector.model import Hnsw, Metric, Quantization
from services.vector.segments import container
from services.vector.segments.container import FileRefusedError
from services.vector.segments.footprint import give_back, share_heap
from services.vector.segments.graph import (
    EF_MAX,
    MEASURED_AT,
    Graph,
    as_nodes,
    new_index,
)
from services.vector.segments.rows import Floats, Halves, dots, multiplied, split, widen
from services.vector.segments.saved import node_keys, node_vectors, weak
from services.vector.segments.segment import Manifest

WIDTHS = (32, 48, 64, 96, 128, 192, 256, 384, EF_MAX)
_PROBES = 48
_AT_ONCE = 8192
_ALONE_MAX = 4096
"""Rows that one thread adds as soon as two could."""

_ROUNDS = 3
_LOST_SHARE = 50
"""Where more than one row in so many cannot be reached, rows look alike, and no round helps."""

_NICE = 5


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Head of a file of rows that are to become a segment."""

    length: float
    residue: float
    revision: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    source: str
    """A file of rows, each label once."""
    target: str
    namespace: int
    dimension: int
    metric: Metric
    m: int
    ef_construction: int
    quantization: Quantization
    threads: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job."""

    digest: str = ""
    error: str = ""
    """Why nothing was built."""


def main() -> None:
    """Work until the input ends."""
    end_with_parent()
    share_heap()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    decoder = msgspec.json.Decoder(Job)
    for line in sys.stdin.buffer:
        try:
            done = Done(digest=build(decoder.decode(line)))
        except (OSError, MemoryError, FileRefusedError, RuntimeError) as error:
            done = Done(error=f"{type(error).__name__}: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
        sys.stdout.buffer.flush()
        give_back()  # a large job's memory would stay until a rest that may never come


def build(job: Job) -> str:
    """Build a segment's file; its digest.

    Raises:
        OSError, FileRefusedError: nothing was left behind.
    """
    head, columns = _gather(Path(job.source))
    length = head.length
    hnsw = Hnsw(m=job.m, ef_construction=job.ef_construction, quantization=job.quantization)
    high: Halves = columns.pop("high")
    scale = _scale(high, job, length)
    index = new_index(job.dimension, job.metric, hnsw)
    threads = job.threads if len(high) > _ALONE_MAX else 1
    for keys, nodes in _nodes(high, job, length, scale):
        index.add(keys, nodes, threads=threads)
    graph = _connected(index, high, job, length, scale)
    del index
    manifest = Manifest(
        namespace=job.namespace,
        rows=len(high),
        dimension=job.dimension,
        metric=job.metric,
        m=job.m,
        ef_construction=job.ef_construction,
        quantization=job.quantization,
        usearch=usearch.__version__,
        length=length,
        residue=head.residue,
        scale=scale,
        revision=head.revision,
        recalls=_measure(graph, high, job, hnsw, scale),
    )
    columns |= {"graph": graph, **_vectors_of(graph, high, job)}
    return container.write(Path(job.target), manifest, columns)


def _nodes(
    high: Halves, job: Job, length: float, scale: float
) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
    """Keys and what the graph holds for them, some at a time."""
    for start in range(0, len(high), _AT_ONCE):
        rows = widen(high[start : start + _AT_ONCE])
        keys = np.arange(start, start + len(rows), dtype=np.uint64)
        yield keys, as_nodes(rows, job.metric, length=length, scale=scale)


def _connected(
    index: Any, high: Halves, job: Job, length: float, scale: float
) -> NDArray[np.uint8]:
    """What usearch saves, once each row that is not found was added again, alone.

    Nodes that usearch adds at the same moment do not see each other, and of some that way no link
    to them is left, or one that searches do not take: with two threads up to 8 of 20,000, with one
    none (usearch 2.26). Only nodes with few links to them are looked for. Adding one again can cut
    off another, which its old links led to.
    """
    again = np.zeros(len(high), np.bool_)
    for _ in range(_ROUNDS):
        graph = np.frombuffer(index.save(), np.uint8)
        suspects = weak(graph)
        nodes = as_nodes(widen(high[suspects]), job.metric, length=length, scale=scale)
        lost = _unfound(index, high, suspects, nodes)
        if lost.sum() > len(high) // _LOST_SHARE or again[suspects[lost]].all():
            return graph
        index.remove(suspects[lost])
        index.add(suspects[lost], nodes[lost], threads=1)
        again[suspects[lost]] = True
    return np.frombuffer(index.save(), np.uint8)


def _unfound(
    index: Any, high: Halves, keys: NDArray[np.uint64], nodes: Floats
) -> NDArray[np.bool_]:
    """Whether a search for each of some nodes finds another, that is not equal to it."""
    if not len(keys):
        return np.zeros(0, np.bool_)
    index.expansion_search = WIDTHS[0]
    found = index.search(nodes, 1).keys.reshape(-1)
    other: NDArray[np.bool_] = (high[found] != high[keys]).any(axis=1)
    return other


def _scale(high: Halves, job: Job, length: float) -> float:
    """What to multiply numbers with so that all fit: i8 holds -1 to 1, and is coarse near 0."""
    if job.quantization is Quantization.BF16:
        return 1.0
    largest = 0.0
    for start in range(0, len(high), _AT_ONCE):
        rows = widen(high[start : start + _AT_ONCE])
        nodes = as_nodes(rows, job.metric, length=length, scale=1.0)
        largest = max(largest, float(np.abs(nodes).max()))
    return 1.0 / largest if largest else 1.0


def _gather(source: Path) -> tuple[Rows, dict[str, NDArray[Any]]]:
    """The rows of a file, in the order of their labels."""
    file = container.read(source)
    columns, order = dict(file.arrays), np.argsort(file.arrays["labels"], kind="stable")
    if (order[1:] > order[:-1]).all():
        return file.head_as(Rows), columns
    text, ends = columns["ids"], columns["id_ends"]
    starts = np.concatenate([[0], ends[:-1]])
    parts = [text[starts[row] : ends[row]] for row in order.tolist()]
    columns = {name: array[order] for name, array in columns.items() if name != "ids"}
    columns["ids"] = np.concatenate(parts)
    columns["id_ends"] = np.cumsum([len(part) for part in parts], dtype=np.uint32)
    return file.head_as(Rows), columns


def _vectors_of(graph: NDArray[np.uint8], high: Halves, job: Job) -> dict[str, NDArray[Any]]:
    """Where each row's upper half stands in the graph; the halves themselves where it has none."""
    if job.quantization is not Quantization.BF16 or job.metric is Metric.MANHATTAN:
        return {"high": high}
    columns = job.dimension + (job.metric is Metric.DOT)
    nodes = node_vectors(graph, len(high), columns)[:, : job.dimension]
    slots = np.empty(len(high), np.int32)
    slots[node_keys(graph)] = np.arange(len(high))
    same = all(
        np.array_equal(nodes[slots[start : start + _AT_ONCE]], high[start : start + _AT_ONCE])
        for start in range(0, len(high), _AT_ONCE)
    )
    return {"slots": slots} if same else {"high": high}


def _measure(
    buffer: NDArray[np.uint8], high: Halves, job: Job, hnsw: Hnsw, scale: float
) -> list[tuple[int, float]]:
    """Recall@10 of each width, over probes that lie between rows and rows near them."""
    graph = Graph(
        buffer,
        dimension=job.dimension,
        metric=job.metric,
        hnsw=hnsw,
        scale=scale,
        recalls=(),
    )
    count = min(MEASURED_AT, len(high))
    chance = np.random.default_rng(len(high))
    chosen = np.sort(chance.choice(len(high), min(_PROBES, len(high)), replace=False))
    rows = widen(high[chosen])
    near = graph.search(rows, count, WIDTHS[2], job.threads)[:, -1]
    probes = (rows + widen(high[np.maximum(near, 0)])) * np.float32(0.5)
    truth = _nearest(high, probes, job.metric, count)
    recalls = []
    fetched = min(graph.enough(count), len(high))
    for width in (width for width in WIDTHS if width >= fetched):
        found = graph.search(probes, fetched, width, job.threads)
        hits = sum(len(set(row.tolist()) & best) for row, best in zip(found, truth, strict=True))
        recalls.append((width, hits / (count * len(probes))))
        if hits == count * len(probes):
            break
    return recalls


def _nearest(high: Halves, probes: Floats, metric: Metric, count: int) -> list[set[int]]:
    """The rows that are nearest to each probe."""
    halves = split(probes)[0]
    best = np.full((len(probes), count), -np.inf, np.float32)
    rows = np.full((len(probes), count), -1)
    for start in range(0, len(high), _AT_ONCE):
        part = high[start : start + _AT_ONCE]
        keys = multiplied(halves, part)
        if metric is Metric.L2:
            keys = (2 * keys - dots(part, part, "bf16")).astype(np.float32)
        best = np.concatenate([best, keys], axis=1)
        every = np.broadcast_to(np.arange(start, start + len(part)), keys.shape)
        rows = np.concatenate([rows, every], axis=1)
        order = np.argpartition(-best, count - 1, axis=1)[:, :count]
        best, rows = (np.take_along_axis(each, order, axis=1) for each in (best, rows))
    return [set(row.tolist()) for row in rows]


if __name__ == "__main__":
    main()

"""`make bench-scale`: a million vectors in one collection, through the gateway.

The vectors are the real ones of `corpus`, each several times with a little noise, so that their
neighbourhoods stay those of real sentences. Writes `docs/benchmarks/scale.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from llmspell.v1 import vector_pb2

from tests.performance import vector
from tests.performance.peers import measure
from tests.performance.peers.data import Data, load, prepare
from tests.performance.peers.engines.llmspell import Deployment
from tests.performance.peers.peer import DIMENSION, WRITE, K
from tests.performance.report import Report

PAGE = Path("docs/benchmarks/scale.md")
COLLECTION = "million"
NOISE = 0.02
"""Standard deviation of each of the 384 numbers of a vector of length 1; 0.05 is as long as that
of an unrelated sentence."""
_QUERIES = 500
_BLOCK = 50_000


def blocks(data: Data, count: int) -> Iterator[np.ndarray]:
    """The vectors in order, a block at a time; the same ones at every call."""
    for first in range(0, count, _BLOCK):
        places = np.arange(first, min(count, first + _BLOCK))
        rows = np.array(data.vectors[places % len(data.vectors)])
        again = places >= len(data.vectors)
        noise = np.random.default_rng(first).normal(size=rows.shape).astype(np.float32)
        rows[again] += NOISE * noise[again]
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def truth(data: Data, count: int, queries: np.ndarray) -> np.ndarray:
    """Row numbers of the K nearest to each query, compared with all."""
    scores = np.full((len(queries), K), -np.inf, np.float32)
    rows = np.zeros((len(queries), K), np.int64)
    first = 0
    for block in blocks(data, count):
        both = np.concatenate([scores, queries @ block.T], axis=1)
        best = np.argpartition(-both, K, axis=1)[:, :K]
        numbers = np.arange(first, first + len(block))
        known = np.concatenate([rows, np.broadcast_to(numbers, (len(queries), len(block)))], axis=1)
        scores = np.take_along_axis(both, best, axis=1)
        rows = np.take_along_axis(known, best, axis=1)
        first += len(block)
    return rows


def fill(ours: vector.Ours, data: Data, count: int) -> float:
    """Import all by stream; seconds until the last was acknowledged, less the making of rows."""
    ours.create(COLLECTION)
    making, first = 0.0, 0

    def requests() -> Iterator[vector_pb2.ImportVectorsRequest]:
        nonlocal making, first
        begun = time.perf_counter()
        for block in blocks(data, count):
            making += time.perf_counter() - begun
            for start in range(0, len(block), WRITE):
                part = block[start : start + WRITE]
                columns = vector_pb2.RecordColumns(
                    record_ids=[f"r{first + n}" for n in range(len(part))], f32=part.tobytes()
                )
                first += len(part)
                yield vector_pb2.ImportVectorsRequest(collection_id=COLLECTION, columns=columns)
            print(f"\r{first} of {count}", end="", flush=True)
            begun = time.perf_counter()

    begun = time.perf_counter()
    for _ in ours.vectors.ImportVectors(requests(), metadata=ours.metadata, timeout=7200):
        pass
    print()
    return time.perf_counter() - begun - making


def checkpoint(ours: vector.Ours) -> float:
    """Seconds until graphs cover all; one wait may be shorter than a build is long."""
    begun = time.perf_counter()
    while True:
        done = ours.checkpoint(COLLECTION)
        if done.indexed_count >= done.record_count:
            return time.perf_counter() - begun


def found(ours: vector.Ours, queries: np.ndarray, width: int) -> list[list[int]]:
    """What a search of that width answers for each query."""
    answers = [ours.search(COLLECTION, query, expansion=width) for query in queries]
    return [vector.numbers(answer.columns.record_ids) for answer in answers]


def measured(report: Report, deployment: Deployment, data: Data, count: int) -> None:
    """Write, build, search, weigh."""
    processes = deployment.processes
    through = vector.public(processes, deployment.key())
    queries = data.queries[:_QUERIES]
    expected = truth(data, count, queries)
    took = fill(through, data, count)
    report.line("acknowledged ingest by stream, through the gateway", f"{count / took:,.0f} /s")
    built = checkpoint(through)
    report.line("until graphs cover all, after the last write", f"{built:,.0f} s")
    for width in (0, 128, 192, 256, 384, 512):
        reached = vector.recall(found(through, queries, width), expected)
        if reached >= 0.95:
            break
    named = f"width {width}" if width else "the default width"
    report.asked("recall@10", f"{reached:.4f} at {named}", "0.95", reached >= 0.95)
    p50, p99 = vector.p50_p99(
        lambda n: through.search(COLLECTION, data.queries[n % 1000], expansion=width), count=1000
    )
    report.asked("single search, one caller", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", "10", p50 < 10)
    held = measure.memory(measure.family(processes.pid("vector")))
    report.line(
        "memory of the vector process",
        f"{held['pss_mb']:,.0f} MB, of it {held['anon_mb']:,.0f} MB its own, the rest mapped files",
    )
    report.line("disk", f"{measure.disk_mb(processes.place.data):,.0f} MB")


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--real", type=int, default=100_000, help="vectors that noise is added to")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    prepare(given.real)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmspell-scale-") as folder:
        deployment = Deployment(Path(folder) / "data")
        try:
            measured(report, deployment, load(given.real), given.count)
        finally:
            deployment.close()
    head = (
        f"# {given.count:,} vectors of {DIMENSION} numbers\n\n"
        f"Written by `make bench-scale` on {os.cpu_count()} cores, Linux {platform.release()}: one "
        "collection, one caller, through the gateway.\n\n"
    )
    given.page.parent.mkdir(parents=True, exist_ok=True)
    given.page.write_text(head + report.table(), "utf-8")


if __name__ == "__main__":
    main()

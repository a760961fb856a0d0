"""Qdrant's engine in process."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import numpy as np
import qdrant_edge as q

from tests.performance.peers.peer import (
    DIMENSION,
    LINKS,
    THREADS,
    WIDTH_BUILD,
    Condition,
    K,
    Writes,
)


class Engine:
    """Its manual's settings: payload index over `part`, optimizers run by the application."""

    title = f"qdrant-edge {importlib.metadata.version('qdrant-edge-py')}, in process, f32, dot"
    widths = (32, 48, 64, 80, 96, 128, 192, 256, 384)
    durable = "kill -9, by its log; a power cut after `flush`"

    def start(self, folder: Path) -> None:
        self._width = self.widths[0]
        path = folder / "shard"
        if path.exists():
            self._shard = q.EdgeShard.load(str(path))
            return
        path.mkdir()
        self._shard = q.EdgeShard.create(str(path), _config())
        self._shard.update(
            q.UpdateOperation.create_field_index("part", q.IntegerIndexParams(range=True))
        )

    def stop(self) -> None:
        self._shard.close()

    def pids(self) -> list[int]:
        return [os.getpid()]

    def ingest(self, writes: Writes) -> None:
        together = zip(
            writes.rows.tolist(), writes.vectors.tolist(), writes.parts.tolist(), strict=True
        )
        points = [q.Point(row, vector, {"part": part}) for row, vector, part in together]
        self._shard.update(q.UpdateOperation.upsert_points(points))

    def build(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def widen(self, width: int) -> None:
        self._width = width

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        return [hit.id for hit in self._shard.query(self._request(vector, below))]

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        requests = [self._request(vector, below) for vector in vectors]
        answers = self._shard.query_batch(q.QueryBatchRequest(requests))
        return [[hit.id for hit in hits] for hits in answers]

    def delete(self, rows: np.ndarray) -> None:
        self._shard.update(q.UpdateOperation.delete_points(rows.tolist()))

    def compact(self) -> None:
        self.build()

    def _request(self, vector: np.ndarray, below: Condition) -> q.QueryRequest:
        chosen = None
        if below is not None:
            chosen = q.Filter(must=[q.FieldCondition("part", range=q.RangeFloat(lt=float(below)))])
        return q.QueryRequest(
            limit=K,
            query=q.Query.Nearest(vector.tolist()),
            filter=chosen,
            params=q.SearchParams(hnsw_ef=self._width),
        )


def _config() -> q.EdgeConfig:
    graph = q.HnswIndexConfig(
        m=LINKS,
        ef_construct=WIDTH_BUILD,
        full_scan_threshold=10_000,
        max_indexing_threads=THREADS,
    )
    return q.EdgeConfig(
        vectors=q.EdgeVectorParams(size=DIMENSION, distance=q.Distance.Dot),
        hnsw_config=graph,
        max_search_threads=THREADS,
        optimizers=q.EdgeOptimizersConfig(indexing_threshold=1000),
    )

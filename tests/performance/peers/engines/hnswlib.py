"""hnswlib in process, over single floats."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import hnswlib
import numpy as np

from tests.performance.peers.peer import (
    DIMENSION,
    LINKS,
    THREADS,
    WIDTH_BUILD,
    Condition,
    K,
    Writes,
)

_GROW = 20_000


class Engine:
    """A library; a filter is a Python function that it calls for each candidate."""

    title = f"hnswlib {importlib.metadata.version('hnswlib')}, in process, f32, inner product"
    widths = (32, 48, 64, 80, 96, 128, 192, 256)
    durable = "nothing until `save_index`"

    def start(self, folder: Path) -> None:
        self._path = folder / "index.hnsw"
        self._parts: dict[int, int] = {}
        self._index = hnswlib.Index(space="ip", dim=DIMENSION)
        if self._path.exists():
            self._index.load_index(str(self._path))
        else:
            self._index.init_index(max_elements=_GROW, M=LINKS, ef_construction=WIDTH_BUILD)
        self._index.set_num_threads(THREADS)

    def stop(self) -> None:
        self._index = None

    def pids(self) -> list[int]:
        return [os.getpid()]

    def ingest(self, writes: Writes) -> None:
        wanted = self._index.get_current_count() + len(writes.rows)
        if wanted > self._index.get_max_elements():
            self._index.resize_index(self._index.get_max_elements() + _GROW)
        self._index.add_items(writes.vectors, writes.rows)
        self._parts.update(zip(writes.rows.tolist(), writes.parts.tolist(), strict=True))

    def build(self) -> None:
        self._index.save_index(str(self._path))

    def widen(self, width: int) -> None:
        self._index.set_ef(width)

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        return self._search(vector[None], below, 1)[0]

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        return self._search(vectors, below, THREADS)

    def delete(self, rows: np.ndarray) -> None:
        for row in rows.tolist():
            self._index.mark_deleted(row)

    def compact(self) -> None:
        """It has no such call: what is marked stays until the index is built again."""
        self._index.save_index(str(self._path))

    def _search(self, vectors: np.ndarray, below: Condition, threads: int) -> list[list[int]]:
        if below is None:
            try:
                rows, _ = self._index.knn_query(vectors, K, num_threads=threads)
            except RuntimeError:  # its words for: the graph led to fewer than K
                return [[] for _ in vectors]
            return rows.tolist()
        parts = self._parts
        try:
            rows, _ = self._index.knn_query(
                vectors, K, num_threads=1, filter=lambda row: parts[row] < below
            )
        except RuntimeError:
            return [[] for _ in vectors]
        return rows.tolist()

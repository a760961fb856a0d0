"""faiss in process: an HNSW graph over half floats."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import faiss
import numpy as np

from tests.performance.peers.peer import (
    DIMENSION,
    LINKS,
    THREADS,
    WIDTH_BUILD,
    Condition,
    K,
    Unsupported,
    Writes,
)


class Engine:
    """A library; the application keeps `part` beside it and makes a bitmap for a filter."""

    title = f"faiss {faiss.__version__}, in process, HNSW over fp16, inner product"
    widths = (32, 48, 64, 80, 96, 128, 192, 256)
    durable = "nothing until `write_index`"

    def start(self, folder: Path) -> None:
        faiss.omp_set_num_threads(THREADS)
        self._path = folder / "index.faiss"
        self._parts = self._rows = np.empty(0, np.int64)
        self._width = self.widths[0]
        self._settings = cache(self._make_settings)
        if self._path.exists():
            self._index = faiss.read_index(str(self._path))
            return
        graph = faiss.IndexHNSWSQ(
            DIMENSION, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT
        )
        graph.hnsw.efConstruction = WIDTH_BUILD
        graph.is_trained = True
        self._index = graph

    def stop(self) -> None:
        self._index.reset()

    def pids(self) -> list[int]:
        return [os.getpid()]

    def ingest(self, writes: Writes) -> None:
        self._index.add(writes.vectors)
        self._rows = np.concatenate([self._rows, writes.rows])
        self._parts = np.concatenate([self._parts, writes.parts])
        self._settings.cache_clear()

    def build(self) -> None:
        faiss.write_index(self._index, str(self._path))

    def widen(self, width: int) -> None:
        self._width = width
        self._settings.cache_clear()

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        return self.batch(vector[None], below)[0]

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        params, _ = self._settings(below)
        _, places = self._index.search(vectors, K, params=params)
        return [self._rows[one[one >= 0]].tolist() for one in places]

    def delete(self, rows: np.ndarray) -> None:
        raise Unsupported("an HNSW index of faiss removes nothing; it has to be built again")

    def compact(self) -> None:
        """Never reached."""

    def _make_settings(self, below: Condition) -> tuple[faiss.SearchParametersHNSW, object]:
        """The settings, and what they point into and do not keep alive."""
        if below is None:
            return faiss.SearchParametersHNSW(efSearch=self._width), None
        chosen = np.packbits(self._parts < below, bitorder="little")
        selector = faiss.IDSelectorBitmap(chosen)
        settings = faiss.SearchParametersHNSW(efSearch=self._width, sel=selector)
        return settings, (chosen, selector)

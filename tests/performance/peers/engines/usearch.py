"""usearch in process, with the settings of our own graphs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import usearch
from usearch.index import Index

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
    """A library: what an application would have to add for filters and durability is not here."""

    title = f"usearch {usearch.__version__}, in process, bf16, inner product"
    widths = (32, 48, 64, 80, 96, 128, 192, 256)
    durable = "nothing until `save`"

    def start(self, folder: Path) -> None:
        self._path = folder / "index.usearch"
        self._index = Index(
            ndim=DIMENSION,
            metric="ip",
            dtype="bf16",
            connectivity=LINKS,
            expansion_add=WIDTH_BUILD,
            path=self._path if self._path.exists() else None,
        )

    def stop(self) -> None:
        self._index.reset()

    def pids(self) -> list[int]:
        return [os.getpid()]

    def ingest(self, writes: Writes) -> None:
        self._index.add(writes.rows.astype(np.uint64), writes.vectors, threads=THREADS)

    def build(self) -> None:
        self._index.save(self._path)

    def widen(self, width: int) -> None:
        self._index.expansion_search = width

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        _refuse(below)
        return self._index.search(vector, K, threads=1).keys.tolist()

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        _refuse(below)
        return self._index.search(vectors, K, threads=THREADS).keys.tolist()

    def delete(self, rows: np.ndarray) -> None:
        self._index.remove(rows.astype(np.uint64))

    def compact(self) -> None:
        """Its binding offers none: places of the removed are used again, and not given back."""
        self._index.save(self._path)


def _refuse(below: Condition) -> None:
    if below is not None:
        raise Unsupported("its search takes no filter")

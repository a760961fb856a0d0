"""The data set on disk, in a form that every engine's process maps instead of copying."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.performance.peers.peer import PARTS, Writes

FOLDER = Path(".bench")


@dataclass(frozen=True)
class Data:
    """Vectors of length 1, queries that are not among them, and each vector's `part`."""

    vectors: np.ndarray
    queries: np.ndarray
    parts: np.ndarray

    def writes(self, rows: np.ndarray) -> Writes:
        """These rows, ready to be written."""
        return Writes(rows, np.ascontiguousarray(self.vectors[rows]), self.parts[rows])

    def below(self, condition: int | None) -> np.ndarray:
        """Rows that a condition lets through."""
        if condition is None:
            return np.arange(len(self.vectors))
        return np.flatnonzero(self.parts < condition)


def place(count: int) -> Path:
    """Where a data set of this size, and what was measured with it, is kept."""
    return FOLDER / f"peers-{count}"


def prepare(count: int) -> None:
    """Make the data set; needs the project's own environment, for the model."""
    from tests.performance.corpus import corpus

    folder = place(count)
    if (folder / "parts.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _, vectors, queries = corpus(count)
    np.save(folder / "vectors.npy", np.ascontiguousarray(vectors, np.float32))
    np.save(folder / "queries.npy", np.ascontiguousarray(queries, np.float32))
    np.save(folder / "parts.npy", np.random.default_rng(11).integers(0, PARTS, count))


def load(count: int) -> Data:
    """The data set, mapped."""
    folder = place(count)
    parts = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("vectors", "queries")]
    return Data(parts[0], np.array(parts[1]), np.load(folder / "parts.npy"))

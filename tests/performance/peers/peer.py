"""What the bench asks of an engine, whoever made it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

K = 10
DIMENSION = 384
LINKS = 16
WIDTH_BUILD = 128
THREADS = 2
PARTS = 1000
"""Each record's field `part` is one of so many numbers, drawn by chance."""

SHARES = (0.5, 0.1, 0.01, 0.001)
BATCH = 64
WRITE = 1000
"""Records of one write."""

NAMES = (
    "llmspell",
    "llmspell_gateway",
    "usearch",
    "faiss",
    "hnswlib",
    "qdrant_edge",
    "chroma",
    "lancedb",
    "pgvector",
)

Condition = int | None
"""Only records whose `part` is less than this; None: all."""


class Unsupported(Exception):  # noqa: N818 - it is an answer, and no error of ours
    """The engine offers no such thing; the words say what it offers instead."""


@dataclass(frozen=True)
class Writes:
    """Records to write, as rows of the data set."""

    rows: np.ndarray
    vectors: np.ndarray
    parts: np.ndarray


class Peer(Protocol):
    """One engine with a folder of its own. Records are numbered by their row in the data set."""

    title: str
    """Name and version, and what of the engine's choices was taken."""
    widths: Sequence[int]
    """Settings of search effort, least first; `widen` takes one."""
    durable: str
    """What an acknowledged write has survived by then, in the engine's own words."""

    def start(self, folder: Path) -> None:
        """Open what the folder holds, or make it."""

    def stop(self) -> None:
        """Close in order."""

    def pids(self) -> list[int]:
        """The processes that serve; in a library, this one."""

    def ingest(self, writes: Writes) -> None:
        """Write; returns when all is acknowledged."""

    def build(self) -> None:
        """Returns when the index covers all that was written, and stands on disk."""

    def widen(self, width: int) -> None:
        """Search so hard from now on."""

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        """The K nearest rows."""

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        """Several searches in as few calls as the engine offers."""

    def delete(self, rows: np.ndarray) -> None:
        """Delete by id."""

    def compact(self) -> None:
        """Ask for space back, as the engine's manual says, and wait for it."""


def create(name: str) -> Peer:
    """The engine of this name; ImportError where it is not installed."""
    module = importlib.import_module(f"tests.performance.peers.engines.{name}")
    return module.Engine()

"""Rows that do not change any more, with a graph over them, in one file.

The file holds all that a search needs of them. It is a cache: the store registers its digest, so a
file that is damaged, older, newer or another collection's is not used, and the rows come from the
store instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, overload

import msgspec
import numpy as np
import usearch
from numpy.typing import NDArray

from services.vector.model import Hnsw, Metric, Quantization
from services.vector.segments import container
from services.vector.segments.container import Container, FileRefusedError
from services.vector.segments.graph import Graph
from services.vector.segments.rows import (
    NEVER,
    NO_TIME,
    Int64s,
    Reach,
    Table,
    Vectors,
    ended,
)
from services.vector.segments.saved import node_vectors


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says of itself."""

    namespace: int
    rows: int
    dimension: int
    metric: Metric
    m: int
    ef_construction: int
    quantization: Quantization
    usearch: str
    length: float
    residue: float
    scale: float
    revision: int
    recalls: list[tuple[int, float]]
    """Widths of the search, and the recall@10 that each had."""

    def hnsw(self) -> Hnsw:
        """How its graph was built."""
        return Hnsw(m=self.m, ef_construction=self.ef_construction, quantization=self.quantization)


class RecordIds(Sequence[str]):
    """Ids in one piece."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.uint32]) -> None:
        self._text = memoryview(cast("Any", text))
        self._ends = memoryview(cast("Any", ends))  # gives an int, several times as fast as numpy

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """The id of a row."""
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        start = self._ends[place - 1] if place else 0
        return str(self._text[start : self._ends[place]], "utf-8")


def pack_ids(record_ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """The two arrays of `RecordIds`."""
    parts = [record_id.encode() for record_id in record_ids]
    ends = np.cumsum([len(part) for part in parts], dtype=np.uint32)
    return np.frombuffer(b"".join(parts), np.uint8), ends


class Segment:
    """A file's rows, and which of them live. Changed by one thread only."""

    def __init__(self, path: Path, table: Table, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def table(self) -> Table:
        """The rows now."""
        return self._table

    def resident_bytes(self) -> int:
        """Memory that searching takes: the graph with its vectors, and the columns."""
        return self.size_bytes - self._table.vectors.low.nbytes

    def show(self, living: Int64s, gone: Int64s, ends_ns: Int64s) -> None:
        """Say which labels live, and when others ended; all arrays rise by label."""
        alive = np.zeros(len(self._table), np.bool_)
        alive[self._table.rows_of(living)] = True
        self._replace(alive, np.where(alive, NEVER, NO_TIME) if len(gone) else None)
        self.remove(gone, ends_ns)

    def remove(self, labels: Int64s, ends_ns: Int64s) -> None:
        """Mark rows dead; labels that are not here are passed over. As `Tail.remove`."""
        table = self._table
        alive, ends = ended(table, labels, ends_ns, table.alive, table.ends_ns)
        if alive is not table.alive:
            self._replace(alive, ends)

    def _replace(self, alive: NDArray[np.bool_], ends_ns: Int64s | None) -> None:
        self._table = replace(
            self._table, alive=alive, alive_count=int(alive.sum()), ends_ns=ends_ns
        )


def open_segment(path: Path, digest: str, *, namespace: int, dimension: int) -> Segment:
    """A file that was registered under a digest.

    Raises:
        FileRefusedError: where it must not be used.
    """
    file = container.read(path, digest)
    manifest = file.head_as(Manifest)
    if manifest.namespace != namespace or manifest.dimension != dimension:
        raise FileRefusedError("it was made for another collection")
    if manifest.usearch != usearch.__version__:
        raise FileRefusedError(f"usearch {manifest.usearch} wrote it")
    arrays = file.arrays
    graph = Graph(
        arrays["graph"],
        dimension=dimension,
        metric=manifest.metric,
        hnsw=manifest.hnsw(),
        scale=manifest.scale,
        recalls=manifest.recalls,
    )
    if len(graph) != manifest.rows:
        raise FileRefusedError("it does not hold the nodes that it names")
    labels = arrays["labels"]
    table = Table(
        vectors=_vectors(file, dimension, manifest),
        reach=Reach(manifest.length, manifest.residue),
        labels=labels,
        record_ids=RecordIds(arrays["ids"], arrays["id_ends"]),
        ingest_times_ns=arrays["ingest"],
        event_times_ns=arrays.get("event"),
        expire_times_ns=arrays.get("expire"),
        ends_ns=None,
        members=arrays.get("members"),
        squares=arrays.get("squares"),
        alive=np.ones(len(labels), np.bool_),
        alive_count=len(labels),
        revision=manifest.revision,
        graph=graph,
    )
    return Segment(path, table, file.size_bytes)


def _vectors(file: Container, dimension: int, manifest: Manifest) -> Vectors:
    arrays, low = file.arrays, file.stored("low")
    if "slots" not in arrays:
        return Vectors(arrays["high"], low)
    columns = dimension + (manifest.metric is Metric.DOT)
    nodes = node_vectors(arrays["graph"], manifest.rows, columns)[:, :dimension]
    return Vectors(nodes, low, arrays["slots"])

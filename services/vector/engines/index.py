"""One HNSW graph over a collection's rows, and the file that saves building it again.

A graph is a cache. It may lack rows (the newest, up to any number) and may hold rows that are gone;
whoever searches it adds the first and drops the second. Nodes are never taken out: a graph that
holds too many dead ones is built anew.

A damaged file makes usearch crash, loop, or answer wrongly (measured; ADR 0004), so a
file is opened only where the digest at its head fits its bytes. That does not say that it belongs
to these records: the store may have been put back to an earlier day, or another one put in its
place. So the file lists each label it covers with a fingerprint of its vector, and is refused
unless every row that it claims to cover is in that list.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import usearch
from blake3 import blake3
from numpy.typing import NDArray
from usearch.index import Index

from services.common import failpoints
from services.vector.engines.block import Snapshot
from services.vector.model import Metric

CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 64
DTYPE = "bf16"

_METRICS = {Metric.COSINE: "ip", Metric.DOT: "ip", Metric.L2: "l2sq"}
"""Rows have length 1 under cosine, so its inner product serves, and is quicker."""
_ADD_AT_ONCE = 16
"""usearch lets nobody search while it adds: 16 vectors take about a millisecond."""
_MAGIC = b"LLMSHNSW"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<I")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says of itself."""

    namespace: int
    covered: int
    """Every row up to this label was added."""
    listed: int
    """Labels listed: the rows that were alive when it was written."""
    nodes: int
    dimension: int
    metric: str
    dtype: str
    connectivity: int
    usearch: str


class IndexRefusedError(Exception):
    """A file that must not be used; the text says why."""


class Graph:
    """A graph and the label that it covers. Searches may run in any thread, one thread adds."""

    def __init__(self, dimension: int, metric: Metric) -> None:
        self._index = _new_index(dimension, metric)
        self._dimension = dimension
        self._metric = metric
        self._lock = threading.Lock()
        self.covered = -1
        """All rows up to this label were added, except what was dead by then."""
        self.saved = -1
        """What `covered` was in the file."""

    def __len__(self) -> int:
        return len(self._index)

    def add(
        self, snapshot: Snapshot, first: int, end: int, *, going_on: Callable[[], bool]
    ) -> None:
        """Add the living of rows `first` to `end`, in slices, as long as `going_on` says so."""
        for start in range(first, end, _ADD_AT_ONCE):
            if not going_on():
                return
            stop = min(start + _ADD_AT_ONCE, end)
            rows = start + np.flatnonzero(snapshot.alive[start:stop])
            if len(rows):
                labels = snapshot.labels[rows].astype(np.uint64)
                self._index.add(labels, snapshot.rows[rows], threads=1)
            self.covered = int(snapshot.labels[stop - 1])

    def search(self, vector: NDArray[np.float32], count: int, expansion: int) -> NDArray[np.int64]:
        """Labels of up to `count` near nodes, dead ones among them."""
        with self._lock:  # the width is a property of the index, not an argument
            self._index.expansion_search = expansion  # type: ignore[misc]
            found = self._index.search(vector, count, threads=1)
        labels: NDArray[np.int64] = found.keys.astype(np.int64)
        return labels

    def save(self, path: Path, namespace: int, snapshot: Snapshot) -> None:
        """Write the file aside, flush it, and put it in place of the old one.

        Raises:
            OSError: the old file, if any, is still whole.
        """
        covered = self.covered
        rows = np.flatnonzero(snapshot.alive[: snapshot.first_row_after(covered)])
        manifest = Manifest(
            namespace=namespace,
            covered=covered,
            listed=len(rows),
            nodes=len(self._index),
            **_parameters(self._dimension, self._metric),
        )
        head = msgspec.json.encode(manifest)
        parts = (
            _LENGTH.pack(len(head)),
            head,
            snapshot.labels[rows].astype("<i8").tobytes(),
            fingerprints(snapshot.rows, rows).astype("<u8").tobytes(),
            bytes(self._index.save() or b""),
        )
        _write_file(path, parts)
        self.saved = covered


def load(
    path: Path,
    namespace: int,
    dimension: int,
    metric: Metric,
    *,
    snapshot: Snapshot,
    next_label: int,
) -> Graph:
    """The graph in a file.

    Args:
        path: The file.
        namespace: Whose it must be.
        dimension: Length of its vectors.
        metric: How nearness is measured.
        snapshot: All that is stored.
        next_label: The first label that was never given.

    Raises:
        IndexRefusedError: where it is missing, damaged, or not of these records.
    """
    manifest, body = _read_file(path)
    expected = _parameters(dimension, metric)
    actual = {name: getattr(manifest, name) for name in expected}
    if manifest.namespace != namespace or actual != expected:
        raise IndexRefusedError("it was made for another collection or by another release")
    if manifest.covered >= next_label:
        raise IndexRefusedError("it covers records that were never written here")
    size = 8 * manifest.listed
    labels = np.frombuffer(body[:size], "<i8")
    prints = np.frombuffer(body[size : 2 * size], "<u8")
    _compare(snapshot, manifest.covered, labels, prints)
    graph = Graph(dimension, metric)
    graph._index.load(body[2 * size :])  # noqa: SLF001  (its own module)
    if len(graph) != manifest.nodes:
        raise IndexRefusedError("it does not hold the nodes that it names")
    graph.covered = graph.saved = manifest.covered
    return graph


def fingerprints(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number for each of some rows that another vector is most unlikely to have."""
    weights = np.random.default_rng(vectors.shape[1]).integers(
        0, 2**63, vectors.shape[1], dtype=np.uint64
    )
    found = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), 4096):
        part = vectors[rows[start : start + 4096]].view(np.uint32).astype(np.uint64)
        found[start : start + 4096] = part @ (2 * weights + 1)
    return found


def _new_index(dimension: int, metric: Metric) -> Index:
    return Index(
        ndim=dimension,
        metric=_METRICS[metric],
        dtype=DTYPE,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


def _parameters(dimension: int, metric: Metric) -> dict[str, Any]:
    return {
        "dimension": dimension,
        "metric": metric.value,
        "dtype": DTYPE,
        "connectivity": CONNECTIVITY,
        "usearch": usearch.__version__,
    }


def _compare(
    snapshot: Snapshot,
    covered: int,
    labels: NDArray[np.int64],
    prints: NDArray[np.uint64],
) -> None:
    """Refuse a file unless it lists every living row up to `covered`, with the same vector."""
    rows = np.flatnonzero(snapshot.alive[: snapshot.first_row_after(covered)])
    places = np.searchsorted(labels, snapshot.labels[rows])
    if len(rows) and (places >= len(labels)).any():
        raise IndexRefusedError("it lacks records that it says it covers")
    same = labels[places] == snapshot.labels[rows]
    same &= prints[places] == fingerprints(snapshot.rows, rows)
    if not same.all():
        raise IndexRefusedError("it was built from other records")


def _write_file(path: Path, parts: tuple[bytes, ...]) -> None:
    digest = blake3()
    for part in parts:
        digest.update(part)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        for part in (_MAGIC, digest.digest(), *parts):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    failpoints.hit("index.before_rename")
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_file(path: Path) -> tuple[Manifest, memoryview]:
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise IndexRefusedError(f"it cannot be read: {error.strerror}") from None
    head = len(_MAGIC) + _DIGEST_BYTES
    body = content[head:]
    sound = (
        content[: len(_MAGIC)] == _MAGIC
        and bytes(content[len(_MAGIC) : head]) == blake3(body).digest()
    )
    if not sound:
        raise IndexRefusedError("its digest does not fit its bytes")
    length = _LENGTH.unpack_from(body)[0]
    try:
        manifest = msgspec.json.decode(body[4 : 4 + length], type=Manifest)
    except msgspec.DecodeError:
        raise IndexRefusedError("another release wrote it") from None
    return manifest, body[4 + length :]

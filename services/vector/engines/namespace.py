"""One open collection: its rows in memory, its graph, and the task that keeps the graph close.

Built from the store at first use, changed by each commit after that, and dropped without loss.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

import numpy as np

from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.vector.engines import index, layout
from services.vector.engines.block import Block, Snapshot
from services.vector.engines.index import Graph, IndexRefusedError
from services.vector.engines.layout import CollectionRow
from services.vector.engines.writes import Edit
from services.vector.model import Metric

_log = logging.getLogger(__name__)

ROWS_A_STEP = 2048
"""Rows that the graph takes in before the task looks about."""
SAVE_AFTER_ROWS = 20_000
"""A file is written when so many rows, and a third of all, are not in it."""
_WORN_SHARE = 0.5


class Namespace:
    """Rows and graph of one collection. Used on the event loop; the graph works in the pool."""

    def __init__(
        self, row: CollectionRow, *, exact_threshold: int, folder: Path, pool: Executor
    ) -> None:
        self.number = row.namespace
        self.metric = Metric(row.metric)
        self.dimension = row.dimension
        self.graph: Graph | None = None
        self.revision = 0
        self._block = Block(row.dimension, self.metric)
        self._exact_threshold = exact_threshold
        self._path = index_path(folder, row.namespace)
        self._pool = pool
        self._next_label = row.next_label
        self._closing = False
        self._following: asyncio.Task[None] | None = None

    def read(self, view: View) -> None:
        """Take in what is stored, and the graph's file. Runs in any thread, once.

        Raises:
            ServiceError: RECORD_CORRUPT.
        """
        self._read_rows(view)
        self.revision = view.revision()
        if self._wants_graph():
            self._load_graph()

    def apply(self, edit: Edit, revision: int) -> None:
        """Take in what a commit changed."""
        self._block.remove(edit.removed)
        if edit.labels:
            self._block.append(
                edit.labels, edit.record_ids, np.stack(edit.vectors), edit.expire_times_ns, revision
            )
            self._next_label = edit.labels[-1] + 1
        self.revision = revision

    def snapshot(self) -> Snapshot:
        """The rows now."""
        return self._block.snapshot()

    def size_bytes(self) -> int:
        """Memory taken, the graph at half of the vectors' size."""
        return self._block.size_bytes() * (2 if self.graph is None else 3) // 2

    def indexed_count(self) -> int:
        """Living rows that the graph covers."""
        if self.graph is None:
            return 0
        snapshot = self.snapshot()
        return int(snapshot.alive[: snapshot.first_row_after(self.graph.covered)].sum())

    def busy(self) -> bool:
        """Whether the graph is being added to."""
        return self._following is not None and not self._following.done()

    def follow(self) -> None:
        """See that the graph will take in what it lacks, if there is to be one."""
        if not (self._closing or self.busy()) and self._wants_graph():
            self._following = asyncio.create_task(self._follow())

    async def caught_up(self) -> None:
        """Return when nothing is left to be added; for tests and benchmarks."""
        self.follow()
        while self._following is not None and not self._following.done():
            await asyncio.shield(self._following)

    async def close(self, *, save: bool) -> None:
        """Stop following, and keep the graph in its file if asked."""
        self._closing = True
        if self._following is not None:
            await asyncio.gather(self._following, return_exceptions=True)
        if save and self.graph is not None and self.graph.covered != self.graph.saved:
            await self._in_pool(self._save)

    def _wants_graph(self) -> bool:
        return self._block.snapshot().alive_count > self._exact_threshold

    def _read_rows(self, view: View) -> None:
        prefix = layout.namespace_key(self.number)
        found = [
            (layout.unpack_entry(value), layout.read_record_id(key))
            for key, value in view.scan(layout.IDS, prefix)
        ]
        found.sort(key=lambda pair: pair[0].label)
        vectors = np.empty((len(found), self.dimension), np.float32)
        count = 0
        for count, (key, value) in enumerate(view.scan(layout.VECTORS, prefix), 1):
            if count > len(found) or layout.read_label(key) != found[count - 1][0].label:
                raise _disagree(key)
            vectors[count - 1] = np.frombuffer(value, "<f4")
        if count != len(found):
            raise _disagree(prefix)
        self._block.append(
            [entry.label for entry, _ in found],
            [record_id for _, record_id in found],
            vectors,
            [entry.expire_time_ns for entry, _ in found],
            np.array([entry.revision for entry, _ in found], np.int64),
        )

    def _load_graph(self) -> None:
        try:
            self.graph = index.load(
                self._path,
                self.number,
                self.dimension,
                self.metric,
                snapshot=self.snapshot(),
                next_label=self._next_label,
            )
        except IndexRefusedError as refusal:
            # The normal case at the first opening; otherwise worth a line. It is built anew.
            with suppress(OSError):
                if self._path.exists():
                    _log.warning("the index of namespace %d is not used: %s", self.number, refusal)
            forget_index(self._path)

    async def _follow(self) -> None:
        """Add what the graph lacks, step by step; begin a new one where too much of it is dead."""
        graph = self.graph
        if graph is None or self._worn(graph):
            graph = Graph(self.dimension, self.metric)
        while not self._closing:
            snapshot = self.snapshot()
            first = snapshot.first_row_after(graph.covered)
            if first == len(snapshot.labels):
                break
            end = min(first + ROWS_A_STEP, len(snapshot.labels))
            await self._in_pool(self._add, graph, snapshot, first, end)
            if self.graph is None:
                self.graph = graph
        if self._closing:
            return
        self.graph = graph
        if graph.covered - graph.saved > max(SAVE_AFTER_ROWS, len(graph) // 3):
            await self._in_pool(self._save)

    def _worn(self, graph: Graph) -> bool:
        alive = self.indexed_count() if graph is self.graph else len(graph)
        return len(graph) - alive > max(self._exact_threshold, _WORN_SHARE * len(graph))

    def _add(self, graph: Graph, snapshot: Snapshot, first: int, end: int) -> None:
        graph.add(snapshot, first, end, going_on=lambda: not self._closing)

    def _save(self) -> None:
        assert self.graph is not None
        try:
            self.graph.save(self._path, self.number, self.snapshot())
        except OSError as error:  # a cache that cannot be kept is built again
            _log.warning("the index of namespace %d was not saved: %s", self.number, error)

    async def _in_pool(self, work: object, *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, work, *arguments)  # type: ignore[arg-type]


def index_path(folder: Path, namespace: int) -> Path:
    """Where a namespace's graph is kept."""
    return folder / f"{namespace:016x}.hnsw"


def forget_index(path: Path) -> None:
    """Remove a graph's file. One that cannot be removed stays, and is refused again next time."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("the index %s cannot be removed: %s", path.name, error.strerror)


def _disagree(key: bytes) -> ServiceError:
    return ServiceError(
        Reason.RECORD_CORRUPT,
        "Records and their vectors do not agree; restore the store from a backup.",
        key=key.hex(),
    )

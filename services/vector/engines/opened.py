"""The collections that stand in memory, and how they keep to the store's revision."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from services.common.store import Store, View
from services.vector.engines.layout import CollectionRow
from services.vector.engines.namespace import Namespace, forget_index, index_path
from services.vector.engines.writes import Change, Edit

_log = logging.getLogger(__name__)

_INLINE_READ_ROWS = 500


class Opened:
    """Namespaces by number. Used on the event loop only."""

    def __init__(
        self,
        store: Store,
        *,
        exact_threshold: int,
        memory_bytes_max: int,
        readers: ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._exact_threshold = exact_threshold
        self._memory_bytes_max = memory_bytes_max
        self._readers = readers
        # One thread for all graphs: building is the heaviest work here and is in no hurry.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="vector-graph")
        self._folder = store.path / "index"
        self._namespaces: OrderedDict[int, Namespace] = OrderedDict()
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._missed: dict[int, list[tuple[int, Edit]]] = {}
        self._dropped: set[int] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        with store.read() as view:
            self._applied = view.revision()

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        """A reading of the store at the very revision at which the namespaces stand.

        Between a commit and its arrival here the store is ahead for a moment; this waits for that.
        """
        while True:
            with self._store.read() as view:
                if view.revision() == self._applied:
                    yield view
                    return
            await asyncio.sleep(0)

    def find(self, number: int) -> Namespace | None:
        """A namespace that is open; it counts as used."""
        namespace = self._namespaces.get(number)
        if namespace is not None:
            self._namespaces.move_to_end(number)
        return namespace

    def indexed_count(self, number: int) -> int:
        """Records that a namespace's graph covers, as far as it is open."""
        namespace = self._namespaces.get(number)
        return 0 if namespace is None else namespace.indexed_count()

    async def load(self, row: CollectionRow) -> None:
        """Open a namespace; those who ask at the same time share the work.

        Raises:
            ServiceError: RECORD_CORRUPT.
        """
        task = self._loading.get(row.namespace)
        if task is None:
            task = asyncio.create_task(self._load(row))
            self._loading[row.namespace] = task
            task.add_done_callback(lambda done: self._loaded(row.namespace, done))
        await asyncio.shield(task)

    def apply(self, change: Change) -> None:
        """Follow a commit. Commits come in order."""
        for number, edit in change.edits.items():
            if number in self._missed:
                self._missed[number].append((change.revision, edit))
            namespace = self._namespaces.get(number)
            if namespace is None:
                continue
            try:
                namespace.apply(edit, change.revision)
                namespace.follow()
            except Exception:  # noqa: BLE001  (what is not in step must not answer, whatever it was)
                _log.exception("namespace %d is let go of", number)
                self._leave(number, self._namespaces.pop(number), dropped=False)
        for number in change.dropped:
            self._dropped.update({number} & self._missed.keys())
            self._leave(number, self._namespaces.pop(number, None), dropped=True)
        self._applied = max(self._applied, change.revision)

    async def graphs_ready(self) -> None:
        """Wait until no graph lacks a row."""
        for namespace in list(self._namespaces.values()):
            await namespace.caught_up()

    async def close(self) -> None:
        """Save the graphs and stop."""
        await asyncio.gather(*self._loading.values(), *self._leaving, return_exceptions=True)
        for namespace in self._namespaces.values():
            await namespace.close(save=True)
        self._namespaces.clear()
        self._builder.shutdown()

    async def _load(self, row: CollectionRow) -> None:
        number = row.namespace
        namespace = Namespace(
            row, exact_threshold=self._exact_threshold, folder=self._folder, pool=self._builder
        )
        # From here on commits are noted; those up to the view's revision are in the view.
        missed: list[tuple[int, Edit]] = []
        self._missed[number] = missed
        with self._store.read() as view:
            if row.record_count <= _INLINE_READ_ROWS:
                namespace.read(view)
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._readers, namespace.read, view)
        for revision, edit in missed:
            if revision > namespace.revision:
                namespace.apply(edit, revision)
        if number in self._dropped:
            return
        self._namespaces[number] = namespace
        namespace.follow()
        self._make_room()

    def _loaded(self, number: int, task: asyncio.Task[None]) -> None:
        del self._loading[number], self._missed[number]
        self._dropped.discard(number)
        if not task.cancelled():
            task.exception()  # those who wait for it have it; nobody else needs to hear of it

    def _make_room(self) -> None:
        """Let go of what was unused longest, but never of what came last."""
        size = sum(namespace.size_bytes() for namespace in self._namespaces.values())
        for number in list(self._namespaces)[:-1]:
            if size <= self._memory_bytes_max:
                return
            namespace = self._namespaces.pop(number)
            size -= namespace.size_bytes()
            self._leave(number, namespace, dropped=False)

    def _leave(self, number: int, namespace: Namespace | None, *, dropped: bool) -> None:
        task = asyncio.create_task(self._see_off(number, namespace, dropped=dropped))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _see_off(self, number: int, namespace: Namespace | None, *, dropped: bool) -> None:
        if namespace is not None:
            await namespace.close(save=not dropped)
        if dropped:
            forget_index(index_path(self._folder, number))

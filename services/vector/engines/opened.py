"""The namespaces that stand in memory, and how they keep to the store's revision."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from services.common.store import Store, View
from services.vector.engines import reads
from services.vector.engines.changes import Change, Edit
from services.vector.engines.measures import Measures
from services.vector.engines.namespace import Namespace
from services.vector.engines.sealing import Sealing
from services.vector.segments.footprint import give_back

_log = logging.getLogger(__name__)

IDLE_S = 60.0
"""A namespace that nobody has used for so long is let go of, and costs nothing until it is."""
_INLINE_READ_ROWS = 500
_TRIM_BYTES = 64 * 1024**2
_ARRIVAL_S = 0.005
"""A commit arrives sooner, or it is none that arrives here."""


class Opened:
    """Namespaces by number. Used on the event loop only."""

    def __init__(
        self,
        store: Store,
        *,
        exact_threshold: int,
        memory_bytes_max: int,
        readers: ThreadPoolExecutor,
        idle_s: float = IDLE_S,
    ) -> None:
        self._store = store
        self._exact_threshold = exact_threshold
        self._memory_bytes_max = memory_bytes_max
        self._readers = readers
        self._idle_s = idle_s
        # One thread for what segments are made from: it is in no hurry.
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="vector-segment")
        self.sealing = Sealing(store, self._sealer)
        self.sealing.clean()
        self._namespaces: OrderedDict[int, Namespace] = OrderedDict()
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._missed: dict[int, list[tuple[int, list[Edit]]]] = {}
        self._dropped: set[int] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._let_go_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
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
            # Not in a busy loop: that would keep the interpreter from the thread that commits.
            if self._arrival is None:
                self._arrival = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._arrival], timeout=_ARRIVAL_S)

    def find(self, number: int) -> Namespace | None:
        """A namespace that is open; it counts as used."""
        namespace = self._namespaces.get(number)
        if namespace is not None:
            self._namespaces.move_to_end(number)
            namespace.used_at = time.monotonic()
        return namespace

    def peek(self, number: int) -> Namespace | None:
        """The same, without counting as use."""
        return self._namespaces.get(number)

    async def need(self, number: int) -> Namespace:
        """A namespace, opened where it is not.

        Raises:
            ServiceError: RECORD_CORRUPT.
        """
        while (namespace := self.find(number)) is None:
            await self.load(number)
        return namespace

    async def load(self, number: int) -> None:
        """Open a namespace; those who ask at the same time share the work.

        Raises:
            ServiceError: RECORD_CORRUPT.
        """
        task = self._loading.get(number)
        if task is None:
            task = asyncio.create_task(self._load(number))
            self._loading[number] = task
            task.add_done_callback(lambda done: self._loaded(number, done))
        await asyncio.shield(task)

    def apply(self, change: Change) -> None:
        """Follow a commit. Commits come in order."""
        for number, edits in change.edits.items():
            if number in self._missed:
                self._missed[number].append((change.revision, edits))
            namespace = self._namespaces.get(number)
            if namespace is None:
                continue
            try:
                namespace.apply(edits, change.revision)
                namespace.follow()
            except Exception:  # noqa: BLE001  (what is not in step must not answer, whatever it was)
                _log.exception("namespace %d is let go of", number)
                self._leave(number, self._namespaces.pop(number), dropped=False)
        for gone in change.gone:
            self._forget(gone.namespace, gone.member, shared=gone.shared)
        self._applied = max(self._applied, change.revision)
        if self._arrival is not None:
            self._arrival.set_result(None)
            self._arrival = None

    def rest(self) -> None:
        """Let go of what nobody has used for a while."""
        before = time.monotonic() - self._idle_s
        for number, namespace in list(self._namespaces.items()):
            if namespace.used_at > before:
                break
            if not namespace.busy():
                self._leave(number, self._namespaces.pop(number), dropped=False)
        if self._let_go_bytes > _TRIM_BYTES:
            self._let_go_bytes = 0
            give_back()

    def unload(self, number: int) -> bool:
        """Let go of a namespace now, whatever it does; whether it was open."""
        namespace = self._namespaces.pop(number, None)
        if namespace is not None:
            self._leave(number, namespace, dropped=False)
        return namespace is not None

    def mapped_bytes(self) -> int:
        """What graphs need of their files."""
        return sum(namespace.mapped_bytes() for namespace in self._namespaces.values())

    def size_bytes(self) -> int:
        """Memory that open namespaces take."""
        return sum(namespace.size_bytes() for namespace in self._namespaces.values())

    def measures(self) -> Measures:
        """What stands in memory."""
        open_now = list(self._namespaces.values())
        return Measures(
            open_count=len(open_now),
            lag_records=sum(each.lag_count() for each in open_now),
            builds_running=sum(each.busy() for each in open_now),
            memory_bytes=self.size_bytes(),
        )

    async def settled(self) -> None:
        """Wait until all segments are what they should be."""
        for namespace in list(self._namespaces.values()):
            await namespace.settle()

    async def close(self) -> None:
        """Stop all work."""
        await asyncio.gather(*self._loading.values(), *self._leaving, return_exceptions=True)
        for namespace in self._namespaces.values():
            await namespace.close()
        self._namespaces.clear()
        await self.sealing.close()
        self._sealer.shutdown()

    async def _load(self, number: int) -> None:
        # From here on commits are noted; those up to the view's revision are in the view.
        missed: list[tuple[int, list[Edit]]] = []
        self._missed[number] = missed
        with self._store.read() as view:
            row = reads.namespace_row(view, number)
            if row is None:
                return
            namespace = Namespace(
                number, row, exact_threshold=self._exact_threshold, sealing=self.sealing
            )
            if row.next_label <= _INLINE_READ_ROWS:
                namespace.read(view)
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._readers, namespace.read, view)
        for revision, edits in missed:
            if revision > namespace.revision:
                namespace.apply(edits, revision)
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

    def _forget(self, number: int, member: int, *, shared: bool) -> None:
        """Follow the end of a collection."""
        if number in self._missed:  # what is being read may show it still: read it again
            self._dropped.add(number)
        namespace = self._namespaces.get(number)
        if shared:
            if namespace is not None:
                namespace.drop_member(member)
                namespace.follow()
            return
        self._leave(number, self._namespaces.pop(number, None), dropped=True)

    def _make_room(self) -> None:
        """Let go of what was unused longest, but never of what came last."""
        size = self.size_bytes()
        for number in list(self._namespaces)[:-1]:
            if size <= self._memory_bytes_max:
                return
            namespace = self._namespaces.pop(number)
            size -= namespace.size_bytes()
            self._leave(number, namespace, dropped=False)

    def _leave(self, number: int, namespace: Namespace | None, *, dropped: bool) -> None:
        if namespace is not None:
            self._let_go_bytes += namespace.size_bytes()
        task = asyncio.create_task(self._see_off(number, namespace, dropped=dropped))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _see_off(self, number: int, namespace: Namespace | None, *, dropped: bool) -> None:
        if namespace is not None:
            await namespace.close()
        if dropped:
            self.sealing.clean_namespace(number)

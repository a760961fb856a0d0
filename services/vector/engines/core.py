"""What every part of the embedded engine works with: the store, what is open, and how both meet."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from services.common.clock import Clock
from services.common.store import Store, Txn, View
from services.vector.allowances import Allowances
from services.vector.checks import check_query
from services.vector.engines import places, reads
from services.vector.engines.changes import Change, Place
from services.vector.engines.gather import Gatherer
from services.vector.engines.layout import OWN, CollectionRow
from services.vector.engines.namespace import Namespace
from services.vector.engines.opened import Opened
from services.vector.engines.search import Search
from services.vector.engines.visible import Sight, sight_of
from services.vector.model import Exactness, Filter, Metric, Query, SearchResult
from services.vector.refusals import as_of_in_future, history_unavailable
from services.vector.segments.rows import Int64s

T = TypeVar("T")

INLINE_ROWS = 6000
"""A search that compares with more rows, or as long as that takes, runs in the pool, so that no
other call has to wait for it."""
_MATCHES_KEPT = 64
_MATCHES_ROWS_MAX = 200_000


@dataclass(slots=True)
class Searches:
    """How many a tenant made, and how long they took together."""

    count: int = 0
    took_ns: int = 0


class Matches:
    """What filters matched lately. Used in any thread: an entry is computed twice at worst."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[int, int, int, str], Int64s] = OrderedDict()

    def labels(self, view: View, row: CollectionRow, where: Filter, revision: int) -> Int64s:
        """Labels that match, rising; the namespace stands at `revision`."""
        key = (row.namespace, row.member, revision, repr(where))
        found = self._found.get(key)
        if found is None:
            found = reads.matching_labels(view, row, where)
            if len(found) <= _MATCHES_ROWS_MAX:
                self._found[key] = found
            while len(self._found) > _MATCHES_KEPT:
                self._found.popitem(last=False)
        return found


class Core:
    """Made inside a running loop."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        exact_threshold: int,
        memory_bytes_max: int,
        idle_s: float,
        allowances: Allowances,
    ) -> None:
        self.allowances = allowances
        self.store = store
        self.clock = clock
        self.exact_threshold = exact_threshold
        self.readers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="vector-search")
        self.opened = Opened(
            store,
            exact_threshold=exact_threshold,
            memory_bytes_max=memory_bytes_max,
            readers=self.readers,
            idle_s=idle_s,
        )
        self.searches: dict[str, Searches] = {}
        self.closed = False
        self._threads = os.cpu_count() or 1
        self._matches = Matches()
        self._gatherer = Gatherer(self._search)
        self._commits: set[asyncio.Task[Change]] = set()

    def now_ns(self) -> int:
        """The engine's time."""
        return self.clock.now_ns()

    async def write(self, operation: Callable[[Txn], Change], *, grows: bool = False) -> Change:
        """Commit, and bring memory into step, even where the caller does not wait for it."""
        task = asyncio.create_task(self._commit(operation, grows))
        self._commits.add(task)
        task.add_done_callback(self._committed)
        return await asyncio.shield(task)

    async def search(self, place: Place, query: Query) -> list[SearchResult]:
        """The nearest records to each vector."""
        if query.min_recall is not None and query.min_recall == 1:
            query = replace(query, exactness=Exactness.EXACT, min_recall=None)
        start = time.perf_counter_ns()
        results = await self._gatherer.search(place, query)
        told = self.searches.setdefault(place[0], Searches())
        told.count += len(query.vectors)
        told.took_ns += time.perf_counter_ns() - start
        return results

    async def with_open(
        self, place: Place, work: Callable[[View, CollectionRow, Namespace], T]
    ) -> T:
        """Do something with a collection and what stands in memory of it, at one revision."""
        while True:
            async with self.opened.view() as view:
                row = reads.need_row(view, place, self.now_ns())
                namespace = self.opened.find(row.namespace)
                if namespace is not None:
                    return work(view, row, namespace)
            await self.opened.load(row.namespace)

    def sight(self, view: View, row: CollectionRow, query: Query, namespace: Namespace) -> Sight:
        """What a query may see of a collection.

        Raises:
            ServiceError: HISTORY_UNAVAILABLE, FIELD_INVALID.
        """
        now_ns, where = self.now_ns(), query.filter
        if query.as_of_ns is not None:
            check_history(row, query.as_of_ns, now_ns)
        labels = None
        if where is not None:
            labels = self._matches.labels(view, row, where, namespace.revision)
        return sight_of(
            query,
            member=None if row.member == OWN else row.member,
            labels=labels,
            now_ns=now_ns,
            read_metadata=lambda label: reads.metadata(view, row.namespace, label),
        )

    async def erase(self, namespace: int, member: int, limit: int) -> int:
        """Erase some of a collection that is gone; 0 when nothing is left."""
        return await self.store.write(
            lambda txn: places.erase(txn.patient(), namespace, member, limit)
        )

    async def in_pool(self, work: Callable[[], T]) -> T:
        """Do something in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work)

    async def close(self) -> None:
        """Finish commits, stop all work, close the store."""
        if self.closed:
            return
        self.closed = True
        await asyncio.gather(*self._commits, return_exceptions=True)
        await self.opened.close()
        self.readers.shutdown()
        await asyncio.to_thread(self.store.close)

    async def _search(self, place: Place, query: Query, *, aside: bool) -> list[SearchResult]:
        while True:
            async with self.opened.view() as view:
                row = reads.need_row(view, place, self.now_ns())
                check_query(query, row.dimension, Metric(row.metric))
                namespace = self.opened.find(row.namespace)
                if namespace is not None:
                    return await self._found(view, row, query, namespace, aside=aside)
            await self.opened.load(row.namespace)

    async def _found(
        self, view: View, row: CollectionRow, query: Query, namespace: Namespace, *, aside: bool
    ) -> list[SearchResult]:
        tables = namespace.tables()

        def prepare() -> Search:
            return Search(
                tables,
                view,
                query,
                self.sight(view, row, query, namespace),
                namespace=row.namespace,
                metric=Metric(row.metric),
                ef_search=row.hnsw[2],
                exact_threshold=self.exact_threshold,
                threads=self._threads,
            )

        if query.filter is not None and sum(map(len, tables)) > INLINE_ROWS:
            return await self.in_pool(lambda: prepare().run())
        search = prepare()
        if aside or search.cost() > INLINE_ROWS:
            return await self.in_pool(search.run)
        return search.run()

    async def _commit(self, operation: Callable[[Txn], Change], grows: bool) -> Change:
        change = await self.store.write(lambda txn: _stamped(operation(txn), txn), grows=grows)
        self.opened.apply(change)
        return change

    def _committed(self, task: asyncio.Task[Change]) -> None:
        self._commits.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, or has gone


def _stamped(change: Change, txn: Txn) -> Change:
    """Give a change the revision its transaction ends with: a view waits for exactly that one."""
    change.revision = txn.revision()
    return change


def check_history(row: CollectionRow, as_of_ns: int, now_ns: int) -> None:
    """Refuse a time that the history does not reach, or that is to come.

    Raises:
        ServiceError: HISTORY_UNAVAILABLE, FIELD_INVALID.
    """
    if as_of_ns > now_ns:
        raise as_of_in_future()
    oldest = max(now_ns - row.history_window_ns, row.history_start_ns)
    if not row.history_window_ns or as_of_ns < oldest:
        raise history_unavailable(oldest if row.history_window_ns else None)

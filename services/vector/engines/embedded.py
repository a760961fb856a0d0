"""Vectors in LMDB, searched in memory: the default engine.

The store is the truth. What stands in memory is made from it at a collection's first use and
follows each commit; a graph, where a collection is large, follows behind that. A search compares
with the graph's rows through the graph and with all newer ones directly, so a write is seen as soon
as it is acknowledged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from services.common.clock import Clock
from services.common.limits import MIB
from services.common.store import Store, Txn
from services.vector.checks import check_collection, check_query, check_records
from services.vector.engines import layout, reads, writes
from services.vector.engines.layout import CollectionRow
from services.vector.engines.namespace import forget_index, index_path
from services.vector.engines.opened import Opened
from services.vector.engines.search import Search
from services.vector.engines.writes import Change, Place
from services.vector.filters import check_filter
from services.vector.model import (
    Collection,
    CollectionPage,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Mask,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    SearchResult,
    Stats,
    Upserted,
)
from services.vector.refusals import embedding_mismatch
from services.vector.storage import Capability

EXACT_THRESHOLD = 8000
MEMORY_BYTES_MAX = 2048 * MIB
"""Collections longest unused are let go of beyond this; they are read again when needed."""
INLINE_ROWS = 2000
"""A search that looks at more rows runs in the pool, so that no other call has to wait for it."""


def open_store(path: Path, *, on_fatal: Callable[[str], None], sync: bool = True) -> Store:
    """Open or create the store that an engine, and `StoredEmbeddings`, work on.

    Raises:
        ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT.
    """
    return Store(path, layout.SCHEMA, on_fatal=on_fatal, sync=sync)


class EmbeddedVectorStorage:
    """VectorStorage over one store, which it closes at its end. Made inside a running loop."""

    capabilities = frozenset(
        {Capability.DURABLE, Capability.EXACT_SEARCH, Capability.FILTERED_APPROXIMATE}
    )

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        exact_threshold: int = EXACT_THRESHOLD,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
    ) -> None:
        """Serve what is in a store.

        Args:
            store: From `open_store`. Graphs are kept in `index/` beside its file.
            clock: For times, and for what has expired.
            exact_threshold: Collections up to this many records have no graph.
            memory_bytes_max: For vectors and graphs in memory, roughly.
        """
        self._store = store
        self._clock = clock
        self._exact_threshold = exact_threshold
        self._readers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="vector-search")
        self._opened = Opened(
            store,
            exact_threshold=exact_threshold,
            memory_bytes_max=memory_bytes_max,
            readers=self._readers,
        )
        self._commits: set[asyncio.Task[Change]] = set()
        self._closed = False

    async def create_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        dimension: int,
        metric: Metric,
        embedding: EmbeddingIdentity | None = None,
    ) -> tuple[Collection, int]:
        """Make a collection."""
        check_collection(collection_id, dimension)
        place = (tenant, scope, collection_id)
        row = reads.new_row(dimension, metric, embedding, self._clock.now_ns())
        change = await self._write(lambda txn: writes.create(txn, place, row))
        return reads.collection(scope, collection_id, row), change.revision

    async def ensure_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        metric: Metric,
        embedding: EmbeddingIdentity,
    ) -> tuple[Collection, int]:
        """The collection, made where it is missing."""
        place = (tenant, scope, collection_id)
        with self._store.read() as view:
            missing = reads.row(view, place) is None
        if missing:
            check_collection(collection_id, embedding.dimension)
            row = reads.new_row(embedding.dimension, metric, embedding, self._clock.now_ns())
            await self._write(lambda txn: writes.create(txn, place, row, if_absent=True))
        found, revision = await self.get_collection(*place)
        if found.embedding != embedding:
            raise embedding_mismatch(collection_id, found.embedding, embedding)
        return found, revision

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection."""
        with self._store.read() as view:
            row = reads.need_row(view, (tenant, scope, collection_id))
            return self._collection(scope, collection_id, row), view.revision()

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections in order."""
        with self._store.read() as view:
            rows = reads.rows(view, tenant, scope, after=after)
            page = [self._collection(*place, row) for place, row in islice(rows, limit)]
            last = (page[-1].scope, page[-1].collection_id) if page else None
            return CollectionPage(
                collections=page,
                cursor=None if next(rows, None) is None else last,
                revision=view.revision(),
            )

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection."""
        key = layout.collection_key(tenant, scope, collection_id)
        change = await self._write(lambda txn: writes.drop(txn, key, whole_key=True))
        return Deleted(change.count, change.revision)

    async def upsert(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        records: Sequence[NewRecord],
        *,
        replace_prefixes: Sequence[str] = (),
    ) -> Upserted:
        """Write records."""
        place = (tenant, scope, collection_id)
        with self._store.read() as view:
            row = reads.need_row(view, place)
        batch = check_records(records, row.dimension, Metric(row.metric))
        change = await self._write(
            lambda txn: writes.upsert(
                txn,
                place,
                batch,
                namespace=row.namespace,
                now_ns=self._clock.now_ns(),
                replace_prefixes=replace_prefixes,
            )
        )
        return Upserted(
            record_ids=batch.record_ids, revision=change.revision, replaced_count=change.count
        )

    async def get(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        record_ids: Sequence[str],
        *,
        mask: Mask = Mask(),  # noqa: B008  (frozen)
    ) -> tuple[list[Record], int]:
        """Records by id."""
        now_ns = self._clock.now_ns()
        with self._store.read() as view:
            number = reads.need_row(view, (tenant, scope, collection_id)).namespace
            found = (
                reads.record_by_id(view, number, record_id, mask=mask, now_ns=now_ns)
                for record_id in record_ids
            )
            return [record for record in found if record is not None], view.revision()

    async def list_records(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
        mask: Mask = Mask(),  # noqa: B008  (frozen)
    ) -> RecordPage:
        """Records in order of id."""
        with self._store.read() as view:
            number = reads.need_row(view, (tenant, scope, collection_id)).namespace
            if where is not None:
                check_filter(where)
            return reads.page(
                view,
                number,
                after=after,
                limit=limit,
                where=where,
                mask=mask,
                now_ns=self._clock.now_ns(),
            )

    async def delete(
        self, tenant: str, scope: str, collection_id: str, record_ids: Sequence[str]
    ) -> Deleted:
        """Remove records by id."""
        return await self._remove((tenant, scope, collection_id), record_ids, ())

    async def delete_prefixes(
        self, tenant: str, scope: str, collection_id: str, prefixes: Sequence[str]
    ) -> Deleted:
        """Remove records by the beginning of their id."""
        return await self._remove((tenant, scope, collection_id), (), prefixes)

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove a scope."""
        prefix = layout.scope_prefix(tenant, scope)
        change = await self._write(lambda txn: writes.drop(txn, prefix))
        return Deleted(change.count, change.revision)

    async def purge(self, tenant: str) -> Deleted:
        """Erase a tenant, to the last record."""
        prefix = layout.tenant_prefix(tenant)
        change = await self._write(lambda txn: writes.drop(txn, prefix))
        for number in change.dropped:
            while await self._erase(number):
                pass
        return Deleted(change.count, change.revision)

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """The nearest records to each vector."""
        while True:
            async with self._opened.view() as view:
                row = reads.need_row(view, (tenant, scope, collection_id))
                check_query(query, row.dimension, Metric(row.metric))
                namespace = self._opened.find(row.namespace)
                if namespace is not None:
                    search = Search(
                        namespace,
                        view,
                        query,
                        now_ns=self._clock.now_ns(),
                        exact_threshold=self._exact_threshold,
                    )
                    return await self._run(search)
            await self._opened.load(row)

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts."""
        found = Stats()
        with self._store.read() as view:
            for _, row in reads.rows(view, tenant, scope):
                found = replace(
                    found,
                    collection_count=found.collection_count + 1,
                    record_count=found.record_count + row.record_count,
                    indexed_count=found.indexed_count + self._opened.indexed_count(row.namespace),
                    stored_bytes=found.stored_bytes + row.stored_bytes,
                )
            return replace(found, revision=view.revision())

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, and those of collections that are gone."""
        now_ns = self._clock.now_ns()
        with self._store.read() as view:
            due = next(view.keys(layout.EXPIRY, b""), None)
            doomed = next(view.keys(layout.DOOMED, b""), None)
        count = 0
        if due is not None and layout.read_expiry_key(due)[0] <= now_ns:
            count = (await self._write(lambda txn: writes.expire(txn, now_ns, limit))).count
        if doomed is not None and count < limit:
            count += await self._erase(layout.read_namespace(doomed), limit - count)
        return count

    async def ready(self) -> bool:
        """Until it is closed. Graphs need not be ready: a scan answers in their place."""
        return not self._closed

    async def close(self) -> None:
        """Finish commits, save graphs, close the store."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*self._commits, return_exceptions=True)
        await self._opened.close()
        self._readers.shutdown()
        await asyncio.to_thread(self._store.close)

    async def graphs_ready(self) -> None:
        """Wait until no graph lacks a record; for tests and benchmarks."""
        await self._opened.graphs_ready()

    async def _run(self, search: Search) -> list[SearchResult]:
        if search.cost() <= INLINE_ROWS:
            return search.run()
        return await asyncio.get_running_loop().run_in_executor(self._readers, search.run)

    async def _remove(
        self, place: Place, record_ids: Sequence[str], prefixes: Sequence[str]
    ) -> Deleted:
        change = await self._write(lambda txn: writes.remove(txn, place, record_ids, prefixes))
        return Deleted(change.count, change.revision)

    async def _erase(self, number: int, limit: int = 1000) -> int:
        count = await self._store.write(lambda txn: writes.erase(txn, number, limit))
        if count == 0:
            forget_index(index_path(self._store.path / "index", number))
        return count

    async def _write(self, operation: Callable[[Txn], Change]) -> Change:
        """Commit, and bring memory into step, even where the caller does not wait for it."""
        task = asyncio.create_task(self._commit(operation))
        self._commits.add(task)
        task.add_done_callback(self._committed)
        return await asyncio.shield(task)

    async def _commit(self, operation: Callable[[Txn], Change]) -> Change:
        change = await self._store.write(operation)
        self._opened.apply(change)
        return change

    def _committed(self, task: asyncio.Task[Change]) -> None:
        self._commits.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, or has gone

    def _collection(self, scope: str, collection_id: str, row: CollectionRow) -> Collection:
        indexed = self._opened.indexed_count(row.namespace)
        return reads.collection(scope, collection_id, row, indexed)

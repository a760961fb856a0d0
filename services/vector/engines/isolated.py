"""Tenants with a store of their own beside those that share one.

The shared store knows how each tenant is kept apart. One with a database of its own has a folder,
opened at its first call and closed when nobody has used it for a while; what it holds, another
tenant's process of reading cannot even reach.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.expiry import SLICE
from services.common.store import Store
from services.vector.engines.embedded import EmbeddedVectorStorage
from services.vector.engines.measures import Measures
from services.vector.model import (
    Checkpoint,
    Collection,
    CollectionChanges,
    CollectionPage,
    CollectionSettings,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Isolation,
    Mask,
    MetadataChange,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    ScopeSettings,
    SearchResult,
    SnapshotInfo,
    Stats,
    Upserted,
)
from services.vector.segments.footprint import Footprint

IDLE_S = 300.0
"""A tenant's own store that nobody has used for so long is closed."""
_LOOK_S = 10.0
"""How often a store that is closed is looked into for what has expired."""
_DEFAULTS = CollectionSettings()
_MASK = Mask()

Make = Callable[[Store], EmbeddedVectorStorage]
Open = Callable[[Path], Store]


class IsolatedVectorStorage:
    """VectorStorage that chooses the store by tenant. Made inside a running loop."""

    capabilities = EmbeddedVectorStorage.capabilities

    def __init__(self, shared: Store, *, open_own: Open, make: Make) -> None:
        """Serve a shared store and the folders below it.

        Args:
            shared: Where most tenants are.
            open_own: Opens the store of a folder.
            make: Makes an engine over a store.
        """
        self._folder = shared.path / "tenants"
        self._open_own = open_own
        self._make = make
        self._shared = make(shared)
        self._footprint = Footprint(shared.path)
        self._own: dict[str, EmbeddedVectorStorage] = {}
        self._used_at: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._looked_at = 0.0
        self._next_closed = 0

    def measures(self) -> Measures:
        """What stands in memory, of all tenants."""
        own = (storage.measures() for storage in self._own.values())
        return sum(own, self._shared.measures())

    async def create_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        dimension: int,
        metric: Metric,
        embedding: EmbeddingIdentity | None = None,
        settings: CollectionSettings = _DEFAULTS,
    ) -> tuple[Collection, int]:
        """Make a collection."""
        async with self._of(tenant) as storage:
            return await storage.create_collection(
                tenant,
                scope,
                collection_id,
                dimension=dimension,
                metric=metric,
                embedding=embedding,
                settings=settings,
            )

    async def ensure_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        metric: Metric,
        embedding: EmbeddingIdentity,
        settings: CollectionSettings = _DEFAULTS,
    ) -> tuple[Collection, int]:
        """The collection; made where it is missing, with the embedding's dimension."""
        async with self._of(tenant) as storage:
            return await storage.ensure_collection(
                tenant, scope, collection_id, metric=metric, embedding=embedding, settings=settings
            )

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection and the revision at which it was so."""
        async with self._of(tenant) as storage:
            return await storage.get_collection(tenant, scope, collection_id)

    async def update_collection(
        self, tenant: str, scope: str, collection_id: str, changes: CollectionChanges
    ) -> tuple[Collection, int]:
        """Change settings; the collection as it is then. A wider history begins with the change."""
        async with self._of(tenant) as storage:
            return await storage.update_collection(tenant, scope, collection_id, changes)

    async def configure_scope(
        self,
        tenant: str,
        scope: str,
        *,
        record_ttl_ns: int | None = None,
        ttl_ns: int | None = None,
    ) -> tuple[ScopeSettings, int]:
        """Change a scope's settings."""
        async with self._of(tenant) as storage:
            return await storage.configure_scope(
                tenant, scope, record_ttl_ns=record_ttl_ns, ttl_ns=ttl_ns
            )

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections of a scope (None: of all) that come after a scope and name."""
        async with self._of(tenant) as storage:
            return await storage.list_collections(tenant, scope, limit=limit, after=after)

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection with its records. What is not there counts 0."""
        async with self._of(tenant) as storage:
            return await storage.delete_collection(tenant, scope, collection_id)

    async def upsert(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        records: Sequence[NewRecord],
        *,
        replace_prefixes: Sequence[str] = (),
        row_filter: Filter | None = None,
        embedding: EmbeddingIdentity | None = None,
    ) -> Upserted:
        """Write records, all or none."""
        async with self._of(tenant) as storage:
            return await storage.upsert(
                tenant,
                scope,
                collection_id,
                records,
                replace_prefixes=replace_prefixes,
                row_filter=row_filter,
                embedding=embedding,
            )

    async def get(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        record_ids: Sequence[str],
        *,
        mask: Mask = _MASK,
        row_filter: Filter | None = None,
    ) -> tuple[list[Record], int]:
        """Records in the order of the ids; absent and expired ones are left out."""
        async with self._of(tenant) as storage:
            return await storage.get(
                tenant, scope, collection_id, record_ids, mask=mask, row_filter=row_filter
            )

    async def list_records(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
        mask: Mask = _MASK,
        prefix: str = "",
    ) -> RecordPage:
        """Records that match and have not expired, in order of id, after an id."""
        async with self._of(tenant) as storage:
            return await storage.list_records(
                tenant,
                scope,
                collection_id,
                limit=limit,
                after=after,
                where=where,
                mask=mask,
                prefix=prefix,
            )

    async def update_metadata(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        change: MetadataChange,
        *,
        record_ids: Sequence[str] = (),
        where: Filter | None = None,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Change metadata of records by id or, where `where` is given, of all that match it."""
        async with self._of(tenant) as storage:
            return await storage.update_metadata(
                tenant,
                scope,
                collection_id,
                change,
                record_ids=record_ids,
                where=where,
                row_filter=row_filter,
            )

    async def delete(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        record_ids: Sequence[str] = (),
        *,
        where: Filter | None = None,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Remove records by id or, where `where` is given, all that match it."""
        async with self._of(tenant) as storage:
            return await storage.delete(
                tenant, scope, collection_id, record_ids, where=where, row_filter=row_filter
            )

    async def delete_prefixes(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        prefixes: Sequence[str],
        *,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Remove the records whose id begins with one of the prefixes, all in one step."""
        async with self._of(tenant) as storage:
            return await storage.delete_prefixes(
                tenant, scope, collection_id, prefixes, row_filter=row_filter
            )

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove every collection of a scope."""
        async with self._of(tenant) as storage:
            return await storage.delete_scope(tenant, scope)

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """The nearest records to each vector of the query, one result for each."""
        async with self._of(tenant) as storage:
            return await storage.search(tenant, scope, collection_id, query)

    async def lexical_search(
        self, tenant: str, scope: str, collection_id: str, text: str, query: Query
    ) -> SearchResult:
        """The records whose text has the words of `text`, by BM25 (larger is better)."""
        async with self._of(tenant) as storage:
            return await storage.lexical_search(tenant, scope, collection_id, text, query)

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts of a scope; None: of the tenant."""
        async with self._of(tenant) as storage:
            return await storage.stats(tenant, scope)

    async def create_snapshot(self, tenant: str, scope: str, collection_id: str) -> SnapshotInfo:
        """Keep a copy of a collection as it is now, history left out."""
        async with self._of(tenant) as storage:
            return await storage.create_snapshot(tenant, scope, collection_id)

    async def list_snapshots(
        self, tenant: str, scope: str | None, collection_id: str = ""
    ) -> list[SnapshotInfo]:
        """Snapshots of a tenant, the newest first."""
        async with self._of(tenant) as storage:
            return await storage.list_snapshots(tenant, scope, collection_id)

    async def restore_snapshot(
        self, tenant: str, snapshot_id: str, *, scope: str = "", collection_id: str = ""
    ) -> tuple[int, int]:
        """Put a collection back, in one step; records and revision."""
        async with self._of(tenant) as storage:
            return await storage.restore_snapshot(
                tenant, snapshot_id, scope=scope, collection_id=collection_id
            )

    async def delete_snapshot(self, tenant: str, snapshot_id: str) -> int:
        """Remove a snapshot; 0 where it is not there."""
        async with self._of(tenant) as storage:
            return await storage.delete_snapshot(tenant, snapshot_id)

    async def rebuild(self, tenant: str, scope: str, collection_id: str) -> int:
        """Begin to build graphs anew from the truth; how many records there are to be covered."""
        async with self._of(tenant) as storage:
            return await storage.rebuild(tenant, scope, collection_id)

    async def checkpoint(self, tenant: str, scope: str, collection_id: str) -> Checkpoint:
        """Wait until graphs cover what they should and are kept, and give back room."""
        async with self._of(tenant) as storage:
            return await storage.checkpoint(tenant, scope, collection_id)

    async def swap_shadow(
        self, tenant: str, scope: str, collection_id: str, *, records_revision: int
    ) -> int:
        """Exchange a collection and its shadow in one step; the revision."""
        async with self._of(tenant) as storage:
            return await storage.swap_shadow(
                tenant, scope, collection_id, records_revision=records_revision
            )

    async def records_revision(self, tenant: str, scope: str, collection_id: str) -> int:
        """The revision of the last change of a collection's records."""
        async with self._of(tenant) as storage:
            return await storage.records_revision(tenant, scope, collection_id)

    async def purge(self, tenant: str) -> Deleted:
        """Erase all that a tenant has; a store of its own goes with its folder."""
        isolation = self._shared.isolation(tenant)
        own = Deleted(0, 0)
        if isolation is Isolation.DATABASE:
            async with self._of(tenant) as storage:
                own = await storage.purge(tenant)
            await self._close_own(tenant)
            await asyncio.to_thread(shutil.rmtree, self._path(tenant), ignore_errors=True)
        shared = await self._shared.purge(tenant)
        return own if isolation is Isolation.DATABASE else shared

    async def has_texts(self) -> bool:
        """Whether any collection's vectors come from texts; a store of its own counts as such."""
        own = self._shared.tenants_with(Isolation.DATABASE)
        return bool(own) or await self._shared.has_texts()

    async def shadows(self) -> list[tuple[str, str, str]]:
        """Collections whose other vectors are being made, in every store."""
        found = await self._shared.shadows()
        for tenant in self._shared.tenants_with(Isolation.DATABASE):
            async with self._of(tenant) as storage:
                found += await storage.shadows()
        return found

    async def configure_tenant(self, tenant: str, isolation: Isolation) -> Isolation:
        """How a tenant is to be kept apart; one that has collections stays as it is."""
        now = self._shared.isolation(tenant)
        if now is Isolation.DATABASE and (await self.stats(tenant, None)).collection_count:
            return now
        return await self._shared.configure_tenant(tenant, isolation)

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove what is due in every store that is open, and in one that is not."""
        stores = (self._shared, *self._own.values())
        self._footprint.trim(sum(storage.mapped_bytes() for storage in stores))
        count = await self._shared.sweep(limit)
        for tenant in self._due_own():
            async with self._of(tenant, used=False) as storage:
                count += await storage.sweep(limit)
        await self._rest()
        return count

    async def unload(self, tenant: str) -> int:
        """Let go of a tenant's collections; a store of its own is closed."""
        async with self._of(tenant) as storage:
            count = await storage.unload(tenant)
        if self._shared.isolation(tenant) is Isolation.DATABASE and not self._calls[tenant]:
            await self._close_own(tenant)
        return count

    async def rewrite(self) -> bool:
        """Write the shared data file anew; one of a tenant's own goes with its folder."""
        return await self._shared.rewrite()

    async def ready(self) -> bool:
        """Until it is closed."""
        return await self._shared.ready()

    async def close(self) -> None:
        """Close every store."""
        for tenant in list(self._own):
            await self._close_own(tenant)
        await self._shared.close()

    async def settled(self) -> None:
        """Wait until segments are what they should be; for tests and benchmarks."""
        for storage in (self._shared, *self._own.values()):
            await storage.settled()

    @asynccontextmanager
    async def _of(self, tenant: str, *, used: bool = True) -> AsyncIterator[EmbeddedVectorStorage]:
        """The engine that has a tenant's vectors; it is not closed meanwhile."""
        if self._shared.isolation(tenant) is not Isolation.DATABASE:
            yield self._shared
            return
        self._calls[tenant] = self._calls.get(tenant, 0) + 1
        try:
            async with self._turns.setdefault(tenant, asyncio.Lock()):
                if tenant not in self._own:
                    store = await asyncio.to_thread(self._open_own, self._path(tenant))
                    self._own[tenant] = self._make(store)
            if used or tenant not in self._used_at:
                self._used_at[tenant] = time.monotonic()
            yield self._own[tenant]
        finally:
            self._calls[tenant] -= 1

    def _path(self, tenant: str) -> Path:
        return self._folder / tenant

    def _due_own(self) -> list[str]:
        """Tenants whose own store is open; each round one more, so that none is forgotten."""
        owners = self._shared.tenants_with(Isolation.DATABASE)
        closed = [tenant for tenant in owners if tenant not in self._own]
        now = time.monotonic()
        if closed and now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._next_closed += 1
            return [*self._own, closed[self._next_closed % len(closed)]]
        return list(self._own)

    async def _rest(self) -> None:
        before = time.monotonic() - IDLE_S
        for tenant in list(self._own):
            if self._used_at[tenant] < before and not self._calls[tenant]:
                await self._close_own(tenant)

    async def _close_own(self, tenant: str) -> None:
        async with self._turns.setdefault(tenant, asyncio.Lock()):
            storage = self._own.pop(tenant, None)
            if storage is not None:
                await storage.close()

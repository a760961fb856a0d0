"""Vectors in LMDB, searched in memory: the default engine.

The store is the truth. What stands in memory is made from it at a collection's first use and
follows each commit. Small collections are compared row by row; large ones have segments with
graphs, built beside the serving process, and a tail of newer rows that is compared row by row: a
write is seen as soon as it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from services.common.clock import Clock
from services.common.limits import MIB
from services.common.store import Store, Txn
from services.vector.checks import check_collection, check_records
from services.vector.engines import layout, migrations, places, reads, sweeping, writes
from services.vector.engines.changes import Change
from services.vector.engines.core import Core, Searches
from services.vector.engines.layout import CollectionRow
from services.vector.engines.lexicon import Lexicon
from services.vector.engines.opened import IDLE_S
from services.vector.engines.promotion import promote
from services.vector.engines.snapshots import Snapshots
from services.vector.filters import check_filter
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
from services.vector.refusals import embedding_mismatch
from services.vector.setting_checks import (
    check_changes,
    check_collection_settings,
    check_metadata_change,
    check_scope_settings,
)
from services.vector.storage import Capability

EXACT_THRESHOLD = 8000
MEMORY_BYTES_MAX = 2048 * MIB
"""Collections longest unused are let go of beyond this; they are read again when needed."""
_DEFAULTS = CollectionSettings()


def open_store(path: Path, *, on_fatal: Callable[[str], None], sync: bool = True) -> Store:
    """Open or create the store that an engine, and `StoredEmbeddings`, work on.

    Raises:
        ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT.
    """
    return Store(path, migrations.SCHEMA, on_fatal=on_fatal, sync=sync)


class EmbeddedVectorStorage:
    """VectorStorage over one store, which it closes at its end. Made inside a running loop."""

    capabilities = frozenset(Capability)

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        exact_threshold: int = EXACT_THRESHOLD,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        idle_s: float = IDLE_S,
    ) -> None:
        """Serve what is in a store.

        Args:
            store: From `open_store`. Segments are kept in `index/` beside its file.
            clock: For times, and for what has expired.
            exact_threshold: Up to this many records no graph is built.
            memory_bytes_max: For vectors and graphs in memory, roughly.
            idle_s: Collections that nobody has used for so long are let go of.
        """
        self._core = Core(
            store,
            clock,
            exact_threshold=exact_threshold,
            memory_bytes_max=memory_bytes_max,
            idle_s=idle_s,
        )
        self._lexicon = Lexicon(self._core)
        self._snapshots = Snapshots(self._core)

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
        check_collection(collection_id, dimension)
        check_collection_settings(settings)
        place = (tenant, scope, collection_id)
        row = self._new_row(place, dimension, metric, embedding, settings)
        change = await self._core.write(
            lambda txn: places.create(txn, place, row, now_ns=self._core.now_ns())
        )
        return reads.collection(scope, collection_id, row), change.revision

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
        """The collection, made where it is missing."""
        place = (tenant, scope, collection_id)
        with self._core.store.read() as view:
            missing = reads.row(view, place, self._core.now_ns()) is None
        if missing:
            check_collection(collection_id, embedding.dimension)
            check_collection_settings(settings)
            row = self._new_row(place, embedding.dimension, metric, embedding, settings)
            await self._core.write(
                lambda txn: places.create(
                    txn, place, row, now_ns=self._core.now_ns(), if_absent=True
                )
            )
        found, revision = await self.get_collection(*place)
        if found.embedding != embedding:
            raise embedding_mismatch(collection_id, found.embedding, embedding)
        return found, revision

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection."""
        with self._core.store.read() as view:
            row = reads.need_row(view, (tenant, scope, collection_id), self._core.now_ns())
            return self._collection(scope, collection_id, row), view.revision()

    async def update_collection(
        self, tenant: str, scope: str, collection_id: str, changes: CollectionChanges
    ) -> tuple[Collection, int]:
        """Change settings."""
        check_changes(changes)
        place = (tenant, scope, collection_id)
        change = await self._core.write(
            lambda txn: places.update(txn, place, changes, now_ns=self._core.now_ns())
        )
        return (await self.get_collection(*place))[0], change.revision

    async def configure_scope(
        self,
        tenant: str,
        scope: str,
        *,
        record_ttl_ns: int | None = None,
        ttl_ns: int | None = None,
    ) -> tuple[ScopeSettings, int]:
        """Change a scope's settings."""
        check_scope_settings(record_ttl_ns, ttl_ns)
        change = await self._core.write(
            lambda txn: places.configure_scope(
                txn,
                (tenant, scope),
                record_ttl_ns=record_ttl_ns,
                ttl_ns=ttl_ns,
                now_ns=self._core.now_ns(),
            )
        )
        with self._core.store.read() as view:
            row = reads.scope_row(view, tenant, scope, self._core.now_ns())
        ends = None if row.expire_time_ns == layout.NEVER else row.expire_time_ns
        return ScopeSettings(record_ttl_ns=row.record_ttl_ns, expire_time_ns=ends), change.revision

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections in order."""
        with self._core.store.read() as view:
            rows = reads.rows(view, tenant, scope, now_ns=self._core.now_ns(), after=after)
            page = [self._collection(*place, row) for place, row in islice(rows, limit)]
            last = (page[-1].scope, page[-1].collection_id) if page else None
            return CollectionPage(
                collections=page,
                cursor=None if next(rows, None) is None else last,
                revision=view.revision(),
            )

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection."""
        place = (tenant, scope, collection_id)
        return await self._deleted(lambda txn: places.drop(txn, place, now_ns=self._core.now_ns()))

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
        """Write records."""
        place = (tenant, scope, collection_id)
        with self._core.store.read() as view:
            row = reads.need_row(view, place, self._core.now_ns())
        batch = check_records(records, row.dimension, Metric(row.metric))
        change = await self._core.write(
            lambda txn: writes.upsert(
                txn,
                place,
                batch,
                namespace=(row.namespace, row.member),
                now_ns=self._core.now_ns(),
                replace_prefixes=replace_prefixes,
                row_filter=row_filter,
                embedding=embedding,
            )
        )
        if row.member != layout.OWN:
            await promote(self._core, *place)
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
        row_filter: Filter | None = None,
    ) -> tuple[list[Record], int]:
        """Records by id."""
        now_ns = self._core.now_ns()
        with self._core.store.read() as view:
            row = reads.need_row(view, (tenant, scope, collection_id), now_ns)
            found = (
                reads.record_by_id(
                    view, row, record_id, mask=mask, now_ns=now_ns, row_filter=row_filter
                )
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
        prefix: str = "",
    ) -> RecordPage:
        """Records in order of id."""
        now_ns = self._core.now_ns()
        with self._core.store.read() as view:
            row = reads.need_row(view, (tenant, scope, collection_id), now_ns)
            if where is not None:
                check_filter(where)
            return reads.page(
                view,
                row,
                after=after,
                limit=limit,
                where=where,
                mask=mask,
                prefix=prefix,
                now_ns=now_ns,
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
        """Change metadata."""
        check_metadata_change(change)
        if where is not None:
            check_filter(where)
        return await self._deleted(
            lambda txn: writes.update_metadata(
                txn,
                (tenant, scope, collection_id),
                change,
                record_ids=record_ids,
                where=where,
                row_filter=row_filter,
                now_ns=self._core.now_ns(),
            )
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
        """Remove records by id or by filter."""
        if where is not None:
            check_filter(where)
        return await self._deleted(
            lambda txn: writes.remove(
                txn,
                (tenant, scope, collection_id),
                record_ids=record_ids,
                where=where,
                row_filter=row_filter,
                now_ns=self._core.now_ns(),
            )
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
        """Remove records by the beginning of their id."""
        return await self._deleted(
            lambda txn: writes.remove(
                txn,
                (tenant, scope, collection_id),
                prefixes=prefixes,
                row_filter=row_filter,
                now_ns=self._core.now_ns(),
            )
        )

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove a scope's collections."""
        return await self._deleted(
            lambda txn: places.drop_scope(txn, tenant, scope, now_ns=self._core.now_ns())
        )

    async def purge(self, tenant: str) -> Deleted:
        """Erase a tenant, to the last record."""
        await self._snapshots.purge(tenant)
        change = await self._core.write(
            lambda txn: places.purge(txn, tenant, now_ns=self._core.now_ns())
        )
        for gone in change.gone:
            while await self._core.erase(gone.namespace, gone.member, 1000):
                pass
        return Deleted(change.count, change.revision)

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """The nearest records to each vector."""
        return await self._core.search((tenant, scope, collection_id), query)

    async def lexical_search(
        self, tenant: str, scope: str, collection_id: str, text: str, query: Query
    ) -> SearchResult:
        """The records that have the words of a text."""
        return await self._lexicon.search((tenant, scope, collection_id), text, query)

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts."""
        found = Stats()
        with self._core.store.read() as view:
            for _, row in reads.rows(view, tenant, scope, now_ns=self._core.now_ns()):
                found = self._counted(found, row)
            searches = self._core.searches.get(tenant, Searches())
            return replace(
                found,
                revision=view.revision(),
                search_count=searches.count,
                search_ns=searches.took_ns,
            )

    async def create_snapshot(self, tenant: str, scope: str, collection_id: str) -> SnapshotInfo:
        """Keep a copy of a collection."""
        return await self._snapshots.create((tenant, scope, collection_id))

    async def list_snapshots(
        self, tenant: str, scope: str | None, collection_id: str = ""
    ) -> list[SnapshotInfo]:
        """Snapshots, the newest first."""
        return self._snapshots.list(tenant, scope, collection_id)

    async def restore_snapshot(
        self, tenant: str, snapshot_id: str, *, scope: str = "", collection_id: str = ""
    ) -> tuple[int, int]:
        """Put a collection back."""
        return await self._snapshots.restore(tenant, snapshot_id, scope, collection_id)

    async def delete_snapshot(self, tenant: str, snapshot_id: str) -> int:
        """Remove a snapshot."""
        return await self._snapshots.delete(tenant, snapshot_id)

    async def rebuild(self, tenant: str, scope: str, collection_id: str) -> int:
        """Begin to build segments anew."""
        place = (tenant, scope, collection_id)
        return await self._core.with_open(place, lambda _, row, open_: open_.rebuild(row))

    async def checkpoint(self, tenant: str, scope: str, collection_id: str) -> Checkpoint:
        """Wait until segments are what they should be, and give back room."""
        place = (tenant, scope, collection_id)
        namespace = await self._core.with_open(place, lambda _, __, open_: open_)
        await namespace.settle()
        while await self.sweep():
            pass
        await self._core.store.compact()
        with self._core.store.read() as view:
            row = reads.need_row(view, place, self._core.now_ns())
        return Checkpoint(
            indexed_count=self._indexed_count(row),
            record_count=row.record_count,
            disk_bytes=self._core.store.size_bytes() + self._core.opened.sealing.size_bytes(),
        )

    async def swap_shadow(
        self, tenant: str, scope: str, collection_id: str, *, records_revision: int
    ) -> int:
        """Exchange a collection and its shadow."""
        change = await self._core.write(
            lambda txn: places.swap_shadow(
                txn,
                (tenant, scope, collection_id),
                records_revision=records_revision,
                now_ns=self._core.now_ns(),
            )
        )
        return change.revision

    async def records_revision(self, tenant: str, scope: str, collection_id: str) -> int:
        """The revision of the last change of a collection's records."""
        with self._core.store.read() as view:
            place = (tenant, scope, collection_id)
            return reads.need_row(view, place, self._core.now_ns()).records_revision

    async def shadows(self) -> list[tuple[str, str, str]]:
        """Collections whose other vectors are being made."""
        with self._core.store.read() as view:
            return reads.incoming(view)

    async def configure_tenant(self, tenant: str, isolation: Isolation) -> Isolation:
        """How a tenant is to be kept apart."""
        return await self._core.store.write(
            lambda txn: places.configure_tenant(txn, tenant, isolation)
        )

    def isolation(self, tenant: str) -> Isolation:
        """How a tenant is kept apart."""
        with self._core.store.read() as view:
            return reads.isolation(view, tenant)

    def tenants_with(self, isolation: Isolation) -> list[str]:
        """The tenants that are kept apart so."""
        with self._core.store.read() as view:
            return [
                key.decode()
                for key, value in view.scan(layout.TENANTS, b"")
                if value == isolation.value.encode()
            ]

    async def sweep(self, limit: int = 500) -> int:
        """Remove what has expired, what no history reaches, and what belongs to nothing."""
        self._core.opened.rest()
        return await sweeping.sweep(self._core, limit)

    async def ready(self) -> bool:
        """Until it is closed. Graphs need not be ready: a scan answers in their place."""
        return not self._core.closed

    async def close(self) -> None:
        """Finish commits, stop building, close the store."""
        await self._core.close()

    async def settled(self) -> None:
        """Wait until segments are what they should be; for tests and benchmarks."""
        await self._core.opened.settled()

    def _new_row(
        self,
        place: tuple[str, str, str],
        dimension: int,
        metric: Metric,
        embedding: EmbeddingIdentity | None,
        settings: CollectionSettings,
    ) -> CollectionRow:
        return reads.new_row(
            dimension,
            metric,
            embedding,
            settings,
            now_ns=self._core.now_ns(),
            role="incoming" if place[2].startswith(places.SHADOW) else "",
        )

    async def _deleted(self, operation: Callable[[Txn], Change]) -> Deleted:
        change = await self._core.write(operation)
        return Deleted(change.count, change.revision)

    def _collection(self, scope: str, collection_id: str, row: CollectionRow) -> Collection:
        return reads.collection(scope, collection_id, row, self._indexed_count(row))

    def _indexed_count(self, row: CollectionRow) -> int:
        namespace = self._core.opened.peek(row.namespace)
        return 0 if namespace is None else namespace.indexed_count(row.member)

    def _counted(self, found: Stats, row: CollectionRow) -> Stats:
        """Counts with one collection more; what collections share is not anybody's."""
        namespace = self._core.opened.peek(row.namespace)
        mine = namespace if row.member == layout.OWN else None
        return replace(
            found,
            collection_count=found.collection_count + 1,
            record_count=found.record_count + row.record_count,
            indexed_count=found.indexed_count + self._indexed_count(row),
            stored_bytes=found.stored_bytes + row.stored_bytes,
            history_count=found.history_count + row.history_count,
            history_bytes=found.history_bytes + row.history_bytes,
            memory_bytes=found.memory_bytes + (mine.size_bytes() if mine else 0),
            index_bytes=found.index_bytes + (mine.file_bytes() if mine else 0),
            segment_count=found.segment_count + (len(mine.segments) if mine else 0),
            dead_count=found.dead_count + (mine.dead_count() if mine else 0),
        )

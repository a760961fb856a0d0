"""Vectors in LMDB, searched in memory: the default engine.

The store is the truth. What stands in memory is made from it at a collection's first use and
follows each commit. Small collections are compared row by row; large ones have segments with
graphs, built beside the serving process, and a tail of newer rows that is compared row by row: a
write is seen as soon as it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from services.common.clock import Clock
from services.common.expiry import SLICE
from services.common.limits import MIB
from services.common.store import Store
from services.vector.allowances import Allowances
from services.vector.checks import check_records
from services.vector.engines import layout, migrations, reads, sweeping, writes
from services.vector.engines.core import Core, Searches
from services.vector.engines.embedded_places import EmbeddedPlaces
from services.vector.engines.layout import CollectionRow
from services.vector.engines.lexicon import Lexicon
from services.vector.engines.measures import Measures
from services.vector.engines.opened import IDLE_S
from services.vector.engines.promotion import promote
from services.vector.filters import check_filter
from services.vector.model import (
    Checkpoint,
    CollectionSettings,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Mask,
    MetadataChange,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    SearchResult,
    Stats,
    Upserted,
)
from services.vector.setting_checks import (
    check_metadata_change,
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


class EmbeddedVectorStorage(EmbeddedPlaces):
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
        allowances: Allowances | None = None,
    ) -> None:
        """Serve what is in a store.

        Args:
            store: From `open_store`. Segments are kept in `index/` beside its file.
            clock: For times, and for what has expired.
            exact_threshold: Up to this many records no graph is built.
            memory_bytes_max: For vectors and graphs in memory, roughly.
            idle_s: Collections that nobody has used for so long are let go of.
            allowances: What tenants may have; None: as much as they like.
        """
        core = Core(
            store,
            clock,
            exact_threshold=exact_threshold,
            memory_bytes_max=memory_bytes_max,
            idle_s=idle_s,
            allowances=allowances or Allowances(),
        )
        super().__init__(core)
        self._lexicon = Lexicon(core)

    def measures(self) -> Measures:
        """What stands in memory."""
        return self._core.opened.measures()

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
                allowance=self._core.allowances.get(tenant),
            ),
            grows=True,
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
                allowance=self._core.allowances.get(tenant),
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

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove what has expired, what no history reaches, and what belongs to nothing."""
        self._core.opened.rest()
        self._lexicon.rest()
        await self._snapshots.drop_half_restored()
        count = await sweeping.sweep(self._core, limit)
        if not count:
            await self._core.store.tidy()
        return count

    async def unload(self, tenant: str) -> int:
        """Let go of what stands in memory of a tenant's collections."""
        with self._core.store.read() as view:
            mine = [
                row.namespace
                for _, row in reads.rows(view, tenant, None, now_ns=self._core.now_ns())
                if row.member == layout.OWN
            ]
        self._lexicon.forget(set(mine))
        return sum(self._core.opened.unload(number) for number in mine)

    async def rewrite(self) -> bool:
        """Remove what belongs to nothing, and write the data file anew."""
        while await sweeping.sweep(self._core, SLICE):
            pass
        return await self._core.store.rewrite()

    def mapped_bytes(self) -> int:
        """What graphs need of their files, which are mapped."""
        return self._core.opened.mapped_bytes()

    async def ready(self) -> bool:
        """Until it is closed. Graphs need not be ready: a scan answers in their place."""
        return not self._core.closed

    async def close(self) -> None:
        """Finish commits, stop building, close the store."""
        await self._core.close()

    async def settled(self) -> None:
        """Wait until segments are what they should be; for tests and benchmarks."""
        await self._core.opened.settled()

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

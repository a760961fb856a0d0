"""The part of the embedded engine that knows where records are, and not what they hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from services.common.store import Txn
from services.vector.checks import check_collection
from services.vector.engines import layout, places, reads
from services.vector.engines.changes import Change
from services.vector.engines.core import Core
from services.vector.engines.layout import CollectionRow
from services.vector.engines.snapshots import Snapshots
from services.vector.model import (
    Collection,
    CollectionChanges,
    CollectionPage,
    CollectionSettings,
    Deleted,
    EmbeddingIdentity,
    Isolation,
    Metric,
    ScopeSettings,
    SnapshotInfo,
)
from services.vector.refusals import embedding_mismatch
from services.vector.setting_checks import (
    check_changes,
    check_collection_settings,
    check_scope_settings,
)

_DEFAULTS = CollectionSettings()


class EmbeddedPlaces:
    """Collections, scopes, tenants and copies of collections."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._snapshots = Snapshots(core)

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
        self._core.allowances.get(tenant).check_dimension(dimension)
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
            self._core.allowances.get(tenant).check_dimension(embedding.dimension)
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

    async def has_texts(self) -> bool:
        """Whether any collection's vectors come from texts."""
        with self._core.store.read() as view:
            rows = (layout.unpack_row(value) for _, value in view.scan(layout.COLLECTIONS, b""))
            return any(row.embedding is not None for row in rows)

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

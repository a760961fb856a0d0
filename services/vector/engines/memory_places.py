"""Collections, scopes and tenants of the memory engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from services.common.clock import Clock
from services.vector.allowances import Allowances
from services.vector.checks import check_collection
from services.vector.engines.kept import Kept, Scope
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
from services.vector.refusals import (
    collection_exists,
    collection_not_found,
    embedding_mismatch,
    records_changed,
)
from services.vector.setting_checks import (
    check_changes,
    check_collection_settings,
    check_scope_settings,
)

Key = tuple[str, str, str]
"""Tenant, scope and collection."""
_SHADOW = "~"
_DEFAULTS = CollectionSettings()


class MemoryPlaces:
    """The part of the memory engine that knows where records are, and not what they hold."""

    def __init__(self, clock: Clock, allowances: Allowances | None = None) -> None:
        self._allowances = allowances or Allowances()
        self._clock = clock
        self._kept: dict[Key, Kept] = {}
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._snapshots: dict[tuple[str, str], tuple[SnapshotInfo, Kept]] = {}
        self._isolation: dict[str, Isolation] = {}
        self._revision = 0
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
        settings: CollectionSettings = _DEFAULTS,
    ) -> tuple[Collection, int]:
        """Make a collection."""
        check_collection(collection_id, dimension)
        check_collection_settings(settings)
        self._allowances.get(tenant).check_dimension(dimension)
        if self._find(tenant, scope, collection_id) is not None:
            raise collection_exists(scope, collection_id)
        now = self._clock.now_ns()
        self._end_scope(tenant, scope)
        self._forget([(tenant, scope, collection_id)])
        collection = Collection(
            scope=scope,
            collection_id=collection_id,
            dimension=dimension,
            metric=metric,
            embedding=embedding,
            create_time_ns=now,
            hnsw=settings.hnsw,
            default_ttl_ns=settings.default_ttl_ns,
            history_window_ns=settings.history_window_ns,
            expire_time_ns=None if settings.ttl_ns is None else now + settings.ttl_ns,
            role="incoming" if collection_id.startswith(_SHADOW) else "",
        )
        self._kept[tenant, scope, collection_id] = Kept(collection, history_start_ns=now)
        return collection, self._next()

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
        kept = self._find(tenant, scope, collection_id)
        if kept is None:
            return await self.create_collection(
                tenant,
                scope,
                collection_id,
                dimension=embedding.dimension,
                metric=metric,
                embedding=embedding,
                settings=settings,
            )
        if kept.collection.embedding != embedding:
            raise embedding_mismatch(collection_id, kept.collection.embedding, embedding)
        return kept.counted(), self._revision

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection."""
        return self._need(tenant, scope, collection_id).counted(), self._revision

    async def update_collection(
        self, tenant: str, scope: str, collection_id: str, changes: CollectionChanges
    ) -> tuple[Collection, int]:
        """Change settings."""
        check_changes(changes)
        kept, now = self._need(tenant, scope, collection_id), self._clock.now_ns()
        old = new = kept.collection
        if changes.default_ttl_ns is not None:
            new = replace(new, default_ttl_ns=changes.default_ttl_ns or None)
        if changes.history_window_ns is not None:
            if changes.history_window_ns > old.history_window_ns:
                kept.history_start_ns = now  # what ended before is not kept for as long
            new = replace(new, history_window_ns=changes.history_window_ns)
        if changes.ttl_ns is not None:
            new = replace(new, expire_time_ns=now + changes.ttl_ns if changes.ttl_ns else None)
        if changes.ef_search is not None:
            new = replace(new, hnsw=replace(new.hnsw, ef_search=changes.ef_search))
        kept.collection = new
        return kept.counted(), self._revision if new == old else self._next()

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
        ended, now = self._end_scope(tenant, scope), self._clock.now_ns()
        old = self._scopes.get((tenant, scope), Scope())
        new = Scope(
            old.record_ttl_ns if record_ttl_ns is None else record_ttl_ns or None,
            old.expire_time_ns if ttl_ns is None else (now + ttl_ns if ttl_ns else None),
        )
        self._scopes[tenant, scope] = new
        revision = self._next() if new != old or ended else self._revision
        return (
            ScopeSettings(record_ttl_ns=new.record_ttl_ns, expire_time_ns=new.expire_time_ns),
            revision,
        )

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections in order."""
        keys = sorted(key for key in self._mine(tenant, scope) if after is None or key[1:] > after)
        page = [self._kept[key].counted() for key in keys[:limit]]
        cursor = (page[-1].scope, page[-1].collection_id) if len(keys) > limit else None
        return CollectionPage(collections=page, cursor=cursor, revision=self._revision)

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection and its shadow."""
        kept = self._find(tenant, scope, collection_id)
        if kept is None:
            return Deleted(0, self._revision)
        self._forget([(tenant, scope, collection_id)])
        return Deleted(len(kept.records), self._next())

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove a scope's collections."""
        count = sum(len(self._kept[key].records) for key in self._mine(tenant, scope))
        ended = self._end_scope(tenant, scope)
        held = [key for key in self._kept if key[:2] == (tenant, scope)]
        self._forget(held)
        return Deleted(count, self._next() if held or ended else self._revision)

    async def purge(self, tenant: str) -> Deleted:
        """Remove a tenant."""
        count = sum(len(self._kept[key].records) for key in self._mine(tenant, None))
        held = [key for key in self._kept if key[0] == tenant]
        self._forget(held)
        for scope in [key for key in self._scopes if key[0] == tenant]:
            del self._scopes[scope]
        for snapshot in [key for key in self._snapshots if key[0] == tenant]:
            del self._snapshots[snapshot]
        self._isolation.pop(tenant, None)
        return Deleted(count, self._next() if held else self._revision)

    async def swap_shadow(
        self, tenant: str, scope: str, collection_id: str, *, records_revision: int
    ) -> int:
        """Exchange a collection and its shadow."""
        kept = self._need(tenant, scope, collection_id)
        shadow = self._find(tenant, scope, _SHADOW + collection_id)
        if shadow is None:
            raise collection_not_found(scope, collection_id)
        if kept.records_revision != records_revision:
            raise records_changed(collection_id, kept.records_revision, records_revision)
        revision, now = self._next(), self._clock.now_ns()
        kept.exchange(shadow, now_ns=now, revision=revision)
        return revision

    async def records_revision(self, tenant: str, scope: str, collection_id: str) -> int:
        """The revision of the last change of a collection's records."""
        return self._need(tenant, scope, collection_id).records_revision

    async def has_texts(self) -> bool:
        """Whether any collection's vectors come from texts."""
        return any(kept.collection.embedding is not None for kept in self._kept.values())

    async def shadows(self) -> list[tuple[str, str, str]]:
        """Collections whose other vectors are being made."""
        return [
            (tenant, scope, name.removeprefix(_SHADOW))
            for (tenant, scope, name), kept in self._kept.items()
            if kept.collection.role == "incoming"
        ]

    async def configure_tenant(self, tenant: str, isolation: Isolation) -> Isolation:
        """Nothing is shared here, whatever is asked for."""
        if not any(key[0] == tenant for key in self._kept):
            self._isolation[tenant] = isolation
        return self._isolation.get(tenant, Isolation.NAMESPACE)

    async def unload(self, tenant: str) -> int:
        """There is nothing else than memory."""
        del tenant
        return 0

    async def rewrite(self) -> bool:
        """There is no file."""
        return True

    async def ready(self) -> bool:
        """Until it is closed."""
        return not self._closed

    async def close(self) -> None:
        """Nothing to finish."""
        self._closed = True

    def _next(self) -> int:
        self._revision += 1
        return self._revision

    def _find(self, tenant: str, scope: str, collection_id: str) -> Kept | None:
        kept, now = self._kept.get((tenant, scope, collection_id)), self._clock.now_ns()
        ended = self._scopes.get((tenant, scope), Scope()).ended(now)
        return None if kept is None or ended or kept.ended(now) else kept

    def _need(self, tenant: str, scope: str, collection_id: str) -> Kept:
        kept = self._find(tenant, scope, collection_id)
        if kept is None:
            raise collection_not_found(scope, collection_id)
        return kept

    def _mine(self, tenant: str, scope: str | None) -> list[Key]:
        return [
            key
            for key, kept in self._kept.items()
            if key[0] == tenant
            and scope in {None, key[1]}
            and not kept.collection.role
            and self._find(*key) is not None
        ]

    def _forget(self, keys: Iterable[Key]) -> None:
        for tenant, scope, name in list(keys):
            self._kept.pop((tenant, scope, name), None)
            self._kept.pop((tenant, scope, _SHADOW + name), None)

    def _end_scope(self, tenant: str, scope: str) -> int:
        """Where a scope's time has come, remove what it had; how many collections that were."""
        if not self._scopes.get((tenant, scope), Scope()).ended(self._clock.now_ns()):
            return 0
        del self._scopes[tenant, scope]
        held = [key for key in self._kept if key[:2] == (tenant, scope)]
        self._forget(held)
        return len(held)

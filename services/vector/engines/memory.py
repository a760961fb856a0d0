"""Vectors in dictionaries, compared one by one. The oracle that other engines are tested against.

Everything is plain and slow on purpose: float64, no index, no cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.common.clock import Clock
from services.vector.checks import check_collection, check_query, check_records
from services.vector.filters import check_filter, matches
from services.vector.model import (
    Collection,
    CollectionPage,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Hit,
    Mask,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    SearchResult,
    Stats,
    Upserted,
    Value,
    Vector,
)
from services.vector.refusals import collection_exists, collection_not_found, embedding_mismatch
from services.vector.storage import Capability

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Kept:
    collection: Collection
    records: dict[str, Record] = field(default_factory=dict)


class MemoryVectorStorage:
    """Keeps everything in this process; gone at its end."""

    capabilities = frozenset({Capability.EXACT_SEARCH})

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[_Key, _Kept] = {}
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
    ) -> tuple[Collection, int]:
        """Make a collection."""
        check_collection(collection_id, dimension)
        if (tenant, scope, collection_id) in self._kept:
            raise collection_exists(scope, collection_id)
        collection = Collection(
            scope=scope,
            collection_id=collection_id,
            dimension=dimension,
            metric=metric,
            embedding=embedding,
            create_time_ns=self._clock.now_ns(),
        )
        self._kept[tenant, scope, collection_id] = _Kept(collection)
        return collection, self._next()

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
        kept = self._kept.get((tenant, scope, collection_id))
        if kept is None:
            return await self.create_collection(
                tenant,
                scope,
                collection_id,
                dimension=embedding.dimension,
                metric=metric,
                embedding=embedding,
            )
        if kept.collection.embedding != embedding:
            raise embedding_mismatch(collection_id, kept.collection.embedding, embedding)
        return _counted(kept), self._revision

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection."""
        return _counted(self._need(tenant, scope, collection_id)), self._revision

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections in order."""
        keys = sorted(key for key in self._mine(tenant, scope) if after is None or key[1:] > after)
        page = [_counted(self._kept[key]) for key in keys[:limit]]
        cursor = (page[-1].scope, page[-1].collection_id) if len(keys) > limit else None
        return CollectionPage(collections=page, cursor=cursor, revision=self._revision)

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection."""
        key = (tenant, scope, collection_id)
        return self._drop([key] if key in self._kept else [])

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
        kept = self._need(tenant, scope, collection_id)
        collection = kept.collection
        batch = check_records(records, collection.dimension, collection.metric)
        replaced = self._remove(kept, _with_prefix(kept, replace_prefixes))
        if not batch.records and not replaced:
            return Upserted(record_ids=[], revision=self._revision)
        revision = self._next()
        for record_id, record in batch.records.items():
            metadata = msgspec.msgpack.decode(batch.metadata[record_id])
            kept.records[record_id] = self._kept_form(record, record_id, metadata, revision)
        return Upserted(record_ids=batch.record_ids, revision=revision, replaced_count=replaced)

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
        kept = self._need(tenant, scope, collection_id)
        found = (kept.records.get(record_id) for record_id in record_ids)
        alive = [_masked(record, mask) for record in found if record and self._alive(record)]
        return alive, self._revision

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
        kept = self._need(tenant, scope, collection_id)
        if where is not None:
            check_filter(where)
        found = sorted(
            (record for record in self._visible(kept, where) if record.record_id > after),
            key=lambda record: record.record_id,
        )
        page = [_masked(record, mask) for record in found[:limit]]
        cursor = page[-1].record_id if len(found) > limit else None
        return RecordPage(records=page, cursor=cursor, revision=self._revision)

    async def delete(
        self, tenant: str, scope: str, collection_id: str, record_ids: Sequence[str]
    ) -> Deleted:
        """Remove records by id."""
        kept = self._kept.get((tenant, scope, collection_id))
        return self._deleted(0 if kept is None else self._remove(kept, record_ids))

    async def delete_prefixes(
        self, tenant: str, scope: str, collection_id: str, prefixes: Sequence[str]
    ) -> Deleted:
        """Remove records by the beginning of their id."""
        kept = self._kept.get((tenant, scope, collection_id))
        return self._deleted(
            0 if kept is None else self._remove(kept, _with_prefix(kept, prefixes))
        )

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove a scope."""
        return self._drop(self._mine(tenant, scope))

    async def purge(self, tenant: str) -> Deleted:
        """Remove a tenant."""
        return self._drop(self._mine(tenant, None))

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """Compare with every record."""
        kept = self._need(tenant, scope, collection_id)
        collection = kept.collection
        check_query(query, collection.dimension, collection.metric)
        found = self._visible(kept, query.filter, include_expired=query.include_expired)
        return [
            SearchResult(
                hits=_nearest(vector, found, collection.metric, query),
                exact=True,
                indexed_revision=0,
                revision=self._revision,
            )
            for vector in query.vectors
        ]

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts."""
        mine = [self._kept[key] for key in self._mine(tenant, scope)]
        return Stats(
            collection_count=len(mine),
            record_count=sum(len(kept.records) for kept in mine),
            stored_bytes=sum(_size(record) for kept in mine for record in kept.records.values()),
            revision=self._revision,
        )

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records."""
        removed = 0
        for kept in self._kept.values():
            dead = [key for key, record in kept.records.items() if not self._alive(record)]
            removed += self._remove(kept, dead[: limit - removed])
        self._deleted(removed)
        return removed

    async def ready(self) -> bool:
        """Until it is closed."""
        return not self._closed

    async def close(self) -> None:
        """Nothing to finish."""
        self._closed = True

    def _next(self) -> int:
        self._revision += 1
        return self._revision

    def _deleted(self, count: int) -> Deleted:
        return Deleted(count, self._next() if count else self._revision)

    def _need(self, tenant: str, scope: str, collection_id: str) -> _Kept:
        kept = self._kept.get((tenant, scope, collection_id))
        if kept is None:
            raise collection_not_found(scope, collection_id)
        return kept

    def _mine(self, tenant: str, scope: str | None) -> list[_Key]:
        return [key for key in self._kept if key[0] == tenant and scope in {None, key[1]}]

    def _drop(self, keys: Sequence[_Key]) -> Deleted:
        count = sum(len(self._kept.pop(key).records) for key in keys)
        return Deleted(count, self._next() if keys else self._revision)

    def _remove(self, kept: _Kept, record_ids: Iterable[str]) -> int:
        return sum(kept.records.pop(key, None) is not None for key in list(record_ids))

    def _alive(self, record: Record) -> bool:
        expires = record.expire_time_ns
        return expires is None or expires > self._clock.now_ns()

    def _visible(
        self, kept: _Kept, where: Filter | None, *, include_expired: bool = False
    ) -> list[Record]:
        return [
            record
            for record in kept.records.values()
            if (include_expired or self._alive(record))
            and (where is None or matches(where, record.metadata))
        ]

    def _kept_form(
        self, record: NewRecord, record_id: str, metadata: dict[str, Value], revision: int
    ) -> Record:
        now = self._clock.now_ns()
        return Record(
            record_id=record_id,
            vector=np.array(record.vector, np.float32),
            metadata=metadata,
            text=record.text,
            event_time_ns=record.event_time_ns,
            expire_time_ns=None if record.ttl_ns is None else now + record.ttl_ns,
            ingest_time_ns=now,
            revision=revision,
        )


def _counted(kept: _Kept) -> Collection:
    return replace(kept.collection, record_count=len(kept.records))


def _with_prefix(kept: _Kept, prefixes: Sequence[str]) -> list[str]:
    return [key for key in kept.records if key.startswith(tuple(prefixes))]


def _masked(record: Record, mask: Mask) -> Record:
    return replace(
        record,
        vector=record.vector if mask.vector else None,
        metadata=record.metadata if mask.metadata else {},
        text=record.text if mask.text else "",
    )


def _nearest(vector: Vector, found: list[Record], metric: Metric, query: Query) -> list[Hit]:
    wide = vector.astype(np.float64)
    scored = [(_score(wide, record, metric), record) for record in found]
    scored.sort(key=lambda pair: (-pair[0], pair[1].record_id))
    least = -np.inf if query.score_threshold is None else query.score_threshold
    return [
        Hit(
            record=_masked(record, query.mask),
            score=score,
            distance=1 - score if metric is Metric.COSINE else -score,
        )
        for score, record in scored[: query.limit]
        if score >= least
    ]


def _score(query: NDArray[np.float64], record: Record, metric: Metric) -> float:
    assert record.vector is not None
    stored = record.vector.astype(np.float64)
    if metric is Metric.L2:
        return float(np.float32(-np.linalg.norm(stored - query)))
    product = float((stored * query).sum())
    if metric is Metric.DOT:
        return float(np.float32(product))
    cosine = product / float(np.linalg.norm(stored) * np.linalg.norm(query))
    return float(np.float32(min(1.0, max(-1.0, cosine))))


def _size(record: Record) -> int:
    assert record.vector is not None
    metadata = msgspec.msgpack.encode(record.metadata)
    return len(record.vector) * 4 + len(metadata) + len(record.text.encode())

"""Vectors in dictionaries, compared one by one. The oracle that other engines are tested against.

Everything is plain and slow on purpose: float64, no index, no cache.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import msgspec

from services.common.errors import limit_exceeded
from services.common.expiry import SLICE
from services.common.limits import SNAPSHOTS_MAX, UPDATE_MATCHES_MAX
from services.vector.checks import check_collection, check_query, check_records, check_settings
from services.vector.engines.comparing import bm25, nearest
from services.vector.engines.kept import Kept, Scope, Version, alive, masked, size_of, with_prefix
from services.vector.engines.memory_places import Key, MemoryPlaces
from services.vector.filters import check_filter, matches
from services.vector.model import (
    Checkpoint,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Mask,
    MetadataChange,
    NewRecord,
    Query,
    Record,
    RecordPage,
    SearchPath,
    SearchResult,
    SnapshotInfo,
    Stats,
    Upserted,
)
from services.vector.refusals import (
    as_of_in_future,
    embedding_mismatch,
    history_unavailable,
    restricted_by_row_filter,
    snapshot_not_found,
    too_many_matches,
)
from services.vector.setting_checks import check_metadata_change
from services.vector.storage import Capability


class MemoryVectorStorage(MemoryPlaces):
    """Keeps everything in this process; gone at its end."""

    capabilities = frozenset({Capability.EXACT_SEARCH, Capability.HISTORY, Capability.SNAPSHOT})

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
        kept = self._need(tenant, scope, collection_id)
        collection = kept.collection
        if embedding not in {None, collection.embedding}:
            raise embedding_mismatch(collection_id, collection.embedding, embedding)
        batch = check_records(records, collection.dimension, collection.metric)
        doomed = with_prefix(kept, replace_prefixes)
        if row_filter is not None:
            for record_id, metadata in batch.metadata.items():
                if not matches(row_filter, msgspec.msgpack.decode(metadata)):
                    raise restricted_by_row_filter(record_id)
            for record_id in (*batch.records, *doomed):
                old = kept.records.get(record_id)
                if old is not None and not matches(row_filter, old.record.metadata):
                    raise restricted_by_row_filter(record_id)
        if not collection.role:
            gone = {*doomed, *batch.records} & kept.records.keys()
            sizes = [
                each.vector.size * 4 + len(batch.metadata[name]) + len(each.text.encode())
                for name, each in batch.records.items()
            ]
            left = sum(size_of(kept.records[each].record) for each in gone)
            more_bytes = sum(sizes) - (0 if collection.history_window_ns else left)
            await self._check_room(tenant, len(sizes) - len(gone), more_bytes)
        replaced = self._remove(kept, doomed)
        if not batch.records and not replaced:
            return Upserted(record_ids=[], revision=self._revision)
        revision, now = self._next(), self._clock.now_ns()
        self._remove(kept, batch.records)
        ttl_ns = self._scopes.get((tenant, scope), Scope()).record_ttl_ns
        ttl_ns = collection.default_ttl_ns if ttl_ns is None else ttl_ns
        for record_id, new in batch.records.items():
            kept.put(
                new,
                record_id,
                msgspec.msgpack.decode(batch.metadata[record_id]),
                revision=revision,
                now_ns=now,
                ttl_ns=ttl_ns,
            )
        kept.records_revision = revision
        return Upserted(record_ids=batch.record_ids, revision=revision, replaced_count=replaced)

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
        kept, now = self._need(tenant, scope, collection_id), self._clock.now_ns()
        found = [kept.records[each].record for each in record_ids if each in kept.records]
        return [
            masked(record, mask)
            for record in found
            if alive(record, now) and (row_filter is None or matches(row_filter, record.metadata))
        ], self._revision

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
        kept, now = self._need(tenant, scope, collection_id), self._clock.now_ns()
        if where is not None:
            check_filter(where)
        found = sorted(
            (
                version.record
                for version in kept.records.values()
                if version.record.record_id > after
                and version.record.record_id.startswith(prefix)
                and alive(version.record, now)
                and (where is None or matches(where, version.record.metadata))
            ),
            key=lambda record: record.record_id,
        )
        page = [masked(record, mask) for record in found[:limit]]
        cursor = page[-1].record_id if len(found) > limit else None
        return RecordPage(records=page, cursor=cursor, revision=self._revision)

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
        kept = self._need(tenant, scope, collection_id)
        chosen = list(dict.fromkeys(record_ids))
        if where is not None:
            check_filter(where)
            chosen = self._matching(kept, where)
            if len(chosen) > UPDATE_MATCHES_MAX:
                raise too_many_matches(len(chosen), UPDATE_MATCHES_MAX)
        now = self._clock.now_ns()
        changed = kept.changed(chosen, change, row_filter=row_filter, now_ns=now)
        if not changed:
            return Deleted(0, self._revision)
        left = sum(size_of(kept.records[record.record_id].record) for record in changed)
        grown = sum(map(size_of, changed))
        history = kept.collection.history_window_ns
        await self._check_room(tenant, 0, grown - (0 if history else left))
        revision = self._next()
        for record in changed:
            kept.end(record.record_id, now)
            kept.records[record.record_id] = Version(
                msgspec.structs.replace(record, revision=revision, ingest_time_ns=now)
            )
        kept.records_revision = revision
        return Deleted(len(changed), revision)

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
        return self._delete(
            (tenant, scope, collection_id),
            lambda kept: record_ids if where is None else self._matching(kept, where),
            row_filter,
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
        return self._delete(
            (tenant, scope, collection_id), lambda kept: with_prefix(kept, prefixes), row_filter
        )

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """Compare with every record."""
        kept = self._need(tenant, scope, collection_id)
        check_query(query, kept.collection.dimension, kept.collection.metric)
        found, total = self._seen(kept, query), len(kept.records)
        return [
            SearchResult(
                hits=nearest(vector, found, kept.collection.metric, query),
                exact=True,
                indexed_revision=0,
                revision=self._revision,
                path=SearchPath.SCAN if len(found) == total else SearchPath.MATCHES,
                candidate_count=len(found),
                match_count=len(found),
            )
            for vector in query.vectors
        ]

    async def lexical_search(
        self, tenant: str, scope: str, collection_id: str, text: str, query: Query
    ) -> SearchResult:
        """BM25 over the texts."""
        check_settings(query)
        kept = self._need(tenant, scope, collection_id)
        found = self._seen(kept, query)
        everything = replace(
            query, filter=None, event_time=None, ingest_time=None, include_expired=True
        )
        texts = [record.text for record in self._seen(kept, everything)]
        return SearchResult(
            hits=bm25(text, found, texts, query),
            exact=True,
            indexed_revision=self._revision,
            revision=self._revision,
            candidate_count=len(found),
            match_count=len(found),
        )

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts."""
        mine = [self._kept[key] for key in self._mine(tenant, scope)]
        return Stats(
            collection_count=len(mine),
            record_count=sum(len(kept.records) for kept in mine),
            stored_bytes=sum(size_of(v.record) for kept in mine for v in kept.records.values()),
            history_count=sum(len(kept.history) for kept in mine),
            history_bytes=sum(size_of(v.record) for kept in mine for v in kept.history),
            revision=self._revision,
        )

    async def _check_room(self, tenant: str, more_vectors: int, more_bytes: int) -> None:
        """Refuse what would be more than the tenant may have."""
        now = await self.stats(tenant, None)
        self._allowances.get(tenant).check_room(
            now.record_count + more_vectors,
            now.stored_bytes + now.history_bytes + more_bytes,
            more_vectors=more_vectors,
            more_bytes=more_bytes,
        )

    async def create_snapshot(self, tenant: str, scope: str, collection_id: str) -> SnapshotInfo:
        """Keep a copy."""
        kept, now = self._need(tenant, scope, collection_id), self._clock.now_ns()
        if len(await self.list_snapshots(tenant, None)) >= SNAPSHOTS_MAX:
            raise limit_exceeded("snapshots", SNAPSHOTS_MAX + 1, SNAPSHOTS_MAX)
        copy = Kept(kept.collection, history_start_ns=now)
        copy.records = {k: v for k, v in kept.records.items() if alive(v.record, now)}
        info = SnapshotInfo(
            snapshot_id=secrets.token_hex(8),
            scope=scope,
            collection_id=collection_id,
            create_time_ns=now,
            revision=self._revision,
            record_count=len(copy.records),
            size_bytes=sum(size_of(version.record) for version in copy.records.values()),
            digest="",
        )
        self._snapshots[tenant, info.snapshot_id] = (info, copy)
        return info

    async def list_snapshots(
        self, tenant: str, scope: str | None, collection_id: str = ""
    ) -> list[SnapshotInfo]:
        """Snapshots, the newest first."""
        found = [
            info
            for (owner, _), (info, _) in self._snapshots.items()
            if owner == tenant
            and scope in {None, info.scope}
            and collection_id in {"", info.collection_id}
        ]
        return sorted(found, key=lambda info: (-info.create_time_ns, info.snapshot_id))

    async def restore_snapshot(
        self, tenant: str, snapshot_id: str, *, scope: str = "", collection_id: str = ""
    ) -> tuple[int, int]:
        """Put a collection back."""
        if (tenant, snapshot_id) not in self._snapshots:
            raise snapshot_not_found(snapshot_id)
        info, copy = self._snapshots[tenant, snapshot_id]
        place = (tenant, scope or info.scope, collection_id or info.collection_id)
        check_collection(place[2], copy.collection.dimension)
        old = self._find(*place)
        self._allowances.get(tenant).check_dimension(copy.collection.dimension)
        there = [] if old is None else [each.record for each in old.records.values()]
        more_bytes = info.size_bytes - sum(map(size_of, there))
        await self._check_room(tenant, info.record_count - len(there), more_bytes)
        now, revision = self._clock.now_ns(), self._next()
        self._end_scope(*place[:2])
        old = self._find(*place)
        if old is None:
            self._forget([place])
        settings = (old or copy).collection
        restored = Kept(
            replace(
                copy.collection,
                scope=place[1],
                collection_id=place[2],
                role="",
                default_ttl_ns=settings.default_ttl_ns,
                history_window_ns=settings.history_window_ns,
                expire_time_ns=settings.expire_time_ns,
                create_time_ns=settings.create_time_ns,
            ),
            history_start_ns=now,
            records_revision=revision,
        )
        restored.records = {
            key: Version(
                msgspec.structs.replace(version.record, revision=revision, ingest_time_ns=now)
            )
            for key, version in copy.records.items()
        }
        self._kept[place] = restored
        return len(restored.records), revision

    async def delete_snapshot(self, tenant: str, snapshot_id: str) -> int:
        """Remove a snapshot."""
        return int(self._snapshots.pop((tenant, snapshot_id), None) is not None)

    async def rebuild(self, tenant: str, scope: str, collection_id: str) -> int:
        """There is no graph."""
        return len(self._need(tenant, scope, collection_id).records)

    async def checkpoint(self, tenant: str, scope: str, collection_id: str) -> Checkpoint:
        """Nothing is kept anywhere."""
        kept = self._need(tenant, scope, collection_id)
        return Checkpoint(indexed_count=0, record_count=len(kept.records), disk_bytes=0)

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove what has expired, and what no history reaches."""
        now, removed = self._clock.now_ns(), 0
        ended = [key for key in self._scopes if self._scopes[key].ended(now)]
        gone = sum(self._end_scope(*key) for key in ended)
        over = [k for k, kept in self._kept.items() if kept.ended(now)]
        gone += len(over)
        self._forget(over)
        if gone:
            self._next()
        for kept in self._kept.values():
            dead = [k for k, v in kept.records.items() if not alive(v.record, now)]
            count = self._remove(kept, dead[: limit - removed])
            removed += count
            if count:
                kept.records_revision = self._revision + 1
            kept.forget_history(now)
        if removed:
            self._next()
        return removed + gone

    def _matching(self, kept: Kept, where: Filter) -> list[str]:
        now = self._clock.now_ns()
        return [
            key
            for key, version in kept.records.items()
            if alive(version.record, now) and matches(where, version.record.metadata)
        ]

    def _remove(self, kept: Kept, record_ids: Iterable[str]) -> int:
        now = self._clock.now_ns()
        return sum(kept.end(key, now) for key in list(record_ids))

    def _delete(
        self, place: Key, choose: Callable[[Kept], Iterable[str]], row_filter: Filter | None
    ) -> Deleted:
        kept = self._find(*place)
        if kept is None:
            return Deleted(0, self._revision)
        chosen = [
            key
            for key in dict.fromkeys(choose(kept))
            if row_filter is None
            or (key in kept.records and matches(row_filter, kept.records[key].record.metadata))
        ]
        count = self._remove(kept, chosen)
        if not count:
            return Deleted(0, self._revision)
        kept.records_revision = self._next()
        return Deleted(count, self._revision)

    def _seen(self, kept: Kept, query: Query) -> list[Record]:
        now = self._clock.now_ns()
        if query.as_of_ns is None:
            return kept.seen(query, now)
        if query.as_of_ns > now:
            raise as_of_in_future()
        window = kept.collection.history_window_ns
        oldest = max(now - window, kept.history_start_ns)
        if not window or query.as_of_ns < oldest:
            raise history_unavailable(oldest if window else None)
        return kept.seen(query, query.as_of_ns)

"""Embedding a collection's texts anew with another provider, while the old vectors answer.

The new vectors are made in the collection's shadow. A pass compares both in order of id, embeds
what the shadow lacks and removes what the collection has lost; passes go on until nothing was
written meanwhile, and then both change places in one step. What is done stays done over a restart:
the shadow says that it is wanted, and no text is embedded twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from enum import StrEnum

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError, field_invalid, required
from services.vector.embedding.cache import CachedProvider, EmbeddingCache
from services.vector.embedding.provider import EmbeddingProvider, Providers
from services.vector.model import (
    Collection,
    CollectionSettings,
    EmbeddingIdentity,
    Metric,
    NewRecord,
    Record,
)
from services.vector.rag import Place
from services.vector.storage import VectorStorage

log = logging.getLogger(__name__)

SHADOW = "~"
_PAGE = 200
_RETRY_S = (1.0, 5.0, 30.0)


class Status(StrEnum):
    """Where it stands."""

    NONE = "none"
    RUNNING = "running"
    WAITING = "waiting"
    SWITCHED = "switched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reembedding:
    """How far it is."""

    status: Status
    active: EmbeddingIdentity | None
    other: EmbeddingIdentity | None = None
    done_count: int = 0
    total_count: int = 0
    message: str = ""


class Reembedder:
    """Runs at most one for each collection. Made inside a running loop."""

    def __init__(
        self,
        storage: VectorStorage,
        providers: Providers,
        cache: EmbeddingCache,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._providers = providers
        self._cache = cache
        self._clock = clock
        self._running: dict[Place, asyncio.Task[None]] = {}
        self._trouble: dict[Place, str] = {}

    async def run(self) -> None:
        """Go on with what a restart interrupted, until cancelled."""
        for place in await self._storage.shadows():
            self._begin(place)
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def start(self, place: Place, provider: str) -> Reembedding:
        """Begin, go on, or go back.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, FIELD_REQUIRED, FIELD_INVALID.
        """
        if not provider:
            raise required("provider")
        chosen = self._providers.choose(provider)
        collection, _ = await self._storage.get_collection(*place)
        if collection.embedding is None:
            raise field_invalid(
                "collection_id", "must hold texts; these vectors are the caller's own"
            )
        shadow = await self._shadow(place)
        if chosen.identity == collection.embedding:
            raise field_invalid("provider", "is the one that made the collection's vectors")
        if shadow is not None and shadow.embedding != chosen.identity:
            await self.end(place)
            shadow = None
        if shadow is None:
            await self._storage.create_collection(
                *_shadow_of(place),
                dimension=chosen.identity.dimension,
                metric=Metric.COSINE,
                embedding=chosen.identity,
                settings=CollectionSettings(hnsw=collection.hnsw),
            )
        self._begin(place)
        return await self.status(place)

    async def status(self, place: Place) -> Reembedding:
        """How far it is.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """
        collection, _ = await self._storage.get_collection(*place)
        shadow = await self._shadow(place)
        if shadow is None:
            return Reembedding(status=Status.NONE, active=collection.embedding)
        status = Status.SWITCHED if shadow.role == "previous" else Status.RUNNING
        if place in self._running:
            status = Status.WAITING if place in self._trouble else Status.RUNNING
        return Reembedding(
            status=status,
            active=collection.embedding,
            other=shadow.embedding,
            done_count=min(shadow.record_count, collection.record_count),
            total_count=collection.record_count,
            message=self._trouble.get(place, ""),
        )

    async def end(self, place: Place) -> int:
        """Stop, and give up the other vectors; how many those are."""
        task = self._running.pop(place, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._trouble.pop(place, None)
        return (await self._storage.delete_collection(*_shadow_of(place))).count

    def _begin(self, place: Place) -> None:
        if place not in self._running:
            task = asyncio.create_task(self._work(place))
            self._running[place] = task
            task.add_done_callback(lambda done: self._ended(place, done))

    def _ended(self, place: Place, task: asyncio.Task[None]) -> None:
        if self._running.get(place) is task:
            del self._running[place]
        if not task.cancelled() and (error := task.exception()):
            log.error("embedding anew ended", exc_info=error)

    async def _work(self, place: Place) -> None:
        failures = 0
        while True:
            try:
                if await self._pass(place):
                    return
                self._trouble.pop(place, None)
                failures = 0
            except ServiceError as error:
                if error.reason == Reason.COLLECTION_NOT_FOUND:  # it was given up meanwhile
                    return
                self._trouble[place] = error.message
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1

    async def _pass(self, place: Place) -> bool:
        """Bring the shadow into step; whether it has taken the collection's place."""
        shadow, _ = await self._storage.get_collection(*_shadow_of(place))
        identity = shadow.embedding
        assert identity is not None
        chosen = self._providers.choose(identity.provider)
        if chosen.identity != identity:
            raise field_invalid("provider", f"no longer makes vectors of {identity}")
        embedder = CachedProvider(chosen, self._cache, tenant=place[0])
        revision = await self._storage.records_revision(*place)
        await self._remove_lost(place)
        await self._add_missing(place, embedder)
        with contextlib.suppress(_Changed):
            await self._swap(place, revision)
            return True
        return False

    async def _swap(self, place: Place, revision: int) -> None:
        try:
            await self._storage.swap_shadow(*place, records_revision=revision)
        except ServiceError as error:
            if error.reason == Reason.REVISION_MISMATCH:
                raise _Changed from None
            raise

    async def _remove_lost(self, place: Place) -> None:
        shadow, after = _shadow_of(place), ""
        while True:
            page = await self._storage.list_records(*shadow, limit=_PAGE, after=after)
            ids = [record.record_id for record in page.records]
            there, _ = await self._storage.get(*place, ids)
            lost = set(ids) - {record.record_id for record in there}
            if lost:
                await self._storage.delete(*shadow, sorted(lost))
            if page.cursor is None:
                return
            after = page.cursor

    async def _add_missing(self, place: Place, embedder: EmbeddingProvider) -> None:
        shadow, after = _shadow_of(place), ""
        while True:
            page = await self._storage.list_records(*place, limit=_PAGE, after=after)
            ids = [record.record_id for record in page.records]
            there, _ = await self._storage.get(*shadow, ids)
            known = {record.record_id: _content(record) for record in there}
            wanted = [
                record for record in page.records if known.get(record.record_id) != _content(record)
            ]
            if wanted:
                embedded = await embedder.embed([record.text for record in wanted])
                pairs = zip(wanted, embedded.vectors, strict=True)
                records = [self._new(record, vector) for record, vector in pairs]
                await self._storage.upsert(*shadow, records, embedding=embedder.identity)
            if page.cursor is None:
                return
            after = page.cursor

    def _new(self, record: Record, vector: object) -> NewRecord:
        left = None
        if record.expire_time_ns is not None:
            left = max(record.expire_time_ns - self._clock.now_ns(), 1)
        return NewRecord(
            record_id=record.record_id,
            vector=vector,  # type: ignore[arg-type]  # a row of the provider's matrix
            metadata=record.metadata,
            text=record.text,
            event_time_ns=record.event_time_ns,
            ttl_ns=left,
        )

    async def _shadow(self, place: Place) -> Collection | None:
        try:
            found, _ = await self._storage.get_collection(*_shadow_of(place))
        except ServiceError as error:
            if error.reason == Reason.COLLECTION_NOT_FOUND:
                return None
            raise
        return found


class _Changed(Exception):  # noqa: N818  (no error: there is more to do)
    """Records were written meanwhile."""


def _shadow_of(place: Place) -> Place:
    return place[0], place[1], SHADOW + place[2]


def _content(record: Record) -> tuple[object, ...]:
    return (
        record.text,
        record.metadata,
        record.event_time_ns,
        record.expire_time_ns is None,
    )

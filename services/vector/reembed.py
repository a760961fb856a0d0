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
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

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
    Vector,
)
from services.vector.rag import Place, packed
from services.vector.storage import VectorStorage
from services.vector.times import Times

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
    ) -> None:
        self._storage = storage
        self._providers = providers
        self._cache = cache
        self._running: dict[Place, asyncio.Task[None]] = {}
        self._trouble: dict[Place, str] = {}
        self._choosing = asyncio.Lock()
        """Held while a shadow is made or given up: a pass must not take one for another."""

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
        """Begin, go on, or go back; asked again after the switch, it says where it stands.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, FIELD_REQUIRED, FIELD_INVALID.
        """
        if not provider:
            raise required("provider")
        chosen = self._providers.choose(provider)
        async with self._choosing:
            collection, _ = await self._storage.get_collection(*place)
            shadow = await self._shadow(place)
            if chosen.identity != collection.embedding:
                await self._aim(place, collection, shadow, chosen.identity)
                self._begin(place)
            elif shadow is None or shadow.role != "previous":
                raise field_invalid("provider", "is the one that made the collection's vectors")
        return await self.status(place)

    async def _aim(
        self,
        place: Place,
        collection: Collection,
        shadow: Collection | None,
        identity: EmbeddingIdentity,
    ) -> None:
        """See to it that the shadow is for these vectors."""
        if collection.embedding is None:
            raise field_invalid(
                "collection_id", "must hold texts; these vectors are the caller's own"
            )
        if shadow is not None and shadow.embedding == identity:
            return
        if shadow is not None:
            await self._give_up(place)
        await self._storage.create_collection(
            *_shadow_of(place),
            dimension=identity.dimension,
            metric=Metric.COSINE,
            embedding=identity,
            settings=CollectionSettings(hnsw=collection.hnsw),
        )

    async def status(self, place: Place) -> Reembedding:
        """How far it is.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """
        collection, _ = await self._storage.get_collection(*place)
        shadow = await self._shadow(place)
        if shadow is None:
            return Reembedding(status=Status.NONE, active=collection.embedding)
        if place in self._trouble:
            status = Status.WAITING
        elif place in self._running or shadow.role != "previous":
            status = Status.RUNNING
        else:
            status = Status.SWITCHED
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
        async with self._choosing:
            return await self._give_up(place)

    async def _give_up(self, place: Place) -> int:
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
            self._trouble[place] = "A fault of the server ended it; ask again to go on."

    async def _work(self, place: Place) -> None:
        failures, done = 0, False
        self._trouble.pop(place, None)
        while not done:
            try:
                done = await self._pass(place)
                self._trouble.pop(place, None)
                failures = 0
            except ServiceError as error:
                if error.reason == Reason.COLLECTION_NOT_FOUND:  # it was given up meanwhile
                    self._trouble.pop(place, None)
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
                _refuse_without_text(wanted)
                embedded = await embedder.embed([record.text for record in wanted])
                pairs = zip(wanted, embedded.vectors, strict=True)
                records = [_copy(record, vector) for record, vector in pairs]
                await self._storage.upsert(*shadow, records, embedding=embedder.identity)
            if page.cursor is None:
                return
            after = page.cursor

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


def _copy(record: Record, vector: Vector) -> NewRecord:
    """The same record with another vector."""
    return NewRecord(
        record_id=record.record_id,
        vector=vector,
        metadata=record.metadata,
        text=record.text,
        event_time_ns=record.event_time_ns,
        copied=Times(record.ingest_time_ns, record.expire_time_ns),
    )


def _content(record: Record) -> tuple[object, ...]:
    """All that a copy has of a record; metadata packed, since 1 and true are equal to Python."""
    return (
        record.text,
        packed(record.metadata),
        record.event_time_ns,
        record.expire_time_ns,
        record.ingest_time_ns,
    )


def _refuse_without_text(records: Sequence[Record]) -> None:
    for record in records:
        if not record.text or record.text.isspace():
            raise field_invalid("text", f"is missing in the record {record.record_id!r}")

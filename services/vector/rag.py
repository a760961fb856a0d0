"""Documents in, over any VectorStorage: chunk, embed, store. `retrieval` gets passages out.

A chunk is a record named `DOCUMENT#NUMBER`, so a document's records are found by prefix and
replaced in one step when it is ingested again. `%` and `#` in a document's id are escaped, so that
no document's prefix is another's beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import msgspec
from blake3 import blake3

from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import (
    CHUNKS_MAX,
    DOCUMENT_BYTES_MAX,
    DOCUMENT_ID_BYTES_MAX,
    DOCUMENTS_MAX,
)
from services.vector.checks import check_collection_id
from services.vector.chunking import Chunk, Chunking, ChunkUnit, chunk_text
from services.vector.embedding.cache import CachedProvider, EmbeddingCache
from services.vector.embedding.provider import EmbeddingProvider, Providers
from services.vector.model import (
    Collection,
    CollectionChanges,
    CollectionSettings,
    Deleted,
    Filter,
    Mask,
    Metric,
    NewRecord,
    Record,
    Value,
)
from services.vector.storage import VectorStorage
from services.vector.structure import language_of
from services.vector.texts import Texts

DEFAULT_COLLECTION = "documents"
Place = tuple[str, str, str]
"""Tenant, scope and collection."""

_HEADS = Mask(text=False)
_THREAD_FROM_CHARACTERS = 20_000
_ID_DIGITS = 32
_NUMBER = re.compile("[0-9]{1,9}")
_LISTED_AT_ONCE = 500
_LISTED_MAX = 20_000
"""Records after which a page of documents ends, so that it does not take for ever."""
_OF_ANOTHER_EMBEDDING = frozenset({Reason.EMBEDDING_MISMATCH, Reason.DIMENSION_MISMATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text to ingest."""

    text: str
    document_id: str = ""
    """Empty: one is made from the text, so the same text is the same document."""
    metadata: dict[str, Value] = field(default_factory=dict)
    event_time_ns: int | None = None
    ttl_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What an ingestion did."""

    document_ids: list[str]
    chunk_count: int
    token_count: int
    cached_count: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSummary:
    """One document, without its text."""

    document_id: str
    chunk_count: int
    metadata: dict[str, Value]
    ingest_time_ns: int


class Rag:
    """The two directions, for every tenant of a deployment."""

    def __init__(self, storage: VectorStorage, providers: Providers, cache: EmbeddingCache) -> None:
        self._storage = storage
        self._providers = providers
        self._cache = cache
        self.texts = Texts(providers, cache)

    async def ingest(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        documents: Sequence[Document],
        *,
        chunking: Chunking,
        provider: str = "",
        row_filter: Filter | None = None,
    ) -> Ingested:
        """Store documents, all or none; one that was there under the same id is replaced.

        Raises:
            ServiceError: FIELD_REQUIRED (a text without content), LIMIT_EXCEEDED,
                EMBEDDING_MISMATCH, PROVIDER_UNAVAILABLE, and what `VectorStorage.upsert` raises.
                Nothing was written.
        """
        _check_documents(documents)
        place = (tenant, scope, collection_name(collection_id))
        named = _named(documents)
        while True:
            embedder = await self._embedder(place, provider)
            cut = await _chunk_all(_last_of_each(named), chunking, embedder)
            try:
                stored = await self._store(place, cut, embedder, row_filter)
            except ServiceError as error:
                if not await self._switched(place, embedder, provider, error):
                    raise
            else:
                return replace(stored, document_ids=[each.document_id for each in named])

    async def ingest_changed(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        documents: Sequence[Document],
        *,
        chunking: Chunking,
        provider: str = "",
        row_filter: Filter | None = None,
    ) -> tuple[Ingested, int]:
        """The same, but for documents that are there unchanged; how many those are comes second.

        A document with a time to live is always written.
        """
        _check_documents(documents)
        place = (tenant, scope, collection_name(collection_id))
        named = _last_of_each(_named(documents))
        while True:
            embedder = await self._embedder(place, provider)
            cut = await _chunk_all(named, chunking, embedder)
            new = [each for each in cut if not await self._is_there(place, each, row_filter)]
            if not new:
                return await self._nothing(place), len(cut)
            try:
                return await self._store(place, new, embedder, row_filter), len(cut) - len(new)
            except ServiceError as error:
                if not await self._switched(place, embedder, provider, error):
                    raise

    async def _nothing(self, place: Place) -> Ingested:
        """What was done where everything is there."""
        revision = await self._storage.records_revision(*place)
        return Ingested(
            document_ids=[], chunk_count=0, token_count=0, cached_count=0, revision=revision
        )

    async def _switched(
        self, place: Place, embedder: EmbeddingProvider, provider: str, error: ServiceError
    ) -> bool:
        """Whether a write failed since the collection was embedded anew meanwhile."""
        if provider or error.reason not in _OF_ANOTHER_EMBEDDING:
            return False
        found, _ = await self._storage.get_collection(*place)
        return found.embedding != embedder.identity

    async def list_documents(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
    ) -> tuple[list[DocumentSummary], str | None, int]:
        """Documents in order of record id behind a cursor, the next cursor, and the revision.

        A page may be short before the end: read on until its cursor is None.
        """
        place = (tenant, scope, collection_name(collection_id))
        heads = _Heads(limit, after)
        while True:
            page = await self._storage.list_records(
                *place, limit=_LISTED_AT_ONCE, after=after, where=where, mask=_HEADS
            )
            for record in page.records:
                if not heads.take(record):
                    return heads.found, heads.cursor, page.revision
            if page.cursor is None:
                return heads.found, None, page.revision
            after = page.cursor

    async def delete(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        document_ids: Sequence[str],
        *,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Remove documents with all their chunks; what is not there counts 0."""
        for position, document_id in enumerate(document_ids):
            _check_id(document_id, f"document_ids[{position}]")
        return await self._storage.delete_prefixes(
            tenant,
            scope,
            collection_name(collection_id),
            [prefix_of(document_id) for document_id in document_ids],
            row_filter=row_filter,
        )

    def dimension_of(self, provider: str) -> int:
        """Length of a provider's vectors; empty: the default one's.

        Raises:
            ServiceError: FIELD_INVALID where there is no such provider.
        """
        return self._providers.choose(provider).identity.dimension

    async def ensure_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        provider: str,
        settings: CollectionSettings,
    ) -> tuple[Collection, int]:
        """Make a collection for documents; one that is there keeps all but its times to live.

        Raises:
            ServiceError: EMBEDDING_MISMATCH, and what `VectorStorage.create_collection` raises.
        """
        place = (tenant, scope, collection_name(collection_id))
        embedder = self._providers.choose(provider)
        found = await self._storage.ensure_collection(
            *place, metric=Metric.COSINE, embedding=embedder.identity, settings=settings
        )
        if settings.default_ttl_ns is None and settings.ttl_ns is None:
            return found
        changes = CollectionChanges(default_ttl_ns=settings.default_ttl_ns, ttl_ns=settings.ttl_ns)
        return await self._storage.update_collection(*place, changes)

    async def _embedder(self, place: Place, provider: str) -> EmbeddingProvider:
        """The provider that was named, else the collection's, else the default."""
        if not provider:
            with contextlib.suppress(ServiceError):
                found, _ = await self._storage.get_collection(*place)
                held = found.embedding.provider if found.embedding else ""
                provider = held if held in self._providers.by_name else ""
        chosen = self._providers.choose(provider)
        # Before the work of embedding, so that a mismatch costs nothing.
        await self._storage.ensure_collection(
            *place, metric=Metric.COSINE, embedding=chosen.identity
        )
        return CachedProvider(chosen, self._cache, tenant=place[0])

    async def _is_there(self, place: Place, cut: _Cut, row_filter: Filter | None) -> bool:
        """Whether a document's chunks are stored just so, and for ever as it asks."""
        if cut.document.ttl_ns is not None:
            return False
        ids = [f"{prefix_of(cut.document.document_id)}{n}" for n in range(len(cut.chunks) + 1)]
        found, _ = await self._storage.get(*place, ids, row_filter=row_filter)
        if any(record.expire_time_ns is not None for record in found):
            return False
        metadata, event_time_ns = packed(cut.document.metadata), cut.document.event_time_ns
        told = [(each.text, packed(each.metadata), each.event_time_ns) for each in found]
        return told == [(chunk.text, metadata, event_time_ns) for chunk in cut.chunks]

    async def _store(
        self,
        place: Place,
        cut: Sequence[_Cut],
        embedder: EmbeddingProvider,
        row_filter: Filter | None,
    ) -> Ingested:
        embedded = await embedder.embed([chunk.text for each in cut for chunk in each.chunks])
        vectors = iter(embedded.vectors)
        records = [
            NewRecord(
                record_id=f"{prefix_of(each.document.document_id)}{chunk.index}",
                vector=next(vectors),
                metadata=each.document.metadata,
                text=chunk.text,
                event_time_ns=each.document.event_time_ns,
                ttl_ns=each.document.ttl_ns,
            )
            for each in cut
            for chunk in each.chunks
        ]
        ids = [each.document.document_id for each in cut]
        written = await self._storage.upsert(
            *place,
            records,
            replace_prefixes=[prefix_of(document_id) for document_id in ids],
            row_filter=row_filter,
            embedding=embedder.identity,
        )
        return Ingested(
            document_ids=ids,
            chunk_count=len(records),
            token_count=embedded.token_count,
            cached_count=embedded.cached_count,
            revision=written.revision,
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    document: Document
    chunks: list[Chunk]


class _Heads:
    """Gathers documents from their chunks, which come in order of record id."""

    def __init__(self, limit: int, after: str) -> None:
        self._limit = limit
        self._taken = 0
        self.found: list[DocumentSummary] = []
        self.cursor = after
        """The last record of the documents found; the next page starts behind it."""

    def take(self, record: Record) -> bool:
        """Count a record; False where it begins a document that has no room."""
        document_id, _ = split_record_id(record.record_id)
        self._taken += 1
        if self.found and self.found[-1].document_id == document_id:
            last = self.found.pop()
            self.found.append(replace(last, chunk_count=last.chunk_count + 1))
        elif len(self.found) == self._limit or self._taken > _LISTED_MAX:
            return False
        elif document_id:
            self.found.append(
                DocumentSummary(
                    document_id=document_id,
                    chunk_count=1,
                    metadata=record.metadata,
                    ingest_time_ns=record.ingest_time_ns,
                )
            )
        self.cursor = record.record_id
        return True


def _named(documents: Sequence[Document]) -> list[Document]:
    """Documents with an id each."""
    return [
        each if each.document_id else replace(each, document_id=_id_of(each.text))
        for each in documents
    ]


def _last_of_each(documents: Sequence[Document]) -> list[Document]:
    """The last one counts of those that share an id, as with records."""
    return list({each.document_id: each for each in documents}.values())


def packed(metadata: dict[str, Value]) -> bytes:
    """The same bytes for the same metadata; 1, 1.0 and true, equal to Python, differ."""
    return msgspec.msgpack.encode(metadata, order="deterministic")


async def _chunk_all(
    documents: Sequence[Document], chunking: Chunking, embedder: EmbeddingProvider
) -> list[_Cut]:
    """The chunks of each document; off the event loop where there is much to cut."""

    def cut() -> list[_Cut]:
        found: list[_Cut] = []
        room = CHUNKS_MAX
        for document in documents:
            chunks = chunk_text(
                document.text,
                _chunking_of(document, chunking),
                token_spans=embedder.token_spans,
                chunks_max=room,
            )
            found.append(_Cut(document, chunks))
            room -= len(chunks)
        return found

    if sum(len(document.text) for document in documents) < _THREAD_FROM_CHARACTERS:
        return cut()
    return await asyncio.to_thread(cut)


def _chunking_of(document: Document, chunking: Chunking) -> Chunking:
    """How to cut this one: program text by its own language."""
    if chunking.unit is not ChunkUnit.CODE:
        return chunking
    told = document.metadata.get("language")
    return replace(chunking, language=language_of(chunking.language, told, document.document_id))


def _check_documents(documents: Sequence[Document]) -> None:
    if not documents:
        raise required("documents")
    if len(documents) > DOCUMENTS_MAX:
        raise limit_exceeded("documents", len(documents), DOCUMENTS_MAX)
    for position, document in enumerate(documents):
        name = f"documents[{position}]"
        size = len(document.text.encode())
        if size > DOCUMENT_BYTES_MAX:
            raise limit_exceeded(f"{name}.text", size, DOCUMENT_BYTES_MAX, "bytes")
        if not document.text or document.text.isspace():
            raise required(f"{name}.text")
        if document.document_id:
            _check_id(document.document_id, f"{name}.document_id")


def _check_id(document_id: str, name: str) -> None:
    if not document_id:
        raise required(name)
    if any(ord(character) < ord(" ") or character == "\x7f" for character in document_id):
        raise field_invalid(name, "must not hold control characters")
    size = len(prefix_of(document_id).encode())
    if size > DOCUMENT_ID_BYTES_MAX:
        raise limit_exceeded(name, size, DOCUMENT_ID_BYTES_MAX, "bytes")


def collection_name(collection_id: str) -> str:
    """The collection that is meant, with a name that one can have."""
    name = collection_id or DEFAULT_COLLECTION
    check_collection_id(name)
    return name


def split_record_id(record_id: str) -> tuple[str, int]:
    """Document and number of a chunk's record; no document for a record that is none."""
    escaped, _, number = record_id.rpartition("#")
    return (unquote(escaped), int(number)) if _NUMBER.fullmatch(number) else ("", 0)


def prefix_of(document_id: str) -> str:
    """What the ids of a document's records begin with."""
    return document_id.replace("%", "%25").replace("#", "%23") + "#"


def _id_of(text: str) -> str:
    return blake3(text.encode()).hexdigest()[:_ID_DIGITS]

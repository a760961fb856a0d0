"""Documents in, passages out, over any VectorStorage: chunk, embed, store, retrieve.

A chunk is a record named `DOCUMENT#NUMBER`, so a document's records are found by prefix and
replaced in one step when it is ingested again. `%` and `#` in a document's id are escaped, so that
no document's prefix is another's beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

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
    QUERY_TEXT_BYTES_MAX,
)
from services.vector.checks import check_collection_id, check_settings
from services.vector.chunking import Chunk, Chunking, chunk_text
from services.vector.embedding.cache import CachedProvider, EmbeddingCache
from services.vector.embedding.provider import EmbeddingProvider, Providers
from services.vector.model import (
    Collection,
    Deleted,
    Exactness,
    Filter,
    Hit,
    Metric,
    NewRecord,
    Query,
    Value,
)
from services.vector.refusals import embedding_mismatch
from services.vector.storage import VectorStorage

DEFAULT_COLLECTION = "documents"
_THREAD_FROM_CHARACTERS = 20_000
_ID_DIGITS = 32


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
class Question:
    """What to look for."""

    text: str
    provider: str = ""
    """Empty: the one that made the collection's vectors."""
    filter: Filter | None = None
    limit: int = 10
    score_threshold: float | None = None
    exactness: Exactness = Exactness.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document that was found."""

    record_id: str
    document_id: str
    chunk_index: int
    text: str
    score: float
    metadata: dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Passages, best first."""

    passages: list[Passage]
    exact: bool
    revision: int


class Rag:
    """The two directions, for every tenant of a deployment."""

    def __init__(self, storage: VectorStorage, providers: Providers, cache: EmbeddingCache) -> None:
        self._storage = storage
        self._providers = providers
        self._cache = cache

    async def ingest(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        documents: Sequence[Document],
        *,
        chunking: Chunking,
        provider: str = "",
    ) -> Ingested:
        """Store documents, all or none; one that was there under the same id is replaced.

        Raises:
            ServiceError: FIELD_REQUIRED (a text without content), LIMIT_EXCEEDED,
                EMBEDDING_MISMATCH, PROVIDER_UNAVAILABLE, and what `VectorStorage.upsert` raises.
                Nothing was written.
        """
        _check_documents(documents)
        embedder = self._embedder(tenant, provider)
        collection_id = _collection(collection_id)
        # Before the work of embedding, so that a mismatch costs nothing.
        await self._storage.ensure_collection(
            tenant, scope, collection_id, metric=Metric.COSINE, embedding=embedder.identity
        )
        ids = [document.document_id or _id_of(document.text) for document in documents]
        chunks = await _chunk_all(documents, chunking, embedder)
        embedded = await embedder.embed([chunk.text for pieces in chunks for chunk in pieces])
        vectors = iter(embedded.vectors)
        records = [
            NewRecord(
                record_id=f"{_prefix(document_id)}{chunk.index}",
                vector=next(vectors),
                metadata=document.metadata,
                text=chunk.text,
                event_time_ns=document.event_time_ns,
                ttl_ns=document.ttl_ns,
            )
            for document_id, document, pieces in zip(ids, documents, chunks, strict=True)
            for chunk in pieces
        ]
        prefixes = [_prefix(document_id) for document_id in dict.fromkeys(ids)]
        written = await self._storage.upsert(
            tenant, scope, collection_id, records, replace_prefixes=prefixes
        )
        return Ingested(
            document_ids=ids,
            chunk_count=len(records),
            token_count=embedded.token_count,
            cached_count=embedded.cached_count,
            revision=written.revision,
        )

    async def retrieve(
        self, tenant: str, scope: str, collection_id: str, question: Question
    ) -> Retrieved:
        """The passages nearest to a text.

        The default collection counts as empty where nothing was ingested into it yet.

        Raises:
            ServiceError: FIELD_REQUIRED, LIMIT_EXCEEDED, COLLECTION_NOT_FOUND, EMBEDDING_MISMATCH,
                PROVIDER_UNAVAILABLE, and what `VectorStorage.search` raises.
        """
        _check_question(question.text)
        query = Query(
            vectors=(),
            filter=question.filter,
            limit=question.limit,
            score_threshold=question.score_threshold,
            exactness=question.exactness,
        )
        check_settings(query)
        collection_id = _collection(collection_id)
        try:
            collection, revision = await self._storage.get_collection(tenant, scope, collection_id)
        except ServiceError as error:
            absent = error.reason == Reason.COLLECTION_NOT_FOUND
            if absent and collection_id == DEFAULT_COLLECTION:
                stats = await self._storage.stats(tenant, scope)
                return Retrieved(passages=[], exact=True, revision=stats.revision)
            raise
        made_by = collection.embedding.provider if collection.embedding else ""
        embedder = self._embedder(tenant, question.provider or made_by)
        _check_identity(collection, embedder)
        embedded = await embedder.embed([question.text])
        query = replace(query, vectors=[embedded.vectors[0]])
        [result] = await self._storage.search(tenant, scope, collection.collection_id, query)
        return Retrieved(
            passages=[_passage(hit) for hit in result.hits],
            exact=result.exact,
            revision=max(result.revision, revision),
        )

    async def delete(
        self, tenant: str, scope: str, collection_id: str, document_ids: Sequence[str]
    ) -> Deleted:
        """Remove documents with all their chunks; what is not there counts 0."""
        for position, document_id in enumerate(document_ids):
            _check_id(document_id, f"document_ids[{position}]")
        prefixes = [_prefix(document_id) for document_id in document_ids]
        return await self._storage.delete_prefixes(
            tenant, scope, _collection(collection_id), prefixes
        )

    def _embedder(self, tenant: str, provider: str) -> EmbeddingProvider:
        return CachedProvider(self._providers.choose(provider), self._cache, tenant=tenant)


async def _chunk_all(
    documents: Sequence[Document], chunking: Chunking, embedder: EmbeddingProvider
) -> list[list[Chunk]]:
    """The chunks of each document; off the event loop where there is much to cut."""

    def cut() -> list[list[Chunk]]:
        found: list[list[Chunk]] = []
        room = CHUNKS_MAX
        for document in documents:
            found.append(
                chunk_text(
                    document.text, chunking, token_spans=embedder.token_spans, chunks_max=room
                )
            )
            room -= len(found[-1])
        return found

    if sum(len(document.text) for document in documents) < _THREAD_FROM_CHARACTERS:
        return cut()
    return await asyncio.to_thread(cut)


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
    size = len(_prefix(document_id).encode())
    if size > DOCUMENT_ID_BYTES_MAX:
        raise limit_exceeded(name, size, DOCUMENT_ID_BYTES_MAX, "bytes")


def _collection(collection_id: str) -> str:
    """The collection that is meant, with a name that one can have."""
    name = collection_id or DEFAULT_COLLECTION
    check_collection_id(name)
    return name


def _check_question(text: str) -> None:
    if not text or text.isspace():
        raise required("text")
    size = len(text.encode())
    if size > QUERY_TEXT_BYTES_MAX:
        raise limit_exceeded("text", size, QUERY_TEXT_BYTES_MAX, "bytes")


def _check_identity(collection: Collection, embedder: EmbeddingProvider) -> None:
    if collection.embedding != embedder.identity:
        raise embedding_mismatch(collection.collection_id, collection.embedding, embedder.identity)


def _passage(hit: Hit) -> Passage:
    escaped, _, number = hit.record.record_id.rpartition("#")
    return Passage(
        record_id=hit.record.record_id,
        document_id=unquote(escaped),
        chunk_index=int(number) if number.isdecimal() else 0,
        text=hit.record.text,
        score=hit.score,
        metadata=hit.record.metadata,
    )


def _prefix(document_id: str) -> str:
    return document_id.replace("%", "%25").replace("#", "%23") + "#"


def _id_of(text: str) -> str:
    return blake3(text.encode()).hexdigest()[:_ID_DIGITS]

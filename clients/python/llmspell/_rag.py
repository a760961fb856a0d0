"""RagService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from llmspell import types
from llmspell._contract import Call
from llmspell._filters import to_filter
from llmspell._values import from_fields, int32, to_duration, to_fields, to_timestamp
from llmspell._vectors import exactness, from_embedding
from llmspell.errors import InvalidArgument
from llmspell.types import (
    ChunkUnit,
    Document,
    EmbeddingProvider,
    IngestResult,
    Passage,
    SearchResult,
)
from llmspell.v1 import rag_pb2 as pb

INGEST_TIMEOUT_S = 300.0
"""Embedding takes longer than other calls; this is also the most that a deployment allows."""

_UNITS: dict[str, pb.ChunkUnit] = {
    "characters": pb.CHUNK_UNIT_CHARACTERS,
    "sentences": pb.CHUNK_UNIT_SENTENCES,
    "tokens": pb.CHUNK_UNIT_TOKENS,
}


def ingest(
    documents: Iterable[Document | str],
    *,
    collection: str,
    scope: str,
    provider: str,
    chunking: pb.Chunking,
    timeout_s: float,
) -> Call[IngestResult]:
    """Chunk, embed and store documents."""
    request = pb.IngestDocumentsRequest(
        scope=scope,
        collection_id=collection,
        documents=[_document(document, f"documents[{n}]") for n, document in enumerate(documents)],
        chunking=chunking,
        provider=provider,
    )
    return Call(request, _ingest_result, timeout_s)


def chunking(unit: ChunkUnit | None, size: int, overlap: int | None) -> pb.Chunking:
    """How to cut texts."""
    if unit is not None and unit not in _UNITS:
        raise InvalidArgument(
            f"chunk_unit must be one of {', '.join(_UNITS)}, not {unit!r}.",
            metadata={"field": "chunk_unit"},
        )
    return pb.Chunking(
        unit=_UNITS[unit] if unit is not None else pb.CHUNK_UNIT_UNSPECIFIED,
        size=int32(size, "chunk_size"),
        overlap=None if overlap is None else int32(overlap, "overlap"),
    )


def retrieve(
    text: str,
    k: int,
    *,
    where: types.Filter | None,
    collection: str,
    scope: str,
    threshold: float | None,
    exact: bool | None,
    provider: str,
) -> Call[SearchResult[Passage]]:
    """The passages nearest to a text."""
    request = pb.RetrieveDocumentsRequest(
        scope=scope,
        collection_id=collection,
        text=text,
        filter=to_filter(where),
        provider=provider,
        limit=int32(k, "k"),
        score_threshold=threshold,
        exactness=exactness(exact),
    )
    return Call(request, _passages)


def delete_documents(document_ids: Iterable[str], collection: str, scope: str) -> Call[int]:
    """Remove documents; how many chunks went with them."""
    request = pb.DeleteDocumentsRequest(
        scope=scope, collection_id=collection, document_ids=document_ids
    )
    return Call(request, lambda answer: answer.deleted_count)


def embedding_providers() -> Call[list[EmbeddingProvider]]:
    """The embedding providers that the deployment has."""
    return Call(pb.ListEmbeddingProvidersRequest(), _providers)


def _document(document: Document | str, path: str) -> pb.Document:
    if isinstance(document, str):
        return pb.Document(text=document)
    return pb.Document(
        document_id=document.document_id,
        text=document.text,
        metadata=to_fields(document.metadata, f"{path}.metadata"),
        event_time=to_timestamp(document.event_time, f"{path}.event_time"),
        ttl=to_duration(document.ttl_s, f"{path}.ttl_s"),
    )


def _ingest_result(answer: pb.IngestDocumentsResponse) -> IngestResult:
    return IngestResult(
        document_ids=list(answer.document_ids),
        chunk_count=answer.chunk_count,
        token_count=answer.token_count,
        cached_count=answer.cached_count,
        revision=answer.revision,
    )


def _passages(answer: pb.RetrieveDocumentsResponse) -> SearchResult[Passage]:
    hits = tuple(_passage(passage) for passage in answer.passages)
    return SearchResult(hits=hits, exact=answer.exact, revision=answer.revision)


def _passage(message: pb.Passage) -> Passage:
    return Passage(
        record_id=message.record_id,
        document_id=message.document_id,
        chunk_index=message.chunk_index,
        text=message.text,
        score=message.score,
        metadata=from_fields(message.metadata),
    )


def _providers(answer: pb.ListEmbeddingProvidersResponse) -> list[EmbeddingProvider]:
    return [
        EmbeddingProvider(
            name=provider.name,
            embedding=from_embedding(provider.identity),
            default=provider.default,
        )
        for provider in answer.providers
    ]

"""RagService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from llmspell import types
from llmspell._contract import Call, Exchange, Page
from llmspell._filters import to_filter
from llmspell._settings import exactness, search_result, time_range, to_hnsw
from llmspell._values import (
    from_fields,
    from_timestamp,
    from_vector,
    int32,
    to_duration,
    to_fields,
    to_timestamp,
)
from llmspell._vectors import from_collection, from_embedding
from llmspell.errors import InvalidArgument
from llmspell.types import (
    ChunkUnit,
    Document,
    DocumentSummary,
    EmbeddedTexts,
    EmbeddingProvider,
    IngestResult,
    Passage,
    Progress,
    Reembedding,
    SearchResult,
    TextChunk,
)
from llmspell.v1 import rag_pb2 as pb

INGEST_TIMEOUT_S = 300.0
"""Embedding takes longer than other calls; this is also the most that a deployment allows."""

_UNITS: dict[str, pb.ChunkUnit] = {
    "characters": pb.CHUNK_UNIT_CHARACTERS,
    "sentences": pb.CHUNK_UNIT_SENTENCES,
    "tokens": pb.CHUNK_UNIT_TOKENS,
    "markdown": pb.CHUNK_UNIT_MARKDOWN,
    "code": pb.CHUNK_UNIT_CODE,
}
_MODES: dict[types.Mode, pb.RetrievalMode] = {
    "dense": pb.RETRIEVAL_MODE_DENSE,
    "lexical": pb.RETRIEVAL_MODE_LEXICAL,
    "hybrid": pb.RETRIEVAL_MODE_HYBRID,
}
IMPORT_DOCUMENTS = 16
"""Documents in one message of an import."""
_IMPORT_BYTES = 256 * 1024


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


def import_documents(
    documents: Iterable[Document | str],
    *,
    collection: str,
    scope: str,
    provider: str,
    chunking: pb.Chunking,
) -> Exchange[Progress]:
    """Ingest from a stream."""
    head = pb.ImportDocumentsRequest(
        scope=scope, collection_id=collection, provider=provider, chunking=chunking
    )
    return Exchange(pb.ImportDocumentsRequest, _batches(head, documents), _progress)


def ensure_document_collection(
    collection: str,
    *,
    scope: str,
    provider: str,
    hnsw: types.Hnsw | None,
    default_ttl_s: float | None,
    history_s: float | None,
    ttl_s: float | None,
) -> Call[types.Collection]:
    """Make a collection for documents."""
    request = pb.EnsureDocumentCollectionRequest(
        scope=scope,
        collection_id=collection,
        provider=provider,
        hnsw=to_hnsw(hnsw),
        default_ttl=to_duration(default_ttl_s, "default_ttl_s"),
        history_window=to_duration(history_s, "history_s"),
        ttl=to_duration(ttl_s, "ttl_s"),
    )
    return Call(request, lambda answer: from_collection(answer.collection))


def list_documents(collection: str, scope: str) -> Call[Page[DocumentSummary]]:
    """A page of documents."""
    return Call(pb.ListDocumentsRequest(scope=scope, collection_id=collection), _documents)


def reembed(provider: str, collection: str, scope: str) -> Call[Reembedding]:
    """Begin to embed anew."""
    request = pb.ReembedCollectionRequest(scope=scope, collection_id=collection, provider=provider)
    return Call(request, lambda answer: _reembedding(answer.reembedding))


def reembedding(collection: str, scope: str) -> Call[Reembedding]:
    """How far that is."""
    request = pb.GetReembeddingRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: _reembedding(answer.reembedding))


def end_reembedding(collection: str, scope: str) -> Call[int]:
    """End it."""
    request = pb.EndReembeddingRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: answer.deleted_count)


def chunking(
    unit: ChunkUnit | None, size: int, overlap: int | None, language: str = ""
) -> pb.Chunking:
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
        language=language,
    )


def retrieve(
    text: str,
    k: int,
    *,
    collection: str,
    scope: str,
    settings: types.TextSettings,
) -> Call[SearchResult[Passage]]:
    """The best passages for a text."""
    request = pb.RetrieveDocumentsRequest(
        scope=scope,
        collection_id=collection,
        text=text,
        filter=to_filter(settings.get("filter")),
        provider=settings.get("provider", ""),
        mode=_mode(settings.get("mode", "dense")),
        fusion=_fusion(settings),
        diversity=_diversity(settings.get("diversity")),
        event_time=time_range(settings.get("event_time"), "event_time"),
        ingest_time=time_range(settings.get("ingest_time"), "ingest_time"),
        as_of=to_timestamp(settings.get("as_of"), "as_of"),
        limit=int32(k, "k"),
        score_threshold=settings.get("threshold"),
        exactness=exactness(settings.get("exact")),
        min_recall=settings.get("min_recall"),
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


def chunk_text(text: str, chunking: pb.Chunking, provider: str) -> Call[list[TextChunk]]:
    """Cut a text."""
    request = pb.ChunkTextRequest(text=text, chunking=chunking, provider=provider)
    return Call(
        request,
        lambda answer: [TextChunk(each.text, each.start, each.end) for each in answer.chunks],
    )


def embed_texts(texts: Iterable[str], provider: str) -> Call[EmbeddedTexts]:
    """Embed texts."""
    request = pb.EmbedTextsRequest(texts=texts, provider=provider)
    return Call(
        request,
        lambda answer: EmbeddedTexts(
            vectors=[from_vector(vector) for vector in answer.vectors],
            embedding=from_embedding(answer.identity),
            token_count=answer.token_count,
            cached_count=answer.cached_count,
        ),
    )


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


def _batches(
    head: pb.ImportDocumentsRequest, documents: Iterable[Document | str]
) -> Iterator[pb.ImportDocumentsRequest]:
    """Documents in messages that take about a second each to embed."""
    request, size = head, 0
    for number, document in enumerate(documents):
        message = _document(document, f"documents[{number}]")
        more = message.ByteSize()
        if request.documents and (
            len(request.documents) == IMPORT_DOCUMENTS or size + more > _IMPORT_BYTES
        ):
            yield request
            request, size = pb.ImportDocumentsRequest(), 0
        request.documents.append(message)
        size += more
    if request.documents:
        yield request


def _progress(answer: pb.ImportDocumentsResponse) -> Progress:
    return Progress(
        sequence=answer.sequence,
        record_count=answer.chunk_count,
        document_count=answer.document_count,
        unchanged_count=answer.unchanged_count,
        token_count=answer.token_count,
        cached_count=answer.cached_count,
        revision=answer.revision,
    )


def _documents(answer: pb.ListDocumentsResponse) -> Page[DocumentSummary]:
    entries = [
        DocumentSummary(
            document_id=each.document_id,
            chunk_count=each.chunk_count,
            metadata=from_fields(each.metadata),
            ingest_time=from_timestamp(each, "ingest_time"),
        )
        for each in answer.documents
    ]
    return Page(entries, answer.next_page_token)


def _reembedding(message: pb.Reembedding) -> Reembedding:
    status = pb.Reembedding.Status.Name(message.status).removeprefix("STATUS_")
    return Reembedding(
        status="NONE" if status == "UNSPECIFIED" else status,
        active=from_embedding(message.active) if message.HasField("active") else None,
        other=from_embedding(message.other) if message.HasField("other") else None,
        done_count=message.done_count,
        total_count=message.total_count,
        message=message.message,
    )


def _mode(name: types.Mode) -> pb.RetrievalMode:
    if name not in _MODES:
        raise InvalidArgument(
            f"mode must be one of {', '.join(_MODES)}, not {name!r}.", metadata={"field": "mode"}
        )
    return _MODES[name]


def _fusion(settings: types.TextSettings) -> pb.Fusion | None:
    weights: dict[str, Any] = {
        "dense_weight": settings.get("dense_weight", 0.0),
        "lexical_weight": settings.get("lexical_weight", 0.0),
    }
    if settings.get("weighted"):
        return pb.Fusion(weighted=True, **weights)
    return pb.Fusion(reciprocal_rank_k=int32(settings.get("rank_k", 0), "rank_k"), **weights)


def _diversity(strength: float | None) -> pb.Diversity | None:
    return None if strength is None else pb.Diversity(strength=strength)


def _passages(answer: pb.RetrieveDocumentsResponse) -> SearchResult[Passage]:
    return search_result(tuple(_passage(passage) for passage in answer.passages), answer)


def _passage(message: pb.Passage) -> Passage:
    return Passage(
        record_id=message.record_id,
        document_id=message.document_id,
        chunk_index=message.chunk_index,
        text=message.text,
        score=message.score,
        metadata=from_fields(message.metadata),
        dense_score=message.dense_score if message.HasField("dense_score") else None,
        lexical_score=message.lexical_score if message.HasField("lexical_score") else None,
        event_time=from_timestamp(message, "event_time"),
        ingest_time=from_timestamp(message, "ingest_time"),
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

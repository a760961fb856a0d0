"""RagService: messages to values, one call of the pipeline, values to messages."""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

from llmspell.v1 import rag_pb2, rag_pb2_grpc

from services.common.context import current_context
from services.common.errors import field_invalid, required
from services.common.limits import SEARCH_LIMIT_DEFAULT
from services.common.values import fill_map, map_to_python
from services.vector.chunking import Chunking, ChunkUnit, choose_chunking
from services.vector.embedding.provider import EmbeddingProvider, Providers
from services.vector.rag import Document, Passage, Question, Rag
from services.vector.servicers import messages
from services.vector.servicers.filter_messages import read_filter
from services.vector.servicers.times import read_duration, read_time

_UNITS = {
    rag_pb2.CHUNK_UNIT_UNSPECIFIED: ChunkUnit.CHARACTERS,
    rag_pb2.CHUNK_UNIT_CHARACTERS: ChunkUnit.CHARACTERS,
    rag_pb2.CHUNK_UNIT_SENTENCES: ChunkUnit.SENTENCES,
    rag_pb2.CHUNK_UNIT_TOKENS: ChunkUnit.TOKENS,
}


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """Answers from the pipeline."""

    def __init__(self, rag: Rag, providers: Providers) -> None:
        self._rag = rag
        self._providers = providers

    async def IngestDocuments(
        self, request: rag_pb2.IngestDocumentsRequest, context: object
    ) -> rag_pb2.IngestDocumentsResponse:
        """Chunk, embed and store."""
        del context
        ingested = await self._rag.ingest(
            *_place(request),
            [_read_document(each, f"documents[{n}]") for n, each in enumerate(request.documents)],
            chunking=_read_chunking(request.chunking),
            provider=request.provider,
        )
        return rag_pb2.IngestDocumentsResponse(
            document_ids=ingested.document_ids,
            chunk_count=ingested.chunk_count,
            token_count=ingested.token_count,
            cached_count=ingested.cached_count,
            revision=ingested.revision,
        )

    async def RetrieveDocuments(
        self, request: rag_pb2.RetrieveDocumentsRequest, context: object
    ) -> rag_pb2.RetrieveDocumentsResponse:
        """The passages nearest to a text."""
        del context
        question = Question(
            text=request.text,
            provider=request.provider,
            filter=read_filter(request.filter) if request.HasField("filter") else None,
            limit=request.limit or SEARCH_LIMIT_DEFAULT,
            score_threshold=request.score_threshold
            if request.HasField("score_threshold")
            else None,
            exactness=messages.read_exactness(request.exactness),
        )
        found = await self._rag.retrieve(*_place(request), question)
        answer = rag_pb2.RetrieveDocumentsResponse(
            passages=map(_write_passage, found.passages), exact=found.exact, revision=found.revision
        )
        return messages.within_limit(answer)

    async def DeleteDocuments(
        self, request: rag_pb2.DeleteDocumentsRequest, context: object
    ) -> rag_pb2.DeleteDocumentsResponse:
        """Remove documents."""
        del context
        if not request.document_ids:
            raise required("document_ids")
        ids = messages.read_record_ids(request.document_ids)
        deleted = await self._rag.delete(*_place(request), ids)
        return rag_pb2.DeleteDocumentsResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )

    async def ListEmbeddingProviders(
        self, request: rag_pb2.ListEmbeddingProvidersRequest, context: object
    ) -> rag_pb2.ListEmbeddingProvidersResponse:
        """The providers of this deployment."""
        del request, context
        return rag_pb2.ListEmbeddingProvidersResponse(
            providers=[
                self._write_provider(name, provider)
                for name, provider in self._providers.by_name.items()
            ]
        )

    def _write_provider(self, name: str, provider: EmbeddingProvider) -> rag_pb2.EmbeddingProvider:
        return rag_pb2.EmbeddingProvider(
            name=name,
            identity=messages.write_identity(provider.identity),
            default=name == self._providers.default,
        )


def _place(
    request: rag_pb2.IngestDocumentsRequest
    | rag_pb2.RetrieveDocumentsRequest
    | rag_pb2.DeleteDocumentsRequest,
) -> tuple[str, str, str]:
    """Tenant, scope, collection."""
    return current_context().tenant, messages.read_scope(request.scope), request.collection_id


def _read_document(message: rag_pb2.Document, field: str) -> Document:
    return Document(
        text=message.text,
        document_id=message.document_id,
        metadata=map_to_python(message.metadata, f"{field}.metadata"),
        event_time_ns=read_time(message, "event_time", field),
        ttl_ns=read_duration(message, "ttl", field),
    )


def _read_chunking(message: rag_pb2.Chunking) -> Chunking:
    if message.unit not in _UNITS:
        raise field_invalid("chunking.unit", "is not a known unit")
    overlap = message.overlap if message.HasField("overlap") else None
    return choose_chunking(_UNITS[message.unit], message.size, overlap)


def _write_passage(passage: Passage) -> rag_pb2.Passage:
    message = rag_pb2.Passage(
        record_id=passage.record_id,
        document_id=passage.document_id,
        chunk_index=passage.chunk_index,
        text=passage.text,
        score=passage.score,
    )
    fill_map(message.metadata, passage.metadata)
    return message

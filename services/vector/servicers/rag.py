"""RagService: messages to values, one call of the pipeline, values to messages."""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from llmspell.v1 import rag_pb2, rag_pb2_grpc, types_pb2

from services.common.context import current_context, current_tenant
from services.common.errors import field_invalid, required
from services.common.limits import SEARCH_LIMIT_DEFAULT
from services.common.paging import PageTokens, page_size
from services.common.policy import check_dimension
from services.common.values import fill_map, map_to_python
from services.vector.chunking import Chunking, ChunkUnit, choose_chunking
from services.vector.embedding.provider import EmbeddingProvider, Providers
from services.vector.fusion import RANK_K
from services.vector.measures import SearchCounts
from services.vector.model import Query
from services.vector.rag import Document, DocumentSummary, Rag, collection_name
from services.vector.reembed import Reembedder, Reembedding, Status
from services.vector.retrieval import CANDIDATES_MIN, Fusion, Passage, Question, Retriever
from services.vector.servicers import messages
from services.vector.servicers.filter_messages import read_filter
from services.vector.servicers.policy import refuse_restricted, restricted, row_filter
from services.vector.servicers.times import read_duration, read_span, read_time

_UNITS = {
    rag_pb2.CHUNK_UNIT_UNSPECIFIED: ChunkUnit.CHARACTERS,
    rag_pb2.CHUNK_UNIT_CHARACTERS: ChunkUnit.CHARACTERS,
    rag_pb2.CHUNK_UNIT_SENTENCES: ChunkUnit.SENTENCES,
    rag_pb2.CHUNK_UNIT_TOKENS: ChunkUnit.TOKENS,
    rag_pb2.CHUNK_UNIT_MARKDOWN: ChunkUnit.MARKDOWN,
    rag_pb2.CHUNK_UNIT_CODE: ChunkUnit.CODE,
}
_MODES = {
    rag_pb2.RETRIEVAL_MODE_UNSPECIFIED: (True, False),
    rag_pb2.RETRIEVAL_MODE_DENSE: (True, False),
    rag_pb2.RETRIEVAL_MODE_LEXICAL: (False, True),
    rag_pb2.RETRIEVAL_MODE_HYBRID: (True, True),
}
_STATUSES = {
    Status.NONE: rag_pb2.Reembedding.STATUS_UNSPECIFIED,
    Status.RUNNING: rag_pb2.Reembedding.STATUS_RUNNING,
    Status.WAITING: rag_pb2.Reembedding.STATUS_WAITING,
    Status.SWITCHED: rag_pb2.Reembedding.STATUS_SWITCHED,
}
_EVEN = (0.5, 0.5)


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """Answers from the pipeline."""

    def __init__(
        self,
        rag: Rag,
        retriever: Retriever,
        reembedder: Reembedder,
        providers: Providers,
        page_tokens: PageTokens,
        *,
        searches: SearchCounts | None = None,
    ) -> None:
        """`searches`: counts which way they took."""
        self._rag = rag
        self._retriever = retriever
        self._reembedder = reembedder
        self._providers = providers
        self._page_tokens = page_tokens
        self._searches = searches or SearchCounts()

    async def IngestDocuments(
        self, request: rag_pb2.IngestDocumentsRequest, context: object
    ) -> rag_pb2.IngestDocumentsResponse:
        """Chunk, embed and store."""
        del context
        ingested = await self._rag.ingest(
            *_place(request),
            _read_documents(request.documents),
            chunking=_read_chunking(request.chunking),
            provider=request.provider,
            row_filter=row_filter(),
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
        found = await self._retriever.retrieve(*_place(request), _read_question(request))
        self._searches.passages(found)
        answer = rag_pb2.RetrieveDocumentsResponse(
            passages=map(_write_passage, found.passages),
            exact=found.exact,
            revision=found.revision,
            path=messages.write_path(found.path),
            candidate_count=found.candidate_count,
            match_count=found.match_count,
            complete=found.complete,
        )
        return messages.within_limit(answer)

    async def ImportDocuments(
        self, requests: AsyncIterator[rag_pb2.ImportDocumentsRequest], context: object
    ) -> AsyncIterator[rag_pb2.ImportDocumentsResponse]:
        """Ingest from a stream, message by message."""
        del context
        place, chunking, provider = ("", "", ""), choose_chunking(), ""
        told = rag_pb2.ImportDocumentsResponse()
        async for request in requests:
            if not told.sequence:
                place, provider = _place(request), request.provider
                chunking = _read_chunking(request.chunking)
            ingested, unchanged = await self._rag.ingest_changed(
                *place,
                _read_documents(request.documents),
                chunking=chunking,
                provider=provider,
                row_filter=row_filter(),
            )
            told = rag_pb2.ImportDocumentsResponse(
                sequence=told.sequence + 1,
                document_count=told.document_count + len(ingested.document_ids),
                unchanged_count=told.unchanged_count + unchanged,
                chunk_count=told.chunk_count + ingested.chunk_count,
                token_count=told.token_count + ingested.token_count,
                cached_count=told.cached_count + ingested.cached_count,
                revision=ingested.revision,
            )
            yield told

    async def EnsureDocumentCollection(
        self, request: rag_pb2.EnsureDocumentCollectionRequest, context: object
    ) -> rag_pb2.EnsureDocumentCollectionResponse:
        """Make a collection for documents."""
        del context
        refuse_restricted("EnsureDocumentCollection")
        self._check_dimension(request.provider)
        found, revision = await self._rag.ensure_collection(
            *_place(request), provider=request.provider, settings=messages.read_settings(request)
        )
        return rag_pb2.EnsureDocumentCollectionResponse(
            collection=messages.write_collection(found), revision=revision
        )

    def _check_dimension(self, provider: str) -> None:
        """A collection gets the dimension of its provider's vectors.

        Raises:
            ServiceError: POLICY_DENIED.
        """
        if policy := current_context().policy:
            check_dimension(policy, self._rag.dimension_of(provider))

    async def ListDocuments(
        self, request: rag_pb2.ListDocumentsRequest, context: object
    ) -> rag_pb2.ListDocumentsResponse:
        """A page of documents."""
        del context
        place = _place(request)
        bound_to = "\0".join(("ListDocuments", *place))
        after = ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        found, cursor, revision = await self._rag.list_documents(
            *place, limit=page_size(request.page_size), after=after, where=row_filter()
        )
        answer = rag_pb2.ListDocumentsResponse(
            documents=map(_write_summary, found), revision=revision
        )
        if cursor is not None:
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor.encode())
        return messages.within_limit(answer)

    async def ReembedCollection(
        self, request: rag_pb2.ReembedCollectionRequest, context: object
    ) -> rag_pb2.ReembedCollectionResponse:
        """Begin to embed anew."""
        del context
        self._check_dimension(request.provider)
        refuse_restricted("ReembedCollection")
        begun = await self._reembedder.start(_named_place(request), request.provider)
        return rag_pb2.ReembedCollectionResponse(reembedding=_write_reembedding(begun))

    async def GetReembedding(
        self, request: rag_pb2.GetReembeddingRequest, context: object
    ) -> rag_pb2.GetReembeddingResponse:
        """How far that is."""
        del context
        told = await self._reembedder.status(_named_place(request))
        return rag_pb2.GetReembeddingResponse(reembedding=_write_reembedding(told))

    async def EndReembedding(
        self, request: rag_pb2.EndReembeddingRequest, context: object
    ) -> rag_pb2.EndReembeddingResponse:
        """End it, or give up the way back."""
        del context
        refuse_restricted("EndReembedding")
        count = await self._reembedder.end(_named_place(request))
        return rag_pb2.EndReembeddingResponse(deleted_count=count)

    async def DeleteDocuments(
        self, request: rag_pb2.DeleteDocumentsRequest, context: object
    ) -> rag_pb2.DeleteDocumentsResponse:
        """Remove documents."""
        del context
        if not request.document_ids:
            raise required("document_ids")
        ids = messages.read_record_ids(request.document_ids)
        deleted = await self._rag.delete(*_place(request), ids, row_filter=row_filter())
        return rag_pb2.DeleteDocumentsResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )

    async def ChunkText(
        self, request: rag_pb2.ChunkTextRequest, context: object
    ) -> rag_pb2.ChunkTextResponse:
        """Cut a text and store nothing."""
        del context
        chunking = _read_chunking(request.chunking)
        chunks = await self._rag.texts.chunk(request.text, chunking, provider=request.provider)
        answer = rag_pb2.ChunkTextResponse(
            chunks=[
                rag_pb2.TextChunk(text=chunk.text, start=chunk.start, end=chunk.end)
                for chunk in chunks
            ]
        )
        return messages.within_limit(answer)

    async def EmbedTexts(
        self, request: rag_pb2.EmbedTextsRequest, context: object
    ) -> rag_pb2.EmbedTextsResponse:
        """A vector for each text."""
        del context
        embedded, identity = await self._rag.texts.embed(
            current_tenant(), request.texts, provider=request.provider
        )
        return rag_pb2.EmbedTextsResponse(
            vectors=[types_pb2.Vector(f32=row.astype("<f4").tobytes()) for row in embedded.vectors],
            identity=messages.write_identity(identity),
            token_count=embedded.token_count,
            cached_count=embedded.cached_count,
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


def _place(request: Any) -> tuple[str, str, str]:
    """Tenant, scope, collection."""
    return current_tenant(), messages.read_scope(request.scope), request.collection_id


def _named_place(request: Any) -> tuple[str, str, str]:
    """The same, with the default collection's name where none is given."""
    tenant, scope, collection_id = _place(request)
    return tenant, scope, collection_name(collection_id)


def _read_documents(documents: Sequence[rag_pb2.Document]) -> list[Document]:
    return [_read_document(each, f"documents[{n}]") for n, each in enumerate(documents)]


def _read_question(request: rag_pb2.RetrieveDocumentsRequest) -> Question:
    if request.mode not in _MODES:
        raise field_invalid("mode", f"must be a known one, not {request.mode}")
    dense, lexical = _MODES[request.mode]
    asked = read_filter(request.filter) if request.HasField("filter") else None
    has = request.HasField
    return Question(
        text=request.text,
        query=Query(
            vectors=(),
            filter=restricted(asked),
            event_time=read_span(request, "event_time"),
            ingest_time=read_span(request, "ingest_time"),
            as_of_ns=read_time(request, "as_of"),
            limit=request.limit or SEARCH_LIMIT_DEFAULT,
            score_threshold=request.score_threshold if has("score_threshold") else None,
            exactness=messages.read_exactness(request.exactness),
            min_recall=request.min_recall if has("min_recall") else None,
        ),
        provider=request.provider,
        dense=dense,
        lexical=lexical,
        fusion=_read_fusion(request.fusion),
        diversity=request.diversity.strength if has("diversity") else None,
        candidates=request.diversity.candidates or CANDIDATES_MIN,
    )


def _read_fusion(message: rag_pb2.Fusion) -> Fusion:
    weights = (message.dense_weight, message.lexical_weight)
    dense, lexical = weights if any(weights) else _EVEN
    return Fusion(
        weighted=message.WhichOneof("method") == "weighted" and message.weighted,
        rank_k=message.reciprocal_rank_k or RANK_K,
        dense_weight=dense,
        lexical_weight=lexical,
    )


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
    return choose_chunking(_UNITS[message.unit], message.size, overlap, message.language)


def _write_passage(passage: Passage) -> rag_pb2.Passage:
    message = rag_pb2.Passage(
        record_id=passage.record_id,
        document_id=passage.document_id,
        chunk_index=passage.chunk_index,
        text=passage.text,
        score=passage.score,
        dense_score=passage.dense_score,
        lexical_score=passage.lexical_score,
    )
    fill_map(message.metadata, passage.metadata)
    if passage.event_time_ns is not None:
        message.event_time.FromNanoseconds(passage.event_time_ns)
    message.ingest_time.FromNanoseconds(passage.ingest_time_ns)
    return message


def _write_summary(document: DocumentSummary) -> rag_pb2.DocumentSummary:
    message = rag_pb2.DocumentSummary(
        document_id=document.document_id, chunk_count=document.chunk_count
    )
    fill_map(message.metadata, document.metadata)
    message.ingest_time.FromNanoseconds(document.ingest_time_ns)
    return message


def _write_reembedding(told: Reembedding) -> rag_pb2.Reembedding:
    message = rag_pb2.Reembedding(
        status=_STATUSES[told.status],
        done_count=told.done_count,
        total_count=told.total_count,
        message=told.message,
    )
    if told.active is not None:
        message.active.CopyFrom(messages.write_identity(told.active))
    if told.other is not None:
        message.other.CopyFrom(messages.write_identity(told.other))
    return message

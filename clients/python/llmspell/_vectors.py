"""VectorService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmspell import types
from llmspell._contract import Call, Page
from llmspell._filters import to_filter
from llmspell._values import (
    from_fields,
    from_timestamp,
    from_vector,
    int32,
    to_duration,
    to_fields,
    to_timestamp,
    to_vector,
)
from llmspell.errors import InvalidArgument
from llmspell.types import Collection, Embedding, Hit, Metric, Record, SearchResult, VectorStats
from llmspell.v1 import vector_pb2 as pb

_METRICS: dict[Metric, pb.Metric] = {
    "cosine": pb.METRIC_COSINE,
    "dot": pb.METRIC_DOT,
    "l2": pb.METRIC_L2,
}
_METRIC_NAMES = {number: name for name, number in _METRICS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a search and a batch of searches have in common."""

    k: int
    """How many hits."""
    where: types.Filter | None
    """Only records that match."""
    threshold: float | None
    """Only hits with at least this score."""
    exact: bool | None
    """True: every record is looked at; False: the graph is used; None: the service chooses."""
    expansion: int
    """Width of the graph search; 0: the default."""
    with_vectors: bool
    """Return the vectors too."""
    include_expired: bool
    """Return expired records too."""


def create_collection(
    collection: str, dimension: int, *, metric: Metric, scope: str
) -> Call[Collection]:
    """Make a collection."""
    if metric not in _METRICS:
        raise InvalidArgument(
            f"metric must be one of {', '.join(_METRICS)}, not {metric!r}.",
            metadata={"field": "metric"},
        )
    if dimension < 0:
        raise InvalidArgument("dimension must be positive.", metadata={"field": "dimension"})
    request = pb.CreateCollectionRequest(
        scope=scope,
        collection_id=collection,
        dimension=int32(dimension, "dimension"),
        metric=_METRICS[metric],
    )
    return Call(request, lambda answer: _collection(answer.collection))


def get_collection(collection: str, scope: str) -> Call[Collection]:
    """One collection."""
    request = pb.GetCollectionRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: _collection(answer.collection))


def list_collections(scope: str) -> Call[Page[Collection]]:
    """A page of collections."""
    return Call(pb.ListCollectionsRequest(scope=scope), _collections)


def delete_collection(collection: str, scope: str) -> Call[int]:
    """Remove a collection; how many records went with it."""
    return Call(pb.DeleteCollectionRequest(scope=scope, collection_id=collection), _deleted)


def upsert(collection: str, records: Iterable[Record], scope: str) -> Call[list[str]]:
    """Write records; their ids."""
    messages = [_to_record(record, f"records[{n}]") for n, record in enumerate(records)]
    request = pb.UpsertVectorsRequest(scope=scope, collection_id=collection, records=messages)
    return Call(request, lambda answer: list(answer.record_ids))


def get_vectors(
    collection: str, record_ids: Iterable[str], *, scope: str, with_vectors: bool
) -> Call[list[Record]]:
    """Records by id."""
    request = pb.GetVectorsRequest(
        scope=scope,
        collection_id=collection,
        record_ids=record_ids,
        mask=_mask(with_vectors=with_vectors),
    )
    return Call(request, lambda answer: [_from_record(record) for record in answer.records])


def list_vectors(
    collection: str, *, where: types.Filter | None, scope: str, with_vectors: bool
) -> Call[Page[Record]]:
    """A page of records in order of id."""
    request = pb.ListVectorsRequest(
        scope=scope,
        collection_id=collection,
        filter=to_filter(where),
        mask=_mask(with_vectors=with_vectors),
    )
    return Call(request, _records)


def delete_vectors(collection: str, record_ids: Iterable[str], scope: str) -> Call[int]:
    """Remove records; how many were there."""
    request = pb.DeleteVectorsRequest(scope=scope, collection_id=collection, record_ids=record_ids)
    return Call(request, _deleted)


def delete_scope(scope: str) -> Call[int]:
    """Remove every collection of a scope; how many records went with them."""
    return Call(pb.DeleteScopeRequest(scope=scope), _deleted)


def search(
    collection: str, vector: types.VectorLike, *, scope: str, settings: SearchSettings
) -> Call[SearchResult[Hit]]:
    """The nearest records."""
    request = pb.SearchRequest(
        scope=scope,
        collection_id=collection,
        vector=to_vector(vector),
        options=_options(settings),
    )
    return Call(request, _search_result)


def batch_search(
    collection: str,
    vectors: Iterable[types.VectorLike],
    *,
    scope: str,
    settings: SearchSettings,
) -> Call[list[SearchResult[Hit]]]:
    """The nearest records of each vector."""
    request = pb.BatchSearchRequest(
        scope=scope,
        collection_id=collection,
        vectors=[to_vector(vector, f"vectors[{n}]") for n, vector in enumerate(vectors)],
        options=_options(settings),
    )
    return Call(request, lambda answer: [_search_result(result) for result in answer.results])


def stats(scope: str | None) -> Call[VectorStats]:
    """Counts of a scope; None: of the tenant."""
    return Call(pb.GetVectorStatsRequest(scope=scope or ""), _stats)


def exactness(exact: bool | None) -> pb.Exactness:
    """True, False or None as the contract's enum."""
    if exact is None:
        return pb.EXACTNESS_UNSPECIFIED
    return pb.EXACTNESS_EXACT if exact else pb.EXACTNESS_APPROXIMATE


def from_embedding(message: pb.EmbeddingIdentity) -> Embedding:
    """What made a collection's vectors."""
    return Embedding(
        provider=message.provider,
        model=message.model,
        dimension=message.dimension,
        weights_hash=message.weights_hash,
    )


def _options(settings: SearchSettings) -> pb.SearchOptions:
    return pb.SearchOptions(
        filter=to_filter(settings.where),
        include_expired=settings.include_expired,
        mask=_mask(with_vectors=settings.with_vectors),
        limit=int32(settings.k, "k"),
        score_threshold=settings.threshold,
        exactness=exactness(settings.exact),
        expansion=int32(settings.expansion, "expansion"),
    )


def _mask(*, with_vectors: bool) -> pb.RecordMask:
    return pb.RecordMask(vector=with_vectors, metadata=True, text=True)


def _to_record(record: Record, path: str) -> pb.VectorRecord:
    if record.vector is None:
        raise InvalidArgument(f"{path}.vector must be set.", reason="FIELD_REQUIRED")
    return pb.VectorRecord(
        record_id=record.record_id,
        vector=to_vector(record.vector, f"{path}.vector"),
        metadata=to_fields(record.metadata, f"{path}.metadata"),
        text=record.text,
        event_time=to_timestamp(record.event_time, f"{path}.event_time"),
        ttl=to_duration(record.ttl_s, f"{path}.ttl_s"),
    )


def _from_record(message: pb.VectorRecord) -> Record:
    return Record(
        record_id=message.record_id,
        vector=from_vector(message.vector) if message.HasField("vector") else None,
        metadata=from_fields(message.metadata),
        text=message.text,
        event_time=from_timestamp(message, "event_time"),
        expire_time=from_timestamp(message, "expire_time"),
        ingest_time=from_timestamp(message, "ingest_time"),
        revision=message.revision,
    )


def _collection(message: pb.Collection) -> Collection:
    embedding = from_embedding(message.embedding) if message.HasField("embedding") else None
    return Collection(
        collection_id=message.collection_id,
        scope=message.scope,
        dimension=message.dimension,
        metric=_METRIC_NAMES.get(message.metric, "cosine"),
        embedding=embedding,
        create_time=from_timestamp(message, "create_time"),
        record_count=message.record_count,
        indexed_count=message.indexed_count,
    )


def _collections(answer: pb.ListCollectionsResponse) -> Page[Collection]:
    entries = [_collection(collection) for collection in answer.collections]
    return Page(entries, answer.next_page_token)


def _records(answer: pb.ListVectorsResponse) -> Page[Record]:
    return Page([_from_record(record) for record in answer.records], answer.next_page_token)


def _hit(message: pb.Hit) -> Hit:
    return Hit(
        record_id=message.record_id,
        score=message.score,
        distance=message.distance,
        metadata=from_fields(message.metadata),
        text=message.text,
        vector=from_vector(message.vector) if message.HasField("vector") else None,
        event_time=from_timestamp(message, "event_time"),
    )


def _search_result(answer: pb.SearchResponse) -> SearchResult[Hit]:
    hits = tuple(_hit(hit) for hit in answer.hits)
    return SearchResult(hits=hits, exact=answer.exact, revision=answer.revision)


def _stats(answer: pb.GetVectorStatsResponse) -> VectorStats:
    return VectorStats(
        collection_count=answer.collection_count,
        record_count=answer.record_count,
        indexed_count=answer.indexed_count,
        stored_bytes=answer.stored_bytes,
        revision=answer.revision,
    )


def _deleted(answer: pb.DeleteVectorsResponse) -> int:
    """Every delete answers with such a count."""
    return answer.deleted_count

"""VectorService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from llmspell import types
from llmspell._contract import Call, Exchange, Page
from llmspell._filters import to_filter
from llmspell._settings import (
    from_hnsw,
    mask,
    metric_name,
    metric_number,
    search_options,
    search_result,
    to_hnsw,
)
from llmspell._values import (
    Rows,
    from_duration,
    from_fields,
    from_timestamp,
    from_vector,
    is_matrix,
    to_duration,
    to_fields,
    to_timestamp,
    to_vector,
    uint32,
)
from llmspell.errors import InvalidArgument
from llmspell.types import (
    Collection,
    Embedding,
    Hit,
    Progress,
    Record,
    ScopeSettings,
    SearchResult,
    VectorStats,
)
from llmspell.v1 import vector_pb2 as pb

IMPORT_RECORDS = 1000
"""Records in one message of an import."""
_IMPORT_BYTES = 4 * 1024 * 1024
_FLOAT_BYTES = 4


def create_collection(
    collection: str,
    dimension: int,
    *,
    metric: types.Metric,
    scope: str,
    hnsw: types.Hnsw | None,
    default_ttl_s: float | None,
    history_s: float | None,
    ttl_s: float | None,
) -> Call[Collection]:
    """Make a collection."""
    request = pb.CreateCollectionRequest(
        scope=scope,
        collection_id=collection,
        dimension=uint32(dimension, "dimension"),
        metric=metric_number(metric),
        hnsw=to_hnsw(hnsw),
        default_ttl=to_duration(default_ttl_s, "default_ttl_s"),
        history_window=to_duration(history_s, "history_s"),
        ttl=to_duration(ttl_s, "ttl_s"),
    )
    return Call(request, lambda answer: from_collection(answer.collection))


def get_collection(collection: str, scope: str) -> Call[Collection]:
    """One collection."""
    request = pb.GetCollectionRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: from_collection(answer.collection))


def update_collection(
    collection: str,
    *,
    scope: str,
    default_ttl_s: float | None,
    history_s: float | None,
    ttl_s: float | None,
    ef_search: int | None,
) -> Call[Collection]:
    """Change settings."""
    request = pb.UpdateCollectionRequest(
        scope=scope,
        collection_id=collection,
        default_ttl=to_duration(default_ttl_s, "default_ttl_s", or_zero=True),
        history_window=to_duration(history_s, "history_s", or_zero=True),
        ttl=to_duration(ttl_s, "ttl_s", or_zero=True),
        ef_search=None if ef_search is None else uint32(ef_search, "ef_search"),
    )
    return Call(request, lambda answer: from_collection(answer.collection))


def configure_scope(
    scope: str, *, record_ttl_s: float | None, ttl_s: float | None
) -> Call[ScopeSettings]:
    """Change what is true of a scope's collections."""
    request = pb.ConfigureScopeRequest(
        scope=scope,
        record_ttl=to_duration(record_ttl_s, "record_ttl_s", or_zero=True),
        ttl=to_duration(ttl_s, "ttl_s", or_zero=True),
    )
    return Call(request, _scope_settings)


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


def import_vectors(
    collection: str, records: Iterable[Record] | types.Columns, scope: str
) -> Exchange[Progress]:
    """Write records from a stream."""
    if isinstance(records, types.Columns):
        requests = _column_batches(collection, records, scope)
    else:
        requests = _batches(collection, records, scope)
    return Exchange(pb.ImportVectorsRequest, requests, _progress)


def update_metadata(
    collection: str,
    record_ids: Iterable[str],
    *,
    where: types.Filter | None,
    set_fields: Any,
    remove: Iterable[str],
    replace: bool,
    scope: str,
) -> Call[int]:
    """Change metadata; how many records were there."""
    request = pb.UpdateMetadataRequest(
        scope=scope,
        collection_id=collection,
        record_ids=record_ids,
        filter=to_filter(where),
        set=to_fields(set_fields, "set"),
        remove=remove,
        replace=replace,
    )
    return Call(request, lambda answer: answer.updated_count)


def get_vectors(
    collection: str, record_ids: Iterable[str], *, scope: str, with_vectors: bool
) -> Call[list[Record]]:
    """Records by id."""
    request = pb.GetVectorsRequest(
        scope=scope,
        collection_id=collection,
        record_ids=record_ids,
        mask=mask(with_vectors=with_vectors),
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
        mask=mask(with_vectors=with_vectors),
    )
    return Call(request, _records)


def delete_vectors(
    collection: str, record_ids: Iterable[str], *, where: types.Filter | None, scope: str
) -> Call[int]:
    """Remove records; how many were there."""
    request = pb.DeleteVectorsRequest(
        scope=scope, collection_id=collection, record_ids=record_ids, filter=to_filter(where)
    )
    return Call(request, _deleted)


def delete_scope(scope: str) -> Call[int]:
    """Remove every collection of a scope; how many records went with them."""
    return Call(pb.DeleteScopeRequest(scope=scope), _deleted)


def search(
    collection: str,
    vector: types.VectorLike,
    k: int,
    *,
    scope: str,
    settings: types.VectorSettings,
) -> Call[SearchResult[Hit]]:
    """The nearest records."""
    request = pb.SearchRequest(
        scope=scope,
        collection_id=collection,
        vector=to_vector(vector),
        options=search_options(k, settings),
    )
    return Call(request, _search_result)


def batch_search(
    collection: str,
    vectors: Iterable[types.VectorLike] | types.Matrix,
    k: int,
    *,
    scope: str,
    settings: types.VectorSettings,
) -> Call[list[SearchResult[Hit]]]:
    """The nearest records of each vector."""
    request = pb.BatchSearchRequest(
        scope=scope, collection_id=collection, options=search_options(k, settings)
    )
    if not is_matrix(vectors):
        each: Any = vectors
        request.vectors.extend(to_vector(one, f"vectors[{n}]") for n, one in enumerate(each))
        return Call(request, lambda answer: _search_results(answer, len(request.vectors)))
    rows = Rows(vectors, "vectors")
    request.f32 = rows.take(0, rows.count)
    return Call(request, lambda answer: _search_results(answer, rows.count))


def stats(scope: str | None) -> Call[VectorStats]:
    """Counts of a scope; None: of the tenant."""
    return Call(pb.GetVectorStatsRequest(scope=scope or ""), _stats)


def from_embedding(message: pb.EmbeddingIdentity) -> Embedding:
    """What made a collection's vectors."""
    return Embedding(
        provider=message.provider,
        model=message.model,
        dimension=message.dimension,
        weights_hash=message.weights_hash,
    )


def from_collection(message: pb.Collection) -> Collection:
    """A collection."""
    embedding = from_embedding(message.embedding) if message.HasField("embedding") else None
    return Collection(
        collection_id=message.collection_id,
        scope=message.scope,
        dimension=message.dimension,
        metric=metric_name(message.metric),
        embedding=embedding,
        create_time=from_timestamp(message, "create_time"),
        record_count=message.record_count,
        indexed_count=message.indexed_count,
        hnsw=from_hnsw(message.hnsw),
        default_ttl_s=from_duration(message, "default_ttl"),
        history_s=from_duration(message, "history_window") or 0.0,
        expire_time=from_timestamp(message, "expire_time"),
        history_count=message.history_count,
    )


def _batches(
    collection: str, records: Iterable[Record], scope: str
) -> Iterator[pb.ImportVectorsRequest]:
    """Records in messages that are neither too many nor too large."""
    request, size = pb.ImportVectorsRequest(scope=scope, collection_id=collection), 0
    for number, record in enumerate(records):
        message = _to_record(record, f"records[{number}]")
        more = message.ByteSize()
        if request.records and (
            len(request.records) == IMPORT_RECORDS or size + more > _IMPORT_BYTES
        ):
            yield request
            request, size = pb.ImportVectorsRequest(scope=scope, collection_id=collection), 0
        request.records.append(message)
        size += more
    yield request


def _column_batches(
    collection: str, columns: types.Columns, scope: str
) -> Iterator[pb.ImportVectorsRequest]:
    """Columns in messages that are neither too many nor too large."""
    rows = Rows(columns.vectors, "vectors")
    if len(columns.record_ids) != rows.count:
        raise InvalidArgument(
            f"record_ids has {len(columns.record_ids)} ids for {rows.count} vectors.",
            metadata={"field": "record_ids"},
        )
    step = max(1, min(IMPORT_RECORDS, _IMPORT_BYTES // (_FLOAT_BYTES * rows.dimension)))
    for start in range(0, rows.count or 1, step):
        request = pb.ImportVectorsRequest(scope=scope, collection_id=collection)
        request.columns.record_ids.extend(columns.record_ids[start : start + step])
        request.columns.f32 = rows.take(start, start + step)
        yield request


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


def _progress(answer: pb.ImportVectorsResponse) -> Progress:
    return Progress(
        sequence=answer.sequence, record_count=answer.record_count, revision=answer.revision
    )


def _scope_settings(answer: pb.ConfigureScopeResponse) -> ScopeSettings:
    return ScopeSettings(
        scope=answer.scope,
        record_ttl_s=from_duration(answer, "record_ttl"),
        expire_time=from_timestamp(answer, "expire_time"),
    )


def _collections(answer: pb.ListCollectionsResponse) -> Page[Collection]:
    entries = [from_collection(collection) for collection in answer.collections]
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
        ingest_time=from_timestamp(message, "ingest_time"),
    )


def _column_hits(columns: pb.HitColumns) -> tuple[Hit, ...]:
    """Hits of which ids and scores alone came back; a distance would need the metric."""
    pairs = zip(columns.record_ids, columns.scores, strict=True)
    return tuple(Hit(each, score, float("nan"), {}, "", None, None) for each, score in pairs)


def _search_result(answer: pb.SearchResponse) -> SearchResult[Hit]:
    if answer.HasField("columns"):
        return search_result(_column_hits(answer.columns), answer)
    return search_result(tuple(_hit(hit) for hit in answer.hits), answer)


def _search_results(answer: pb.BatchSearchResponse, asked: int) -> list[SearchResult[Hit]]:
    """A result for each vector; a matrix of another width can be as many bytes."""
    if len(answer.results) != asked:
        raise InvalidArgument(
            f"vectors has {asked} rows, and as many numbers as {len(answer.results)} vectors of "
            "the collection's dimension.",
            reason="DIMENSION_MISMATCH",
            metadata={"field": "vectors"},
        )
    return [_search_result(result) for result in answer.results]


def _stats(answer: pb.GetVectorStatsResponse) -> VectorStats:
    return VectorStats(
        collection_count=answer.collection_count,
        record_count=answer.record_count,
        indexed_count=answer.indexed_count,
        stored_bytes=answer.stored_bytes,
        revision=answer.revision,
        history_count=answer.history_count,
        history_bytes=answer.history_bytes,
        memory_bytes=answer.memory_bytes,
        index_bytes=answer.index_bytes,
        segment_count=answer.segment_count,
        dead_count=answer.dead_count,
        search_count=answer.search_count,
    )


def _deleted(answer: pb.DeleteVectorsResponse) -> int:
    """Every delete answers with such a count."""
    return answer.deleted_count

"""Between the contract's messages and the engines' values; each is translated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import types_pb2, vector_pb2
from numpy.typing import NDArray

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    BATCH_SEARCH_QUERIES_MAX,
    MESSAGE_BYTES_MAX,
    SEARCH_LIMIT_DEFAULT,
    UPSERT_RECORDS_MAX,
)
from services.common.scopes import parse_scope
from services.common.values import fill_map, map_to_python
from services.vector.checks import check_record_id
from services.vector.model import (
    Collection,
    CollectionChanges,
    CollectionSettings,
    EmbeddingIdentity,
    Exactness,
    Hit,
    Hnsw,
    Mask,
    Metric,
    NewRecord,
    Quantization,
    Query,
    Record,
    SearchPath,
    SearchResult,
    Vector,
)
from services.vector.servicers.filter_messages import read_filter
from services.vector.servicers.policy import restricted, sees_all
from services.vector.servicers.times import read_duration, read_span, read_time
from services.vector.setting_checks import choose_hnsw

M = TypeVar("M", bound=Message)

_SECOND_NS = 10**9
_FLOAT_BYTES = 4

_METRICS: dict[int, Metric] = {
    vector_pb2.METRIC_UNSPECIFIED: Metric.COSINE,
    vector_pb2.METRIC_COSINE: Metric.COSINE,
    vector_pb2.METRIC_DOT: Metric.DOT,
    vector_pb2.METRIC_L2: Metric.L2,
    vector_pb2.METRIC_MANHATTAN: Metric.MANHATTAN,
}
_METRIC_NUMBERS = {
    Metric.COSINE: vector_pb2.METRIC_COSINE,
    Metric.DOT: vector_pb2.METRIC_DOT,
    Metric.L2: vector_pb2.METRIC_L2,
    Metric.MANHATTAN: vector_pb2.METRIC_MANHATTAN,
}
_PATHS = {
    SearchPath.SCAN: vector_pb2.SEARCH_PATH_SCAN,
    SearchPath.MATCHES: vector_pb2.SEARCH_PATH_MATCHES,
    SearchPath.GRAPH: vector_pb2.SEARCH_PATH_GRAPH,
    SearchPath.GRAPH_WIDENED: vector_pb2.SEARCH_PATH_GRAPH_WIDENED,
    SearchPath.FALLBACK: vector_pb2.SEARCH_PATH_FALLBACK,
}
_PRESETS = {
    vector_pb2.HNSW_PRESET_UNSPECIFIED: "balanced",
    vector_pb2.HNSW_PRESET_FAST: "fast",
    vector_pb2.HNSW_PRESET_BALANCED: "balanced",
    vector_pb2.HNSW_PRESET_ACCURATE: "accurate",
}
_QUANTIZATIONS: dict[int, Quantization] = {
    vector_pb2.QUANTIZATION_UNSPECIFIED: Quantization.BF16,
    vector_pb2.QUANTIZATION_BF16: Quantization.BF16,
    vector_pb2.QUANTIZATION_I8: Quantization.I8,
}
_QUANTIZATION_NUMBERS = {
    Quantization.BF16: vector_pb2.QUANTIZATION_BF16,
    Quantization.I8: vector_pb2.QUANTIZATION_I8,
}
_FORMS = {vector_pb2.HIT_FORM_UNSPECIFIED: False, vector_pb2.HIT_FORM_COLUMNS: True}
_EXACTNESS: dict[int, Exactness] = {
    vector_pb2.EXACTNESS_UNSPECIFIED: Exactness.AUTO,
    vector_pb2.EXACTNESS_EXACT: Exactness.EXACT,
    vector_pb2.EXACTNESS_APPROXIMATE: Exactness.APPROXIMATE,
}


def read_scope(text: str) -> str:
    """A scope as it is printed.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    return str(parse_scope(text))


def read_metric(number: int) -> Metric:
    """A metric; unset means cosine.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if number not in _METRICS:
        raise field_invalid("metric", f"must be a known metric, not {number}")
    return _METRICS[number]


def read_exactness(number: int) -> Exactness:
    """Whether a search must be exact.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if number not in _EXACTNESS:
        raise field_invalid("exactness", f"must be a known one, not {number}")
    return _EXACTNESS[number]


def read_vector(message: types_pb2.Vector, field: str) -> Vector:
    """The vector, seen in the message's own bytes where it is packed.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if message.f32 and message.values:
        raise field_invalid(field, "must have f32 or values, not both")
    if len(message.f32) % _FLOAT_BYTES:
        raise field_invalid(f"{field}.f32", "must hold 4 bytes for each entry")
    if message.f32:
        return np.frombuffer(message.f32, "<f4")
    if not message.values:
        raise required(field)
    return np.array(message.values, np.float32)


def read_record(message: vector_pb2.VectorRecord, field: str) -> NewRecord:
    """A record to be written.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    return NewRecord(
        record_id=message.record_id,
        vector=read_vector(message.vector, f"{field}.vector"),
        metadata=map_to_python(message.metadata, f"{field}.metadata"),
        text=message.text,
        event_time_ns=read_time(message, "event_time", field),
        ttl_ns=read_duration(message, "ttl", field),
    )


def read_records(
    messages: Sequence[vector_pb2.VectorRecord], field: str = "records"
) -> list[NewRecord]:
    """Records to be written.

    Raises:
        ServiceError: as `read_record`.
    """
    if len(messages) > UPSERT_RECORDS_MAX:
        raise limit_exceeded(field, len(messages), UPSERT_RECORDS_MAX)
    return [read_record(message, f"{field}[{n}]") for n, message in enumerate(messages)]


def read_record_ids(record_ids: Sequence[str]) -> list[str]:
    """Ids of records.

    Raises:
        ServiceError: LIMIT_EXCEEDED, FIELD_INVALID.
    """
    if len(record_ids) > UPSERT_RECORDS_MAX:
        raise limit_exceeded("record_ids", len(record_ids), UPSERT_RECORDS_MAX)
    for number, record_id in enumerate(record_ids):
        check_record_id(record_id, f"record_ids[{number}]")
    return list(record_ids)


def read_mask(message: Any) -> Mask:
    """What to return: as the message's `mask` says, metadata and text where it says nothing."""
    if not message.HasField("mask"):
        return Mask()
    mask = message.mask
    return Mask(vector=mask.vector, metadata=mask.metadata, text=mask.text)


def read_vectors(request: vector_pb2.BatchSearchRequest, dimension: int) -> list[Vector]:
    """The vectors of a batch, one by one or in one piece.

    Raises:
        ServiceError: FIELD_INVALID, FIELD_REQUIRED, LIMIT_EXCEEDED, DIMENSION_MISMATCH.
    """
    if not request.f32:
        _check_count(len(request.vectors))
        return [read_vector(vector, f"vectors[{n}]") for n, vector in enumerate(request.vectors)]
    if request.vectors:
        raise field_invalid("f32", "must not be set beside vectors")
    matrix = read_matrix(request.f32, dimension)
    _check_count(len(matrix))
    return list(matrix)


def _check_count(count: int) -> None:
    """Before a value is made for each: a message has room for two million."""
    if count > BATCH_SEARCH_QUERIES_MAX:
        raise limit_exceeded("vectors", count, BATCH_SEARCH_QUERIES_MAX)


def read_matrix(packed: bytes, dimension: int, field: str = "f32") -> NDArray[np.float32]:
    """Vectors in one piece, (n, dimension).

    Raises:
        ServiceError: DIMENSION_MISMATCH where it does not divide.
    """
    if len(packed) % (_FLOAT_BYTES * dimension):
        raise ServiceError(
            Reason.DIMENSION_MISMATCH,
            f"{field} has {len(packed)} bytes, which is no whole number of vectors of {dimension} "
            f"entries ({_FLOAT_BYTES * dimension} bytes each).",
            expected=dimension,
            got=len(packed),
            field=field,
        )
    return np.frombuffer(packed, "<f4").reshape(-1, dimension)


def read_query(vectors: Sequence[Vector], options: vector_pb2.SearchOptions) -> Query:
    """What to search for, by what the caller may see.

    Raises:
        ServiceError: FIELD_INVALID, FILTER_INVALID.
    """
    if options.form not in _FORMS:
        raise field_invalid("form", f"must be a known one, not {options.form}")
    asked = read_filter(options.filter) if options.HasField("filter") else None
    threshold = options.score_threshold if options.HasField("score_threshold") else None
    return Query(
        vectors=vectors,
        filter=restricted(asked),
        event_time=read_span(options, "event_time"),
        ingest_time=read_span(options, "ingest_time"),
        as_of_ns=read_time(options, "as_of"),
        include_expired=options.include_expired,
        mask=read_mask(options),
        limit=options.limit or SEARCH_LIMIT_DEFAULT,
        score_threshold=threshold,
        exactness=read_exactness(options.exactness),
        expansion=options.expansion,
        min_recall=options.min_recall if options.HasField("min_recall") else None,
        columns=_FORMS[options.form],
    )


def read_changes(request: vector_pb2.UpdateCollectionRequest) -> CollectionChanges:
    """What to change of a collection.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    return CollectionChanges(
        default_ttl_ns=read_duration(request, "default_ttl"),
        history_window_ns=read_duration(request, "history_window"),
        ttl_ns=read_duration(request, "ttl"),
        ef_search=request.ef_search if request.HasField("ef_search") else None,
    )


def read_settings(request: Any) -> CollectionSettings:
    """What a collection is to be made with.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    return CollectionSettings(
        hnsw=read_hnsw(request.hnsw),
        default_ttl_ns=read_duration(request, "default_ttl"),
        history_window_ns=read_duration(request, "history_window") or 0,
        ttl_ns=read_duration(request, "ttl"),
    )


def read_hnsw(message: vector_pb2.HnswSettings) -> Hnsw:
    """How graphs are built.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if message.preset not in _PRESETS:
        raise field_invalid("hnsw.preset", f"must be a known one, not {message.preset}")
    if message.quantization not in _QUANTIZATIONS:
        raise field_invalid("hnsw.quantization", f"must be a known one, not {message.quantization}")
    return choose_hnsw(
        _PRESETS[message.preset],
        m=message.m,
        ef_construction=message.ef_construction,
        ef_search=message.ef_search,
        quantization=_QUANTIZATIONS[message.quantization],
    )


def write_collection(collection: Collection) -> vector_pb2.Collection:
    """A collection as it travels; its counts only to who sees all that they count."""
    counted = sees_all()
    message = vector_pb2.Collection(
        scope=collection.scope,
        collection_id=collection.collection_id,
        dimension=collection.dimension,
        metric=_METRIC_NUMBERS[collection.metric],
        record_count=collection.record_count if counted else 0,
        indexed_count=collection.indexed_count if counted else 0,
        history_count=collection.history_count if counted else 0,
        hnsw=vector_pb2.HnswSettings(
            m=collection.hnsw.m,
            ef_construction=collection.hnsw.ef_construction,
            ef_search=collection.hnsw.ef_search,
            quantization=_QUANTIZATION_NUMBERS[collection.hnsw.quantization],
        ),
    )
    if collection.default_ttl_ns is not None:
        message.default_ttl.FromNanoseconds(collection.default_ttl_ns)
    if collection.history_window_ns:
        message.history_window.FromNanoseconds(collection.history_window_ns)
    if collection.expire_time_ns is not None:
        message.expire_time.FromNanoseconds(collection.expire_time_ns)
    if collection.embedding is not None:
        message.embedding.CopyFrom(write_identity(collection.embedding))
    message.create_time.FromNanoseconds(collection.create_time_ns)
    return message


def write_identity(identity: EmbeddingIdentity) -> vector_pb2.EmbeddingIdentity:
    """An embedding's identity as it travels."""
    return vector_pb2.EmbeddingIdentity(
        provider=identity.provider,
        model=identity.model,
        dimension=identity.dimension,
        weights_hash=identity.weights_hash,
    )


def write_record(record: Record) -> vector_pb2.VectorRecord:
    """A record as it travels."""
    message = vector_pb2.VectorRecord(
        record_id=record.record_id, text=record.text, revision=record.revision
    )
    if record.vector is not None:
        message.vector.f32 = _pack(record.vector)
    fill_map(message.metadata, record.metadata)
    if record.event_time_ns is not None:
        message.event_time.FromNanoseconds(record.event_time_ns)
    if record.expire_time_ns is not None:
        message.expire_time.FromNanoseconds(record.expire_time_ns)
    message.ingest_time.FromNanoseconds(record.ingest_time_ns)
    return message


def write_result(result: SearchResult, *, columns: bool = False) -> vector_pb2.SearchResponse:
    """The hits of one vector as they travel."""
    message = vector_pb2.SearchResponse(**_told(result))
    _write_hits(result.hits, message, columns=columns)
    return message


def write_results(
    results: Sequence[SearchResult], *, columns: bool = False
) -> vector_pb2.BatchSearchResponse:
    """The hits of several vectors as they travel, each written once and in its place."""
    answer = vector_pb2.BatchSearchResponse()
    add = answer.results.add
    for result in results:
        _write_hits(result.hits, add(**_told(result)), columns=columns)
    return answer


def _told(result: SearchResult) -> dict[str, Any]:
    return {
        "exact": result.exact,
        "indexed_revision": result.indexed_revision,
        "revision": result.revision,
        "path": _PATHS[result.path],
        "candidate_count": result.candidate_count,
        "match_count": result.match_count,
        "complete": result.complete,
    }


def _write_hits(hits: Sequence[Hit], message: vector_pb2.SearchResponse, *, columns: bool) -> None:
    if columns:
        found = message.columns
        found.SetInParent()
        found.record_ids.extend([hit.record.record_id for hit in hits])
        found.scores.extend([hit.score for hit in hits])
        return
    add = message.hits.add
    for hit in hits:
        _write_hit(hit, add(record_id=hit.record.record_id, score=hit.score, distance=hit.distance))


def within_limit(answer: M) -> M:
    """The answer, unless it is larger than a message may be.

    Raises:
        ServiceError: MESSAGE_TOO_LARGE.
    """
    size = answer.ByteSize()
    if size > MESSAGE_BYTES_MAX:
        raise ServiceError(
            Reason.MESSAGE_TOO_LARGE,
            f"The answer has {size} bytes; the limit is {MESSAGE_BYTES_MAX}. Ask for fewer "
            "records, or leave out vector, metadata or text by the mask.",
            limit=MESSAGE_BYTES_MAX,
            got=size,
        )
    return answer


def write_path(path: SearchPath) -> vector_pb2.SearchPath:
    """How a search went about it, as it travels."""
    return _PATHS[path]


def _write_hit(hit: Hit, message: vector_pb2.Hit) -> None:
    """The rest of a hit; what is not there costs nothing."""
    record = hit.record
    if record.text:
        message.text = record.text
    if record.vector is not None:
        message.vector.f32 = _pack(record.vector)
    if record.metadata:
        fill_map(message.metadata, record.metadata)
    if record.event_time_ns is not None:
        _set_time(message.event_time, record.event_time_ns)
    if record.ingest_time_ns:
        _set_time(message.ingest_time, record.ingest_time_ns)


def _set_time(message: Timestamp, time_ns: int) -> None:
    message.seconds, message.nanos = divmod(time_ns, _SECOND_NS)


def _pack(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()

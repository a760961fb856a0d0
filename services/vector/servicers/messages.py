"""Between the contract's messages and the engines' values; each is translated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import types_pb2, vector_pb2

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    BATCH_SEARCH_QUERIES_MAX,
    FILTER_DEPTH_MAX,
    MESSAGE_BYTES_MAX,
    SEARCH_LIMIT_DEFAULT,
    UPSERT_RECORDS_MAX,
)
from services.common.scopes import parse_scope
from services.common.values import fill_map, map_to_python, to_python
from services.vector.checks import check_record_id
from services.vector.model import (
    All,
    AnyOf,
    Collection,
    Condition,
    EmbeddingIdentity,
    Equals,
    Exactness,
    Exists,
    Filter,
    Hit,
    In,
    Mask,
    Metric,
    NewRecord,
    Not,
    Query,
    Range,
    Record,
    SearchResult,
    Test,
    Vector,
)

M = TypeVar("M", bound=Message)

_SECOND_NS = 10**9
_INT64 = 2**63
_FLOAT_BYTES = 4

_METRICS: dict[int, Metric] = {
    vector_pb2.METRIC_UNSPECIFIED: Metric.COSINE,
    vector_pb2.METRIC_COSINE: Metric.COSINE,
    vector_pb2.METRIC_DOT: Metric.DOT,
    vector_pb2.METRIC_L2: Metric.L2,
}
_METRIC_NUMBERS = {
    Metric.COSINE: vector_pb2.METRIC_COSINE,
    Metric.DOT: vector_pb2.METRIC_DOT,
    Metric.L2: vector_pb2.METRIC_L2,
}
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
        event_time_ns=read_event_time(message, field),
        ttl_ns=read_ttl(message, field),
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


def read_event_time(message: Any, field: str) -> int | None:
    """Nanoseconds of a message's `event_time`; None where it has none.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if not message.HasField("event_time"):
        return None
    time: Timestamp = message.event_time
    time_ns = time.seconds * _SECOND_NS + time.nanos
    if not 0 <= time.nanos < _SECOND_NS or not -_INT64 <= time_ns < _INT64:
        raise field_invalid(f"{field}.event_time", "must be a time between the years 1678 and 2261")
    return int(time_ns)


def read_ttl(message: Any, field: str) -> int | None:
    """Nanoseconds of a message's `ttl`; None where it has none.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if not message.HasField("ttl"):
        return None
    seconds, nanos = message.ttl.seconds, message.ttl.nanos
    if abs(nanos) >= _SECOND_NS or seconds * nanos < 0:
        raise field_invalid(f"{field}.ttl", "must be a valid duration")
    return int(seconds * _SECOND_NS + nanos)


def read_filter(message: types_pb2.Filter, field: str = "filter", depth: int = 1) -> Filter:
    """A filter tree. What it may say is checked by the engine.

    Raises:
        ServiceError: FILTER_INVALID with the path of what is unset or nested too deep.
    """
    if depth > FILTER_DEPTH_MAX:
        raise _filter_invalid(field, f"is nested deeper than {FILTER_DEPTH_MAX} levels")
    match message.WhichOneof("kind"):
        case "all":
            return All(_read_filters(message.all, f"{field}.all", depth + 1))
        case "any":
            return AnyOf(_read_filters(message.any, f"{field}.any", depth + 1))
        case "not":
            return Not(read_filter(getattr(message, "not"), f"{field}.not", depth + 1))
        case "condition":
            condition = message.condition
            return Condition(condition.field, _read_test(condition, field))
        case _:
            raise _filter_invalid(field, "must be all, any, not or a condition")


def read_mask(message: Any) -> Mask:
    """What to return: as the message's `mask` says, metadata and text where it says nothing."""
    if not message.HasField("mask"):
        return Mask()
    mask = message.mask
    return Mask(vector=mask.vector, metadata=mask.metadata, text=mask.text)


def read_query(vectors: Sequence[Vector], options: vector_pb2.SearchOptions) -> Query:
    """What to search for.

    Raises:
        ServiceError: FIELD_INVALID, FILTER_INVALID, LIMIT_EXCEEDED.
    """
    if len(vectors) > BATCH_SEARCH_QUERIES_MAX:
        raise limit_exceeded("vectors", len(vectors), BATCH_SEARCH_QUERIES_MAX)
    threshold = options.score_threshold if options.HasField("score_threshold") else None
    return Query(
        vectors=vectors,
        filter=read_filter(options.filter) if options.HasField("filter") else None,
        include_expired=options.include_expired,
        mask=read_mask(options),
        limit=options.limit or SEARCH_LIMIT_DEFAULT,
        score_threshold=threshold,
        exactness=read_exactness(options.exactness),
        expansion=options.expansion,
    )


def write_collection(collection: Collection) -> vector_pb2.Collection:
    """A collection as it travels."""
    message = vector_pb2.Collection(
        scope=collection.scope,
        collection_id=collection.collection_id,
        dimension=collection.dimension,
        metric=_METRIC_NUMBERS[collection.metric],
        record_count=collection.record_count,
        indexed_count=collection.indexed_count,
    )
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


def write_result(result: SearchResult) -> vector_pb2.SearchResponse:
    """The hits of one vector as they travel."""
    return vector_pb2.SearchResponse(
        hits=map(_write_hit, result.hits),
        exact=result.exact,
        indexed_revision=result.indexed_revision,
        revision=result.revision,
    )


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


def _read_filters(message: types_pb2.FilterList, field: str, depth: int) -> tuple[Filter, ...]:
    filters = enumerate(message.filters)
    return tuple(read_filter(each, f"{field}[{n}]", depth) for n, each in filters)


def _read_test(condition: types_pb2.Condition, path: str) -> Test:
    match condition.WhichOneof("test"):
        case "equals":
            return Equals(to_python(condition.equals, f"{path}.equals"))
        case "in":
            values = enumerate(getattr(condition, "in").values)
            return In(tuple(to_python(value, f"{path}.in[{n}]") for n, value in values))
        case "range":
            return Range(**_read_bounds(condition.range, f"{path}.range"))
        case "exists":
            return Exists(condition.exists)
        case _:
            raise _filter_invalid(path, "must have a test: equals, in, range or exists")


def _read_bounds(message: types_pb2.Range, path: str) -> Mapping[str, Any]:
    names = [name for name in ("gt", "gte", "lt", "lte") if message.HasField(name)]
    return {name: to_python(getattr(message, name), f"{path}.{name}") for name in names}


def _write_hit(hit: Hit) -> vector_pb2.Hit:
    record = hit.record
    message = vector_pb2.Hit(
        record_id=record.record_id, score=hit.score, distance=hit.distance, text=record.text
    )
    if record.vector is not None:
        message.vector.f32 = _pack(record.vector)
    fill_map(message.metadata, record.metadata)
    if record.event_time_ns is not None:
        message.event_time.FromNanoseconds(record.event_time_ns)
    return message


def _pack(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def _filter_invalid(path: str, rule: str) -> ServiceError:
    return ServiceError(Reason.FILTER_INVALID, f"{path} {rule}.", path=path, rule=rule)

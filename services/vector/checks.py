"""What a caller may hand to an engine. Every engine asks here first, so all refuse alike."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import (
    DIMENSION_MAX,
    EXPANSION_MAX,
    RECORD_ID_BYTES_MAX,
    RECORD_METADATA_BYTES_MAX,
    RECORD_METADATA_KEYS_MAX,
    RECORD_TEXT_BYTES_MAX,
    SEARCH_LIMIT_MAX,
    TTL_SECONDS_MAX,
    VALUE_DEPTH_MAX,
)
from services.vector.filters import check_filter
from services.vector.model import Metric, NewRecord, Query, Span, Value, Vector

NORM_MAX = 1e18
"""Largest Euclidean length of a vector: beyond it a product of two would leave float32."""

_COLLECTION_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that passed, each id once."""

    record_ids: list[str]
    """In the order of the request, repeats included."""
    records: dict[str, NewRecord]
    """By id; of an id that came twice, the last."""
    metadata: dict[str, bytes]
    """MessagePack of each record's metadata."""


def check_collection(collection_id: str, dimension: int) -> None:
    """Refuse a name, a shadow's apart, or a dimension.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_storage_id(collection_id)
    if dimension < 1:
        raise field_invalid("dimension", f"must be 1 to {DIMENSION_MAX}")
    if dimension > DIMENSION_MAX:
        raise limit_exceeded("dimension", dimension, DIMENSION_MAX)


def check_storage_id(collection_id: str) -> None:
    """Refuse a name that neither a collection nor a shadow can have.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    check_collection_id(collection_id.removeprefix("~"))


def check_collection_id(collection_id: str) -> None:
    """Refuse a name that no collection can have.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not collection_id:
        raise required("collection_id")
    if not _COLLECTION_ID.fullmatch(collection_id):
        raise field_invalid(
            "collection_id",
            "must be up to 64 letters, digits, '_', '-' or '.', the first not '-' or '.'",
        )


def check_record_id(record_id: str, name: str) -> None:
    """Refuse an id that no record can have.

    Raises:
        ServiceError: LIMIT_EXCEEDED, FIELD_INVALID.
    """
    size = len(record_id.encode())
    if size > RECORD_ID_BYTES_MAX:
        raise limit_exceeded(name, size, RECORD_ID_BYTES_MAX, "bytes")
    if _CONTROL.search(record_id):
        raise field_invalid(name, "must not hold control characters")


def check_records(records: Sequence[NewRecord], dimension: int, metric: Metric) -> Batch:
    """Take records in, or refuse the first that breaks a rule.

    Raises:
        ServiceError: DIMENSION_MISMATCH, VECTOR_NOT_FINITE, VECTOR_ZERO, LIMIT_EXCEEDED,
            FIELD_INVALID; the message names the record.
    """
    check_vectors([record.vector for record in records], dimension, metric, "records[{}].vector")
    ids: list[str] = []
    last: dict[str, NewRecord] = {}
    metadata: dict[str, bytes] = {}
    for number, record in enumerate(records):
        name = f"records[{number}]"
        record_id = record.record_id or secrets.token_hex(16)
        check_record_id(record_id, f"{name}.record_id")
        _check_text(record.text, f"{name}.text")
        check_ttl(record.ttl_ns, f"{name}.ttl")
        metadata[record_id] = encode_metadata(record.metadata, f"{name}.metadata")
        ids.append(record_id)
        last[record_id] = record
    return Batch(ids, last, metadata)


def check_query(query: Query, dimension: int, metric: Metric) -> None:
    """Refuse a search that breaks a rule.

    Raises:
        ServiceError: as `check_records`, and FILTER_INVALID.
    """
    name = "vector" if len(query.vectors) == 1 else "vectors[{}]"
    check_vectors(query.vectors, dimension, metric, name)
    check_settings(query)


def check_settings(query: Query) -> None:
    """Refuse what a search asks for, whatever its vectors are.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED, FILTER_INVALID.
    """
    if query.limit < 1:
        raise field_invalid("limit", "must be at least 1")
    if query.limit > SEARCH_LIMIT_MAX:
        raise limit_exceeded("limit", query.limit, SEARCH_LIMIT_MAX)
    if query.expansion < 0:
        raise field_invalid("expansion", "must not be negative")
    if query.expansion > EXPANSION_MAX:
        raise limit_exceeded("expansion", query.expansion, EXPANSION_MAX)
    if query.score_threshold is not None and not math.isfinite(query.score_threshold):
        raise field_invalid("score_threshold", "must be a finite number")
    if query.min_recall is not None and not 0 <= query.min_recall <= 1:
        raise field_invalid("min_recall", "must be a number from 0 to 1")
    if query.as_of_ns is not None and query.as_of_ns <= 0:
        raise field_invalid("as_of", "must be after 1970")
    _check_span(query.event_time, "event_time")
    _check_span(query.ingest_time, "ingest_time")
    if query.filter is not None:
        check_filter(query.filter)


def _check_span(span: Span | None, name: str) -> None:
    if span is None:
        return
    if span.start_ns is None and span.end_ns is None:
        raise field_invalid(name, "must have a start_time or an end_time")
    if None not in (span.start_ns, span.end_ns) and span.start_ns >= span.end_ns:  # type: ignore[operator]
        raise field_invalid(name, "must start before it ends")


def check_vectors(
    vectors: Sequence[Vector], dimension: int, metric: Metric, name: str
) -> NDArray[np.float64]:
    """The Euclidean lengths of vectors that passed, shape (n,).

    Raises:
        ServiceError: DIMENSION_MISMATCH, VECTOR_NOT_FINITE, VECTOR_ZERO, FIELD_INVALID; `name`
            with the vector's number filled in says which.
    """
    for number, vector in enumerate(vectors):
        if len(vector) != dimension:
            raise ServiceError(
                Reason.DIMENSION_MISMATCH,
                f"{name.format(number)} has {len(vector)} entries; the collection's vectors have "
                f"{dimension}.",
                expected=dimension,
                got=len(vector),
                field=name.format(number),
            )
    if not vectors:
        return np.zeros(0)
    matrix = np.stack(vectors)
    if not np.isfinite(matrix).all():
        raise _not_finite(matrix, name)
    wide = matrix.astype(np.float64)
    lengths: NDArray[np.float64] = np.sqrt((wide * wide).sum(axis=1))
    _check_lengths(lengths, metric, name)
    return lengths


def encode_metadata(metadata: Mapping[str, Value], name: str) -> bytes:
    """Metadata as MessagePack.

    Raises:
        ServiceError: LIMIT_EXCEEDED, FIELD_INVALID.
    """
    if len(metadata) > RECORD_METADATA_KEYS_MAX:
        raise limit_exceeded(name, len(metadata), RECORD_METADATA_KEYS_MAX, "keys")
    _check_value(dict(metadata), name, 0)
    encoded = msgspec.msgpack.encode(metadata)
    if len(encoded) > RECORD_METADATA_BYTES_MAX:
        raise limit_exceeded(name, len(encoded), RECORD_METADATA_BYTES_MAX, "bytes")
    return encoded


def _check_lengths(lengths: NDArray[np.float64], metric: Metric, name: str) -> None:
    if metric is Metric.COSINE and not lengths.all():
        number = int(np.flatnonzero(lengths == 0)[0])
        raise ServiceError(
            Reason.VECTOR_ZERO,
            f"{name.format(number)} is zero; under cosine a vector must have a direction.",
            field=name.format(number),
        )
    if (lengths > NORM_MAX).any():
        number = int(np.flatnonzero(lengths > NORM_MAX)[0])
        raise field_invalid(name.format(number), f"must not be longer than {NORM_MAX:g}")


def _not_finite(matrix: NDArray[np.float32], name: str) -> ServiceError:
    number, position = (int(index[0]) for index in np.nonzero(~np.isfinite(matrix)))
    return ServiceError(
        Reason.VECTOR_NOT_FINITE,
        f"{name.format(number)} holds {matrix[number, position]} at position {position}.",
        field=name.format(number),
        position=position,
    )


def _check_text(text: str, name: str) -> None:
    size = len(text.encode())
    if size > RECORD_TEXT_BYTES_MAX:
        raise limit_exceeded(name, size, RECORD_TEXT_BYTES_MAX, "bytes")


def check_ttl(ttl_ns: int | None, name: str) -> None:
    """Refuse a time to live.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if ttl_ns is None:
        return
    if ttl_ns <= 0:
        raise field_invalid(name, "must be positive")
    if ttl_ns > TTL_SECONDS_MAX * 10**9:
        raise limit_exceeded(name, ttl_ns // 10**9, TTL_SECONDS_MAX, "seconds")


def _check_value(value: Value, name: str, depth: int) -> None:
    if depth > VALUE_DEPTH_MAX:
        raise limit_exceeded(f"{name} (depth)", depth, VALUE_DEPTH_MAX, "levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise field_invalid(name, "must hold finite numbers only")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise field_invalid(name, "must hold whole numbers of 64 bits only")
    if isinstance(value, dict):
        for key, entry in value.items():
            _check_value(entry, f"{name}.{key}", depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _check_value(entry, name, depth + 1)

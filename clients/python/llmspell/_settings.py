"""Settings of searches and collections: arguments → messages, and what answers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from llmspell import types
from llmspell._filters import to_filter
from llmspell._values import int32, to_timestamp, uint32
from llmspell.errors import InvalidArgument
from llmspell.types import Hnsw, SearchResult
from llmspell.v1 import vector_pb2 as pb

T = TypeVar("T")

_METRICS: dict[types.Metric, pb.Metric] = {
    "cosine": pb.METRIC_COSINE,
    "dot": pb.METRIC_DOT,
    "l2": pb.METRIC_L2,
    "manhattan": pb.METRIC_MANHATTAN,
}
_METRIC_NAMES = {number: name for name, number in _METRICS.items()}
_PRESETS = {
    "": pb.HNSW_PRESET_UNSPECIFIED,
    "fast": pb.HNSW_PRESET_FAST,
    "balanced": pb.HNSW_PRESET_BALANCED,
    "accurate": pb.HNSW_PRESET_ACCURATE,
}
_QUANTIZATIONS = {
    "": pb.QUANTIZATION_UNSPECIFIED,
    "bf16": pb.QUANTIZATION_BF16,
    "i8": pb.QUANTIZATION_I8,
}
_QUANTIZATION_NAMES: dict[int, Any] = {number: name for name, number in _QUANTIZATIONS.items()}


def metric_number(metric: types.Metric) -> pb.Metric:
    """A metric as the contract's enum."""
    return _chosen("metric", metric, _METRICS)


def metric_name(number: int) -> types.Metric:
    """A metric by name."""
    return _METRIC_NAMES.get(number, "cosine")  # type: ignore[call-overload,no-any-return]


def to_hnsw(hnsw: Hnsw | None) -> pb.HnswSettings | None:
    """How graphs are built."""
    if hnsw is None:
        return None
    return pb.HnswSettings(
        preset=_chosen("hnsw.preset", hnsw.preset, _PRESETS),
        m=uint32(hnsw.m, "hnsw.m"),
        ef_construction=uint32(hnsw.ef_construction, "hnsw.ef_construction"),
        ef_search=uint32(hnsw.ef_search, "hnsw.ef_search"),
        quantization=_chosen("hnsw.quantization", hnsw.quantization, _QUANTIZATIONS),
    )


def from_hnsw(message: pb.HnswSettings) -> Hnsw:
    """How graphs are built."""
    return Hnsw(
        m=message.m,
        ef_construction=message.ef_construction,
        ef_search=message.ef_search,
        quantization=_QUANTIZATION_NAMES.get(message.quantization, ""),
    )


def search_options(k: int, settings: types.VectorSettings) -> pb.SearchOptions:
    """Settings of a search by vector."""
    columns = settings.get("columns", False)
    return pb.SearchOptions(
        filter=to_filter(settings.get("filter")),
        include_expired=settings.get("include_expired", False),
        event_time=time_range(settings.get("event_time"), "event_time"),
        ingest_time=time_range(settings.get("ingest_time"), "ingest_time"),
        as_of=to_timestamp(settings.get("as_of"), "as_of"),
        mask=mask(
            with_vectors=settings.get("with_vectors", False),
            with_payload=settings.get("with_payload", True),
        ),
        form=pb.HIT_FORM_COLUMNS if columns else pb.HIT_FORM_UNSPECIFIED,
        limit=int32(k, "k"),
        score_threshold=settings.get("threshold"),
        exactness=exactness(settings.get("exact")),
        expansion=int32(settings.get("expansion", 0), "expansion"),
        min_recall=settings.get("min_recall"),
    )


def time_range(span: types.TimeSpan | None, path: str) -> pb.TimeRange | None:
    """From the first time up to the second."""
    if span is None:
        return None
    start, end = span
    return pb.TimeRange(
        start_time=to_timestamp(start, f"{path}[0]"), end_time=to_timestamp(end, f"{path}[1]")
    )


def exactness(exact: bool | None) -> pb.Exactness:
    """True, False or None as the contract's enum."""
    if exact is None:
        return pb.EXACTNESS_UNSPECIFIED
    return pb.EXACTNESS_EXACT if exact else pb.EXACTNESS_APPROXIMATE


def mask(*, with_vectors: bool, with_payload: bool = True) -> pb.RecordMask:
    """What to return."""
    return pb.RecordMask(vector=with_vectors, metadata=with_payload, text=with_payload)


def search_result(hits: tuple[T, ...], answer: Any) -> SearchResult[T]:
    """Hits with what the answer says of the search."""
    known = answer.path in pb.SearchPath.values()
    path = pb.SearchPath.Name(answer.path).removeprefix("SEARCH_PATH_") if known else ""
    return SearchResult(
        hits=hits,
        exact=answer.exact,
        revision=answer.revision,
        path="" if path == "UNSPECIFIED" else path.lower(),
        candidate_count=answer.candidate_count,
        match_count=answer.match_count,
        complete=answer.complete,
    )


def _chosen(field: str, name: Any, known: Mapping[Any, T]) -> T:
    if name not in known:
        names = ", ".join(str(each) for each in known if each)
        raise InvalidArgument(
            f"{field} must be one of {names}, not {name!r}.", metadata={"field": field}
        )
    return known[name]

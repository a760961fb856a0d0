"""What may be set of a collection, a scope and metadata, and what the presets of graphs are."""

from __future__ import annotations

from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import (
    EXPANSION_MAX,
    HISTORY_SECONDS_MAX,
    HNSW_EF_CONSTRUCTION_MAX,
    HNSW_M_MAX,
    RECORD_METADATA_KEYS_MAX,
)
from services.vector.checks import check_ttl, encode_metadata
from services.vector.model import (
    CollectionChanges,
    CollectionSettings,
    Hnsw,
    MetadataChange,
    Quantization,
)

_M_MIN = 4
_EF_CONSTRUCTION_MIN = 16
_EF_SEARCH_MIN = 10
_SECOND_NS = 10**9

PRESETS = {
    "fast": Hnsw(m=12, ef_construction=100, ef_search=50),
    "balanced": Hnsw(m=16, ef_construction=128, ef_search=0),
    "accurate": Hnsw(m=32, ef_construction=400, ef_search=200),
}
"""Named choices; `balanced` searches as wide as its graphs measured to be enough."""


def choose_hnsw(
    preset: str = "balanced",
    *,
    m: int = 0,
    ef_construction: int = 0,
    ef_search: int = 0,
    quantization: Quantization = Quantization.BF16,
) -> Hnsw:
    """How graphs are built; a number that is not 0 wins over the preset's.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    chosen = PRESETS[preset]
    _check_between("hnsw.m", m, _M_MIN, HNSW_M_MAX)
    _check_between(
        "hnsw.ef_construction", ef_construction, _EF_CONSTRUCTION_MIN, HNSW_EF_CONSTRUCTION_MAX
    )
    _check_between("hnsw.ef_search", ef_search, _EF_SEARCH_MIN, EXPANSION_MAX)
    return Hnsw(
        m=m or chosen.m,
        ef_construction=ef_construction or chosen.ef_construction,
        ef_search=ef_search or chosen.ef_search,
        quantization=quantization,
    )


def check_collection_settings(settings: CollectionSettings) -> None:
    """Refuse settings that no collection can be made with.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_ttl(settings.default_ttl_ns, "default_ttl")
    check_ttl(settings.ttl_ns, "ttl")
    _check_window(settings.history_window_ns)


def check_changes(changes: CollectionChanges) -> None:
    """Refuse changes of settings; 0 takes a setting away.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_ttl(changes.default_ttl_ns or None, "default_ttl")
    check_ttl(changes.ttl_ns or None, "ttl")
    _check_window(changes.history_window_ns or 0)
    _check_between("ef_search", changes.ef_search or 0, _EF_SEARCH_MIN, EXPANSION_MAX)


def check_scope_settings(record_ttl_ns: int | None, ttl_ns: int | None) -> None:
    """Refuse a scope's times to live; 0 takes one away.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_ttl(record_ttl_ns or None, "record_ttl")
    check_ttl(ttl_ns or None, "ttl")


def check_metadata_change(change: MetadataChange) -> None:
    """Refuse a change of metadata that changes nothing, or that no record could hold.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not (change.set or change.remove or change.replace):
        raise required("set")
    encode_metadata(change.set, "set")
    if len(change.remove) > RECORD_METADATA_KEYS_MAX:
        raise limit_exceeded("remove", len(change.remove), RECORD_METADATA_KEYS_MAX, "keys")
    if both := set(change.set) & set(change.remove):
        raise field_invalid("remove", f"names {min(both)!r}, which is set as well")


def _check_window(window_ns: int) -> None:
    if window_ns < 0:
        raise field_invalid("history_window", "must not be negative")
    if window_ns > HISTORY_SECONDS_MAX * _SECOND_NS:
        seconds = window_ns // _SECOND_NS
        raise limit_exceeded("history_window", seconds, HISTORY_SECONDS_MAX, "seconds")


def _check_between(name: str, number: int, least: int, most: int) -> None:
    if number and not least <= number <= most:
        raise field_invalid(name, f"must be {least} to {most}, or 0")

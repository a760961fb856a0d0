"""When a record was written, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """Of one record, in nanoseconds since 1970."""

    ingest_time_ns: int
    expire_time_ns: int | None
    """None: never."""


def times_from(now_ns: int, ttl_ns: int | None, default_ttl_ns: int | None) -> Times:
    """Of a record that is written now; its own time to live wins over the default."""
    chosen_ns = default_ttl_ns if ttl_ns is None else ttl_ns
    return Times(now_ns, None if chosen_ns is None else now_ns + chosen_ns)

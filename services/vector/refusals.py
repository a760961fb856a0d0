"""Errors that every engine raises in the same words."""

from __future__ import annotations

from datetime import UTC, datetime

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.vector.model import EmbeddingIdentity


def collection_not_found(scope: str, collection_id: str) -> ServiceError:
    """There is no such collection for this tenant."""
    return ServiceError(
        Reason.COLLECTION_NOT_FOUND,
        f"There is no collection {collection_id!r} in scope {scope}; create it or ingest into it "
        "first.",
        scope=scope,
        collection_id=collection_id,
    )


def collection_exists(scope: str, collection_id: str) -> ServiceError:
    """The name is taken."""
    return ServiceError(
        Reason.COLLECTION_EXISTS,
        f"A collection {collection_id!r} exists in scope {scope}.",
        scope=scope,
        collection_id=collection_id,
    )


def embedding_mismatch(
    collection_id: str, stored: EmbeddingIdentity | None, asked: EmbeddingIdentity
) -> ServiceError:
    """Vectors of two embeddings cannot be compared."""
    made = f"come from {stored}" if stored else "are the caller's own, not made from text"
    return ServiceError(
        Reason.EMBEDDING_MISMATCH,
        f"The vectors of collection {collection_id!r} {made}; {asked} cannot be used with them. "
        "Use that embedding, or another collection.",
        stored=stored or "",
        asked=asked,
    )


def history_unavailable(oldest_ns: int | None) -> ServiceError:
    """A time that no history reaches; None: there is no history at all."""
    if oldest_ns is None:
        return ServiceError(
            Reason.HISTORY_UNAVAILABLE,
            "The collection keeps no history; give it a history_window and search what is written "
            "from then on.",
        )
    oldest = datetime.fromtimestamp(oldest_ns // 10**9, UTC).isoformat()
    return ServiceError(
        Reason.HISTORY_UNAVAILABLE,
        f"The collection's history reaches back to {oldest} only; ask for a later time.",
        oldest=oldest,
    )


def as_of_in_future() -> ServiceError:
    """Nobody knows what will be."""
    return field_invalid("as_of", "must not be in the future")


def snapshot_not_found(snapshot_id: str) -> ServiceError:
    """There is no such snapshot for this tenant."""
    return ServiceError(
        Reason.SNAPSHOT_NOT_FOUND,
        f"There is no snapshot {snapshot_id!r}; list them.",
        snapshot_id=snapshot_id,
    )


def records_changed(collection_id: str, now: int, expected: int) -> ServiceError:
    """Records were written or removed meanwhile."""
    return ServiceError(
        Reason.REVISION_MISMATCH,
        f"The records of {collection_id!r} stand at revision {now} now, not at {expected}.",
        revision=now,
        expected=expected,
    )


def restricted_by_row_filter(record_id: str) -> ServiceError:
    """A record that this caller cannot see, before or after its change."""
    return ServiceError(
        Reason.PERMISSION_DENIED,
        f"The record {record_id!r} lies outside of what this key may see; nothing was written.",
        permission="row_filter",
        record_id=record_id,
    )


def too_many_matches(count: int, limit: int) -> ServiceError:
    """More records match than one change may touch."""
    return limit_exceeded("filter (matches)", count, limit, "records")

"""Errors that every engine raises in the same words."""

from __future__ import annotations

from services.common.errors import Reason, ServiceError
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

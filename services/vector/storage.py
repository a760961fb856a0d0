"""VectorStorage: what every vector engine promises. The suite in tests/contract asks each of them.

The tenant comes first in every call and separates everything: nothing of another tenant is seen,
counted, or even found to exist. A scope is the text that `common.scopes` prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from services.vector.model import (
    Collection,
    CollectionPage,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Mask,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    SearchResult,
    Stats,
    Upserted,
)


class Capability(Enum):
    """What an engine can do beyond the rest of this Protocol."""

    DURABLE = auto()
    """What was acknowledged is still there after a power cut."""
    EXACT_SEARCH = auto()
    """EXACT is honoured."""
    FILTERED_APPROXIMATE = auto()
    """Large collections are searched through a graph, with filters too."""


class VectorStorage(Protocol):
    """Keeps collections of records and finds the nearest."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this engine can do."""

    async def create_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        dimension: int,
        metric: Metric,
        embedding: EmbeddingIdentity | None = None,
    ) -> tuple[Collection, int]:
        """Make a collection; what was made, and the revision.

        Raises:
            ServiceError: COLLECTION_EXISTS, FIELD_INVALID (name or dimension).
        """

    async def ensure_collection(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        metric: Metric,
        embedding: EmbeddingIdentity,
    ) -> tuple[Collection, int]:
        """The collection; made where it is missing, with the embedding's dimension.

        Raises:
            ServiceError: EMBEDDING_MISMATCH where the one that exists has another embedding, or
                was made without one.
        """

    async def get_collection(
        self, tenant: str, scope: str, collection_id: str
    ) -> tuple[Collection, int]:
        """A collection and the revision at which it was so.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """

    async def list_collections(
        self, tenant: str, scope: str | None, *, limit: int, after: tuple[str, str] | None = None
    ) -> CollectionPage:
        """Collections of a scope (None: of all) that come after a scope and name."""

    async def delete_collection(self, tenant: str, scope: str, collection_id: str) -> Deleted:
        """Remove a collection with its records. What is not there counts 0."""

    async def upsert(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        records: Sequence[NewRecord],
        *,
        replace_prefixes: Sequence[str] = (),
    ) -> Upserted:
        """Write records, all or none; they are durable and searchable when this returns.

        The same id twice in a batch: the last one counts. A record that exists is replaced whole.
        Records whose id begins with one of `replace_prefixes` are removed in the same step, before
        the new ones are written. The number of records is not limited here.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, DIMENSION_MISMATCH, VECTOR_NOT_FINITE, VECTOR_ZERO,
                LIMIT_EXCEEDED, FIELD_INVALID. Nothing was written.
        """

    async def get(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        record_ids: Sequence[str],
        *,
        mask: Mask = Mask(),  # noqa: B008  (frozen)
    ) -> tuple[list[Record], int]:
        """Records in the order of the ids; absent and expired ones are left out.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """

    async def list_records(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
        mask: Mask = Mask(),  # noqa: B008  (frozen)
    ) -> RecordPage:
        """Records that match and have not expired, in order of id, after an id.

        A page may be short before the end: read on until its cursor is None.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, FILTER_INVALID.
        """

    async def delete(
        self, tenant: str, scope: str, collection_id: str, record_ids: Sequence[str]
    ) -> Deleted:
        """Remove records. Ids, and a collection, that are not there count 0."""

    async def delete_prefixes(
        self, tenant: str, scope: str, collection_id: str, prefixes: Sequence[str]
    ) -> Deleted:
        """Remove the records whose id begins with one of the prefixes, all in one step."""

    async def delete_scope(self, tenant: str, scope: str) -> Deleted:
        """Remove every collection of a scope."""

    async def purge(self, tenant: str) -> Deleted:
        """Erase all that a tenant has; its bytes have left the store when this returns."""

    async def search(
        self, tenant: str, scope: str, collection_id: str, query: Query
    ) -> list[SearchResult]:
        """The nearest records to each vector of the query, one result for each.

        Never fewer than the limit where as many match. A field that is absent does not match.
        Expired records are found only where asked for. Equal scores come in order of record id.
        A record written before the call is seen; no graph has to catch up first.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, DIMENSION_MISMATCH, VECTOR_NOT_FINITE, VECTOR_ZERO,
                FILTER_INVALID, FIELD_INVALID, LIMIT_EXCEEDED.
        """

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts of a scope; None: of the tenant."""

    async def sweep(self, limit: int = 500) -> int:
        """Remove up to `limit` records that have expired or whose collection is gone; how many.

        Readers never see these records; this gives their room back.
        """

    async def ready(self) -> bool:
        """Whether calls would be answered."""

    async def close(self) -> None:
        """Finish what has begun and let go of files. Safe to call twice."""

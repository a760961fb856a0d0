"""VectorStorage: what every vector engine promises. The suite in tests/contract asks each of them.

The tenant comes first in every call and separates everything: nothing of another tenant is seen,
counted, or even found to exist. A scope is the text that `common.scopes` prints.

A collection may have a shadow: a collection named `~` and its id, with other vectors for the same
records. Callers cannot name one, lists leave it out, and it goes when the collection goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from services.common.expiry import SLICE
from services.vector.model import (
    Checkpoint,
    Collection,
    CollectionChanges,
    CollectionPage,
    CollectionSettings,
    Deleted,
    EmbeddingIdentity,
    Filter,
    Isolation,
    Mask,
    MetadataChange,
    Metric,
    NewRecord,
    Query,
    Record,
    RecordPage,
    ScopeSettings,
    SearchResult,
    SnapshotInfo,
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
    HISTORY = auto()
    """`as_of_ns` is honoured for collections with a history window."""
    SNAPSHOT = auto()
    """Collections can be kept as they are, and put back."""


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
        settings: CollectionSettings = CollectionSettings(),  # noqa: B008  (frozen)
    ) -> tuple[Collection, int]:
        """Make a collection; what was made, and the revision. A shadow's role is then `incoming`.

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
        settings: CollectionSettings = CollectionSettings(),  # noqa: B008  (frozen)
    ) -> tuple[Collection, int]:
        """The collection; made where it is missing, with the embedding's dimension.

        `settings` count only for a collection that this makes.

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

    async def update_collection(
        self, tenant: str, scope: str, collection_id: str, changes: CollectionChanges
    ) -> tuple[Collection, int]:
        """Change settings; the collection as it is then. A wider history begins with the change.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, LIMIT_EXCEEDED, FIELD_INVALID.
        """

    async def configure_scope(
        self,
        tenant: str,
        scope: str,
        *,
        record_ttl_ns: int | None = None,
        ttl_ns: int | None = None,
    ) -> tuple[ScopeSettings, int]:
        """Change a scope's settings; None leaves as it is, 0 takes away. They outlive collections.

        A scope whose time has come is as after `delete_scope`, and begins anew with its next
        collection: then its settings are gone too.
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
        row_filter: Filter | None = None,
        embedding: EmbeddingIdentity | None = None,
    ) -> Upserted:
        """Write records, all or none; they are durable and searchable when this returns.

        The same id twice in a batch: the last one counts. A record that exists is replaced whole.
        Records whose id begins with one of `replace_prefixes` are removed in the same step, before
        the new ones are written. The number of records is not limited here. Where there is a
        `row_filter`, each new record must match it, and none that exists and does not match is
        replaced or removed (PERMISSION_DENIED). Where an `embedding` is given, the collection must
        have it at the moment of writing (EMBEDDING_MISMATCH).

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
        row_filter: Filter | None = None,
    ) -> tuple[list[Record], int]:
        """Records in the order of the ids; absent and expired ones are left out.

        So are those that `row_filter` does not let through.

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
        prefix: str = "",
    ) -> RecordPage:
        """Records that match and have not expired, in order of id, after an id.

        Only those whose id begins with `prefix`.

        A page may be short before the end: read on until its cursor is None.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, FILTER_INVALID.
        """

    async def update_metadata(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        change: MetadataChange,
        *,
        record_ids: Sequence[str] = (),
        where: Filter | None = None,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Change metadata of records by id or, where `where` is given, of all that match it.

        All in one step; how many. Vector, text and times stay; the revision and, for the history,
        the ingestion time are new. Expired records are not touched. Records that `row_filter` does
        not let through count as not there; a change by which one would leave it is refused.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, FILTER_INVALID, LIMIT_EXCEEDED (metadata that
                becomes too large, or more than UPDATE_MATCHES_MAX matches), FIELD_INVALID,
                PERMISSION_DENIED. Nothing was changed.
        """

    async def delete(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        record_ids: Sequence[str] = (),
        *,
        where: Filter | None = None,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Remove records by id or, where `where` is given, all that match it.

        Ids, and a collection, that are not there count 0. Records that `row_filter` does not let
        through count as not there.

        Raises:
            ServiceError: FILTER_INVALID.
        """

    async def delete_prefixes(
        self,
        tenant: str,
        scope: str,
        collection_id: str,
        prefixes: Sequence[str],
        *,
        row_filter: Filter | None = None,
    ) -> Deleted:
        """Remove the records whose id begins with one of the prefixes, all in one step.

        Records that `row_filter` does not let through count as not there.
        """

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
                FILTER_INVALID, FIELD_INVALID, LIMIT_EXCEEDED, HISTORY_UNAVAILABLE.
        """

    async def lexical_search(
        self, tenant: str, scope: str, collection_id: str, text: str, query: Query
    ) -> SearchResult:
        """The records whose text has the words of `text`, by BM25 (larger is better).

        `query.vectors` is ignored; filter, times, mask and limit hold as in `search`. A record that
        shares no word with the text is not found. Statistics are of this collection alone.

        Raises:
            ServiceError: as `search`.
        """

    async def stats(self, tenant: str, scope: str | None) -> Stats:
        """Counts of a scope; None: of the tenant."""

    async def create_snapshot(self, tenant: str, scope: str, collection_id: str) -> SnapshotInfo:
        """Keep a copy of a collection as it is now, history left out.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND, LIMIT_EXCEEDED, STORAGE_FULL.
        """

    async def list_snapshots(
        self, tenant: str, scope: str | None, collection_id: str = ""
    ) -> list[SnapshotInfo]:
        """Snapshots of a tenant, the newest first."""

    async def restore_snapshot(
        self, tenant: str, snapshot_id: str, *, scope: str = "", collection_id: str = ""
    ) -> tuple[int, int]:
        """Put a collection back, in one step; records and revision.

        Expire times stay as they were, so what has expired meanwhile is not seen.

        Raises:
            ServiceError: SNAPSHOT_NOT_FOUND, RECORD_CORRUPT (then nothing has changed).
        """

    async def delete_snapshot(self, tenant: str, snapshot_id: str) -> int:
        """Remove a snapshot; 0 where it is not there."""

    async def rebuild(self, tenant: str, scope: str, collection_id: str) -> int:
        """Begin to build graphs anew from the truth; how many records there are to be covered.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """

    async def checkpoint(self, tenant: str, scope: str, collection_id: str) -> Checkpoint:
        """Wait until graphs cover what they should and are kept, and give back room.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """

    async def swap_shadow(
        self, tenant: str, scope: str, collection_id: str, *, records_revision: int
    ) -> int:
        """Exchange a collection and its shadow in one step; the revision.

        Settings stay with the name, records, embedding and dimension go along. The shadow's role is
        `previous` then.

        Args:
            tenant: Whose.
            scope: Scope.
            collection_id: The collection, not the shadow.
            records_revision: What `records_revision` said when the shadow was found complete.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND; REVISION_MISMATCH where records of the collection
                were written or removed since.
        """

    async def records_revision(self, tenant: str, scope: str, collection_id: str) -> int:
        """The revision of the last change of a collection's records.

        Raises:
            ServiceError: COLLECTION_NOT_FOUND.
        """

    async def has_texts(self) -> bool:
        """Whether any tenant has a collection whose vectors come from texts."""

    async def shadows(self) -> list[tuple[str, str, str]]:
        """Tenant, scope and collection of every shadow whose role is `incoming`."""

    async def configure_tenant(self, tenant: str, isolation: Isolation) -> Isolation:
        """How this tenant is to be kept apart; one that has collections stays as it is."""

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` records that have expired or whose collection is gone; how many.

        Readers never see these records; this gives their room back.
        """

    async def unload(self, tenant: str) -> int:
        """Let go of what stands in memory of a tenant's collections; of how many."""

    async def rewrite(self) -> bool:
        """Leave nothing in files of what was removed; False where that would take too long."""

    async def ready(self) -> bool:
        """Whether calls would be answered."""

    async def close(self) -> None:
        """Finish what has begun and let go of files. Safe to call twice."""

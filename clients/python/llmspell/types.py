"""What a user of the client gives and gets: small frozen dataclasses, no messages.

Times are aware datetimes in UTC; durations are seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from llmspell._artifact_types import Artifact, Content
from llmspell._backup_types import (
    Backup,
    BackupCheck,
    BackupDamage,
    BackupsCleanedUp,
    BackupUsage,
    Restored,
    RestoreDelta,
    TenantImport,
)
from llmspell._event_types import Event, Events, EventStats, NewEvent, SkippedEvents
from llmspell._journal_types import Journal, JournalEntry
from llmspell._migration_types import (
    FieldType,
    Migration,
    MigrationFailure,
    MigrationPlan,
    MigrationSample,
    MigrationStatus,
    MigrationValidation,
    SchemaField,
    SchemaVersion,
    StateSchema,
    Transform,
)
from llmspell._process_types import FoundDamage, ProcessStatus
from llmspell._session_types import (
    RestoredCheckpoint,
    Session,
    SessionCheckpoint,
    SessionStatus,
)
from llmspell._state_types import (
    BatchOperation,
    BatchResult,
    ChangeKind,
    CheckItem,
    DeleteItem,
    Encoding,
    IncrementItem,
    Item,
    ResolvedItem,
    SetItem,
    StateChange,
    StateChanges,
)
from llmspell._vault_types import DataKey, VaultStatus
from llmspell._vector_types import (
    Checkpoint,
    Columns,
    DocumentSummary,
    Hnsw,
    Matrix,
    Progress,
    Reembedding,
    ScopeSettings,
    SearchSettings,
    Snapshot,
    TextSettings,
    VectorSettings,
)
from llmspell.v1.types_pb2 import Filter as FilterMessage

__all__ = [
    "ApiKey",
    "Artifact",
    "Backup",
    "BackupCheck",
    "BackupDamage",
    "BackupUsage",
    "BackupsCleanedUp",
    "BatchOperation",
    "BatchResult",
    "Caller",
    "ChangeKind",
    "CheckItem",
    "Checkpoint",
    "ChunkUnit",
    "Collection",
    "Columns",
    "Content",
    "CreatedKey",
    "DataKey",
    "DeleteItem",
    "DeletedTenant",
    "Document",
    "DocumentSummary",
    "Embedding",
    "EmbeddingProvider",
    "Encoding",
    "Event",
    "EventStats",
    "Events",
    "FieldType",
    "Filter",
    "FoundDamage",
    "Hit",
    "Hnsw",
    "IncrementItem",
    "IngestResult",
    "Isolation",
    "Item",
    "Journal",
    "JournalEntry",
    "Matrix",
    "Metric",
    "Migration",
    "MigrationFailure",
    "MigrationPlan",
    "MigrationSample",
    "MigrationStatus",
    "MigrationValidation",
    "Mode",
    "NewEvent",
    "Passage",
    "ProcessStatus",
    "Progress",
    "Record",
    "Reembedding",
    "ResolvedItem",
    "RestoreDelta",
    "Restored",
    "RestoredCheckpoint",
    "RunEvent",
    "RunLimits",
    "RunOutput",
    "RunResult",
    "RunStarted",
    "SchemaField",
    "SchemaVersion",
    "ScopeSettings",
    "SearchResult",
    "SearchSettings",
    "Session",
    "SessionCheckpoint",
    "SessionStatus",
    "SetItem",
    "SkippedEvents",
    "Snapshot",
    "StateChange",
    "StateChanges",
    "StateSchema",
    "Tenant",
    "TenantImport",
    "TextSettings",
    "TimeSpan",
    "Transform",
    "VaultStatus",
    "VectorLike",
    "VectorSettings",
    "VectorStats",
]

_T = TypeVar("_T")

VectorLike: TypeAlias = Iterable[float]
"""Numbers in order: a list, an `array`, a one-dimensional numpy array, …; float32 buffers are
copied as they are."""

Filter: TypeAlias = Mapping[str, Any] | FilterMessage
"""`{"lang": "en", "year": {"gte": 2000}}`, or the contract's message."""

Metric: TypeAlias = Literal["cosine", "dot", "l2", "manhattan"]
"""How nearness is measured."""

ChunkUnit: TypeAlias = Literal["characters", "sentences", "tokens", "markdown", "code"]
"""What a text is cut by."""

Isolation: TypeAlias = Literal["namespace", "database", "metadata", "hybrid"]
"""How a tenant's vectors are kept apart."""

Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]
"""How passages are found."""

TimeSpan: TypeAlias = "tuple[datetime | None, datetime | None]"
"""From the first time up to, not including, the second; None: open."""


# Vectors.


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a collection's vectors were made with."""

    provider: str
    model: str
    dimension: int
    weights_hash: str = ""
    """blake3 of the weights; empty for a remote model."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of vectors of one dimension and one metric."""

    collection_id: str
    scope: str
    dimension: int
    metric: Metric
    embedding: Embedding | None
    """None for vectors of the caller's own making."""
    create_time: datetime | None
    record_count: int
    indexed_count: int
    """Records that the graph covers; the rest is scanned exactly."""

    hnsw: Hnsw = field(default_factory=Hnsw)
    """How graphs are built."""
    default_ttl_s: float | None = None
    """Time to live of a record that is written without its own."""
    history_s: float = 0.0
    """How far back a search can look; 0: not at all."""
    expire_time: datetime | None = None
    """When it ends with all its records."""
    history_count: int = 0
    """Records that were replaced or removed and are kept for the history."""


@dataclass(frozen=True, slots=True)
class Record:
    """One vector with what belongs to it, to be stored or as it is stored."""

    record_id: str = ""
    """Unique in the collection; empty: one is made."""
    vector: VectorLike | None = None
    """As stored: an `array('f')`, and only where asked for."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Fields that filters see."""
    text: str = ""
    event_time: datetime | None = None
    """When what it tells of happened."""
    ttl_s: float | None = None
    """Given only: seconds from now until it ends."""
    expire_time: datetime | None = None
    """Returned only; None: never."""
    ingest_time: datetime | None = None
    """Returned only."""
    revision: int = 0
    """Returned only."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that a search found."""

    record_id: str
    score: float
    """Larger is nearer."""
    distance: float
    """Smaller is nearer."""
    metadata: dict[str, Any]
    text: str
    vector: array[float] | None
    """float32, where asked for."""
    event_time: datetime | None
    ingest_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that was found."""

    record_id: str
    """`DOCUMENT#NUMBER`."""
    document_id: str
    chunk_index: int
    """Which chunk of the document, from 0."""
    text: str
    score: float
    """Larger is nearer."""
    metadata: dict[str, Any]
    dense_score: float | None = None
    """Nearness, where it was looked at."""
    lexical_score: float | None = None
    """BM25, where the words were looked at."""
    event_time: datetime | None = None
    ingest_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[_T], Generic[_T]):
    """What was found, best first; use it as a list."""

    hits: tuple[_T, ...]
    exact: bool
    """Whether every record was looked at."""
    revision: int
    """At which this was true."""
    path: str = ""
    """How the search went about it: `scan`, `matches`, `graph`, `graph_widened`, `fallback`."""
    candidate_count: int = 0
    """How many records were looked at."""
    match_count: int = 0
    """Records that filter, times and policy let through."""
    complete: bool = True
    """Whether there are as many hits as there are to be had."""

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_T, ...]: ...
    def __getitem__(self, index: int | slice) -> _T | tuple[_T, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Counts of a scope or of a whole tenant."""

    collection_count: int
    record_count: int
    indexed_count: int
    stored_bytes: int
    revision: int
    history_count: int = 0
    history_bytes: int = 0
    memory_bytes: int = 0
    """What open collections take, mapped files included."""
    index_bytes: int = 0
    segment_count: int = 0
    dead_count: int = 0
    search_count: int = 0


# Documents.


@dataclass(frozen=True, slots=True)
class Document:
    """A text to ingest."""

    text: str
    document_id: str = ""
    """Unique in the collection, and replaced there; empty: made from the text."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Copied to each chunk."""
    event_time: datetime | None = None
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingestion stored."""

    document_ids: list[str]
    """In the order given."""
    chunk_count: int
    token_count: int
    cached_count: int
    """Chunks whose vectors came from the cache."""
    revision: int


@dataclass(frozen=True, slots=True)
class EmbeddingProvider:
    """One that this deployment has."""

    name: str
    embedding: Embedding
    default: bool


# Scripts.


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of one run; None: the deployment's, which are also the most that may be asked."""

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None
    output_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run began."""

    run_id: str


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The run printed."""

    data: bytes
    """As printed; a character may be cut between two of these."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The run ended well."""

    value: Any
    """What the script returned; a list where it returned several; None where nothing."""
    elapsed_s: float
    call_count: int
    output_bytes: int


RunEvent: TypeAlias = RunStarted | RunOutput | RunResult


# Tenants and processes.


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who data belongs to."""

    tenant_id: str
    display_name: str
    create_time: datetime | None
    isolation: str = "namespace"
    """How its vectors are kept apart."""


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """What went with a tenant."""

    item_count: int
    record_count: int
    key_count: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secret."""

    key_id: str
    tenant_id: str
    roles: tuple[str, ...]
    display_name: str
    create_time: datetime | None
    row_filter: FilterMessage | None = None
    """Records that do not match do not exist for it."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its secret: the only time that it is told."""

    key: str = field(repr=False)
    """The whole key."""
    api_key: ApiKey
    """What is kept of it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who the server takes the client for."""

    principal: str
    """The key's public part, or `operator`."""
    tenant_id: str
    """Acted for; empty where an operator named none."""
    permissions: tuple[str, ...]

"""What a user of the client gives and gets: small frozen dataclasses, no messages.

Times are aware datetimes in UTC; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from llmspell._agent_types import (
    Agent,
    AgentAsTool,
    AgentFunction,
    AgentLimits,
    AgentOutput,
    AgentSpec,
    AgentState,
    AgentTransition,
    Citation,
    Composite,
    CompositeStrategy,
    Conversation,
    ConversationMessage,
    Media,
    OfferedFunction,
    VectorMemory,
)
from llmspell._artifact_types import Artifact, Content
from llmspell._audit_types import (
    AuditCheck,
    AuditDecision,
    AuditEntry,
    AuditHead,
    AuditKind,
)
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
from llmspell._execution_types import (
    AgentToolCall,
    ExecutionCallback,
    ExecutionEvent,
    ExecutionEventKind,
    ExecutionFailure,
    Spent,
    StepResult,
    WorkflowStatus,
)
from llmspell._identity_types import Grant, Token
from llmspell._journal_types import Journal, JournalEntry
from llmspell._kept_run_types import (
    Modification,
    ReplayDifference,
    ReplayMode,
    ReplayReport,
    Run,
    RunCall,
    RunStatus,
)
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
from llmspell._policy_types import CrossSession, Policy, PolicyOutcome, PolicyVerdict
from llmspell._process_types import CertificateStatus, FoundDamage, HookCounts, ProcessStatus
from llmspell._provider_types import (
    Model,
    ModelPull,
    Models,
    Provider,
    ProviderTest,
)
from llmspell._quota_types import Quota, QuotaUsage
from llmspell._run_types import (
    InteractAnswer,
    InteractEvent,
    InteractInput,
    InteractInputs,
    RunEvent,
    RunLimits,
    RunLog,
    RunMetrics,
    RunOutput,
    RunResult,
    RunStarted,
)
from llmspell._search_types import Hit, Passage, SearchResult
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
from llmspell._template_types import (
    Template,
    TemplateArtifact,
    TemplateEstimate,
    TemplateParameter,
    TemplateResult,
)
from llmspell._tenant_types import (
    ApiKey,
    Caller,
    CreatedKey,
    DeletedTenant,
    DeletionReceipt,
    ErasedPart,
    LimitChanges,
    RetentionChanges,
    Tenant,
    TenantLimits,
    TenantRetention,
    TenantStatus,
)
from llmspell._text_types import (
    Document,
    EmbeddedTexts,
    EmbeddingProvider,
    IngestResult,
    TextChunk,
)
from llmspell._tool_types import Tool, ToolResult
from llmspell._usage_types import (
    Budget,
    BudgetPeriod,
    CostEstimate,
    TenantUsage,
    UsageGroup,
    UsageReport,
    UsageRow,
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
    VectorStats,
)
from llmspell._workflow_types import (
    RegisteredWorkflow,
    WorkflowForm,
    WorkflowFunction,
    WorkflowProblem,
    WorkflowResult,
    WorkflowRun,
)
from llmspell.v1.types_pb2 import Filter as FilterMessage

__all__ = [
    "Agent",
    "AgentAsTool",
    "AgentFunction",
    "AgentLimits",
    "AgentOutput",
    "AgentSpec",
    "AgentState",
    "AgentToolCall",
    "AgentTransition",
    "ApiKey",
    "Artifact",
    "AuditCheck",
    "AuditDecision",
    "AuditEntry",
    "AuditHead",
    "AuditKind",
    "Backup",
    "BackupCheck",
    "BackupDamage",
    "BackupUsage",
    "BackupsCleanedUp",
    "BatchOperation",
    "BatchResult",
    "Budget",
    "BudgetPeriod",
    "Caller",
    "CertificateStatus",
    "ChangeKind",
    "CheckItem",
    "Checkpoint",
    "ChunkUnit",
    "Citation",
    "Collection",
    "Columns",
    "Composite",
    "CompositeStrategy",
    "Content",
    "Conversation",
    "ConversationMessage",
    "CostEstimate",
    "CreatedKey",
    "CrossSession",
    "DataKey",
    "DeleteItem",
    "DeletedTenant",
    "DeletionReceipt",
    "Document",
    "DocumentSummary",
    "EmbeddedTexts",
    "Embedding",
    "EmbeddingProvider",
    "Encoding",
    "ErasedPart",
    "Event",
    "EventStats",
    "Events",
    "ExecutionCallback",
    "ExecutionEvent",
    "ExecutionEventKind",
    "ExecutionFailure",
    "FieldType",
    "Filter",
    "FoundDamage",
    "Grant",
    "Hit",
    "Hnsw",
    "HookCounts",
    "IncrementItem",
    "IngestResult",
    "InteractAnswer",
    "InteractEvent",
    "InteractInput",
    "InteractInputs",
    "Isolation",
    "Item",
    "Journal",
    "JournalEntry",
    "LimitChanges",
    "Matrix",
    "Media",
    "Metric",
    "Migration",
    "MigrationFailure",
    "MigrationPlan",
    "MigrationSample",
    "MigrationStatus",
    "MigrationValidation",
    "Mode",
    "Model",
    "ModelPull",
    "Models",
    "Modification",
    "NewEvent",
    "OfferedFunction",
    "Passage",
    "Policy",
    "PolicyOutcome",
    "PolicyVerdict",
    "ProcessStatus",
    "Progress",
    "Provider",
    "ProviderTest",
    "Quota",
    "QuotaUsage",
    "Record",
    "Reembedding",
    "RegisteredWorkflow",
    "ReplayDifference",
    "ReplayMode",
    "ReplayReport",
    "ResolvedItem",
    "RestoreDelta",
    "Restored",
    "RestoredCheckpoint",
    "RetentionChanges",
    "Run",
    "RunCall",
    "RunEvent",
    "RunLimits",
    "RunLog",
    "RunMetrics",
    "RunOutput",
    "RunResult",
    "RunStarted",
    "RunStatus",
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
    "Spent",
    "StateChange",
    "StateChanges",
    "StateSchema",
    "StepResult",
    "Template",
    "TemplateArtifact",
    "TemplateEstimate",
    "TemplateParameter",
    "TemplateResult",
    "Tenant",
    "TenantImport",
    "TenantLimits",
    "TenantRetention",
    "TenantStatus",
    "TenantUsage",
    "TextChunk",
    "TextSettings",
    "TimeSpan",
    "Token",
    "Tool",
    "ToolResult",
    "Transform",
    "UsageGroup",
    "UsageReport",
    "UsageRow",
    "VaultStatus",
    "VectorLike",
    "VectorMemory",
    "VectorSettings",
    "VectorStats",
    "WorkflowForm",
    "WorkflowFunction",
    "WorkflowProblem",
    "WorkflowResult",
    "WorkflowRun",
    "WorkflowStatus",
]

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

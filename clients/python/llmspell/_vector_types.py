"""What vector and document calls take and give beyond records; `types` offers it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from llmspell.types import Embedding, Filter, Mode, TimeSpan


@dataclass(frozen=True, slots=True)
class Hnsw:
    """How graphs are built and searched; 0 and empty mean the service's choice."""

    preset: Literal["", "fast", "balanced", "accurate"] = ""
    m: int = 0
    """Links of a node."""
    ef_construction: int = 0
    """Width of the search while building."""
    ef_search: int = 0
    """Width of a search that names none."""
    quantization: Literal["", "bf16", "i8"] = ""
    """What a graph keeps of each number."""


class SearchSettings(TypedDict, total=False):
    """Settings of a search that may be left out."""

    filter: Filter | None
    """Only records that match, such as `{"lang": "en", "year": {"gte": 2000}}`."""
    event_time: TimeSpan | None
    """Only records whose event time lies here."""
    ingest_time: TimeSpan | None
    """Only records that were written here."""
    as_of: datetime | None
    """The records as they were then; the collection must keep a history."""
    threshold: float | None
    """Only hits with at least this score."""
    exact: bool | None
    """True: look at every record; False: use graphs; None: the service chooses."""
    min_recall: float | None
    """Least share of the true nearest on average; 1 means exact."""


class VectorSettings(SearchSettings, total=False):
    """Settings of a search by vector that may be left out."""

    expansion: int
    """Width of the graph search (`ef_search`); 0: the collection's."""
    with_vectors: bool
    """Return the vectors too."""
    with_payload: bool
    """Return metadata and text; True unless said otherwise."""
    include_expired: bool
    """Return expired records too."""
    columns: bool
    """Ids and scores only, in a form that is quicker for large batches."""


class TextSettings(SearchSettings, total=False):
    """Settings of a search by text that may be left out."""

    mode: Mode
    """How to find; dense unless said otherwise."""
    rank_k: int
    """For hybrid: the constant of reciprocal rank fusion; 0: 60."""
    weighted: bool
    """For hybrid: add weighted scores instead of reciprocal ranks."""
    dense_weight: float
    """For hybrid: weight of nearness."""
    lexical_weight: float
    """For hybrid: weight of words."""
    diversity: float | None
    """Maximal marginal relevance: 0 looks at relevance alone, 1 at novelty alone."""
    provider: str
    """Embedding provider; the collection's unless named."""


class Matrix(Protocol):
    """Vectors as rows: a numpy array of two axes, or a memoryview of float32 with two."""

    @property
    def ndim(self) -> int:
        """2."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Records without metadata and text, as columns: the quickest way in."""

    record_ids: Sequence[str]
    """One for each row; an empty one is made."""
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is, after one more part of it is on disk."""

    sequence: int
    """Parts so far."""
    record_count: int
    """Records, or chunks, written so far."""
    document_count: int = 0
    unchanged_count: int = 0
    """Documents that were there already."""
    token_count: int = 0
    cached_count: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class ScopeSettings:
    """What is true of every collection of a scope."""

    scope: str
    record_ttl_s: float | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was."""

    snapshot_id: str
    collection_id: str
    scope: str
    create_time: datetime | None
    revision: int
    record_count: int
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint found at its end."""

    indexed_count: int
    record_count: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """One document, without its text."""

    document_id: str
    chunk_count: int
    metadata: dict[str, Any]
    ingest_time: datetime | None


@dataclass(frozen=True, slots=True)
class Reembedding:
    """How far embedding anew is."""

    status: str
    """`NONE`, `RUNNING`, `WAITING` or `SWITCHED`."""
    active: Embedding | None
    other: Embedding | None
    done_count: int
    total_count: int
    message: str


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

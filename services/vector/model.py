"""What vector engines take and give: frozen values, numpy arrays, and nothing of the wire.

Times are nanoseconds since the Unix epoch. Vectors are one-dimensional float32 arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.vector.times import Times

Value: TypeAlias = "bool | int | float | str | bytes | Sequence[Value] | dict[str, Value] | None"
"""A metadata value. Whole numbers have 64 bits, floats are finite."""

Vector: TypeAlias = NDArray[np.float32]


class Metric(StrEnum):
    """How nearness is measured. A score is larger for nearer records under each."""

    COSINE = "cosine"
    """Score: the cosine, -1 to 1. Distance: 1 - cosine. A zero vector is refused."""
    DOT = "dot"
    """Score: the inner product. Distance: its negative."""
    L2 = "l2"
    """Score: the negated distance. Distance: Euclidean."""
    MANHATTAN = "manhattan"
    """Score: the negated distance. Distance: Manhattan. Has no graph."""


class Quantization(StrEnum):
    """What a graph keeps of each number. Scores are of the vectors as they were sent."""

    BF16 = "bf16"
    """2 bytes."""
    I8 = "i8"
    """1 byte."""


class SearchPath(StrEnum):
    """How a search went about it."""

    SCAN = "scan"
    """Every record of the collection was compared."""
    MATCHES = "matches"
    """Every record that may be found was compared, and no other."""
    GRAPH = "graph"
    """Graphs were asked, and what they do not cover was compared."""
    GRAPH_WIDENED = "graph_widened"
    """Graphs were asked again for more."""
    FALLBACK = "fallback"
    """Graphs had not enough; every record that may be found was compared."""


class Isolation(StrEnum):
    """How a tenant's vectors are kept apart. Others see nothing of them under each."""

    NAMESPACE = "namespace"
    """Rows and graphs of its own for each collection, in a file that tenants share."""
    DATABASE = "database"
    """A file of its own."""
    METADATA = "metadata"
    """Rows that tenants share, each marked with whose it is."""
    HYBRID = "hybrid"
    """Shared rows while a collection is small, its own once it has grown."""


class Exactness(StrEnum):
    """Whether a search must look at every record."""

    AUTO = "auto"
    """The engine chooses."""
    EXACT = "exact"
    """Every record is looked at."""
    APPROXIMATE = "approximate"
    """A graph is used where there is one."""


@dataclass(frozen=True, slots=True)
class EmbeddingIdentity:
    """What turned text into a collection's vectors. Two that differ cannot be searched together."""

    provider: str
    """Such as `local`."""
    model: str
    """Such as `all-MiniLM-L6-v2`."""
    dimension: int
    """Length of its vectors."""
    weights_hash: str = ""
    """sha256 of the weights where they are ours; empty for a remote model."""

    def __str__(self) -> str:
        weights = f"@{self.weights_hash[:12]}" if self.weights_hash else ""
        return f"{self.provider}/{self.model}/{self.dimension}{weights}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hnsw:
    """How graphs are built and searched; see `checks.choose_hnsw` for presets and bounds."""

    m: int = 16
    """Links of a node."""
    ef_construction: int = 128
    """Width of the search while building."""
    ef_search: int = 0
    """Width of a search that names none; 0: by the recall that each graph measured."""
    quantization: Quantization = Quantization.BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """What a collection is made with, beside what its vectors are."""

    hnsw: Hnsw = Hnsw()
    default_ttl_ns: int | None = None
    """For records that are written without a time to live; None: for ever."""
    history_window_ns: int = 0
    """How far back a search can look; 0: not at all."""
    ttl_ns: int | None = None
    """Time to live of the collection itself; None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionChanges:
    """What to change of a collection. None leaves as it is, 0 takes the setting away."""

    default_ttl_ns: int | None = None
    history_window_ns: int | None = None
    ttl_ns: int | None = None
    """From now."""
    ef_search: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeSettings:
    """What is true of every collection of a scope."""

    record_ttl_ns: int | None = None
    """For records that are written without a time to live; wins over the collection's."""
    expire_time_ns: int | None = None
    """When all collections of the scope end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named set of vectors of one dimension and one metric, inside a scope."""

    scope: str
    collection_id: str
    dimension: int
    metric: Metric
    embedding: EmbeddingIdentity | None = None
    create_time_ns: int = 0
    record_count: int = 0
    """Expired records that were not swept yet included."""
    indexed_count: int = 0
    """Records that graphs cover; a collection that nobody has used since the start has none."""
    hnsw: Hnsw = Hnsw()
    default_ttl_ns: int | None = None
    history_window_ns: int = 0
    expire_time_ns: int | None = None
    """When it ends with all its records; None: never. After that it counts as not there."""
    history_count: int = 0
    """Records that were replaced or removed and are kept for the history."""
    role: str = ""
    """Of a shadow (its id is `~` and the collection's): `incoming` while its vectors are made,
    `previous` once it is kept to go back. Empty for every other collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A record to be written."""

    vector: Vector
    record_id: str = ""
    """Empty: one is made."""
    metadata: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    event_time_ns: int | None = None
    ttl_ns: int | None = None
    """Time to live from the moment of writing; None: the scope's, else the collection's."""
    copied: Times | None = None
    """Of a copy: the times that it keeps, whatever is said elsewhere."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was written. What the mask left out is None or empty."""

    record_id: str
    vector: Vector | None = None
    metadata: dict[str, Value] = {}
    text: str = ""
    event_time_ns: int | None = None
    expire_time_ns: int | None = None
    ingest_time_ns: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which parts of a record to return."""

    vector: bool = False
    metadata: bool = True
    text: bool = True


@dataclass(frozen=True, slots=True)
class Equals:
    """Equal to a value: 1 equals 1.0, true does not equal 1."""

    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """Equal to one of several values."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Within bounds, all of them numbers or all of them text; None: no bound."""

    gt: Value = None
    gte: Value = None
    lt: Value = None
    lte: Value = None

    def bounds(self) -> list[tuple[str, Value]]:
        """The bounds that are set, by name."""
        named = (("gt", self.gt), ("gte", self.gte), ("lt", self.lt), ("lte", self.lte))
        return [(name, bound) for name, bound in named if bound is not None]


@dataclass(frozen=True, slots=True)
class Exists:
    """Present, or absent; a null counts as absent."""

    present: bool


@dataclass(frozen=True, slots=True)
class Except:
    """Present, and no value equal to one of several."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Text that begins with this."""

    text: str


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """Absent, null, or an empty list, map or text; or, where false, anything else."""

    empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment within bounds, in nanoseconds; None: no bound.

    A value is a moment where it is RFC 3339 text with an offset, a date (midnight UTC), or a number
    of seconds since 1970.
    """

    gt_ns: int | None = None
    gte_ns: int | None = None
    lt_ns: int | None = None
    lte_ns: int | None = None


Test: TypeAlias = Equals | In | Range | Exists | Except | Prefix | IsEmpty | Moment


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. Where the field holds a list, one entry that passes is enough."""

    field: str
    """A dot steps into a map, `[]` behind a name into every entry of a list: `cities[].name`."""
    test: Test


@dataclass(frozen=True, slots=True)
class All:
    """Every one must match; with none, everything does."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one must match; with none, nothing does."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Must not match."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least so many must match."""

    count: int
    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """One entry of a list of maps must match a whole filter; a single map is a list of one."""

    field: str
    filter: Filter
    """Its fields are those of the entry."""


Filter: TypeAlias = All | AnyOf | Not | AtLeast | Nested | Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times from `start_ns` up to, not including, `end_ns`; None: open."""

    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to search for; all vectors of one query share its settings."""

    vectors: Sequence[Vector]
    filter: Filter | None = None
    event_time: Span | None = None
    """Only records whose event time lies here; one without an event time never does."""
    ingest_time: Span | None = None
    """Only records that were written here."""
    as_of_ns: int | None = None
    """Search the records as they were then; what has expired by then is not found."""
    include_expired: bool = False
    mask: Mask = Mask()
    limit: int = 10
    score_threshold: float | None = None
    exactness: Exactness = Exactness.AUTO
    expansion: int = 0
    """Width of the graph search; 0: the collection's."""
    min_recall: float | None = None
    """Least share of the true nearest on average; 1 means exact."""
    columns: bool = False
    """Only ids and scores are wanted: a hit's record then has its id alone."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A record found."""

    record: Record
    score: float
    """Larger is nearer; a float32's value."""
    distance: float
    """Smaller is nearer; a float32's value."""


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The hits of one vector, best first; equal scores in order of record id."""

    hits: list[Hit]
    exact: bool
    """True where every record was looked at."""
    indexed_revision: int
    """The revision up to which the graph had been built; the rest was scanned."""
    revision: int
    """The revision at which this was true."""
    path: SearchPath = SearchPath.SCAN
    candidate_count: int = 0
    """Vectors compared, and nodes that graphs named."""
    match_count: int = 0
    """Records that filter and times let through."""
    complete: bool = True
    """Whether there are as many hits as there are to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """What a write of records did."""

    record_ids: list[str]
    """In the order of the request."""
    revision: int
    """The revision that the records share."""
    replaced_count: int = 0
    """Records that the given prefixes removed."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a removal did."""

    count: int
    """Records removed; 0 where nothing was there."""
    revision: int
    """The revision after it; an unchanged one where nothing was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataChange:
    """What to change of records' metadata."""

    set: dict[str, Value] = field(default_factory=dict)
    """Fields to write."""
    remove: tuple[str, ...] = ()
    """Fields to take away."""
    replace: bool = False
    """Whether all other fields are taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A copy of a collection as it was."""

    snapshot_id: str
    scope: str
    collection_id: str
    create_time_ns: int
    revision: int
    record_count: int
    size_bytes: int
    digest: str
    """blake3 of the file, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint found at its end."""

    indexed_count: int
    record_count: int
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """Some records in order of id."""

    records: list[Record]
    cursor: str | None
    """Where the next page starts; None at the end. A page may be short, even empty, before it."""
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPage:
    """Some collections in order of scope and name."""

    collections: list[Collection]
    cursor: tuple[str, str] | None
    """Scope and name of the last one; None at the end."""
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of a scope or of a tenant."""

    collection_count: int = 0
    record_count: int = 0
    indexed_count: int = 0
    stored_bytes: int = 0
    """Vectors, metadata and text as stored, without the store's own overhead."""
    revision: int = 0
    history_count: int = 0
    history_bytes: int = 0
    memory_bytes: int = 0
    """What open collections take, mapped files included."""
    index_bytes: int = 0
    segment_count: int = 0
    dead_count: int = 0
    search_count: int = 0
    search_ns: int = 0
    """All searches together."""

"""What vector engines take and give: frozen values, numpy arrays, and nothing of the wire.

Times are nanoseconds since the Unix epoch. Vectors are one-dimensional float32 arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    """Records that a graph in memory covers; a collection that nobody has searched has none."""


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
    """Time to live from the moment of writing; None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record that was written. What the mask left out is None or empty."""

    record_id: str
    vector: Vector | None = None
    metadata: dict[str, Value] = field(default_factory=dict)
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


Test: TypeAlias = Equals | In | Range | Exists


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. Where the field holds a list, one entry that passes is enough."""

    field: str
    """A dot steps into a map."""
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


Filter: TypeAlias = All | AnyOf | Not | Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to search for; all vectors of one query share its settings."""

    vectors: Sequence[Vector]
    filter: Filter | None = None
    include_expired: bool = False
    mask: Mask = Mask()
    limit: int = 10
    score_threshold: float | None = None
    exactness: Exactness = Exactness.AUTO
    expansion: int = 0
    """Width of the graph search; 0: the engine's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A record found."""

    record: Record
    score: float
    """Larger is nearer; a float32's value."""
    distance: float
    """Smaller is nearer; a float32's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The hits of one vector, best first; equal scores in order of record id."""

    hits: list[Hit]
    exact: bool
    """True where every record was looked at."""
    indexed_revision: int
    """The revision up to which the graph had been built; the rest was scanned."""
    revision: int
    """The revision at which this was true."""


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

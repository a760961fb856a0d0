"""What searches find. `types` has it all."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

_T = TypeVar("_T")


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

"""Pieces and vectors of texts, as users see them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmspell.types import Embedding


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A piece of a text."""

    text: str
    """It itself, without white space at its ends."""
    start: int
    """Where it begins in the text, in characters."""
    end: int
    """Where it ends; not part of it."""


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """Vectors of texts."""

    vectors: list[array[float]]
    """One for each text, in their order, of length 1 (L2)."""
    embedding: Embedding
    """What made them."""
    token_count: int
    """Tokens that the model read; what was known already is not counted."""
    cached_count: int
    """Texts whose vectors were known already."""


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

"""What a transaction changes in memory: the words between the writer and what is open."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.vector.engines.tail import Arrivals
from services.vector.model import Vector
from services.vector.segments.rows import Int64s

Place = tuple[str, str, str]
"""Tenant, scope and collection."""


@dataclass(slots=True)
class Edit:
    """What one transaction changed in one namespace, in the order removed, then added."""

    removed: list[tuple[int, int]] = field(default_factory=list)
    """Labels, and when they ended; NO_TIME: they are kept for no history."""
    forgotten: list[int] = field(default_factory=list)
    """Labels that were kept for the history until now."""
    labels: list[int] = field(default_factory=list)
    record_ids: list[str] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    ingest_times_ns: list[int] = field(default_factory=list)
    event_times_ns: list[int] = field(default_factory=list)
    expire_times_ns: list[int] = field(default_factory=list)
    member: int = 0

    def arrivals(self, revision: int) -> Arrivals:
        """The rows that were added."""
        return Arrivals(
            labels=self.labels,
            record_ids=self.record_ids,
            vectors=np.stack(self.vectors),
            ingest_times_ns=self.ingest_times_ns,
            event_times_ns=self.event_times_ns,
            expire_times_ns=self.expire_times_ns,
            members=[self.member] * len(self.labels),
            revision=revision,
        )

    def ended(self) -> tuple[Int64s, Int64s]:
        """Labels that were removed, rising, and when they ended."""
        pairs = np.array(sorted(self.removed), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


@dataclass(frozen=True, slots=True)
class Gone:
    """Rows whose collection is gone."""

    namespace: int
    member: int
    shared: bool


@dataclass(slots=True)
class Change:
    """What one transaction changed. One that changed nothing has taken no revision."""

    revision: int
    edits: dict[int, list[Edit]] = field(default_factory=dict)
    """By namespace."""
    gone: list[Gone] = field(default_factory=list)
    count: int = 0
    """Records removed or changed, those that were only replaced by their like not among them."""

    def add(self, namespace: int, edit: Edit) -> None:
        """Note an edit."""
        self.edits.setdefault(namespace, []).append(edit)

"""What is given and got about sessions. `types` has them all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

SessionStatus: TypeAlias = Literal["active", "suspended", "completed", "failed", "archived"]
"""Where a session is in its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session: its items are those of scope `session:ID`."""

    session_id: str
    name: str
    description: str
    tags: tuple[str, ...]
    status: SessionStatus
    parent: str
    """Id of the session that it belongs to; empty: none."""
    metadata: dict[str, Any]
    create_time: datetime | None
    update_time: datetime | None
    expire_time: datetime | None
    """When it is completed unasked; None: never."""
    end_time: datetime | None
    """When it was completed or failed."""
    delete_time: datetime | None
    """When it is deleted with all that it has; None: not before it is asked for."""
    save_time: datetime | None
    """When it was last saved."""
    timeout_s: float
    """How long it may last; 0: for ever."""
    retention_s: float
    """How long it is kept after its end; 0: until it is deleted."""
    auto_save_s: float
    """Time between automatic saves; 0: none."""
    end_reason: str
    """Why it failed; `expired` where its time was up."""
    checkpoint_count: int
    revision: int
    """Of its last change."""

    @property
    def scope(self) -> str:
        """The scope of its items."""
        return f"session:{self.session_id}"


@dataclass(frozen=True, slots=True)
class SessionCheckpoint:
    """The items and artifacts of a session as they were."""

    checkpoint_id: str
    """`c1`, `c2`, …; `autosave` is what saving takes."""
    name: str
    create_time: datetime | None
    revision: int
    """Items and artifacts are those of this revision."""
    item_count: int
    size_bytes: int
    """Bytes of the items' keys and values."""
    artifact_count: int


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """What restoring did."""

    checkpoint: SessionCheckpoint
    """What was put back."""
    before: SessionCheckpoint | None
    """What there was before, where that was to be kept."""
    changed_count: int
    """Items that were written or removed for it."""
    changed_artifact_count: int
    """Artifacts that were added or removed for it."""

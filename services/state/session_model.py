"""What sessions are: frozen values, and nothing of the wire.

Times are nanoseconds since the Unix epoch, lengths of time nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import msgspec

AUTOSAVE = "autosave"
"""The checkpoint that saving takes; each replaces the one before."""

EXPIRED = "expired"
"""The end reason of a session whose time was up."""


class Status(IntEnum):
    """Where a session is in its life. The numbers are stored, and are the contract's."""

    ACTIVE = 1
    SUSPENDED = 2
    COMPLETED = 3
    FAILED = 4
    ARCHIVED = 5

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session, as it is kept."""

    session_id: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    status: Status = Status.ACTIVE
    parent: str = ""
    """Id of the session that this one belongs to; empty: none."""
    metadata: dict[str, Any] = {}
    create_time_ns: int
    update_time_ns: int
    """Of the last change of the record; saving and checkpoints count, items do not."""
    expire_time_ns: int | None = None
    """When it is completed unasked; None: never."""
    end_time_ns: int | None = None
    """When it was completed or failed."""
    delete_time_ns: int | None = None
    """When it is deleted with all that it has; None: not before it is asked for."""
    save_time_ns: int | None = None
    """When it was last saved."""
    auto_save_time_ns: int | None = None
    """When the next automatic save is due."""
    timeout_ns: int
    """How long it may last; 0: for ever."""
    retention_ns: int
    """How long it is kept after its end; 0: until it is deleted."""
    auto_save_ns: int
    """Time between automatic saves; 0: none."""
    end_reason: str = ""
    """Why it failed, or `expired`."""
    checkpoint_count: int = 0
    checkpoints_made: int = 0
    """What the last checkpoint's id was counted from."""
    revision: int = 0
    """Of the last change."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The items and artifacts of a session as they were."""

    checkpoint_id: str
    name: str = ""
    create_time_ns: int
    revision: int
    """Items and artifacts are those of this revision."""
    item_count: int
    size_bytes: int
    """Bytes of the items' keys and values."""
    artifact_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What a session begins with."""

    session_id: str = ""
    """Empty: one is made."""
    name: str = ""
    description: str = ""
    tags: Sequence[str] = ()
    parent: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    timeout_ns: int | None = None
    """None: the default; likewise below."""
    retention_ns: int | None = None
    auto_save_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChanges:
    """What is to be changed; None leaves as it is."""

    name: str | None = None
    description: str | None = None
    tags: Sequence[str] | None = None
    metadata: dict[str, Any] | None = None
    timeout_ns: int | None = None
    """Counted from the creation."""
    retention_ns: int | None = None
    auto_save_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions count; all of it must hold."""

    statuses: frozenset[Status] = frozenset()
    """Empty: any."""
    tags: Sequence[str] = ()
    """It has each of them."""
    name_contains: str = ""
    """Part of its name, in whatever case."""
    parent: str = ""
    """Empty: any, or none."""
    created_from_ns: int | None = None
    """Created at this moment or later."""
    created_before_ns: int | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, the newest first."""

    sessions: Sequence[Session]
    after: bytes | None
    """Ask on after this place; None at the end."""
    revision: int


@dataclass(frozen=True, slots=True)
class Saved:
    """A session, and a checkpoint of it that was just taken or restored."""

    session: Session
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Restored:
    """What restoring did."""

    session: Session
    checkpoint: Checkpoint
    """What was put back."""
    before: Checkpoint | None
    """What there was before, where that was to be kept."""
    changed_count: int
    """Items that were written or removed for it."""
    changed_artifact_count: int
    """Artifacts that were added or removed for it."""


@dataclass(frozen=True, slots=True)
class End:
    """That a session has ended."""

    revision: int
    tenant: str
    session_id: str
    end_time_ns: int

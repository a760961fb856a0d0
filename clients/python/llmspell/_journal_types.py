"""What the client takes and gives of journals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A call that was made in a session."""

    sequence: int
    """Its number in the journal, from 1."""
    method: str
    """Such as `llmspell.v1.StateService/GetState`."""
    request: bytes
    """The request's bytes."""
    answer: bytes | None = None
    """The answer's bytes; None where it failed."""
    failure_reason: str = ""
    """Why it failed."""
    failure_message: str = ""
    """The same for people."""
    start_time: datetime
    """When it was made."""
    end_time: datetime
    """When it had ended."""
    correlation_id: str = ""
    """What ties it to others."""
    size_bytes: int = field(default=0, compare=False)
    """Bytes of the request and of what came back; told, and not given."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What is known of a session's journal."""

    session_id: str
    """Whose it is."""
    call_count: int
    """How many calls it has."""
    size_bytes: int
    """Bytes of their requests and answers."""
    first_time: datetime | None
    """When the first was made; None where there is none."""
    last_time: datetime | None
    """When the last was made."""
    total_duration_s: float
    """How long all of them took together."""
    can_replay: bool
    """Whether it has calls."""
    correlation_id: str
    """Of its first call."""

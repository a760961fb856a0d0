"""What journals hold. Times are nanoseconds since 1970. The order of the fields is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that was made."""

    sequence: int
    """Its number in the journal, from 1."""
    method: str
    request: bytes
    answer: bytes | None
    """None where it failed."""
    failure_reason: str
    failure_message: str
    start_ns: int
    end_ns: int
    correlation_id: str

    @property
    def size(self) -> int:
        """Bytes of the request and of what came back."""
        return len(self.request) + len(self.answer or b"") + len(self.failure_message)


class Journal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a session's journal."""

    session: str
    count: int = 0
    size: int = 0
    first_ns: int = 0
    """When the first call was made."""
    last_ns: int = 0
    """When the last one was made."""
    duration_ns: int = 0
    """How long all took together."""
    correlation_id: str = ""
    """Of the first call."""
    run_begin: bytes = b""
    """How the run began, where it is a run's: a RunBegin."""
    run_end: bytes = b""
    """How it ended, where it has: a RunEnd."""
    owner: str = ""
    """Session of the run; its journal is erased with that."""
    expire_ns: int = 0
    """When the journal of a run is let go that has no session."""


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Journals in order of session."""

    journals: Sequence[Journal]
    after: str | None
    """Ask on after this session; None at the end."""

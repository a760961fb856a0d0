"""What events are, for those who publish, keep and read them. Times are nanoseconds since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


class NewEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event as it is published and kept. The order of the fields is stored."""

    type: str
    """What happened."""
    json: str
    """A JSON document."""
    correlation_id: str = ""
    source: str = ""
    ttl_ns: int | None = None
    """Time to live from the moment of publishing; None: as long as it is kept."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""

    sequence: int
    """Its place among the tenant's events."""
    type: str
    json: str
    time_ns: int
    correlation_id: str = ""
    source: str = ""
    expire_time_ns: int | None = None
    own: bool = False
    """Whether it tells of a change of the process's own."""


@dataclass(frozen=True, slots=True)
class Published:
    """Where a batch went: its sequences are all from the first to the last."""

    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Events that were let go before somebody saw them."""

    through_sequence: int
    """The last that may be missing."""
    event_count: int | None = None
    """How many published ones are missing; None: not known."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has seen a tenant's events."""

    sequence: int
    """All up to here."""
    published: int | None = None
    """How many events had been published up to here; None: not known."""
    noticed: int = 0
    """Up to this sequence it was told that events are missing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Events in order, from one position to another."""

    events: Sequence[Event]
    position: Position
    """Up to here."""
    complete: bool
    """Whether there was nothing more."""
    skipped: Skipped | None = None


@dataclass(frozen=True, slots=True)
class EventStats:
    """Counts of a tenant's published events."""

    published: int
    kept: int
    kept_bytes: int
    refused: int
    """Publications that were refused since the process started."""
    subscriptions: int
    sequence: int
    """All has happened up to here."""

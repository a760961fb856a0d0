"""What the client takes and gives of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be published."""

    type: str
    """What happened: parts with dots between them, such as `order.paid`."""
    data: Any = None
    """More of it: anything that JSON can write, at most 64 KiB."""
    correlation_id: str = ""
    """What ties it to others."""
    source: str = ""
    """Who says so."""
    ttl_s: float | None = None
    """Seconds until nobody sees it any more; None: as long as it is kept."""


@dataclass(slots=True)
class Event:
    """Something that happened. Treat it as a fact: it is not frozen only because that is slow."""

    sequence: int
    """Its place among the tenant's events; keep it to go on after it."""
    type: str
    """What happened."""
    data: Any
    """More of it."""
    time: datetime
    """When it was published, or the change was made."""
    correlation_id: str = ""
    """What ties it to others."""
    source: str = ""
    """Who says so."""
    expire_time: datetime | None = None
    """When it ends; None: when it is let go."""
    own: bool = False
    """Whether it tells of a change of the state process's own."""


@dataclass(frozen=True, slots=True)
class SkippedEvents:
    """Events that were let go before they were seen."""

    through_sequence: int
    """The last that may be missing."""
    event_count: int | None
    """How many published ones are missing; None: not known."""


@dataclass(frozen=True, slots=True)
class Events:
    """What a subscription has seen since it last told."""

    events: Sequence[Event]
    """In the order in which they happened."""
    sequence: int
    """Go on after this one, and nothing is missed."""
    skipped: SkippedEvents | None = None
    """Set where events before these are missing."""


@dataclass(frozen=True, slots=True)
class EventStats:
    """Counts of the published events of a tenant."""

    published_count: int
    """Ever published."""
    kept_count: int
    """Kept now."""
    kept_bytes: int
    """Bytes that those take."""
    refused_count: int
    """Publications that were refused since the process started."""
    subscription_count: int
    """Subscriptions and waiting polls now."""
    sequence: int
    """All has happened up to here."""

"""Events that tell of the process's own changes, made of change records and of nothing else.

So none is lost and none invented. They name what has changed and never what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from services.state.event_model import Event
from services.state.layout.events import sequence_of
from services.state.layout.items import Change, ChangeKind
from services.state.patterns import Pattern

_ITEM_EVENTS = {
    ChangeKind.SET: "state.set",
    ChangeKind.DELETE: "state.deleted",
    ChangeKind.INCREMENT: "state.incremented",
    ChangeKind.EXPIRE: "state.expired",
    ChangeKind.PURGE: "state.purged",
    ChangeKind.RESTORE: "state.restored",
}


def _type_of(kind: ChangeKind) -> str:
    """An item's are listed; SESSION_CREATE is `session.created`, and others are alike."""
    if kind in _ITEM_EVENTS:
        return _ITEM_EVENTS[kind]
    noun, _, verb = kind.name.lower().partition("_")
    past = "" if verb.endswith("ed") else "d" if verb.endswith("e") else "ed"
    return f"{noun}.{verb}{past}"


OWN_EVENTS: Mapping[ChangeKind, str] = MappingProxyType(
    {kind: _type_of(kind) for kind in ChangeKind}
)
"""What each kind of change is called as an event; docs/guide/events.md has the same table."""

OWN_TYPES = frozenset(OWN_EVENTS.values())
"""What nobody can publish."""


class _Data(msgspec.Struct):
    scope: str
    key: str
    revision: int


def may_match(pattern: Pattern) -> bool:
    """Whether any event of the process's own is asked for."""
    return any(pattern.matches(own_type) for own_type in OWN_TYPES)


def own_event(change: Change) -> Event:
    """The event of a change record."""
    data = _Data(scope=change.scope, key=change.key, revision=change.revision)
    return Event(
        sequence=sequence_of(change.revision, change.number),
        type=OWN_EVENTS[change.kind],
        json=msgspec.json.encode(data).decode(),
        time_ns=change.time_ns,
        correlation_id=change.correlation_id,
        own=True,
    )

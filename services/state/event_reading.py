"""Events in order: published ones and those of the change feed, merged by sequence.

A revision either publishes or changes, never both; so what is merged are whole groups, and no
event of one lies inside another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from services.common.errors import Reason, ServiceError
from services.common.limits import EVENTS_PAGE_BYTES
from services.common.store import View
from services.state import own_events
from services.state.event_model import Event, Position, Reading, Skipped
from services.state.event_step import event_log
from services.state.layout import EVENTS, tenant_prefix
from services.state.layout import events as layout
from services.state.patterns import Pattern
from services.state.step import changes_after, kept_changes

_LOOKED_AT_MAX = 10_000
"""Events, wanted or not, after which a reading ends."""


MaySee = Callable[[str], bool]
"""Whether a scope is not kept from the reader."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are asked for."""

    tenant: str
    pattern: Pattern
    start_ns: int = 0
    """What happened then or later."""
    end_ns: int | None = None
    """What happened before; None: up to now."""
    may_see: MaySee | None = None
    """Of which scopes own events are told; None: of all."""

    def wants(self, event_type: str, time_ns: int) -> bool:
        """Whether an event is one of them."""
        return (
            self.pattern.matches(event_type)
            and time_ns >= self.start_ns
            and (self.end_ns is None or time_ns < self.end_ns)
        )


class _Group(NamedTuple):
    """Events of one revision that are wanted, and what was looked at for them."""

    last: int
    """Sequence of the last one, wanted or not."""
    events: list[Event]
    before: int | None
    """How many events had been published before; None: these were not published."""
    looked_at: int
    size: int


def read_events(
    view: View,
    query: Query,
    position: Position,
    *,
    limit: int,
    now_ns: int,
    skip: bool = False,
) -> Reading:
    """What happened after a position, up to `limit` events and a bounded amount of work.

    Raises:
        ServiceError: REVISION_FUTURE where there is no such position yet; REVISION_COMPACTED where
            events after it were let go, unless `skip`.
    """
    newest = layout.end_of(view.revision())
    if position.sequence > newest:
        raise _future(position.sequence, newest)
    position, skipped = _noticed(view, query, position, skip=skip)
    events: list[Event] = []
    looked = size = 0
    for group in _groups(view, query, position.sequence, now_ns):
        room = limit - len(events)
        if len(group.events) > room:
            events += group.events[:room]
            at = _inside(group, events[-1].sequence, position)
            return Reading(events, at, complete=False, skipped=skipped)
        events += group.events
        looked, size = looked + group.looked_at, size + group.size
        position = _behind(group, position)
        if len(events) == limit or looked >= _LOOKED_AT_MAX or size >= EVENTS_PAGE_BYTES:
            return Reading(events, position, complete=False, skipped=skipped)
    at = replace(position, sequence=newest, published=event_log(view, query.tenant).published)
    return Reading(events, at, complete=True, skipped=skipped)


def now(view: View, tenant: str) -> Position:
    """Behind all that has happened."""
    return Position(layout.end_of(view.revision()), event_log(view, tenant).published)


def compacted_sequence(view: View, query: Query) -> int:
    """Events up to here may have been let go; 0: none were."""
    return max(_compacted(view, query))


def _compacted(view: View, query: Query) -> tuple[int, int]:
    """Of published events, and of own ones where those are asked for."""
    published = event_log(view, query.tenant).compacted_sequence
    if not own_events.may_match(query.pattern):
        return published, 0
    revision = kept_changes(view, query.tenant).compacted_revision
    return published, layout.end_of(revision) if revision else 0


def _noticed(
    view: View, query: Query, position: Position, *, skip: bool
) -> tuple[Position, Skipped | None]:
    """Notice what was let go after a position; told once."""
    published, own = _compacted(view, query)
    gap = max(published, own)
    seen = position.sequence
    if seen == 0 or gap <= max(seen, position.noticed):
        return position, None
    if not skip:
        raise ServiceError(
            Reason.REVISION_COMPACTED,
            "Events after that sequence were let go; read on after `compacted`, or with SKIP.",
            compacted=gap,
        )
    count = None
    if position.published is not None and own <= max(seen, position.noticed):
        count = _published_before(view, query.tenant, seen) - position.published
    return replace(position, noticed=gap), Skipped(gap, count)


def _published_before(view: View, tenant: str, sequence: int) -> int:
    """How many events were published before the first that is kept after a sequence."""
    for _, stored in _batches(view, tenant, sequence):
        return layout.unpack_header(stored).before
    return event_log(view, tenant).published


def _inside(group: _Group, sequence: int, position: Position) -> Position:
    published = position.published
    if group.before is not None:
        published = group.before + layout.split_sequence(sequence)[1] + 1
    return replace(position, sequence=sequence, published=published)


def _behind(group: _Group, position: Position) -> Position:
    return _inside(group, group.last, position)


def _groups(view: View, query: Query, after: int, now_ns: int) -> Iterator[_Group]:
    published = _published_groups(view, query, after, now_ns)
    if not own_events.may_match(query.pattern):
        return published
    return heapq.merge(published, _own_groups(view, query, after), key=lambda group: group.last)


def _published_groups(view: View, query: Query, after: int, now_ns: int) -> Iterator[_Group]:
    for place, stored in _batches(view, query.tenant, after):
        header = layout.unpack_header(stored)
        first = layout.sequence_of(layout.split_batch_key(place)[1], 0)
        time_ns = header.time_ns
        events = [
            Event(
                first + number,
                new.type,
                new.json,
                time_ns,
                new.correlation_id,
                new.source,
                None if new.ttl_ns is None else time_ns + new.ttl_ns,
            )
            for number, new in enumerate(layout.unpack_events(stored))
            if query.wants(new.type, time_ns)
            and (new.ttl_ns is None or now_ns < time_ns + new.ttl_ns)
            and first + number > after
        ]
        last = first + header.count - 1
        yield _Group(last, events, header.before, header.count, len(stored))


def _batches(view: View, tenant: str, after: int) -> Iterator[tuple[bytes, bytes]]:
    """Records that have events after a sequence."""
    revision, _ = layout.split_sequence(after)
    seen = revision if after == layout.end_of(revision) else max(0, revision - 1)
    behind = layout.batch_key(tenant, seen)
    for place, stored in view.scan(EVENTS, tenant_prefix(tenant), after=behind):
        last = layout.sequence_of(
            layout.split_batch_key(place)[1], layout.unpack_header(stored).count - 1
        )
        if last > after:
            yield place, stored


def _own_groups(view: View, query: Query, after: int) -> Iterator[_Group]:
    for change in changes_after(view, query.tenant, *layout.split_sequence(after)):
        sequence = layout.sequence_of(change.revision, change.number)
        wanted = query.wants(own_events.OWN_EVENTS[change.kind], change.time_ns)
        if wanted and query.may_see is not None:
            wanted = not change.scope or query.may_see(change.scope)
        events = [own_events.own_event(change)] if wanted else []
        yield _Group(sequence, events, None, 1, len(change.scope) + len(change.key))


def _future(after: int, newest: int) -> ServiceError:
    return ServiceError(
        Reason.REVISION_FUTURE,
        f"Sequence {after} does not exist yet; the last one is {newest}.",
        field="after",
        revision=layout.split_sequence(after)[0],
        last_revision=layout.split_sequence(newest)[0],
    )

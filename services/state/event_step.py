"""What one operation does to a tenant's published events, inside a step.

The events of one call are one record. So publishing costs a few writes however many events there
are, and the oldest are let go by whole calls. A record, its entry in `event_ends` and the tenant's
counts change together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.common.errors import Reason, ServiceError
from services.common.limits import EVENTS_KEPT_BYTES_MAX, EVENTS_KEPT_MAX, EVENTS_KEPT_SECONDS
from services.common.store import View
from services.state.event_model import Published
from services.state.layout import EVENT_ENDS, EVENT_LOGS, EVENTS, tenant_prefix
from services.state.layout import events as layout
from services.state.layout.events import BatchHeader, Log
from services.state.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvents:
    """How much of a tenant's published events is kept; what is older is let go."""

    count_max: int = EVENTS_KEPT_MAX
    bytes_max: int = EVENTS_KEPT_BYTES_MAX
    age_ns: int = int(EVENTS_KEPT_SECONDS * 1e9)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one call, packed."""

    events: bytes
    count: int
    ttl_ns: int | None
    """When the last of them ends, from the moment of publishing; None: one of them does not."""


class EventStep:
    """One transaction's published events of one tenant."""

    def __init__(self, step: Step, tenant: str, kept: KeptEvents) -> None:
        self._step = step
        self._txn = step.txn
        self._tenant = tenant
        self._kept = kept

    def publish(self, batch: Batch, *, unseen_after: int | None = None) -> Published:
        """Add events, and let go of the oldest where there are too many.

        Args:
            batch: The events.
            unseen_after: Do not let go of events after this sequence; None: of any.

        Raises:
            ServiceError: EVENTS_OVERFLOW.
        """
        log = event_log(self._txn, self._tenant)
        log = self._make_room(log, batch, unseen_after)
        revision = self._step.take_revision(self._tenant)
        age_ns = self._kept.age_ns
        ends = age_ns if batch.ttl_ns is None else min(batch.ttl_ns, age_ns)
        now_ns = self._step.now_ns
        header = BatchHeader(now_ns, now_ns + ends, log.published, batch.count)
        place = layout.batch_key(self._tenant, revision)
        record = layout.pack_batch(header, batch.events)
        self._txn.put(EVENTS, place, record)
        self._txn.put(EVENT_ENDS, layout.end_key(header.end_ns, place), b"")
        self._keep(
            replace(
                log,
                count=log.count + batch.count,
                size=log.size + len(record),
                published=log.published + batch.count,
            )
        )
        self._txn.touched.add(self._tenant)
        first = layout.sequence_of(revision, 0)
        return Published(first, first + batch.count - 1)

    def purge(self, limit: int) -> bool:
        """Erase up to `limit` records; whether there may be more."""
        prefix = tenant_prefix(self._tenant)
        places = list(itertools.islice(self._txn.keys(EVENTS, prefix), limit))
        for place in places:
            self._remove(place)
        more = len(places) == limit
        if not more and self._txn.delete(EVENT_LOGS, tenant_prefix(self._tenant)):
            self._step.take_revision(self._tenant)
        return more

    def end(self, place: bytes) -> None:
        """Remove a record whose time has come."""
        log = event_log(self._txn, self._tenant)
        header, size = self._remove(place)
        if header is None:
            return
        too_old = header.end_ns >= header.time_ns + self._kept.age_ns
        self._keep(self._without(log, place, header, size, lost=too_old))

    def _make_room(self, log: Log, batch: Batch, unseen_after: int | None) -> Log:
        places: Iterator[bytes] | None = None
        while self._is_over(log, batch) and log.count > 0:
            # Found anew each time: a cursor does not outlive what is removed under it.
            places = self._txn.keys(EVENTS, tenant_prefix(self._tenant))
            place = next(places, None)
            if place is None:
                return replace(log, count=0, size=0)
            header, size = self._remove(place)
            last = self._last_sequence(place, header)
            if unseen_after is not None and last > unseen_after:
                raise _overflow(self._kept)
            log = self._without(log, place, header, size, lost=True)
        return log

    def _is_over(self, log: Log, batch: Batch) -> bool:
        return (
            log.count + batch.count > self._kept.count_max
            or log.size + len(batch.events) > self._kept.bytes_max
        )

    def _without(
        self, log: Log, place: bytes, header: BatchHeader | None, size: int, *, lost: bool
    ) -> Log:
        sequence = self._last_sequence(place, header) if lost else 0
        return replace(
            log,
            compacted_sequence=max(log.compacted_sequence, sequence),
            count=max(0, log.count - (header.count if header else 0)),
            size=max(0, log.size - size),
        )

    def _last_sequence(self, place: bytes, header: BatchHeader | None) -> int:
        revision = layout.split_batch_key(place)[1]
        if header is None:
            return layout.end_of(revision)
        return layout.sequence_of(revision, header.count - 1)

    def _remove(self, place: bytes) -> tuple[BatchHeader | None, int]:
        """Remove a record; what it was, and its bytes. A damaged one tells nothing of itself."""
        try:
            stored = self._txn.get(EVENTS, place)
        except ServiceError:
            stored = None
        self._txn.delete(EVENTS, place)
        if stored is None:
            return None, 0
        header = layout.unpack_header(stored)
        self._txn.delete(EVENT_ENDS, layout.end_key(header.end_ns, place))
        return header, len(stored)

    def _keep(self, log: Log) -> None:
        self._txn.put(EVENT_LOGS, tenant_prefix(self._tenant), layout.pack_log(log))


def sweep(step: Step, kept: KeptEvents, limit: int) -> int:
    """Remove up to `limit` records whose time has come; how many."""
    ended = list(itertools.islice(ended_batches(step.txn, step.now_ns), limit))
    removed = 0
    for entry in ended:
        place = layout.split_end_key(entry)[1]
        tenant = layout.split_batch_key(place)[0]
        if tenant in step.restoring:
            continue
        step.take_revision(tenant)
        EventStep(step, tenant, kept).end(place)
        step.txn.delete(EVENT_ENDS, entry)
        removed += 1
    return removed


def ended_batches(view: View, now_ns: int) -> Iterator[bytes]:
    """Keys in `event_ends` whose time has come, the earliest first."""
    return itertools.takewhile(
        lambda entry: layout.split_end_key(entry)[0] <= now_ns, view.keys(EVENT_ENDS, b"")
    )


def event_log(view: View, tenant: str) -> Log:
    """What is kept of a tenant's published events."""
    return layout.unpack_log(view.get(EVENT_LOGS, tenant_prefix(tenant)))


def _overflow(kept: KeptEvents) -> ServiceError:
    return ServiceError(
        Reason.EVENTS_OVERFLOW,
        f"A subscriber has not seen the oldest of the {kept.count_max} events that are kept; "
        "publish slower, or let the oldest be let go.",
        limit=kept.count_max,
    )

"""Events of all tenants, over any engine: published, kept, listed, subscribed to.

A subscription holds a position and nothing else. What comes after it is read from the engine when
its reader has taken what came before; so a slow reader costs no memory, nothing is lost between
reading and waiting, and who comes back with a sequence goes on where it was.

Queues are bounded by what is kept. Where a publisher goes faster than that, the oldest events are
let go, and who had not seen them is told so; or the publisher asks to be refused instead
(`refuse_overflow`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import msgspec

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE
from services.common.limits import EVENT_IDLE_SECONDS, EVENTS_BATCH_MAX
from services.common.redaction import may_hold_credential, redact_json
from services.state import event_rules, rules
from services.state.event_model import EventStats, NewEvent, Position, Published, Reading
from services.state.event_reading import MaySee, Query, compacted_sequence, now, read_events
from services.state.event_step import (
    Batch,
    EventStep,
    KeptEvents,
    ended_batches,
    event_log,
    sweep,
)
from services.state.feed import wait
from services.state.layout import events as layout
from services.state.model import Once
from services.state.patterns import Pattern
from services.state.requests import Requests
from services.state.step import Keeper, Step
from services.state.subscriptions import Subscription, Subscriptions


class Events:
    """Published events and those of the process's own changes."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        requests: Requests | None = None,
        kept: KeptEvents | None = None,
        age_of: Callable[[str, int], int] = lambda _, most_ns: most_ns,
        idle_s: float = EVENT_IDLE_SECONDS,
        slice_size: int = SLICE,
    ) -> None:
        """Make them.

        Args:
            keeper: Where they are kept.
            requests: Which publications were made already; None: some of its own.
            kept: How much of each tenant's.
            age_of: How long events of a tenant are kept, given the most; in nanoseconds.
            idle_s: Seconds after which a subscription says how far it is.
            slice_size: Records that one step of a purge removes.
        """
        self._keeper = keeper
        self._requests = requests or Requests(keeper)
        self._kept = kept or KeptEvents()
        self._age_of = age_of
        self._idle_s = idle_s
        self._slice_size = slice_size
        self._refused: Counter[str] = Counter()
        self.subscriptions = Subscriptions(keeper.feed)

    async def publish(
        self,
        tenant: str,
        events: Sequence[NewEvent],
        *,
        refuse_overflow: bool = False,
        once: Once | None = None,
    ) -> Published:
        """Add events, all or none; answer when they are kept. With `once` they are added once.

        Raises:
            ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED; EVENTS_OVERFLOW;
                REQUEST_ID_REUSED.
        """
        rules.check_place(tenant, "global")
        event_rules.check_events(events)
        batch = _packed(events)
        event_rules.check_size(len(batch.events))
        unseen_after = self.subscriptions.seen_by_all(tenant) if refuse_overflow else None

        age_ns = self._age_of(tenant, self._kept.age_ns)
        kept = replace(self._kept, age_ns=age_ns)

        def operation(step: Step) -> Published:
            published = EventStep(step, tenant, kept).publish(batch, unseen_after=unseen_after)
            failpoints.hit("events.published")
            return published

        try:
            return await self._requests.step(tenant, once, Published, operation, grows=True)
        except ServiceError as error:
            self._refused[tenant] += error.reason == Reason.EVENTS_OVERFLOW
            raise

    async def list(self, query: Query, *, after: int, limit: int) -> tuple[Reading, int]:
        """What is kept after a sequence, and the sequence up to which events may be missing."""
        rules.check_place(query.tenant, "global")
        most = rules.page_limit(limit)
        now_ns = self._keeper.time.now_ns()
        with self._keeper.engine.read() as view:
            at = Position(after)
            reading = read_events(view, query, at, limit=most, now_ns=now_ns, skip=True)
            return reading, compacted_sequence(view, query)

    async def poll(
        self,
        tenant: str,
        pattern: Pattern,
        *,
        caller: str,
        after: int | None,
        limit: int,
        wait_s: float = 0,
        skip: bool = False,
        may_see: MaySee | None = None,
    ) -> Reading:
        """What comes after a sequence; waits until there is something, `wait_s` seconds at most.

        Args:
            tenant: Whose events.
            pattern: Which.
            caller: Who waits.
            after: None: answer at once with the position of now.
            limit: At most so many.
            wait_s: 0: do not wait.
            skip: Go on where events were let go.
            may_see: Of which scopes own events are told; None: of all.

        Raises:
            ServiceError: REVISION_FUTURE, REVISION_COMPACTED, OVERLOADED, SERVICE_UNAVAILABLE.
        """
        rules.check_place(tenant, "global")
        if after is None:
            return Reading((), self._now(tenant), complete=True)
        most = rules.page_limit(limit)
        query, position = Query(tenant, pattern, may_see=may_see), Position(after)
        reading = self._read(query, position, limit=most, skip=skip)
        if reading.events or reading.skipped or (reading.complete and wait_s <= 0):
            return reading
        with self.subscriptions.enter(tenant, caller) as one:
            return await self._first(query, reading, one, limit=most, wait_s=wait_s, skip=skip)

    async def subscribe(
        self,
        tenant: str,
        pattern: Pattern,
        *,
        caller: str,
        after: int | None = None,
        skip: bool = False,
        may_see: MaySee | None = None,
    ) -> AsyncGenerator[Reading, None]:
        """What comes after a sequence, for ever; the first reading comes at once, perhaps empty.

        Args:
            tenant: Whose events.
            pattern: Which.
            caller: Who reads.
            after: None: from now on.
            skip: Go on where events were let go.
            may_see: Of which scopes own events are told; None: of all.

        Raises:
            ServiceError: REVISION_FUTURE, REVISION_COMPACTED, OVERLOADED, SERVICE_UNAVAILABLE.
        """
        rules.check_place(tenant, "global")
        query = Query(tenant, pattern, may_see=may_see)
        with self.subscriptions.enter(tenant, caller) as one:
            position = self._now(tenant) if after is None else Position(after)
            one.seen = position.sequence
            due = self._monotonic()
            while not one.ended:
                self.subscriptions.check_open()
                one.line.clear()
                reading = self._read(query, position, limit=EVENTS_BATCH_MAX, skip=skip)
                if reading.events or reading.skipped or self._monotonic() >= due:
                    due = self._monotonic() + self._idle_s
                    yield reading
                position = reading.position
                one.seen = position.sequence
                await wait(one.line, due - self._monotonic() if reading.complete else 0)

    async def stats(self, tenant: str) -> EventStats:
        """Counts of a tenant's published events."""
        rules.check_place(tenant, "global")
        with self._keeper.engine.read() as view:
            log = event_log(view, tenant)
            newest = layout.end_of(view.revision())
        return EventStats(
            published=log.published,
            kept=log.count,
            kept_bytes=log.size,
            refused=self._refused[tenant],
            subscriptions=len(self.subscriptions.of(tenant)),
            sequence=newest,
        )

    async def purge(self, tenant: str) -> None:
        """Erase a tenant's published events and end its subscriptions."""
        rules.check_place(tenant, "global")
        self.subscriptions.end(tenant)
        await self._keeper.repeat(
            lambda step: EventStep(step, tenant, self._kept).purge(self._slice_size)
        )
        self._refused.pop(tenant, None)

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` records whose events have ended or are too old; how many."""
        with self._keeper.engine.read() as view:
            if next(ended_batches(view, self._keeper.time.now_ns()), None) is None:
                return 0
        return await self._keeper.step(lambda step: sweep(step, self._kept, limit))

    async def _first(
        self,
        query: Query,
        reading: Reading,
        one: Subscription,
        *,
        limit: int,
        wait_s: float,
        skip: bool,
    ) -> Reading:
        """The first reading with something in it, or the last one before time is over."""
        timer = asyncio.get_running_loop()
        until = timer.time() + wait_s
        while not (reading.events or reading.skipped or one.ended):
            self.subscriptions.check_open()
            left_s = until - timer.time()
            if reading.complete and left_s <= 0:
                break
            await wait(one.line, left_s if reading.complete else 0)
            one.line.clear()
            reading = self._read(query, reading.position, limit=limit, skip=skip)
        return reading

    def _read(self, query: Query, position: Position, *, limit: int, skip: bool) -> Reading:
        now_ns = self._keeper.time.now_ns()
        with self._keeper.engine.read() as view:
            return read_events(view, query, position, limit=limit, now_ns=now_ns, skip=skip)

    def _now(self, tenant: str) -> Position:
        with self._keeper.engine.read() as view:
            return now(view, tenant)

    def _monotonic(self) -> float:
        return self._keeper.time.monotonic()


def _packed(events: Sequence[NewEvent]) -> Batch:
    """Events as they are kept. What an event holds is given to the store here and nowhere else.

    So it is here that what looks like a credential is taken out.
    """
    if may_hold_credential("\n".join([event.json for event in events])):
        events = [_without_credentials(event) for event in events]
    ttls = [event.ttl_ns for event in events]
    longest = None if None in ttls else max(ttl for ttl in ttls if ttl is not None)
    return Batch(layout.pack_events(events), len(events), longest)


def _without_credentials(event: NewEvent) -> NewEvent:
    clean = redact_json(event.json)
    return event if clean == event.json else msgspec.structs.replace(event, json=clean)

"""What events promise over every engine. Each claim takes a stage with nothing on it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.event_model import Event, NewEvent, Position, Published, Reading
from services.state.event_reading import Query, read_events
from services.state.event_step import KeptEvents
from services.state.events import Events
from services.state.items import Items
from services.state.layout import EVENT_ENDS, EVENT_LOGS, EVENTS
from services.state.layout.events import end_of, split_sequence
from services.state.model import Encoding, Once, Value
from services.state.patterns import Pattern
from services.state.step import Keeper

ACME = "acme"
GLOBEX = "globex"
SECOND_NS = 10**9
VALUE = Value(Encoding.TEXT, b"secret")
CHANGES_KEPT = 10
KEPT = KeptEvents(count_max=10, bytes_max=2000, age_ns=100 * SECOND_NS)


@dataclass
class Stage:
    """A store, its events and items, and the clock that they use."""

    keeper: Keeper
    events: Events
    items: Items
    clock: FakeClock
    callers: list[str] = field(default_factory=list)

    async def publish(self, *types: str, tenant: str = ACME, **kwargs) -> Published:
        """Publish events of these types, whose data is their number."""
        events = [NewEvent(each, str(number)) for number, each in enumerate(types)]
        return await self.events.publish(tenant, events, **kwargs)

    async def seen(self, pattern: str = "", tenant: str = ACME, after: int = 0) -> list[str]:
        """Types of what is kept."""
        return [event.type for event in await self.listed(pattern, tenant, after)]

    async def listed(self, pattern: str = "", tenant: str = ACME, after: int = 0) -> list[Event]:
        """What is kept, page by page."""
        found: list[Event] = []
        while True:
            query = Query(tenant, Pattern(pattern))
            reading, _ = await self.events.list(query, after=after, limit=3)
            found += reading.events
            if reading.complete:
                return found
            after = reading.position.sequence

    async def poll(self, pattern: str = "", *, after: int | None, **kwargs) -> Reading:
        """What comes after a sequence."""
        kwargs = {"caller": "me", "limit": 100, **kwargs}
        return await self.events.poll(ACME, Pattern(pattern), after=after, **kwargs)

    def subscribe(self, pattern: str = "", *, tenant: str = ACME, caller: str = "me", **kwargs):
        """A subscription, to be closed."""
        return aclosing(self.events.subscribe(tenant, Pattern(pattern), caller=caller, **kwargs))


async def refused(reason: Reason, awaitable) -> ServiceError:
    """The error with which something is refused."""
    with pytest.raises(ServiceError) as info:
        await awaitable
    assert info.value.reason == reason
    return info.value


async def what_is_published_is_listed(stage: Stage) -> None:
    """Events come back in order, whole, with sequences that rise by one within a call."""
    events = [NewEvent("a.b", '{"n":1}', "c1", "me", None), NewEvent("a.c", "2.50")]
    published = await stage.events.publish(ACME, events)
    first, second = await stage.listed()
    whole = (first.type, first.json, first.correlation_id, first.source)
    assert whole == ("a.b", '{"n":1}', "c1", "me")
    assert (second.type, second.json) == ("a.c", "2.50")
    assert [first.sequence, second.sequence] == [published.first_sequence, published.last_sequence]
    assert second.sequence == first.sequence + 1
    assert first.time_ns == stage.clock.now_ns()
    assert not first.own


async def credentials_are_taken_out(stage: Stage) -> None:
    """What looks like a credential is neither kept nor told; what stands beside it is."""
    data = '{"user":"anna","password":"hunter2","token_count":12}'
    await stage.events.publish(ACME, [NewEvent("login", data)])
    (event,) = await stage.listed()
    told = msgspec.json.decode(event.json)
    assert told == {"user": "anna", "password": "[REDACTED]", "token_count": 12}


async def credentials_are_taken_out_of_any_of_many(stage: Stage) -> None:
    """One among many is found, also where its letters are written as numbers; the others stay."""
    hidden = '{"\\u0070assword": "hunter2"}'
    documents = ['{"n": 1}', hidden, '{"PassWord":"hunter2"}', '{"n":  2}']
    await stage.events.publish(ACME, [NewEvent("login", each) for each in documents])
    told = [event.json for event in await stage.listed()]
    assert [told[0], told[3]] == [documents[0], documents[3]]
    assert [msgspec.json.decode(each) for each in told[1:3]] == [
        {"password": "[REDACTED]"},
        {"PassWord": "[REDACTED]"},
    ]


async def own_changes_are_events(stage: Stage) -> None:
    """Each change of an item is an event that names it and not its value, where it happened."""
    await stage.publish("before")
    revision = (await stage.items.set(ACME, "user:u", "k", VALUE, ttl_ns=SECOND_NS)).revision
    await stage.items.increment(ACME, "global", "n", 1)
    await stage.publish("between")
    await stage.items.delete(ACME, "global", "n")
    stage.clock.advance(2)
    await stage.items.sweep()
    events = await stage.listed()
    assert [event.type for event in events] == [
        "before",
        "state.set",
        "state.incremented",
        "between",
        "state.deleted",
        "state.expired",
    ]
    assert events[1].json == f'{{"scope":"user:u","key":"k","revision":{revision}}}'
    assert [event.own for event in events] == [False, True, True, False, True, True]
    assert sorted(event.sequence for event in events) == [event.sequence for event in events]
    assert not any("secret" in event.json for event in events)


async def patterns_choose(stage: Stage) -> None:
    """A star stands for any text anywhere; own events are chosen alike."""
    await stage.publish("agent.a.done", "agent.a.b.done", "job.failed", "agent.done", "state.mine")
    await stage.items.set(ACME, "global", "k", VALUE)
    assert await stage.seen("agent.*.done") == ["agent.a.done", "agent.a.b.done"]
    assert await stage.seen("*.failed") == ["job.failed"]
    assert await stage.seen("state.*") == ["state.mine", "state.set"]
    assert await stage.seen("state.set") == ["state.set"]
    assert len(await stage.seen("*")) == 6


async def tenants_are_apart(stage: Stage) -> None:
    """Nothing of a tenant is seen, counted, or wakes another."""
    async with stage.subscribe(tenant=GLOBEX, after=0) as theirs:
        assert not (await anext(theirs)).events
        await stage.publish("mine")
        await stage.items.set(ACME, "global", "k", VALUE)
        await stage.publish("theirs", tenant=GLOBEX)
        assert [event.type for event in (await anext(theirs)).events] == ["theirs"]
    assert await stage.seen(tenant=GLOBEX) == ["theirs"]
    stats = await stage.events.stats(GLOBEX)
    assert (stats.published, stats.kept) == (1, 1)


async def a_subscription_tells_at_once_and_then_as_it_happens(stage: Stage) -> None:
    """The first reading says where it begins; then come new events, and only new ones."""
    await stage.publish("old")
    async with stage.subscribe() as told:
        begun = await anext(told)
        assert not begun.events
        await stage.publish("new", "newer")
        reading = await anext(told)
        assert [event.type for event in reading.events] == ["new", "newer"]
        await stage.items.set(ACME, "global", "k", VALUE)
        assert [event.type for event in (await anext(told)).events] == ["state.set"]
    assert await stage.seen(after=begun.position.sequence) == ["new", "newer", "state.set"]


async def resuming_at_each_sequence_misses_nothing(stage: Stage) -> None:
    """After any event's sequence comes exactly what follows it, inside a call's events too."""
    await stage.publish("a", "b", "c")
    await stage.items.set(ACME, "global", "k", VALUE)
    await stage.publish("d", "e")
    events = await stage.listed()
    assert len(events) == 6
    for number, event in enumerate(events):
        rest = await stage.listed(after=event.sequence)
        assert rest == events[number + 1 :]
        polled = await stage.poll(after=event.sequence)
        assert polled.events == rest
        one = await stage.poll(after=event.sequence, limit=1)
        assert one.events == rest[:1]


async def an_idle_subscription_tells_where_it_is(stage: Stage) -> None:
    """What the pattern does not ask for moves the sequence on, too."""
    async with stage.subscribe("wanted") as told:
        first = await anext(told)
        published = await stage.publish("unwanted")
        stage.clock.advance(100)
        reading = await anext(told)
        assert not reading.events
        assert first.position.sequence < published.first_sequence <= reading.position.sequence


async def a_poll_waits_for_the_first_event(stage: Stage) -> None:
    """It answers when something happens, or with nothing when its time is over."""
    start = await stage.poll(after=None)
    assert not start.events
    at = start.position.sequence
    waiting = asyncio.create_task(stage.poll("x.*", after=at, wait_s=20))
    await asyncio.sleep(0)
    await stage.publish("y")
    await stage.publish("x.1")
    reading = await waiting
    assert [event.type for event in reading.events] == ["x.1"]
    assert not (await stage.poll(after=reading.position.sequence)).events
    over = await stage.poll("x.*", after=reading.position.sequence, wait_s=0.01)
    assert not over.events
    assert (await stage.events.stats(ACME)).subscriptions == 0


async def old_events_are_let_go_by_count(stage: Stage) -> None:
    """No more than so many are kept; who comes from before is told so."""
    first = await stage.publish("a")
    for _ in range(4):
        await stage.publish("b", "b", "b")
    assert await stage.seen() == ["b"] * 9
    stats = await stage.events.stats(ACME)
    assert (stats.published, stats.kept) == (13, 9)
    refusal = await refused(Reason.REVISION_COMPACTED, stage.poll("b", after=first.first_sequence))
    compacted = int(refusal.metadata["compacted"])
    assert len((await stage.poll("b", after=compacted)).events) == 9
    assert len((await stage.poll("b", after=0)).events) == 9


async def old_events_are_let_go_by_bytes(stage: Stage) -> None:
    """No more than so many bytes are kept."""
    for _ in range(5):
        await stage.events.publish(ACME, [NewEvent("big", f'"{"x" * 900}"')])
    stats = await stage.events.stats(ACME)
    assert stats.kept == 2
    assert stats.kept_bytes < KEPT.bytes_max + 200


async def old_events_are_let_go_by_age(stage: Stage) -> None:
    """What is too old is swept away, and its absence told of."""
    first = await stage.publish("old", "old")
    stage.clock.advance(50)
    await stage.publish("young")
    stage.clock.advance(60)
    assert await stage.events.sweep() == 1
    assert await stage.seen() == ["young"]
    await refused(Reason.REVISION_COMPACTED, stage.poll("*", after=first.first_sequence))
    assert [event.type for event in (await stage.poll(after=first.last_sequence)).events] == [
        "young"
    ]
    stage.clock.advance(60)
    assert await stage.events.sweep() == 1
    assert await stage.events.sweep() == 0
    assert (await stage.events.stats(ACME)).kept == 0
    assert _left(stage) == (0, 0, 1)


async def ended_events_are_not_seen(stage: Stage) -> None:
    """After its time to live nobody sees an event; nobody is told that it is missing."""
    start = (await stage.poll(after=None)).position.sequence
    await stage.publish("first")
    events = [NewEvent("short", "1", "", "", SECOND_NS), NewEvent("long", "2", "", "", None)]
    await stage.events.publish(ACME, events)
    await stage.events.publish(ACME, events[:1])
    assert await stage.seen() == ["first", "short", "long", "short"]
    stage.clock.advance(1)
    assert await stage.seen() == ["first", "long"]
    assert await stage.events.sweep() == 1
    assert [event.type for event in (await stage.poll(after=start)).events] == ["first", "long"]
    assert (await stage.events.stats(ACME)).kept == 3


async def a_skipping_subscription_says_how_many(stage: Stage) -> None:
    """A subscriber that lags is told how many events it missed, once, and goes on."""
    async with stage.subscribe("n", after=0, skip=True) as told:
        await anext(told)
        await stage.publish("n")
        assert len((await anext(told)).events) == 1
        for _ in range(20):
            await stage.publish("n")
        reading = await anext(told)
        assert reading.skipped is not None
        assert reading.skipped.event_count == 10
        assert len(reading.events) == 10
        await stage.publish("n")
        last = await anext(told)
        assert (last.skipped, len(last.events)) == (None, 1)


async def a_lagging_subscription_ends(stage: Stage) -> None:
    """Without skipping, a subscriber that lags is refused with its reason."""
    async with stage.subscribe("n", after=0) as told:
        await anext(told)
        await stage.publish("n")
        await anext(told)
        for _ in range(20):
            await stage.publish("n")
        await refused(Reason.REVISION_COMPACTED, anext(told))


async def a_resumed_skip_does_not_know_how_many(stage: Stage) -> None:
    """Who comes back from before what is kept is told up to where, and no invented number."""
    first = await stage.publish("n")
    for _ in range(20):
        await stage.publish("n")
    reading = await stage.poll("n", after=first.first_sequence, skip=True)
    assert reading.skipped is not None
    assert reading.skipped.event_count is None
    assert len(reading.events) == 10
    assert reading.skipped.through_sequence < reading.events[0].sequence


async def lost_changes_are_told_of(stage: Stage) -> None:
    """Where the feed has let changes go, who asks for them hears so, and who does not, does not."""
    start = (await stage.publish("n")).last_sequence
    for _ in range(CHANGES_KEPT + 5):
        await stage.items.set(ACME, "global", "k", VALUE)
    await refused(Reason.REVISION_COMPACTED, stage.poll("*", after=start))
    reading = await stage.poll("*", after=start, skip=True)
    assert reading.skipped is not None
    assert len(reading.events) == CHANGES_KEPT
    assert not (await stage.poll("n", after=start)).events


async def a_publisher_may_be_refused_instead(stage: Stage) -> None:
    """With `refuse_overflow` nothing is let go that a subscriber has not seen."""
    async with stage.subscribe("n") as told:
        await anext(told)
        for _ in range(10):
            await stage.publish("n", refuse_overflow=True)
        await refused(Reason.EVENTS_OVERFLOW, stage.publish("n", refuse_overflow=True))
        stats = await stage.events.stats(ACME)
        assert (stats.published, stats.kept, stats.refused) == (10, 10, 1)
        assert len((await anext(told)).events) == 10
        waiting = asyncio.create_task(anext(told))
        await asyncio.sleep(0)
        await stage.publish("n", refuse_overflow=True)
        assert len((await waiting).events) == 1
    for _ in range(12):
        await stage.publish("n", refuse_overflow=True)


async def a_repeated_call_publishes_once(stage: Stage) -> None:
    """Under one request id events are published once, and the answer is the first one's."""
    once = Once("r1", b"x" * 32)
    first = await stage.publish("a", "b", once=once)
    assert await stage.publish("a", "b", once=once) == first
    assert await stage.seen() == ["a", "b"]
    other = stage.publish("c", once=Once("r1", b"y" * 32))
    await refused(Reason.REQUEST_ID_REUSED, other)


async def unfit_events_are_refused_whole(stage: Stage) -> None:
    """One bad event refuses all of its call, and is named."""
    cases = [
        (NewEvent("", "1"), Reason.FIELD_REQUIRED, "events[1].type"),
        (NewEvent("a b", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent(".a", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent("a..b", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent("a.*", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent("ä", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent("state.set", "1"), Reason.FIELD_INVALID, "events[1].type"),
        (NewEvent("a" * 129, "1"), Reason.LIMIT_EXCEEDED, "events[1].type"),
        (NewEvent("a", "nope"), Reason.FIELD_INVALID, "events[1].json"),
        (NewEvent("a", "[" * 5000), Reason.FIELD_INVALID, "events[1].json"),
        (NewEvent("a", f'"{"x" * 65535}"'), Reason.LIMIT_EXCEEDED, "events[1].json"),
        (NewEvent("a", "1", "x" * 257), Reason.LIMIT_EXCEEDED, "events[1].correlation_id"),
        (NewEvent("a", "1", "", "a\0"), Reason.FIELD_INVALID, "events[1].source"),
        (NewEvent("a", "1", "", "", -1), Reason.FIELD_INVALID, "events[1].ttl"),
    ]
    for bad, reason, name in cases:
        refusal = await refused(reason, stage.events.publish(ACME, [NewEvent("ok", "1"), bad]))
        assert refusal.metadata["field"] == name
    await refused(Reason.FIELD_REQUIRED, stage.events.publish(ACME, []))
    await refused(Reason.LIMIT_EXCEEDED, stage.publish(*["a"] * 1001))
    big = [NewEvent("a", f'"{"x" * 60_000}"')] * 100
    await refused(Reason.LIMIT_EXCEEDED, stage.events.publish(ACME, big))
    assert await stage.seen() == []
    with stage.keeper.engine.read() as view:
        assert view.revision() == 0


async def the_future_is_refused(stage: Stage) -> None:
    """A sequence that does not exist yet is an error, not a wait."""
    await stage.publish("a")
    await refused(Reason.REVISION_FUTURE, stage.poll(after=end_of(1) + 1))
    async with stage.subscribe(after=end_of(7)) as told:
        await refused(Reason.REVISION_FUTURE, anext(told))
    assert not (await stage.poll(after=end_of(1))).events


async def subscriptions_are_bounded(stage: Stage) -> None:
    """A caller has so many places, a tenant so many; each is given back."""
    opened = []
    for number in range(64):
        told = stage.events.subscribe(ACME, Pattern(""), caller=f"c{number // 32}")
        await anext(told)
        opened.append(told)
        if number == 31:
            async with stage.subscribe(caller="c0") as one:
                assert (await refused(Reason.OVERLOADED, anext(one))).metadata["limit"] == "32"
    async with stage.subscribe(caller="c2") as one:
        assert (await refused(Reason.OVERLOADED, anext(one))).metadata["limit"] == "64"
    async with stage.subscribe(tenant=GLOBEX) as theirs:
        await anext(theirs)
    for told in opened:
        await told.aclose()
    async with stage.subscribe(caller="c0") as one:
        await anext(one)


async def a_purge_erases_all(stage: Stage) -> None:
    """Nothing is left of a purged tenant's events, its subscriptions end, others' stay."""
    await stage.publish("theirs", tenant=GLOBEX)
    for _ in range(3):
        await stage.publish("mine", "mine")
    async with stage.subscribe() as told:
        await anext(told)
        await stage.events.purge(ACME)
        with pytest.raises(StopAsyncIteration):
            await anext(told)
    assert await stage.seen() == []
    assert await stage.seen(tenant=GLOBEX) == ["theirs"]
    assert _left(stage) == (1, 1, 1)


async def a_reading_ends_after_so_much_work(stage: Stage) -> None:
    """However much there is, one reading is bounded and the next goes on."""
    with stage.keeper.engine.read() as view:
        query = Query(ACME, Pattern(""))
        empty = read_events(view, query, Position(0), limit=5, now_ns=0)
    assert (empty.events, empty.complete) == ([], True)
    await stage.publish(*["a"] * 7)
    with stage.keeper.engine.read() as view:
        reading = read_events(view, query, Position(0), limit=5, now_ns=0)
    assert not reading.complete
    assert split_sequence(reading.position.sequence) == (1, 4)
    assert reading.position.published == 5


def _left(stage: Stage) -> tuple[int, int, int]:
    """Records, ends and logs in the store."""
    with stage.keeper.engine.read() as view:
        return view.count(EVENTS), view.count(EVENT_ENDS), view.count(EVENT_LOGS)


CLAIMS = [
    what_is_published_is_listed,
    credentials_are_taken_out,
    credentials_are_taken_out_of_any_of_many,
    own_changes_are_events,
    patterns_choose,
    tenants_are_apart,
    a_subscription_tells_at_once_and_then_as_it_happens,
    resuming_at_each_sequence_misses_nothing,
    an_idle_subscription_tells_where_it_is,
    a_poll_waits_for_the_first_event,
    old_events_are_let_go_by_count,
    old_events_are_let_go_by_bytes,
    old_events_are_let_go_by_age,
    ended_events_are_not_seen,
    a_skipping_subscription_says_how_many,
    a_lagging_subscription_ends,
    a_resumed_skip_does_not_know_how_many,
    lost_changes_are_told_of,
    a_publisher_may_be_refused_instead,
    a_repeated_call_publishes_once,
    unfit_events_are_refused_whole,
    the_future_is_refused,
    subscriptions_are_bounded,
    a_purge_erases_all,
    a_reading_ends_after_so_much_work,
]

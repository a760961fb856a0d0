"""What a watch promises over every engine. Each function takes a stage: items, watches, clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.limits import WATCHES_MAX, WATCHES_PER_CALLER_MAX
from services.state.items import Items
from services.state.model import Encoding, Value, Write
from services.state.step import Keeper
from services.state.watch import Selection, Watches
from tests.contract.state_suite import ACME, GLOBEX, SECOND_NS, Refused, text

ALL = Selection()


@dataclass
class Stage:
    """The parts of a state process that a watch needs."""

    keeper: Keeper
    items: Items
    watches: Watches
    clock: FakeClock


def told(advance):
    """Kind, scope, key and revision of each change."""
    return [
        (seen.change.kind.name, seen.change.scope, seen.change.key, seen.change.revision)
        for seen in advance.changes
    ]


@asynccontextmanager
async def watching(stage, selection=ALL, *, tenant=ACME, after=None, caller="key"):
    """A watch, which is ended."""
    watch = stage.watches.follow(tenant, selection, caller=caller, after=after)
    try:
        yield watch
    finally:
        await watch.aclose()


async def coming(watch):
    """The next advance, which must come soon."""
    async with asyncio.timeout(5):
        return await anext(watch)


async def begins_now(stage: Stage) -> None:
    """Without a revision a watch tells where it begins, then what comes after, as it comes."""
    await stage.items.set(ACME, "global", "before", text("x"))
    async with watching(stage) as watch:
        first = await coming(watch)
        assert (told(first), first.revision) == ([], 1)
        waiting = asyncio.create_task(coming(watch))
        await asyncio.sleep(0.01)
        await stage.items.set(ACME, "user:u", "k", text("x"))
        advance = await waiting
        assert (told(advance), advance.revision) == ([("SET", "user:u", "k", 2)], 2)


async def resumes(stage: Stage) -> None:
    """After a revision come exactly the later changes of every kind, in order, with no gap."""
    await stage.items.set(ACME, "global", "k", text("x"))
    await stage.items.increment(ACME, "global", "n", 1)
    await stage.items.delete(ACME, "global", "k")
    await stage.items.set(ACME, "global", "short", text("x"), ttl_ns=SECOND_NS)
    stage.clock.advance(2)
    await stage.items.sweep()
    every = [
        ("SET", "global", "k", 1),
        ("INCREMENT", "global", "n", 2),
        ("DELETE", "global", "k", 3),
        ("SET", "global", "short", 4),
        ("EXPIRE", "global", "short", 5),
    ]
    for after in range(6):
        async with watching(stage, after=after) as watch:
            assert told(await coming(watch)) == []
            if after < 5:
                advance = await coming(watch)
                assert (told(advance), advance.revision) == (every[after:], 5)


async def selects(stage: Stage) -> None:
    """A scope is exact, a prefix is of the key, and another tenant's changes never appear."""
    for tenant in (ACME, GLOBEX):
        for scope in ("session:a", "session:ab", "global"):
            for key in ("x/1", "x/2", "y"):
                await stage.items.set(tenant, scope, key, text(tenant))
    selection = Selection(scope="session:a", prefix="x/", values=True)
    async with watching(stage, selection, after=0) as watch:
        await coming(watch)
        advance = await coming(watch)
    assert [entry[1:3] for entry in told(advance)] == [("session:a", "x/1"), ("session:a", "x/2")]
    assert {seen.item.value for seen in advance.changes} == {text(ACME)}
    assert advance.revision == 18


async def values_as_they_were(stage: Stage) -> None:
    """An item comes with the change that made it what it is, and with no earlier one."""
    await stage.items.set(ACME, "global", "k", text("1"))
    await stage.items.set(ACME, "global", "k", text("2"))
    await stage.items.set(ACME, "global", "gone", text("3"))
    await stage.items.delete(ACME, "global", "gone")
    async with watching(stage, Selection(values=True), after=0) as watch:
        await coming(watch)
        items = [seen.item for seen in (await coming(watch)).changes]
    assert [item and item.value for item in items] == [None, text("2"), None, None]
    async with watching(stage, after=0) as watch:
        await coming(watch)
        assert {seen.item for seen in (await coming(watch)).changes} == {None}


async def batch_in_parts(stage: Stage) -> None:
    """A revision that needs several messages is not counted as told before its last one."""
    await stage.items.set(ACME, "global", "first", text("x"))
    writes = [Write("global", f"k{number}", text("x")) for number in range(7)]
    await stage.items.batch(ACME, [], writes)
    await stage.items.set(ACME, "global", "last", text("x"))
    small = Watches(stage.keeper, slice_changes=3)
    watch = small.follow(ACME, ALL, caller="key", after=0)
    advances = [await coming(watch) for _ in range(4)]
    await watch.aclose()
    assert [advance.revision for advance in advances] == [0, 1, 1, 3]
    keys = [entry[2] for advance in advances for entry in told(advance)]
    assert keys == ["first", *(f"k{number}" for number in range(7)), "last"]


async def large_values_in_parts(stage: Stage) -> None:
    """Items are told in messages that the wire can carry."""
    large = Value(Encoding.RAW, bytes(1024 * 1024))
    for number in range(9):
        await stage.items.set(ACME, "global", f"k{number}", large)
    sizes = []
    async with watching(stage, Selection(values=True), after=0) as watch:
        await coming(watch)
        while sum(sizes) < 9:
            sizes.append(len((await coming(watch)).changes))
    assert max(sizes) <= 5


async def idle_progress(stage: Stage) -> None:
    """Where nothing happens that was asked for, a watch says how far it has come."""
    quick = Watches(stage.keeper, idle_s=0.05)
    watch = quick.follow(ACME, Selection(prefix="wanted"), caller="key")
    await coming(watch)
    await stage.items.set(ACME, "global", "other", text("x"))
    await stage.items.set(GLOBEX, "global", "wanted", text("x"))
    waiting = asyncio.create_task(coming(watch))
    await asyncio.sleep(0.1)
    stage.clock.advance(1)
    advance = await waiting
    await watch.aclose()
    assert (told(advance), advance.revision) == ([], 2)


async def future_is_refused(stage: Stage) -> None:
    """A revision that does not exist yet is refused, with the last one that does."""
    await stage.items.set(ACME, "global", "k", text("x"))
    async with watching(stage, after=2) as watch:
        with Refused(Reason.REVISION_FUTURE, revision=2, last_revision=1):
            await coming(watch)


async def compacted_is_refused(stage: Stage) -> None:
    """Where changes were let go, a watch from before is refused with the oldest that works."""
    for number in range(20):
        await stage.items.set(ACME, "global", f"k{number}", text("x"))
    async with watching(stage, after=9) as watch:
        with Refused(Reason.REVISION_COMPACTED, revision=9, oldest_revision=10):
            await coming(watch)
    async with watching(stage, after=10) as watch:
        await coming(watch)
        assert len((await coming(watch)).changes) == 10


async def overtaken_is_refused(stage: Stage) -> None:
    """A watch whose reader is slower than changes are let go hears so, instead of a gap."""
    async with watching(stage) as watch:
        await coming(watch)
        for number in range(20):
            await stage.items.set(ACME, "global", f"k{number}", text("x"))
        with Refused(Reason.REVISION_COMPACTED, revision=0, oldest_revision=10):
            await coming(watch)


async def others_do_not_compact(stage: Stage) -> None:
    """A flood of another tenant lets nothing of this one go."""
    await stage.items.set(ACME, "global", "k", text("x"))
    for number in range(20):
        await stage.items.set(GLOBEX, "global", f"k{number}", text("x"))
    async with watching(stage, after=0) as watch:
        await coming(watch)
        assert told(await coming(watch)) == [("SET", "global", "k", 1)]


async def purge_is_seen(stage: Stage) -> None:
    """A purge is told to every watch of the tenant, whatever it selects, and to no other."""
    await stage.items.set(ACME, "global", "k", text("x"))
    selection = Selection(scope="user:u", prefix="zzz")
    async with (
        watching(stage, selection) as mine,
        watching(stage, selection, tenant=GLOBEX) as theirs,
    ):
        await coming(mine)
        await coming(theirs)
        await stage.items.purge(ACME)
        assert told(await coming(mine)) == [("PURGE", "", "", 2)]
        waiting = asyncio.create_task(coming(theirs))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def limits_of_a_caller(stage: Stage) -> None:
    """A caller has so many watches, the process so many, and one that ends makes room."""
    watches = [stage.watches.follow(ACME, ALL, caller="key") for _ in range(WATCHES_PER_CALLER_MAX)]
    for watch in watches:
        await coming(watch)
    async with watching(stage) as watch:
        with Refused(Reason.OVERLOADED, limit=WATCHES_PER_CALLER_MAX):
            await coming(watch)
    async with watching(stage, caller="another") as watch:
        await coming(watch)
    await watches.pop().aclose()
    async with watching(stage) as watch:
        await coming(watch)
    for number in range(WATCHES_MAX - len(watches)):
        watches.append(stage.watches.follow(ACME, ALL, caller=f"key{number}"))
        await coming(watches[-1])
    async with watching(stage, caller="late") as watch:
        with Refused(Reason.OVERLOADED, limit=WATCHES_MAX):
            await coming(watch)
    for watch in watches:
        await watch.aclose()


async def names_are_checked(stage: Stage) -> None:
    """A prefix that no key can have is refused."""
    async with watching(stage, Selection(prefix="a\0")) as watch:
        with Refused(Reason.FIELD_INVALID, field="prefix"):
            await coming(watch)


async def ends_with_the_process(stage: Stage) -> None:
    """When the process ends, a watch that waits ends at once and says that it can go on."""
    running = asyncio.create_task(stage.watches.run())
    async with watching(stage) as watch:
        await coming(watch)
        waiting = asyncio.create_task(coming(watch))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(ServiceError) as info:
            await waiting
    assert info.value.reason == Reason.SERVICE_UNAVAILABLE


CLAIMS = (
    begins_now,
    resumes,
    selects,
    values_as_they_were,
    batch_in_parts,
    large_values_in_parts,
    idle_progress,
    future_is_refused,
    compacted_is_refused,
    overtaken_is_refused,
    others_do_not_compact,
    purge_is_seen,
    limits_of_a_caller,
    names_are_checked,
    ends_with_the_process,
)

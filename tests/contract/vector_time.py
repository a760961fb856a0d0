"""What a VectorStorage promises of times to live."""

from __future__ import annotations

import asyncio

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.model import CollectionChanges, Span
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import (
    OTHER,
    PLACE,
    all_ids,
    ids,
    make,
    query,
    record,
    refused,
)


async def expired_records_are_not_seen(storage: VectorStorage, clock: FakeClock) -> None:
    """From the instant on; a search may ask for them until they are swept; then they are gone."""
    await make(storage)
    await storage.upsert(
        *PLACE, [record("a", 1, 0, ttl_ns=10**9), record("b", 1, 0, ttl_ns=2 * 10**9)]
    )
    await storage.upsert(*PLACE, [record("c", 1, 0)])
    assert await ids(storage, query(1, 0)) == ["a", "b", "c"]
    clock.advance(1.0)
    assert await ids(storage, query(1, 0)) == ["b", "c"]
    assert await ids(storage, query(1, 0, include_expired=True)) == ["a", "b", "c"]
    assert await all_ids(storage) == ["b", "c"]
    assert (await storage.get(*PLACE, ["a"]))[0] == []
    assert await storage.sweep() == 1
    assert await storage.sweep() == 0
    assert await ids(storage, query(1, 0, include_expired=True)) == ["b", "c"]
    assert (await storage.get_collection(*PLACE))[0].record_count == 2


async def a_new_life_is_not_cut_short(storage: VectorStorage, clock: FakeClock) -> None:
    """A record written again forgets its old expire time; one that expired can come back."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0, ttl_ns=10**9), record("b", 1, 0, ttl_ns=1)])
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    clock.advance(2.0)
    await storage.upsert(*PLACE, [record("b", 1, 0)])
    assert await storage.sweep() == 0
    assert await ids(storage, query(1, 0)) == ["a", "b"]


async def a_sweep_is_bounded(storage: VectorStorage, clock: FakeClock) -> None:
    """It removes as many as it is told to, and the rest the next time."""
    await make(storage)
    await storage.upsert(*PLACE, [record(f"{n:02}", 1, 0, ttl_ns=1 + n) for n in range(25)])
    clock.advance(1.0)
    assert [await storage.sweep(10) for _ in range(4)] == [10, 10, 5, 0]
    assert (await storage.stats("acme", None)).record_count == 0


async def many_writers_share_a_collection(storage: VectorStorage, clock: FakeClock) -> None:
    """Writes, removals and searches at the same time: each sees a state that existed."""
    await make(storage)

    async def write(number: int) -> None:
        for turn in range(5):
            names = [f"{number}-{part}" for part in range(4)]
            await storage.upsert(*PLACE, [record(name, 1, turn + 1) for name in names])

    async def look() -> None:
        for _ in range(20):
            [result] = await storage.search(*PLACE, query(1, 0, limit=1000))
            found = [hit.record.record_id for hit in result.hits]
            assert len(found) == len(set(found))
            by_writer = {name.split("-")[0]: 0 for name in found}
            for hit in result.hits:
                by_writer[hit.record.record_id.split("-")[0]] += 1
            assert set(by_writer.values()) <= {4}
            await asyncio.sleep(0)

    await asyncio.gather(*(write(number) for number in range(8)), look(), look())
    assert len(await all_ids(storage)) == 32


SECOND = 10**9


async def spans_choose_by_both_clocks(storage: VectorStorage, clock: FakeClock) -> None:
    """From the start on, up to but not including the end; no event time lies in no span."""
    await make(storage)
    start = clock.now_ns()
    for n in range(4):
        rows = [record(f"e{n}", 1, n, event_time_ns=n - 2), record(f"x{n}", 1, n)]
        await storage.upsert(*PLACE, rows)
        await storage.upsert(*OTHER, [record(f"e{n}", 1, 0, event_time_ns=n - 2)])
        clock.advance(1.0)

    async def found(**spans: Span) -> list[str]:
        return sorted(await ids(storage, query(1, 0, **spans)))

    assert await found(event_time=Span(start_ns=-1)) == ["e1", "e2", "e3"]
    assert await found(event_time=Span(end_ns=1)) == ["e0", "e1", "e2"]
    assert await found(event_time=Span(start_ns=-2, end_ns=-1)) == ["e0"]
    second = Span(start_ns=start + SECOND, end_ns=start + 2 * SECOND)
    assert await found(ingest_time=second) == ["e1", "x1"]
    assert await found(ingest_time=second, event_time=Span(start_ns=0)) == []
    for wrong in (Span(), Span(start_ns=5, end_ns=5), Span(start_ns=6, end_ns=5)):
        for name in ("event_time", "ingest_time"):
            with refused(Reason.FIELD_INVALID, field=name):
                await storage.search(*PLACE, query(1, 0, **{name: wrong}))


async def the_nearest_setting_gives_the_time_to_live(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """A record's own wins over its scope's, and that over its collection's."""
    await make(storage)
    now = clock.now_ns()

    async def lives(**rest: object) -> int | None:
        await storage.upsert(*PLACE, [record("a", 1, 0, **rest)])
        [found], _ = await storage.get(*PLACE, ["a"])
        return None if found.expire_time_ns is None else found.expire_time_ns - now

    assert await lives() is None
    await storage.update_collection(*PLACE, CollectionChanges(default_ttl_ns=3 * SECOND))
    assert await lives() == 3 * SECOND
    await storage.configure_scope("acme", "global", record_ttl_ns=2 * SECOND)
    assert await lives() == 2 * SECOND
    assert await lives(ttl_ns=9 * SECOND) == 9 * SECOND
    await storage.configure_scope("acme", "global", record_ttl_ns=0)
    assert await lives() == 3 * SECOND
    clock.advance(4.0)
    assert await all_ids(storage) == []
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1

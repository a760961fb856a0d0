"""What a VectorStorage promises of searches in the past."""

from __future__ import annotations

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.model import (
    CollectionChanges,
    CollectionSettings,
    Condition,
    Equals,
    Exactness,
    Mask,
    MetadataChange,
    Metric,
    Not,
    Query,
    Span,
)
from services.vector.storage import Capability, VectorStorage
from tests.contract.vector_cases import OTHER, PLACE, hits, ids, needs, query, record, refused

SECOND = 10**9


async def keep_history(storage: VectorStorage, seconds: int) -> None:
    """Collections of two tenants that can be looked back into; the other one's has changed too."""
    for tenant, scope, name in (PLACE, OTHER):
        await storage.create_collection(
            *(tenant, scope, name),
            dimension=2,
            metric=Metric.L2,
            settings=CollectionSettings(history_window_ns=seconds * SECOND),
        )
    for vector in ((1.0, 0.0), (0.0, 1.0)):
        await storage.upsert(*OTHER, [record("theirs", *vector), record("a", *vector)])
    await storage.delete(*OTHER, ["theirs"])


@needs(Capability.HISTORY)
async def the_past_is_as_it_was(storage: VectorStorage, clock: FakeClock) -> None:
    """Replaced, changed and removed records are found as they were, and new ones are not."""
    await keep_history(storage, 100)
    start = clock.now_ns()
    await storage.upsert(
        *PLACE, [record(k, 1, 0, metadata={"v": 0}, text=f"old {k}") for k in "abc"]
    )
    clock.advance(1.0)
    await storage.upsert(*PLACE, [record("a", 0, 9, metadata={"v": 1}, text="new a")])
    await storage.update_metadata(*PLACE, MetadataChange(set={"v": 2}), record_ids=["b"])
    await storage.delete(*PLACE, ["c"])
    await storage.upsert(*PLACE, [record("d", 1, 0)])
    clock.advance(1.0)

    async def then(seconds: float, **rest: object) -> dict[str, object]:
        asked = query(1, 0, as_of_ns=start + int(seconds * SECOND), **rest)
        found = await hits(storage, asked)
        return {hit.record.record_id: hit.record.metadata.get("v") for hit in found}

    for exactness in Exactness:
        assert await then(0.5, exactness=exactness) == {"a": 0, "b": 0, "c": 0}
        assert await then(2, exactness=exactness) == {"a": 1, "b": 2, "d": None}
    assert await then(0) == {"a": 0, "b": 0, "c": 0}
    assert await then(1) == {"a": 1, "b": 2, "d": None}
    assert await then(1 - 1e-9) == {"a": 0, "b": 0, "c": 0}
    assert await then(0.5, filter=Condition("v", Equals(0))) == {"a": 0, "b": 0, "c": 0}
    assert await then(0.5, filter=Not(Condition("v", Equals(0)))) == {}
    assert await then(2, filter=Condition("v", Equals(0))) == {}
    assert await then(0.5, ingest_time=Span(start_ns=start + 1)) == {}
    [hit] = await hits(storage, query(1, 0, as_of_ns=start, limit=1, mask=Mask(vector=True)))
    assert (hit.record.text, hit.record.vector.tolist()) == ("old a", [1, 0])
    found = await storage.lexical_search(
        *PLACE, "old", Query(vectors=[], as_of_ns=start + SECOND // 2)
    )
    assert sorted(hit.record.record_id for hit in found.hits) == ["a", "b", "c"]


@needs(Capability.HISTORY)
async def the_past_has_its_own_expired_records(storage: VectorStorage, clock: FakeClock) -> None:
    """What had expired by then is not found, what has expired since is; a sweep changes neither."""
    await keep_history(storage, 100)
    start = clock.now_ns()
    await storage.upsert(
        *PLACE, [record("a", 1, 0, ttl_ns=2 * SECOND), record("b", 1, 0, ttl_ns=5 * SECOND)]
    )
    clock.advance(4.0)
    for _ in range(2):
        for seconds, expected in ((0, "ab"), (1, "ab"), (2, "b"), (4, "b")):
            asked = query(1, 0, as_of_ns=start + seconds * SECOND)
            assert "".join(await ids(storage, asked)) == expected
        while await storage.sweep():
            pass


@needs(Capability.HISTORY)
async def the_past_has_an_end(storage: VectorStorage, clock: FakeClock) -> None:
    """Before the window, before the collection, after now, or without a window: refused."""
    await keep_history(storage, 10)
    start = clock.now_ns()
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    with refused(Reason.HISTORY_UNAVAILABLE):
        await storage.search(*PLACE, query(1, 0, as_of_ns=start - 1))
    assert await ids(storage, query(1, 0, as_of_ns=start)) == ["a"]
    with refused(Reason.FIELD_INVALID, field="as_of"):
        await storage.search(*PLACE, query(1, 0, as_of_ns=start + 1))
    clock.advance(11.0)
    with refused(Reason.HISTORY_UNAVAILABLE):
        await storage.search(*PLACE, query(1, 0, as_of_ns=start + SECOND - 1))
    assert await ids(storage, query(1, 0, as_of_ns=start + SECOND)) == ["a"]
    await storage.update_collection(*PLACE, CollectionChanges(history_window_ns=0))
    with refused(Reason.HISTORY_UNAVAILABLE):
        await storage.search(*PLACE, query(1, 0, as_of_ns=clock.now_ns()))
    for wrong in (0, -1):
        with refused(Reason.FIELD_INVALID, field="as_of"):
            await storage.search(*PLACE, query(1, 0, as_of_ns=wrong))


@needs(Capability.HISTORY)
async def a_wider_history_tells_no_half(storage: VectorStorage, clock: FakeClock) -> None:
    """Made wider, a window is refused or answered in full for what a narrower one has let go of."""
    await keep_history(storage, 2)
    start = clock.now_ns()
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    clock.advance(1.0)
    await storage.delete(*PLACE, ["a"])
    await storage.update_collection(*PLACE, CollectionChanges(history_window_ns=100 * SECOND))
    await storage.upsert(*PLACE, [record("b", 1, 0)])
    for _ in range(4):
        clock.advance(1.0)
        while await storage.sweep():
            pass
        try:
            found = await ids(storage, query(1, 0, as_of_ns=start + SECOND // 2))
        except ServiceError as error:
            assert error.reason == Reason.HISTORY_UNAVAILABLE  # noqa: PT017  (either is right)
        else:
            assert found == ["a"]
    assert await ids(storage, query(1, 0, as_of_ns=clock.now_ns())) == ["b"]


@needs(Capability.HISTORY)
async def what_no_search_reaches_is_forgotten(storage: VectorStorage, clock: FakeClock) -> None:
    """History is counted, and its room is given back once the window has passed."""
    await keep_history(storage, 10)
    await storage.upsert(*PLACE, [record("a", 1, 0, text="abc")])
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    counts = await storage.stats("acme", None)
    assert (counts.record_count, counts.history_count) == (1, 2)
    assert counts.history_bytes == 9 + 3 + 9
    assert (await storage.get_collection(*PLACE))[0].history_count == 2
    clock.advance(11.0)
    while await storage.sweep():
        pass
    counts = await storage.stats("acme", None)
    assert (counts.record_count, counts.history_count, counts.history_bytes) == (1, 0, 0)
    assert await ids(storage, query(1, 0)) == ["a"]

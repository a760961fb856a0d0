"""The embedded engine at instants that no caller can choose."""

import asyncio
import time

import numpy as np
import pytest

from services.common import view as view_module
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.engines import opened, reads
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import (
    Condition,
    Exactness,
    Metric,
    NewRecord,
    Query,
    Range,
    SearchPath,
)

PLACE = ("acme", "global", "docs")
OTHER = ("globex", "global", "docs")


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


@pytest.fixture
async def storage(tmp_path):
    """An engine with a collection for each of two tenants."""
    store = open_store(tmp_path, on_fatal=fatal, sync=False)
    engine = EmbeddedVectorStorage(store, FakeClock(), exact_threshold=50)
    for place in (PLACE, OTHER):
        await engine.create_collection(*place, dimension=2, metric=Metric.L2)
    yield engine
    await engine.close()


def records(*names):
    """Records at the same point."""
    return [NewRecord(record_id=name, vector=np.ones(2, np.float32)) for name in names]


async def search(storage, place=PLACE):
    """The ids found, and the revision told."""
    query = Query(vectors=[np.ones(2, np.float32)], limit=1000)
    [result] = await storage.search(*place, query)
    return [hit.record.record_id for hit in result.hits], result.revision


async def committed_but_not_told(storage, work):
    """Start a write and stop the loop until it is on disk: memory does not know of it yet."""

    def revision():
        with storage._core.store.read() as view:
            return view.revision()

    before = revision()
    task = asyncio.create_task(work)
    for _ in range(3):
        await asyncio.sleep(0)
    while revision() == before:
        time.sleep(0.001)  # noqa: ASYNC251  (the loop must stand still)
    return task


async def test_a_search_answers_for_the_revision_that_it_tells(storage):
    """Between a commit and its arrival in memory, a search waits instead of telling half."""
    await storage.upsert(*PLACE, records("a"))
    await search(storage)
    task = await committed_but_not_told(storage, storage.upsert(*PLACE, records("b")))
    found, revision = await search(storage)
    assert (found, revision) == (["a", "b"], (await task).revision)
    assert await search(storage, OTHER) == ([], revision)


async def test_a_search_goes_on_once_a_commit_has_arrived(storage, monkeypatch):
    """It is told, and does not wait for its next look."""
    monkeypatch.setattr(opened, "_ARRIVAL_S", 60.0)
    await storage.upsert(*PLACE, records("a"))
    await search(storage)
    task = await committed_but_not_told(storage, storage.upsert(*PLACE, records("b")))
    async with asyncio.timeout(5):
        found, _ = await search(storage)
    assert found == ["a", "b"]
    await task


class SlowTime:
    """A clock on which each look takes a millisecond; it counts rests."""

    def __init__(self):
        self.now, self.rests = 0.0, 0

    def perf_counter(self):
        self.now += 0.001
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.rests += 1


async def test_a_sweep_rests_and_a_caller_s_write_does_not(tmp_path, monkeypatch):
    """Others run in between what nobody waits for; who waits for a write is not kept waiting."""
    clock, slow = FakeClock(), SlowTime()
    engine = EmbeddedVectorStorage(open_store(tmp_path, on_fatal=fatal, sync=False), clock)
    for place in (PLACE, OTHER):
        await engine.create_collection(*place, dimension=2, metric=Metric.L2)
    monkeypatch.setattr(view_module, "time", slow)
    names = [f"r{number}" for number in range(20)]
    await engine.upsert(*OTHER, records(*names))
    await engine.delete(*OTHER, names[1:])
    brief = NewRecord(record_id="brief", vector=np.ones(2, np.float32), ttl_ns=10**9)
    await engine.upsert(*PLACE, [brief])
    assert slow.rests == 0
    clock.advance(2)
    assert await engine.sweep() == 1
    assert slow.rests > 0
    assert (await search(engine, OTHER))[0] == ["r0"]
    await engine.close()


async def test_a_write_beside_a_first_search_counts_once(storage):
    """What was committed before a collection was read is not added to it again."""
    await storage.upsert(*PLACE, records(*(f"{n:04}" for n in range(600))))
    with storage._core.store.read() as view:
        row = reads.need_row(view, PLACE, 0)
    task = await committed_but_not_told(storage, storage.upsert(*PLACE, records("new")))
    await storage._core.opened.load(row.namespace)
    await task
    found, _ = await search(storage)
    assert len(found) == len(set(found)) == 601
    await storage.delete(*PLACE, ["new"])
    assert "new" not in (await search(storage))[0]


async def test_writes_while_a_collection_is_read_are_not_missed(storage):
    """Records that are written, replaced and removed during the first search are right after it."""
    await storage.upsert(*PLACE, records(*(f"{n:04}" for n in range(600))))
    await asyncio.gather(
        search(storage),
        storage.upsert(*PLACE, records("new", "0001")),
        storage.delete(*PLACE, ["0002"]),
        search(storage),
    )
    found, _ = await search(storage)
    assert found == ["0000", "0001", *(f"{n:04}" for n in range(3, 600)), "new"]


async def test_a_collection_that_goes_while_it_is_read_does_not_stay(storage):
    """Its rows leave memory, and the search is told that it is gone."""
    await storage.upsert(*PLACE, records(*(f"{n:04}" for n in range(600))))
    with storage._core.store.read() as view:
        row = reads.need_row(view, PLACE, 0)
    loading = asyncio.create_task(storage._core.opened.load(row.namespace))
    await asyncio.sleep(0)
    await storage.delete_collection(*PLACE)
    await loading
    assert storage._core.opened.find(row.namespace) is None
    with pytest.raises(ServiceError, check=lambda e: e.reason == Reason.COLLECTION_NOT_FOUND):
        await search(storage)


async def test_a_write_meant_for_another_collection_is_refused(storage):
    """A batch that was checked against a collection never lands in its successor."""
    results = await asyncio.gather(
        storage.delete_collection(*PLACE),
        storage.create_collection(*PLACE, dimension=3, metric=Metric.DOT),
        storage.upsert(*PLACE, records("a")),
        return_exceptions=True,
    )
    assert results[2].reason == Reason.COLLECTION_NOT_FOUND
    assert (await storage.stats("acme", None)).record_count == 0


async def test_a_caller_who_leaves_changes_nothing(storage):
    """A write whose caller is gone still reaches memory, and later searches still answer."""
    await search(storage)
    task = await committed_but_not_told(storage, storage.upsert(*PLACE, records("a")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        assert (await search(storage))[0] == ["a"]
    [record], _ = await storage.get(*PLACE, ["a"])
    assert record.record_id == "a"


async def test_memory_that_fails_is_read_again(storage, monkeypatch):
    """Where a commit cannot be followed in memory it stands nevertheless, and is found."""
    await search(storage)
    with storage._core.store.read() as view:
        namespace = storage._core.opened.find(reads.need_row(view, PLACE, 0).namespace)

    def fail(edit, revision):
        raise MemoryError

    monkeypatch.setattr(namespace, "apply", fail)
    await storage.upsert(*PLACE, records("a"))
    assert (await search(storage))[0] == ["a"]


async def test_a_damaged_vector_is_not_searched(storage):
    """A stored vector that fails its checksum is an error, not an answer; others go on."""
    await storage.upsert(*PLACE, records("a"))
    await storage.upsert(*OTHER, records("b"))

    def damage(txn):
        [key] = [key for key in txn.keys("vectors", b"") if txn.get("vectors", key)][:1]
        txn._txn.put(key, b"\0" * 12, db=txn._databases["vectors"])

    await storage._core.store.write(damage)
    with pytest.raises(ServiceError, check=lambda e: e.reason == Reason.RECORD_CORRUPT):
        await search(storage)
    assert (await search(storage, OTHER))[0] == ["b"]


async def test_a_sweep_gives_back_what_deletions_left(storage):
    """Nobody has to ask for it; the other tenant's records are still there."""
    large = [
        NewRecord(record_id=f"{n}", vector=np.ones(2, np.float32), text="x" * 4000)
        for n in range(6000)
    ]
    await storage.upsert(*PLACE, large)
    await storage.upsert(*OTHER, records("a", "b"))
    await storage.delete(*PLACE, [each.record_id for each in large[10:]])
    before = storage._core.store.size_bytes()
    while await storage.sweep():
        pass
    assert storage._core.store.size_bytes() < before / 10
    assert len((await search(storage))[0]) == 10
    assert (await search(storage, OTHER))[0] == ["a", "b"]


async def test_a_filtered_search_finds_as_many_of_the_nearest_as_one_without(storage):
    """A graph is searched wider by what a filter hides, or half of what it finds would be all."""
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(6000, 24)).astype(np.float32)
    place = ("acme", "global", "many")
    await storage.create_collection(*place, dimension=24, metric=Metric.COSINE)
    many = [
        NewRecord(record_id=f"{number:04}", vector=row, metadata={"part": number % 4})
        for number, row in enumerate(rows)
    ]
    await storage.upsert(*place, many)
    await storage.checkpoint(*place)
    asked = list(rng.normal(size=(200, 24)).astype(np.float32))

    async def recall(where):
        found = {}
        for exactness in (Exactness.APPROXIMATE, Exactness.EXACT):
            query = Query(vectors=asked, limit=10, filter=where, exactness=exactness)
            found[exactness] = await storage.search(*place, query)
        near, all_of_them = found.values()
        assert {each.path for each in near} <= {SearchPath.GRAPH, SearchPath.GRAPH_WIDENED}
        pairs = zip(near, all_of_them, strict=True)
        return sum(len(ids(one) & ids(other)) for one, other in pairs) / (10 * len(asked))

    whole = await recall(None)
    for below in (3, 2, 1):
        assert await recall(Condition("part", Range(lt=below))) > whole - 0.01


def ids(result):
    """The ids found."""
    return {hit.record.record_id for hit in result.hits}

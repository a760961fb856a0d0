"""What a VectorStorage promises of snapshots and of shadows."""

from __future__ import annotations

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.model import (
    CollectionChanges,
    Condition,
    Equals,
    Mask,
    MetadataChange,
    Metric,
    Range,
)
from services.vector.storage import Capability, VectorStorage
from tests.contract.vector_cases import (
    OTHER,
    PLACE,
    all_ids,
    hits,
    ids,
    make,
    needs,
    query,
    record,
    refused,
)

SHADOW = ("acme", "global", "~docs")
SECOND = 10**9


@needs(Capability.SNAPSHOT)
async def a_snapshot_puts_back_what_was(storage: VectorStorage, clock: FakeClock) -> None:
    """Records come back whole and are counted once; what came later goes."""
    await make(storage, Metric.L2)
    rows = [
        record(str(n), 1, n, metadata={"n": n}, text=f"text {n}", event_time_ns=n) for n in range(9)
    ]
    await storage.upsert(*PLACE, rows)
    everything = Mask(vector=True)
    names = [str(n) for n in range(9)]
    before = (await storage.get(*PLACE, names, mask=everything))[0]
    info = await storage.create_snapshot(*PLACE)
    assert (info.scope, info.collection_id, info.record_count) == ("global", "docs", 9)
    assert info.create_time_ns == clock.now_ns()
    clock.advance(1.0)
    await storage.delete(*PLACE, ["1", "2"])
    await storage.upsert(*PLACE, [record("late", 0, 0), record("3", 7, 7)])
    count, revision = await storage.restore_snapshot("acme", info.snapshot_id)
    assert count == 9
    found, now = await storage.get(*PLACE, [*names, "late"], mask=everything)
    assert now == revision
    for was, then in zip(before, found, strict=True):
        assert (was.record_id, was.metadata, was.text) == (then.record_id, then.metadata, then.text)
        assert was.vector.tolist() == then.vector.tolist()
        assert was.event_time_ns == then.event_time_ns
        assert (then.ingest_time_ns, then.revision <= revision) == (clock.now_ns(), True)
    assert sorted(await ids(storage, query(1, 0, limit=99))) == names
    low = query(1, 0, filter=Condition("n", Range(lt=2)))
    assert await ids(storage, low) == ["0", "1"]
    counts = await storage.stats("acme", None)
    assert (counts.collection_count, counts.record_count) == (1, 9)
    assert counts.stored_bytes == sum(8 + 4 + 6 for _ in range(9))
    assert (await storage.get_collection(*PLACE))[0].record_count == 9
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1


@needs(Capability.SNAPSHOT)
async def a_snapshot_can_make_another_collection(storage: VectorStorage, clock: FakeClock) -> None:
    """Under another name or scope, beside the one it was made of; expire times stay."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0, ttl_ns=2 * SECOND), record("b", 1, 0)])
    info = await storage.create_snapshot(*PLACE)
    await storage.delete_collection(*PLACE)
    clock.advance(1.0)
    copy = ("acme", "user:x", "copy")
    await storage.restore_snapshot("acme", info.snapshot_id, scope="user:x", collection_id="copy")
    page = await storage.list_collections("acme", None, limit=9)
    assert [(each.scope, each.collection_id) for each in page.collections] == [copy[1:]]
    assert len((await storage.get(*copy, ["a", "b"]))[0]) == 2
    [found] = await storage.search(*copy, query(1, 0))
    assert len(found.hits) == 2
    clock.advance(1.0)
    [left], _ = await storage.get(*copy, ["a", "b"])
    assert left.record_id == "b"
    with refused(Reason.FIELD_INVALID, field="collection_id"):
        await storage.restore_snapshot("acme", info.snapshot_id, collection_id="a b")


@needs(Capability.SNAPSHOT)
async def snapshots_belong_to_one_tenant(storage: VectorStorage, clock: FakeClock) -> None:
    """Listed the newest first, for their tenant alone; gone after removal and purge."""
    await make(storage)
    await storage.create_collection("acme", "user:x", "docs", dimension=2, metric=Metric.L2)
    made = []
    for place in (PLACE, ("acme", "user:x", "docs"), PLACE):
        made.append((await storage.create_snapshot(*place)).snapshot_id)
        clock.advance(1.0)

    async def listed(tenant: str, scope: str | None, name: str = "") -> list[str]:
        return [each.snapshot_id for each in await storage.list_snapshots(tenant, scope, name)]

    assert await listed("acme", None) == made[::-1]
    assert await listed("acme", "global", "docs") == [made[2], made[0]]
    assert await listed("acme", "user:x") == [made[1]]
    assert await listed("globex", None) == []
    assert await storage.delete_snapshot("globex", made[0]) == 0
    for tenant, snapshot_id in (("globex", made[0]), ("acme", "none"), ("acme", "../x")):
        with refused(Reason.SNAPSHOT_NOT_FOUND):
            await storage.restore_snapshot(tenant, snapshot_id)
    assert await storage.delete_snapshot("acme", made[0]) == 1
    assert await storage.delete_snapshot("acme", made[0]) == 0
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.create_snapshot("acme", "global", "none")
    theirs = await storage.create_snapshot(*OTHER)
    await storage.purge("acme")
    assert await listed("acme", None) == []
    assert await listed("globex", None) == [theirs.snapshot_id]


@needs(Capability.SNAPSHOT)
async def a_snapshot_brings_an_ended_scope_back(storage: VectorStorage, clock: FakeClock) -> None:
    """What is restored into a scope whose time has come is there, alone."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    await storage.create_collection("acme", "global", "more", dimension=2, metric=Metric.L2)
    info = await storage.create_snapshot(*PLACE)
    await storage.configure_scope("acme", "global", ttl_ns=SECOND)
    clock.advance(2.0)
    await storage.restore_snapshot("acme", info.snapshot_id)
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.collection_id for each in page.collections] == ["docs"]
    assert await all_ids(storage) == ["a"]


async def with_shadow(storage: VectorStorage) -> int:
    """A collection and its shadow of other vectors; the revision of its records."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0, metadata={"n": 1}), record("b", 0, 1)])
    made, _ = await storage.create_collection(*SHADOW, dimension=3, metric=Metric.DOT)
    assert made.role == "incoming"
    await storage.upsert(*SHADOW, [record("a", 0, 0, 1, metadata={"n": 2})])
    return await storage.records_revision(*PLACE)


async def a_shadow_is_not_seen(storage: VectorStorage, clock: FakeClock) -> None:
    """Lists and counts leave it out, and it goes with its collection."""
    await with_shadow(storage)
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.collection_id for each in page.collections] == ["docs"]
    counts = await storage.stats("acme", None)
    assert (counts.collection_count, counts.record_count) == (1, 2)
    assert (await storage.delete_collection(*PLACE)).count == 2
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.get_collection(*SHADOW)
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1


async def a_shadow_takes_the_place_in_one_step(storage: VectorStorage, clock: FakeClock) -> None:
    """Records and dimension are exchanged, settings stay; and back again."""
    revision = await with_shadow(storage)
    await storage.update_collection(*PLACE, CollectionChanges(default_ttl_ns=5 * SECOND))
    assert await storage.records_revision(*PLACE) == revision
    swapped = await storage.swap_shadow(*PLACE, records_revision=revision)
    now, _ = await storage.get_collection(*PLACE)
    old, _ = await storage.get_collection(*SHADOW)
    assert (now.dimension, now.metric, now.role, now.record_count) == (3, Metric.DOT, "", 1)
    assert (old.dimension, old.role, old.record_count) == (2, "previous", 2)
    assert (now.default_ttl_ns, old.default_ttl_ns) == (5 * SECOND, None)
    [hit] = await hits(storage, query(0, 0, 2, filter=Condition("n", Equals(2))))
    assert (hit.record.record_id, hit.score) == ("a", 2)
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.collection_id for each in page.collections] == ["docs"]
    assert await storage.records_revision(*PLACE) == swapped
    await storage.swap_shadow(*PLACE, records_revision=swapped)
    assert await ids(storage, query(1, 0)) == ["a", "b"]
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1


async def a_stale_shadow_stays_out(storage: VectorStorage, clock: FakeClock) -> None:
    """Where records changed since, or without a shadow, nothing is exchanged."""
    revision = await with_shadow(storage)
    for change in (
        lambda: storage.upsert(*PLACE, [record("c", 1, 1)]),
        lambda: storage.update_metadata(*PLACE, MetadataChange(set={"x": 1}), record_ids=["a"]),
        lambda: storage.delete(*PLACE, ["a"]),
    ):
        await change()
        with refused(Reason.REVISION_MISMATCH):
            await storage.swap_shadow(*PLACE, records_revision=revision)
        revision = await storage.records_revision(*PLACE)
    assert await all_ids(storage) == ["b", "c"]
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.swap_shadow(*OTHER, records_revision=0)
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.records_revision("acme", "global", "none")

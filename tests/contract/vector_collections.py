"""What a VectorStorage promises of collections, scopes and tenants."""

from __future__ import annotations

import asyncio

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.model import (
    CollectionChanges,
    CollectionSettings,
    EmbeddingIdentity,
    Exactness,
    Hnsw,
    Isolation,
    Metric,
    Quantization,
)
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import (
    MINILM,
    OTHER,
    PLACE,
    all_ids,
    hits,
    ids,
    make,
    query,
    record,
    refused,
)


async def a_collection_is_as_it_was_made(storage: VectorStorage, clock: FakeClock) -> None:
    """What create answers, get answers too; a second create is refused."""
    made, revision = await storage.create_collection(
        *PLACE, dimension=384, metric=Metric.DOT, embedding=MINILM
    )
    assert (made.dimension, made.metric, made.embedding) == (384, Metric.DOT, MINILM)
    assert made.create_time_ns == clock.now_ns()
    assert await storage.get_collection(*PLACE) == (made, revision)
    with refused(Reason.COLLECTION_EXISTS):
        await storage.create_collection(*PLACE, dimension=2, metric=Metric.DOT)
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.get_collection(*OTHER)


async def names_and_dimensions_are_checked(storage: VectorStorage, clock: FakeClock) -> None:
    """A collection's name has a grammar and its dimension bounds."""
    for name in ("", "-a", ".a", "a b", "ä", "a" * 65, "a/b", "a\0b"):
        with pytest.raises(ServiceError) as error:
            await storage.create_collection("acme", "global", name, dimension=2, metric=Metric.L2)
        assert error.value.reason in {Reason.FIELD_INVALID, Reason.FIELD_REQUIRED}
    await storage.create_collection("acme", "global", "a" * 64, dimension=4096, metric=Metric.L2)
    with refused(Reason.FIELD_INVALID, field="dimension"):
        await storage.create_collection(*PLACE, dimension=0, metric=Metric.L2)
    with refused(Reason.LIMIT_EXCEEDED, field="dimension", limit=4096):
        await storage.create_collection(*PLACE, dimension=4097, metric=Metric.L2)


async def ensure_makes_once(storage: VectorStorage, clock: FakeClock) -> None:
    """Ensure makes a collection, finds it again, and refuses another embedding."""
    first, second = await asyncio.gather(
        storage.ensure_collection(*PLACE, metric=Metric.COSINE, embedding=MINILM),
        storage.ensure_collection(*PLACE, metric=Metric.COSINE, embedding=MINILM),
    )
    assert first[0] == second[0]
    assert first[0].dimension == MINILM.dimension
    other = EmbeddingIdentity("openai", "text-embedding-3-small", 384)
    with refused(Reason.EMBEDDING_MISMATCH, stored=MINILM, asked=other):
        await storage.ensure_collection(*PLACE, metric=Metric.COSINE, embedding=other)


async def ensure_refuses_vectors_of_ones_own(storage: VectorStorage, clock: FakeClock) -> None:
    """A collection made without an embedding takes no text."""
    await make(storage, dimension=384)
    with refused(Reason.EMBEDDING_MISMATCH, stored=""):
        await storage.ensure_collection(*PLACE, metric=Metric.COSINE, embedding=MINILM)


async def collections_are_listed_in_order(storage: VectorStorage, clock: FakeClock) -> None:
    """By scope, then name, page by page, of one scope or all; a prefix is not a match."""
    places = [("global", "b"), ("global", "a"), ("user:x", "c"), ("user:xy", "a"), ("agent:x", "z")]
    for tenant in ("acme", "acme2"):
        for scope, name in places:
            await storage.create_collection(tenant, scope, name, dimension=2, metric=Metric.L2)
    found = []
    after = None
    while True:
        page = await storage.list_collections("acme", None, limit=2, after=after)
        found += [(each.scope, each.collection_id) for each in page.collections]
        after = page.cursor
        if after is None:
            break
    assert found == sorted(places)
    page = await storage.list_collections("acme", "user:x", limit=9)
    assert [each.collection_id for each in page.collections] == ["c"]
    assert (await storage.list_collections("acm", None, limit=9)).collections == []


async def deleting_a_collection_removes_its_records(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """Records go with it, a new one of that name is empty, and the other tenant keeps its own."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0), record("b", 0, 1)])
    await ids(storage, query(1, 0))
    assert (await storage.delete_collection(*PLACE)).count == 2
    assert (await storage.delete_collection(*PLACE)).count == 0
    for call in (storage.search(*PLACE, query(1, 0)), storage.get(*PLACE, ["a"])):
        with refused(Reason.COLLECTION_NOT_FOUND):
            await call
    await storage.create_collection(*PLACE, dimension=3, metric=Metric.L2)
    assert await ids(storage, query(1, 0, 0)) == []
    assert await storage.sweep() in {0, 2}
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1


SECOND = 10**9


async def settings_are_kept_and_changed(storage: VectorStorage, clock: FakeClock) -> None:
    """What a collection is made with is told; a change leaves the rest, and 0 takes away."""
    settings = CollectionSettings(
        hnsw=Hnsw(m=8, ef_construction=64, ef_search=20, quantization=Quantization.I8),
        default_ttl_ns=5 * SECOND,
        history_window_ns=7 * SECOND,
        ttl_ns=90 * SECOND,
    )
    await make(storage)
    where = ("acme", "global", "set")
    made, first = await storage.create_collection(
        *where, dimension=2, metric=Metric.L2, settings=settings
    )
    assert (made.hnsw, made.default_ttl_ns) == (settings.hnsw, 5 * SECOND)
    assert made.history_window_ns == 7 * SECOND
    assert made.expire_time_ns == clock.now_ns() + 90 * SECOND
    changes = CollectionChanges(default_ttl_ns=0, ttl_ns=0, ef_search=33)
    changed, second = await storage.update_collection(*where, changes)
    assert (changed.default_ttl_ns, changed.expire_time_ns) == (None, None)
    assert (changed.hnsw.ef_search, changed.hnsw.m) == (33, 8)
    assert changed.history_window_ns == 7 * SECOND
    assert (await storage.get_collection(*where))[0] == changed
    again, third = await storage.update_collection(*where, changes)
    assert (again, second, third) == (changed, first + 1, first + 1)
    assert (await storage.get_collection(*OTHER))[0].hnsw == Hnsw()


async def no_history_taken_away_changes_nothing(storage: VectorStorage, clock: FakeClock) -> None:
    """A collection that keeps no history and is told to keep none takes no revision for it."""
    await make(storage)
    _, before = await storage.get_collection(*PLACE)
    clock.advance(1.0)
    _, after = await storage.update_collection(*PLACE, CollectionChanges(history_window_ns=0))
    assert after == before


async def settings_have_bounds(storage: VectorStorage, clock: FakeClock) -> None:
    """Each that is out of bounds is refused by name, and nothing is made or changed."""
    century, year = 200 * 365 * 86400 * SECOND, 2 * 366 * 86400 * SECOND
    bad: list[tuple[dict[str, int], Reason, str]] = [
        ({"default_ttl_ns": -1}, Reason.FIELD_INVALID, "default_ttl"),
        ({"default_ttl_ns": century}, Reason.LIMIT_EXCEEDED, "default_ttl"),
        ({"ttl_ns": -1}, Reason.FIELD_INVALID, "ttl"),
        ({"ttl_ns": century}, Reason.LIMIT_EXCEEDED, "ttl"),
        ({"history_window_ns": -1}, Reason.FIELD_INVALID, "history_window"),
        ({"history_window_ns": year}, Reason.LIMIT_EXCEEDED, "history_window"),
    ]
    await make(storage)
    before = await storage.get_collection(*PLACE)
    for fields, reason, field in bad:
        with refused(reason, field=field):
            await storage.create_collection(
                *("acme", "global", "new"),
                dimension=2,
                metric=Metric.L2,
                settings=CollectionSettings(**fields),
            )
        with refused(reason, field=field):
            await storage.update_collection(*PLACE, CollectionChanges(**fields))
    for ef_search in (9, 4097):
        with refused(Reason.FIELD_INVALID, field="ef_search"):
            await storage.update_collection(*PLACE, CollectionChanges(ef_search=ef_search))
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.update_collection("acme", "global", "new", CollectionChanges(ef_search=20))
    assert await storage.get_collection(*PLACE) == before


async def an_ended_collection_is_not_there(storage: VectorStorage, clock: FakeClock) -> None:
    """From the instant on, for every call; its name is free, and the sweep takes the rest."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    await storage.update_collection(*PLACE, CollectionChanges(ttl_ns=2 * SECOND))
    clock.advance(1.999)
    assert await ids(storage, query(1, 0)) == ["a"]
    clock.advance(0.002)
    for call in (
        storage.get_collection(*PLACE),
        storage.search(*PLACE, query(1, 0)),
        storage.get(*PLACE, ["a"]),
        storage.list_records(*PLACE, limit=1),
        storage.upsert(*PLACE, [record("b", 1, 0)]),
        storage.update_collection(*PLACE, CollectionChanges(ef_search=20)),
    ):
        with refused(Reason.COLLECTION_NOT_FOUND):
            await call
    assert (await storage.delete(*PLACE, ["a"])).count == 0
    assert (await storage.delete_collection(*PLACE)).count == 0
    assert (await storage.list_collections("acme", None, limit=9)).collections == []
    counts = await storage.stats("acme", None)
    assert (counts.collection_count, counts.record_count) == (0, 0)
    await storage.create_collection(*PLACE, dimension=3, metric=Metric.L2)
    assert await all_ids(storage) == []
    while await storage.sweep():
        pass
    assert (await storage.get_collection(*PLACE))[0].dimension == 3
    assert (await storage.stats("globex", None)).record_count == 1


async def an_ended_scope_is_as_if_deleted(storage: VectorStorage, clock: FakeClock) -> None:
    """Its collections go at that instant, others stay, and it begins anew without settings."""
    for tenant in ("acme", "globex"):
        for scope in ("session:a", "session:ab"):
            await storage.create_collection(tenant, scope, "c", dimension=2, metric=Metric.L2)
            await storage.upsert(tenant, scope, "c", [record("r", 1, 0)])
    told, _ = await storage.configure_scope(
        "acme", "session:a", record_ttl_ns=3 * SECOND, ttl_ns=SECOND
    )
    assert (told.record_ttl_ns, told.expire_time_ns) == (3 * SECOND, clock.now_ns() + SECOND)
    clock.advance(1.0)
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.get("acme", "session:a", "c", ["r"])
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.scope for each in page.collections] == ["session:ab"]
    assert (await storage.delete_scope("acme", "session:a")).count == 0
    await storage.create_collection("acme", "session:a", "c", dimension=2, metric=Metric.L2)
    await storage.upsert("acme", "session:a", "c", [record("new", 1, 0)])
    [found], _ = await storage.get("acme", "session:a", "c", ["new", "r"])
    assert (found.record_id, found.expire_time_ns) == ("new", None)
    clock.advance(10.0)
    while await storage.sweep():
        pass
    assert (await storage.stats("acme", None)).record_count == 2
    assert (await storage.stats("globex", None)).record_count == 2


async def a_scopes_settings_outlive_collections(storage: VectorStorage, clock: FakeClock) -> None:
    """None leaves as it is, 0 takes away; the same again takes no revision."""
    await make(storage)
    _, first = await storage.configure_scope("acme", "global", record_ttl_ns=SECOND)
    told, second = await storage.configure_scope("acme", "global")
    assert (told.record_ttl_ns, told.expire_time_ns, second) == (SECOND, None, first)
    await storage.delete_scope("acme", "global")
    await storage.create_collection(*PLACE, dimension=2, metric=Metric.L2)
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    [found], _ = await storage.get(*PLACE, ["a"])
    assert found.expire_time_ns == clock.now_ns() + SECOND
    told, _ = await storage.configure_scope("acme", "global", record_ttl_ns=0)
    assert told.record_ttl_ns is None
    for wrong in ({"record_ttl_ns": -1}, {"ttl_ns": -1}):
        with refused(Reason.FIELD_INVALID):
            await storage.configure_scope("acme", "global", **wrong)
    clock.advance(2.0)
    assert len((await storage.get(*OTHER, ["theirs"]))[0]) == 1


async def isolation_is_chosen_before_the_first_collection(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """A tenant with collections stays as it is; another's choice is its own."""
    assert await storage.configure_tenant("new", Isolation.HYBRID) is Isolation.HYBRID
    assert await storage.configure_tenant("newer", Isolation.NAMESPACE) is Isolation.NAMESPACE
    await storage.create_collection("new", "global", "c", dimension=2, metric=Metric.L2)
    assert await storage.configure_tenant("new", Isolation.METADATA) is Isolation.HYBRID
    await storage.purge("new")
    assert await storage.configure_tenant("new", Isolation.METADATA) is Isolation.METADATA


async def graphs_can_be_built_anew(storage: VectorStorage, clock: FakeClock) -> None:
    """Rebuild and checkpoint change no answer, whatever they do behind."""
    await make(storage)
    rows = [record(f"{n:02}", 1, n, metadata={"n": n}) for n in range(70)]
    await storage.upsert(*PLACE, rows)
    await storage.delete(*PLACE, [f"{n:02}" for n in range(0, 70, 2)])
    asked = query(1, 20, limit=9, exactness=Exactness.EXACT)
    before = await hits(storage, asked)
    assert await storage.rebuild(*PLACE) in {35, 70}
    told = await storage.checkpoint(*PLACE)
    assert told.record_count == 35
    assert told.indexed_count <= 35
    assert [hit.record for hit in await hits(storage, asked)] == [hit.record for hit in before]
    for call in (storage.rebuild, storage.checkpoint):
        with refused(Reason.COLLECTION_NOT_FOUND):
            await call("acme", "global", "none")

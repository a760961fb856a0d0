"""What every VectorStorage must do. Plain functions; test_vector_contract.py runs them."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.model import (
    All,
    AnyOf,
    Condition,
    EmbeddingIdentity,
    Equals,
    Exactness,
    Exists,
    Filter,
    Hit,
    In,
    Mask,
    Metric,
    NewRecord,
    Not,
    Query,
    Range,
)
from services.vector.storage import VectorStorage

PLACE = ("acme", "global", "docs")
OTHER = ("globex", "global", "docs")
MINILM = EmbeddingIdentity("local", "all-MiniLM-L6-v2", 384, "abc")


def record(record_id: str, *vector: float, **rest: object) -> NewRecord:
    """A record, said briefly."""
    return NewRecord(record_id=record_id, vector=np.array(vector, np.float32), **rest)


def query(*vector: float, **rest: object) -> Query:
    """A query of one vector."""
    return Query(vectors=[np.array(vector, np.float32)], **rest)


async def make(storage: VectorStorage, metric: Metric = Metric.COSINE, dimension: int = 2) -> None:
    """The same collection for two tenants, the other one's with a record that fits everything."""
    for tenant, scope, name in (PLACE, OTHER):
        await storage.create_collection(tenant, scope, name, dimension=dimension, metric=metric)
    await storage.upsert(*OTHER, [record("theirs", *[1.0] * dimension, metadata={"n": 1})])


async def hits(storage: VectorStorage, asked: Query) -> list[Hit]:
    """The hits of all vectors of a query, one after the other."""
    results = await storage.search(*PLACE, asked)
    return [hit for result in results for hit in result.hits]


async def ids(storage: VectorStorage, asked: Query) -> list[str]:
    """The ids found."""
    return [hit.record.record_id for hit in await hits(storage, asked)]


async def all_ids(storage: VectorStorage, where: Filter | None = None, limit: int = 7) -> list[str]:
    """The ids of a whole list, page after page."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await storage.list_records(*PLACE, limit=limit, after=after, where=where)
        assert len(page.records) <= limit
        found += [each.record_id for each in page.records]
        after = page.cursor
    return found


def refused(reason: Reason, **metadata: object):
    """A ServiceError of this reason with these metadata."""

    def fits(error: ServiceError) -> bool:
        told = {name: error.metadata.get(name) for name in metadata}
        return error.reason == reason and told == {k: str(v) for k, v in metadata.items()}

    return pytest.raises(ServiceError, check=fits)


# Collections


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


# Writing and reading


async def a_record_comes_back_as_written(storage: VectorStorage, clock: FakeClock) -> None:
    """All parts and all kinds of metadata survive; the mask leaves out what is not asked for."""
    await make(storage)
    metadata = {
        "null": None,
        "yes": True,
        "int": -(2**63),
        "float": 3.0,
        "text": "Zürich",
        "bytes": b"\0\xff",
        "list": [1, "a", [2.5]],
        "map": {"deep": {"er": 1}},
    }
    asked = record("a", 3, 4, metadata=metadata, text="body", event_time_ns=-5, ttl_ns=10**9)
    written = await storage.upsert(*PLACE, [asked])
    everything = Mask(vector=True)
    [found], revision = await storage.get(*PLACE, ["a"], mask=everything)
    assert found.metadata == metadata
    assert isinstance(found.metadata["float"], float)
    assert found.vector is not None
    assert found.vector.tolist() == [3, 4]
    assert (found.text, found.event_time_ns) == ("body", -5)
    assert found.expire_time_ns == clock.now_ns() + 10**9
    assert found.ingest_time_ns == clock.now_ns()
    assert (found.revision, revision) == (written.revision, written.revision)
    [bare], _ = await storage.get(*PLACE, ["a"], mask=Mask(metadata=False, text=False))
    assert (bare.vector, bare.metadata, bare.text) == (None, {}, "")
    [hit] = await hits(storage, query(1, 0, mask=everything))
    assert hit.record.vector is not None
    assert hit.record.vector.tolist() == [3, 4]
    assert hit.record.metadata == metadata


async def the_last_of_an_id_counts(storage: VectorStorage, clock: FakeClock) -> None:
    """Twice in a batch: the last; in a later batch: replaced whole. Ids are answered in order."""
    await make(storage)
    written = await storage.upsert(
        *PLACE, [record("a", 1, 0, text="old"), record("b", 1, 1), record("a", 0, 1)]
    )
    assert written.record_ids == ["a", "b", "a"]
    [found], _ = await storage.get(*PLACE, ["a"], mask=Mask(vector=True))
    assert (found.vector.tolist(), found.text) == ([0, 1], "")
    await storage.upsert(*PLACE, [record("a", -1, 0, metadata={"n": 1})])
    [found], _ = await storage.get(*PLACE, ["a"], mask=Mask(vector=True))
    assert (found.vector.tolist(), found.metadata) == ([-1, 0], {"n": 1})
    assert (await storage.get_collection(*PLACE))[0].record_count == 2
    assert await ids(storage, query(-1, 0)) == ["a", "b"]


async def missing_ids_are_made(storage: VectorStorage, clock: FakeClock) -> None:
    """An empty id is filled; two of them differ."""
    await make(storage)
    written = await storage.upsert(*PLACE, [record("", 1, 0), record("", 1, 0)])
    assert len(set(written.record_ids)) == 2
    assert sorted(written.record_ids) == await all_ids(storage)


async def get_keeps_the_order_and_leaves_out_what_is_absent(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """Records come in the order of the ids; ids that are not there are left out."""
    await make(storage)
    await storage.upsert(*PLACE, [record(name, 1, 0) for name in "abc"])
    found, _ = await storage.get(*PLACE, ["c", "theirs", "a", "zz"])
    assert [each.record_id for each in found] == ["c", "a"]


async def lists_are_in_order_of_id(storage: VectorStorage, clock: FakeClock) -> None:
    """By code point, page by page, with a filter too."""
    await make(storage)
    names = [f"r{n}" for n in range(20)] + ["Z", "ä", "z", "😀", "r1#0"]
    await storage.upsert(
        *PLACE, [record(name, 1, n, metadata={"even": n % 2 == 0}) for n, name in enumerate(names)]
    )
    assert await all_ids(storage) == sorted(names)
    even = Condition("even", Equals(value=True))
    assert await all_ids(storage, even, limit=3) == sorted(names[::2])


async def a_bad_batch_writes_nothing(storage: VectorStorage, clock: FakeClock) -> None:
    """Each rule names the record and the limit, and nothing of the batch stays."""
    await make(storage)
    good = record("good", 1, 0)
    bad: list[tuple[NewRecord, Reason, dict[str, object]]] = [
        (record("x", 1, 0, 0), Reason.DIMENSION_MISMATCH, {"expected": 2, "got": 3}),
        (record("x", 1, math.nan), Reason.VECTOR_NOT_FINITE, {"position": 1}),
        (record("x", -math.inf, 1), Reason.VECTOR_NOT_FINITE, {"position": 0}),
        (record("x", 0, 0), Reason.VECTOR_ZERO, {"field": "records[1].vector"}),
        (record("x", 1e30, 0), Reason.FIELD_INVALID, {"field": "records[1].vector"}),
        (record("x" * 257, 1, 0), Reason.LIMIT_EXCEEDED, {"limit": 256, "got": 257}),
        (record("x\n", 1, 0), Reason.FIELD_INVALID, {"field": "records[1].record_id"}),
        (record("x", 1, 0, text="ä" * 32769), Reason.LIMIT_EXCEEDED, {"limit": 65536}),
        (record("x", 1, 0, ttl_ns=0), Reason.FIELD_INVALID, {"field": "records[1].ttl"}),
        (record("x", 1, 0, ttl_ns=10**19), Reason.LIMIT_EXCEEDED, {"field": "records[1].ttl"}),
        (record("x", 1, 0, metadata={"a": "x" * 16384}), Reason.LIMIT_EXCEEDED, {"limit": 16384}),
        (
            record("x", 1, 0, metadata={str(n): 1 for n in range(65)}),
            Reason.LIMIT_EXCEEDED,
            {"limit": 64},
        ),
        (record("x", 1, 0, metadata={"a": [math.inf]}), Reason.FIELD_INVALID, {}),
        (record("x", 1, 0, metadata={"a": 2**63}), Reason.FIELD_INVALID, {}),
    ]
    before = (await storage.stats("acme", None)).revision
    for wrong, reason, metadata in bad:
        with refused(reason, **metadata):
            await storage.upsert(*PLACE, [good, wrong])
    assert await all_ids(storage) == []
    assert (await storage.stats("acme", None)).revision == before
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.upsert("acme", "global", "none", [good])


async def a_document_is_replaced_in_one_step(storage: VectorStorage, clock: FakeClock) -> None:
    """Records with the prefix go, the new ones come; a longer name is another document."""
    await make(storage)
    names = ["doc#0", "doc#1", "doc#2", "doc2#0", "Doc#0"]
    await storage.upsert(*PLACE, [record(name, 1, 0, text="old") for name in names])
    written = await storage.upsert(
        *PLACE, [record("doc#0", 0, 1, text="new")], replace_prefixes=["doc#"]
    )
    assert written.replaced_count == 3
    assert await all_ids(storage) == ["Doc#0", "doc#0", "doc2#0"]
    assert await ids(storage, query(0, 1, limit=1)) == ["doc#0"]
    removed = await storage.delete_prefixes(*PLACE, ["doc", "none"])
    assert removed.count == 2
    assert await all_ids(storage) == ["Doc#0"]


async def deletes_count_what_was_there(storage: VectorStorage, clock: FakeClock) -> None:
    """Removing twice, an absent id or from an absent collection counts 0 and takes no revision."""
    await make(storage)
    await storage.upsert(*PLACE, [record(name, 1, 0) for name in "abc"])
    removed = await storage.delete(*PLACE, ["a", "a", "none", "b"])
    assert removed.count == 2
    again = await storage.delete(*PLACE, ["a", "theirs"])
    assert (again.count, again.revision) == (0, removed.revision)
    absent = await storage.delete("acme", "global", "none", ["a"])
    assert (absent.count, absent.revision) == (0, removed.revision)
    assert await ids(storage, query(1, 0)) == ["c"]


async def a_scope_goes_alone(storage: VectorStorage, clock: FakeClock) -> None:
    """Deleting a scope removes its collections, not those of a longer name or another tenant."""
    for tenant in ("acme", "globex"):
        for scope in ("user:a", "user:ab", "global"):
            await storage.create_collection(tenant, scope, "c", dimension=2, metric=Metric.L2)
            await storage.upsert(tenant, scope, "c", [record("r", 1, 0)])
    assert (await storage.delete_scope("acme", "user:a")).count == 1
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.scope for each in page.collections] == ["global", "user:ab"]
    assert (await storage.stats("globex", None)).record_count == 3


async def a_purge_takes_one_tenant(storage: VectorStorage, clock: FakeClock) -> None:
    """Everything of one tenant goes, nothing of the one whose name begins alike."""
    for tenant in ("acme", "acme2"):
        await storage.create_collection(tenant, "global", "c", dimension=2, metric=Metric.L2)
        await storage.upsert(
            tenant, "global", "c", [record("a", 1, 0, ttl_ns=9), record("b", 1, 0)]
        )
    assert (await storage.purge("acme")).count == 2
    assert (await storage.purge("acme")).count == 0
    assert (await storage.stats("acme", None)).collection_count == 0
    assert (await storage.stats("acme2", None)).record_count == 2


async def stats_count_a_scope_or_a_tenant(storage: VectorStorage, clock: FakeClock) -> None:
    """Collections, records and stored bytes of what is asked for."""
    await make(storage)
    await storage.create_collection("acme", "user:a", "c", dimension=2, metric=Metric.L2)
    await storage.upsert(*PLACE, [record("a", 1, 0, text="abc"), record("b", 1, 0)])
    whole = await storage.stats("acme", None)
    assert (whole.collection_count, whole.record_count) == (2, 2)
    # Two vectors of 8 bytes, two empty maps of 1, a text of 3.
    assert whole.stored_bytes == 21
    part = await storage.stats("acme", "user:a")
    assert (part.collection_count, part.record_count, part.stored_bytes) == (1, 0, 0)
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    assert (await storage.stats("acme", None)).stored_bytes == 18


async def revisions_rise_by_one_a_change(storage: VectorStorage, clock: FakeClock) -> None:
    """Every change takes the next revision; reading takes none and answers with the last."""
    _, made = await storage.create_collection(*PLACE, dimension=2, metric=Metric.L2)
    first = (await storage.upsert(*PLACE, [record("a", 1, 0), record("b", 1, 0)])).revision
    second = (await storage.upsert(*PLACE, [record("a", 1, 0)])).revision
    nothing = (await storage.upsert(*PLACE, [])).revision
    third = (await storage.delete(*PLACE, ["a"])).revision
    assert [first, second, nothing, third] == [made + 1, made + 2, made + 2, made + 3]
    [result] = await storage.search(*PLACE, query(1, 0))
    assert result.revision == third
    assert (await storage.get(*PLACE, ["b"]))[1] == third
    assert (await storage.list_records(*PLACE, limit=1)).revision == third
    assert (await storage.stats("acme", None)).revision == third


# Searching


async def scores_mean_what_the_metric_says(storage: VectorStorage, clock: FakeClock) -> None:
    """Cosine, inner product and negated distance; the nearer the larger."""
    expected = {
        Metric.COSINE: [("same", 1.0, 0.0), ("side", 0.6, 0.4), ("far", -1.0, 2.0)],
        Metric.DOT: [("same", 50.0, -50.0), ("side", 15.0, -15.0), ("far", -25.0, 25.0)],
        Metric.L2: [("side", -math.sqrt(20), math.sqrt(20)), ("same", -5, 5), ("far", -10, 10)],
    }
    for metric, wanted in expected.items():
        name = metric.value
        await storage.create_collection("acme", "global", name, dimension=2, metric=metric)
        rows = [record("same", 6, 8), record("side", 5, 0), record("far", -3, -4)]
        await storage.upsert("acme", "global", name, rows)
        [result] = await storage.search("acme", "global", name, query(3, 4))
        told = [(hit.record.record_id, hit.score, hit.distance) for hit in result.hits]
        assert [each[0] for each in told] == [each[0] for each in wanted]
        assert np.allclose(
            [each[1:] for each in told], [each[1:] for each in wanted], rtol=1e-6, atol=1e-6
        )


async def equal_scores_come_in_order_of_id(storage: VectorStorage, clock: FakeClock) -> None:
    """Also where the limit cuts between equal ones, and however many rows stand around them."""
    await make(storage)
    names = [f"{n:03}" for n in range(90)]
    shuffled = np.random.default_rng(1).permutation(names).tolist()
    await storage.upsert(*PLACE, [record(name, 2, 1) for name in shuffled])
    await storage.upsert(*PLACE, [record(f"far{n}", 1, -n - 1) for n in range(30)])
    exact = query(4, 2, limit=17, exactness=Exactness.EXACT)
    assert await ids(storage, exact) == names[:17]


async def a_threshold_comes_last(storage: VectorStorage, clock: FakeClock) -> None:
    """Only hits with at least that score; the limit is applied first."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0), record("b", 0, 1), record("c", -1, 0)])
    assert await ids(storage, query(1, 0, score_threshold=0.0)) == ["a", "b"]
    assert await ids(storage, query(1, 0, score_threshold=1.0)) == ["a"]
    assert await ids(storage, query(1, 0, score_threshold=0.0, limit=1)) == ["a"]


async def bad_queries_are_refused(storage: VectorStorage, clock: FakeClock) -> None:
    """Each with its reason."""
    await make(storage)
    bad: list[tuple[Query, Reason]] = [
        (query(1, 0, 0), Reason.DIMENSION_MISMATCH),
        (query(math.nan, 0), Reason.VECTOR_NOT_FINITE),
        (query(0, 0), Reason.VECTOR_ZERO),
        (query(1, 0, limit=-1), Reason.FIELD_INVALID),
        (query(1, 0, limit=1001), Reason.LIMIT_EXCEEDED),
        (query(1, 0, expansion=-1), Reason.FIELD_INVALID),
        (query(1, 0, expansion=4097), Reason.LIMIT_EXCEEDED),
        (query(1, 0, score_threshold=math.nan), Reason.FIELD_INVALID),
        (query(1, 0, filter=Condition("a", Range())), Reason.FILTER_INVALID),
    ]
    for asked, reason in bad:
        with refused(reason):
            await storage.search(*PLACE, asked)
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.search("acme", "user:a", "docs", query(1, 0))


async def a_batch_equals_its_single_searches(storage: VectorStorage, clock: FakeClock) -> None:
    """The same hits and the same scores, bit for bit, in the order of the vectors."""
    await make(storage, dimension=8)
    random = np.random.default_rng(2)
    rows = random.normal(size=(200, 8)).astype(np.float32)
    await storage.upsert(*PLACE, [record(str(n), *row) for n, row in enumerate(rows)])
    asked = random.normal(size=(5, 8)).astype(np.float32)
    together = await storage.search(*PLACE, Query(vectors=list(asked)))
    alone = [(await storage.search(*PLACE, Query(vectors=[each])))[0] for each in asked]
    assert together == alone
    assert await storage.search(*PLACE, Query(vectors=[])) == []


async def filters_see_metadata(storage: VectorStorage, clock: FakeClock) -> None:
    """Each test and each way to combine them; kinds are kept apart."""
    await make(storage)
    metadata = {
        "a": {"n": 1, "tags": ["x", "y"], "at": {"city": "Zürich"}},
        "b": {"n": 1.0, "tags": [], "at": "none"},
        "c": {"n": True, "tags": "x", "null": None},
        "d": {"n": "1", "tags": [["x"]], "at": {"city": ["Bern", 7]}},
    }
    await storage.upsert(*PLACE, [record(k, 1, 0, metadata=v) for k, v in metadata.items()])
    one, city = Condition("n", Equals(1)), Condition("at.city", Exists(present=True))
    wanted: list[tuple[Filter, str]] = [
        (one, "ab"),
        (Condition("n", Equals(value=True)), "c"),
        (Condition("n", In((1.0, "1"))), "abd"),
        (Condition("tags", Equals("x")), "ac"),
        (Condition("tags", Equals(["x"])), "d"),
        (Condition("n", Range(gte=1)), "ab"),
        (Condition("n", Range(gte="0", lt="2")), "d"),
        (Condition("at.city", Range(gt="Berm", lte="Bern")), "d"),
        (city, "ad"),
        (Condition("null", Exists(present=False)), "abcd"),
        (Not(one), "cd"),
        (Not(city), "bc"),
        (All((one, city)), "a"),
        (AnyOf((one, city)), "abd"),
        (All(()), "abcd"),
        (AnyOf(()), ""),
    ]
    for where, expected in wanted:
        assert "".join(await ids(storage, query(1, 0, filter=where))) == expected, where
        assert "".join(await all_ids(storage, where)) == expected, where


async def a_filter_never_costs_hits(storage: VectorStorage, clock: FakeClock) -> None:
    """As many hits as match, up to the limit, from narrow filters to wide ones."""
    await make(storage, dimension=8)
    random = np.random.default_rng(3)
    rows = random.normal(size=(400, 8)).astype(np.float32)
    records = [record(str(n), *row, metadata={"n": n}) for n, row in enumerate(rows)]
    await storage.upsert(*PLACE, records)
    for bound in (0, 1, 5, 60, 200, 399, 400):
        where = Condition("n", Range(lt=bound))
        for exactness in Exactness:
            asked = Query(vectors=[rows[7]], filter=where, limit=20, exactness=exactness)
            found = await hits(storage, asked)
            assert len(found) == min(20, bound)
            assert all(hit.record.metadata["n"] < bound for hit in found)


async def a_filter_for_what_is_far_is_answered_in_full(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """Where the matches are the farthest of all, as many are found as anywhere else."""
    await make(storage, dimension=8)
    rows = np.random.default_rng(6).normal(size=(400, 8)).astype(np.float32)
    order = np.argsort(rows @ rows[0] / np.linalg.norm(rows, axis=1))
    far = set(order[:100].tolist())
    records = [record(str(n), *row, metadata={"far": n in far}) for n, row in enumerate(rows)]
    await storage.upsert(*PLACE, records)
    where = Condition("far", Equals(value=True))
    for exactness in Exactness:
        asked = Query(vectors=[rows[0]], filter=where, limit=20, exactness=exactness)
        found = await hits(storage, asked)
        assert len(found) == 20
        assert all(hit.record.metadata["far"] for hit in found)


async def what_was_written_is_found_at_once(storage: VectorStorage, clock: FakeClock) -> None:
    """A record is found, replaced and gone as soon as the write answers, at any size."""
    await make(storage, dimension=8)
    random = np.random.default_rng(4)
    rows = random.normal(size=(300, 8)).astype(np.float32)
    for n, row in enumerate(rows):
        await storage.upsert(*PLACE, [record(str(n), *row)])
        asked = Query(vectors=[row], limit=1)
        assert await ids(storage, asked) == [str(n)]
        if n % 7 == 3:
            await storage.upsert(*PLACE, [record(str(n), *-row)])
            [hit] = await hits(storage, asked)
            assert hit.record.record_id != str(n)
        if n % 11 == 0:
            await storage.delete(*PLACE, [str(n)])
            assert str(n) not in await ids(storage, Query(vectors=[row, -row], limit=50))


async def exact_is_honoured(storage: VectorStorage, clock: FakeClock) -> None:
    """Asked to look at every record, an engine does, and says so."""
    await make(storage, dimension=8)
    rows = np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)
    await storage.upsert(*PLACE, [record(str(n), *row) for n, row in enumerate(rows)])
    asked = Query(vectors=[rows[0]], limit=30, exactness=Exactness.EXACT)
    [result] = await storage.search(*PLACE, asked)
    assert result.exact
    cosines = rows @ rows[0] / np.linalg.norm(rows, axis=1)
    assert [hit.record.record_id for hit in result.hits] == [
        str(n) for n in np.argsort(-cosines)[:30]
    ]


# Time


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


SUITE = [
    check
    for name, check in list(globals().items())
    if asyncio.iscoroutinefunction(check) and name not in {"make", "hits", "ids", "all_ids"}
]

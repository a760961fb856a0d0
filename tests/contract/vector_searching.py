"""What a VectorStorage promises of searches."""

from __future__ import annotations

import math

import numpy as np

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.model import Condition, Equals, Exactness, Mask, Metric, Query, Range, Record
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import OTHER, PLACE, hits, ids, make, query, record, refused


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


async def manhattan_adds_differences(storage: VectorStorage, clock: FakeClock) -> None:
    """The score is the negated sum of the differences; the nearer the larger."""
    await make(storage, Metric.MANHATTAN)
    await storage.upsert(*PLACE, [record("a", 3, 4), record("b", 5, 0), record("c", -3, 4)])
    found = await hits(storage, query(3, 3))
    assert [hit.record.record_id for hit in found] == ["a", "b", "c"]
    assert np.allclose([hit.score for hit in found], [-1, -5, -7], atol=1e-5)
    assert np.allclose([hit.distance for hit in found], [1, 5, 7], atol=1e-5)


async def answers_say_how_complete_they_are(storage: VectorStorage, clock: FakeClock) -> None:
    """How many may be found is counted; there are never fewer hits than that or the limit."""
    await make(storage)
    rows = [record(f"{n:02}", 1, n, metadata={"n": n}) for n in range(90)]
    await storage.upsert(*PLACE, rows)
    for bound, limit in ((0, 5), (3, 5), (90, 5), (90, 90)):
        for exactness in Exactness:
            where = Condition("n", Range(lt=bound))
            asked = query(1, 7, filter=where, limit=limit, exactness=exactness)
            [result] = await storage.search(*PLACE, asked)
            assert result.match_count == bound
            assert result.complete
            assert len(result.hits) == min(bound, limit)


async def full_recall_is_exact(storage: VectorStorage, clock: FakeClock) -> None:
    """Who asks that nothing be missed is told that every record was looked at."""
    await make(storage)
    await storage.upsert(*PLACE, [record(f"{n:02}", 1, n) for n in range(90)])
    [result] = await storage.search(*PLACE, query(1, 7, min_recall=1.0, limit=3))
    assert result.exact
    assert result.hits[0].record.record_id == "07"
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with refused(Reason.FIELD_INVALID, field="min_recall"):
            await storage.search(*PLACE, query(1, 0, min_recall=wrong))


async def columns_have_ids_and_scores(storage: VectorStorage, clock: FakeClock) -> None:
    """Asked for columns, a hit's record has its id alone; the order is the same."""
    await make(storage)
    rows = [record(name, 1, n, text="t", metadata={"n": n}) for n, name in enumerate("abc")]
    await storage.upsert(*PLACE, rows)
    found = await hits(storage, query(1, 0, columns=True, mask=Mask(vector=True)))
    assert [hit.record for hit in found] == [Record(record_id=name) for name in "abc"]
    whole = await hits(storage, query(1, 0))
    assert [hit.score for hit in found] == [hit.score for hit in whole]


async def words_find_texts(storage: VectorStorage, clock: FakeClock) -> None:
    """The rarer and the more often a word, the better; texts without any are not found."""
    await make(storage)
    await storage.upsert(*OTHER, [record("fox", 1, 0, text="zebra fox fox")])
    texts = {
        "a": "The quick brown fox",
        "b": "the lazy dog and the other dog",
        "c": "a fox and a dog",
        "d": "",
        "e": "nothing of that",
    }
    await storage.upsert(
        *PLACE, [record(k, 1, 0, text=v, metadata={"k": k}) for k, v in texts.items()]
    )

    async def find(text: str, **rest: object) -> list[str]:
        asked = Query(vectors=[], **rest)
        result = await storage.lexical_search(*PLACE, text, asked)
        scores = [hit.score for hit in result.hits]
        assert scores == sorted(scores, reverse=True)
        assert min(scores, default=1) > 0
        return [hit.record.record_id for hit in result.hits]

    assert sorted(await find("FOX")) == ["a", "c"]
    assert (await find("quick fox"))[0] == "a"
    assert await find("fox dog", limit=1) == ["c"]
    assert sorted(await find("dog", filter=Condition("k", Equals("b")))) == ["b"]
    assert await find("zebra") == []
    assert await find("") == []
    assert await find('"( AND fox:') == await find("fox and")
    await storage.delete(*PLACE, ["a", "c"])
    assert await find("fox") == []
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.lexical_search("acme", "global", "none", "fox", Query(vectors=[]))


async def words_in_columns_have_ids_alone(storage: VectorStorage, clock: FakeClock) -> None:
    """A lexical search keeps the promise of columns too."""
    await make(storage)
    await storage.upsert(*PLACE, [record("a", 1, 0, text="fox", metadata={"n": 1})])
    asked = Query(vectors=[], columns=True)
    result = await storage.lexical_search(*PLACE, "fox", asked)
    assert [hit.record for hit in result.hits] == [Record(record_id="a")]


async def no_text_is_no_error(storage: VectorStorage, clock: FakeClock) -> None:
    """Words are looked for in vain where there are none, or no records."""
    await make(storage)
    asked = Query(vectors=[])
    assert (await storage.lexical_search(*PLACE, "fox", asked)).hits == []
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    assert (await storage.lexical_search(*PLACE, "fox", asked)).hits == []

"""Searches that wait together go together, and no caller is told another's answer."""

import asyncio

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.engines.gather import Gatherer
from services.vector.model import Condition, Equals, Hit, Query, Record, SearchResult

PLACE = ("acme", "global", "c")
OTHER = ("globex", "global", "c")


def query(number, **rest):
    """A query whose vector says which it is."""
    return Query(vectors=[np.array([number], np.float32)], **rest)


class Engine:
    """Answers with the place and the vector that was asked; notes how they came."""

    def __init__(self):
        self.batches = []
        self.asides = []

    async def run(self, place, asked, *, aside):
        """One result for each vector; a negative one is refused."""
        self.batches.append((place[0], len(asked.vectors)))
        self.asides.append(aside)
        await asyncio.sleep(0.01)
        if any(vector[0] < 0 for vector in asked.vectors):
            raise ServiceError(Reason.VECTOR_ZERO, "negative")
        return [
            SearchResult(
                hits=[Hit(record=Record(record_id=f"{place[0]} {v[0]:g}"), score=1, distance=0)],
                exact=True,
                indexed_revision=0,
                revision=1,
            )
            for v in asked.vectors
        ]


async def found(gatherer, place, asked):
    """The one id that is answered."""
    [result] = await gatherer.search(place, asked)
    return result.hits[0].record.record_id


async def test_each_caller_has_its_own_answer():
    """Sixty callers of two tenants, in far fewer calls; nobody sees the other tenant's."""
    engine = Engine()
    gatherer = Gatherer(engine.run)
    asked = [(PLACE if n % 2 else OTHER, n) for n in range(60)]
    answers = await asyncio.gather(*(found(gatherer, place, query(n)) for place, n in asked))
    assert answers == [f"{place[0]} {n}" for place, n in asked]
    assert sorted(engine.batches) == [("acme", 30), ("globex", 30)]


async def test_a_crowd_is_served_aside_and_a_single_caller_is_not():
    """Two that wait together are a crowd, in one collection or in two; it is not soon forgotten."""
    engine = Engine()
    gatherer = Gatherer(engine.run)
    await found(gatherer, PLACE, query(0))
    await asyncio.gather(found(gatherer, PLACE, query(1)), found(gatherer, OTHER, query(2)))
    assert engine.asides == [False, True, True]
    engine.asides.clear()
    for number in range(40):
        await found(gatherer, PLACE, query(number))
    assert engine.asides[0]
    assert not engine.asides[-1]
    await asyncio.gather(found(gatherer, PLACE, query(1)), found(gatherer, PLACE, query(2)))
    assert engine.asides[-1]


async def test_a_batch_waits_for_those_who_came_before():
    """They were answered together and come again one by one; whoever stays away is not missed."""
    engine = Engine()
    gatherer = Gatherer(engine.run)
    await asyncio.gather(*(found(gatherer, PLACE, query(n)) for n in range(5)))

    async def late(number):
        for _ in range(number):
            await asyncio.sleep(0)
        return await found(gatherer, PLACE, query(number))

    await asyncio.gather(*map(late, range(5)))
    assert [size for _, size in engine.batches] == [5, 5]
    await found(gatherer, PLACE, query(1))
    assert [size for _, size in engine.batches] == [5, 5, 1]


async def test_what_asks_otherwise_goes_apart():
    """Another limit is another line; a filter goes alone."""
    engine = Engine()
    gatherer = Gatherer(engine.run)
    where = Condition("a", Equals(1))
    await asyncio.gather(
        *(found(gatherer, PLACE, query(n)) for n in range(3)),
        *(found(gatherer, PLACE, query(n, limit=5)) for n in range(2)),
        *(found(gatherer, PLACE, query(n, filter=where)) for n in range(2)),
    )
    assert sorted(count for _, count in engine.batches) == [1, 1, 2, 3]


async def test_one_bad_vector_fails_alone():
    """Its neighbours are asked again, without it."""
    gatherer = Gatherer(Engine().run)
    results = await asyncio.gather(
        *(found(gatherer, PLACE, query(n)) for n in (1, -1, 2)), return_exceptions=True
    )
    assert (results[0], results[2]) == ("acme 1", "acme 2")
    assert results[1].reason == Reason.VECTOR_ZERO


async def test_a_caller_who_leaves_holds_up_nobody():
    """The others are answered."""
    gatherer = Gatherer(Engine().run)
    tasks = [asyncio.create_task(found(gatherer, PLACE, query(n))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert await tasks[0] == "acme 0"
    assert await tasks[2] == "acme 2"
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]

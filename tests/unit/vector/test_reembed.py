"""Claims about services.vector.reembed, over both engines and two real providers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector import reembed
from services.vector.model import Metric, NewRecord
from services.vector.rag import Document, Rag
from services.vector.reembed import Reembedder, Status
from tests.unit.vector.documents import ENGINES, WHOLE, Library, library, texts

PLACE = ("acme", "global", "docs")
OTHER = ("globex", "global", "docs")
SECOND = 10**9
FAILURE = (400, {"error": {"message": "no", "code": "x"}})


@pytest.fixture(params=ENGINES)
async def shelf(request, tmp_path, monkeypatch):
    """A library whose default is the local model; globex's collection must stay as it is."""
    monkeypatch.setattr(reembed, "_RETRY_S", (0.01,))
    monkeypatch.setattr(reembed, "_PAGE", 3)
    async with library(request.param, tmp_path, default="local") as made:
        await made.put("globex", Document(text="a heron of globex", document_id="a"))
        yield made
        kept, _ = await made.storage.get_collection(*OTHER)
        assert kept.embedding.provider == "local"
        assert texts(await made.ask("globex", "heron")) == ["a heron of globex"]


@asynccontextmanager
async def working(shelf, storage=None):
    """A re-embedder that runs as in the process; cancelled at the end."""
    parts = (storage or shelf.storage, shelf.providers, shelf.cache)
    reembedder = Reembedder(*parts)
    task = asyncio.create_task(reembedder.run())
    await asyncio.sleep(0)
    try:
        yield reembedder
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(reembedder, *statuses):
    """Wait for a status."""
    async with asyncio.timeout(20):
        while (told := await reembedder.status(PLACE)).status not in statuses:  # noqa: ASYNC110  (it tells by being asked)
            await asyncio.sleep(0.005)
    return told


async def switched(shelf, provider="openai"):
    """Embed anew, to the end."""
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, provider)
        return await until(reembedder, Status.SWITCHED)


class Between:
    """A storage that does something, once, just before one of its methods."""

    def __init__(self, storage, method, act):
        self._storage, self._method, self._act = storage, method, act

    def __getattr__(self, name):
        found = getattr(self._storage, name)
        if name != self._method or self._act is None:
            return found

        async def first(*args, **rest):
            act, self._act = self._act, None
            if act is not None:
                await act()
            return await found(*args, **rest)

        return first


def numbered(first, last):
    """Documents with a number each."""
    return [Document(text=f"heron {n}", document_id=f"d{n}") for n in range(first, last)]


async def content(shelf):
    """What each record has, but its vector and revision."""
    page = await shelf.storage.list_records(*PLACE, limit=1000)
    return {
        r.record_id: (r.text, r.metadata, r.event_time_ns, r.expire_time_ns, r.ingest_time_ns)
        for r in page.records
    }


def sent(shelf):
    """The texts that the other provider was asked for."""
    return [text for request in shelf.server.requests for text in request["input"]]


async def test_all_texts_move_to_the_other_model(shelf):
    """Afterwards the new model answers, every record is there, and each text was sent once."""
    await shelf.put("acme", *numbered(0, 8))
    before = await content(shelf)
    told = await switched(shelf)
    assert (told.active.provider, told.other.provider) == ("openai", "local")
    assert (told.done_count, told.total_count, told.message) == (8, 8, "")
    assert await content(shelf) == before
    assert sorted(sent(shelf)) == sorted(text for text, *_ in before.values())
    found = await shelf.ask("acme", "heron 5", limit=3)
    assert found.passages[0].text == "heron 5"
    assert len(found.passages) == 3


async def test_the_old_vectors_answer_until_then(shelf):
    """While the other provider is silent, searches and writes go on with the old one."""
    await shelf.put("acme", *numbered(0, 4))
    shelf.server.silent = True
    async with working(shelf) as reembedder:
        told = await reembedder.start(PLACE, "openai")
        assert (told.status, told.active.provider) == (Status.RUNNING, "local")
        await asyncio.sleep(0.05)
        await shelf.put("acme", *numbered(4, 5))
        assert (await shelf.ask("acme", "heron 4")).passages[0].text == "heron 4"
        assert len((await shelf.ask("acme", "heron")).passages) == 5
        shelf.server.ending.set()
    kept, _ = await shelf.storage.get_collection(*PLACE)
    assert kept.embedding.provider == "local"


async def test_times_of_records_stay(shelf):
    """Event, ingest and expire times are the same after it, to the nanosecond.

    Those of a record without an end too, where the scope has come to give new ones an end.
    """
    forever = Document(text="for ever", document_id="f", event_time_ns=7, metadata={"a": [1, {}]})
    await shelf.put("acme", forever, Document(text="a while", document_id="w", ttl_ns=60 * SECOND))
    await shelf.storage.configure_scope("acme", "global", record_ttl_ns=90 * SECOND)
    before = await content(shelf)
    shelf.clock.advance(10)
    await switched(shelf)
    assert await content(shelf) == before
    shelf.clock.advance(51)
    assert list(await content(shelf)) == ["f#0"]
    shelf.clock.advance(1000)
    assert list(await content(shelf)) == ["f#0"]


async def test_an_expiry_that_changed_meanwhile_is_carried_over(shelf):
    """The same text, written again with another time to live, ends when that says."""
    await shelf.put("acme", Document(text="one", document_id="a", ttl_ns=5 * SECOND))

    async def write():
        await shelf.put("acme", Document(text="one", document_id="a", ttl_ns=500 * SECOND))

    async with working(shelf, Between(shelf.storage, "swap_shadow", write)) as reembedder:
        await reembedder.start(PLACE, "openai")
        await until(reembedder, Status.SWITCHED)
    shelf.clock.advance(100)
    assert list(await content(shelf)) == ["a#0"]


@pytest.mark.parametrize("moment", ["upsert", "swap_shadow"])
async def test_what_is_written_and_deleted_meanwhile_counts(shelf, moment):
    """A write in the middle of a pass, behind where it is, or at its end puts the switch off.

    Nothing is lost, and nothing comes back.
    """
    await shelf.put("acme", *numbered(0, 5))

    async def write():
        await shelf.put("acme", Document(text="changed", document_id="d1"), *numbered(9, 10))
        await shelf.rag.delete(*PLACE, ["d0"])

    async with working(shelf, Between(shelf.storage, moment, write)) as reembedder:
        await reembedder.start(PLACE, "openai")
        await until(reembedder, Status.SWITCHED)
    told = {record_id: text for record_id, (text, *_) in (await content(shelf)).items()}
    wanted = {f"d{n}#0": f"heron {n}" for n in (2, 3, 4, 9)} | {"d1#0": "changed"}
    assert told == wanted
    assert set(texts(await shelf.ask("acme", "heron"))) == set(wanted.values())


async def test_a_failure_is_told_and_waited_out(shelf):
    """It waits with a message, tries again by itself, and says nothing of it afterwards."""
    await shelf.put("acme", *numbered(0, 2))
    shelf.server.failures.extend([FAILURE] * 40)
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "openai")
        told = await until(reembedder, Status.WAITING)
        assert "openai" in told.message
        told = await until(reembedder, Status.SWITCHED)
        assert told.message == ""
        await reembedder.start(PLACE, "local")
        told = await until(reembedder, Status.SWITCHED)
        assert (told.active.provider, told.message) == ("local", "")


async def test_a_restart_goes_on_and_sends_nothing_twice(shelf):
    """A new process finds what was begun by itself, and the texts embedded before are kept."""
    await shelf.put("acme", *numbered(0, 8))
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "openai")
        while not sent(shelf):  # noqa: ASYNC110  (the server is a thread)
            await asyncio.sleep(0.001)
    async with working(shelf) as reembedder:
        await until(reembedder, Status.SWITCHED)
    assert len(sent(shelf)) <= 8 + 3  # a page that was cut off may not have been kept
    assert len(await content(shelf)) == 8


async def test_it_goes_back_with_what_came_since(shelf):
    """Asked for the provider before, it brings the old vectors into step and switches back."""
    await shelf.put("acme", *numbered(0, 4))
    await switched(shelf)
    await shelf.put("acme", *numbered(6, 7))
    await shelf.rag.delete(*PLACE, ["d0"])
    before = await content(shelf)
    told = await switched(shelf, "local")
    assert (told.active.provider, told.other.provider) == ("local", "openai")
    assert await content(shelf) == before
    assert (await shelf.ask("acme", "heron 6")).passages[0].text == "heron 6"


async def test_a_restart_on_the_way_back_takes_nothing_away(shelf):
    """The new vectors go on to answer, and asked again it goes on its way back."""
    await shelf.put("acme", *numbered(0, 4))
    await switched(shelf)
    await shelf.put("acme", *numbered(4, 8))
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "local")
    async with working(shelf) as reembedder:
        told = await until(reembedder, Status.SWITCHED)
        assert told.active.provider == "openai"
        assert len((await shelf.ask("acme", "heron")).passages) == 8
    assert (await switched(shelf, "local")).active.provider == "local"
    assert len(await content(shelf)) == 8


async def test_asked_again_it_says_where_it_stands(shelf):
    """A call that is repeated, since its answer was lost, is not refused after the switch."""
    await shelf.put("acme", *numbered(0, 2))
    await switched(shelf)
    async with working(shelf) as reembedder:
        told = await reembedder.start(PLACE, "openai")
    assert (told.status, told.active.provider) == (Status.SWITCHED, "openai")


async def test_calls_at_the_same_time_begin_one(shelf):
    """Two who ask at once are both told of the same."""
    await shelf.put("acme", *numbered(0, 2))
    async with working(shelf) as reembedder:
        told = await asyncio.gather(*[reembedder.start(PLACE, "openai") for _ in range(4)])
        assert {each.other.provider for each in told} <= {"openai", "local"}
        await until(reembedder, Status.SWITCHED)


async def test_it_can_be_ended(shelf):
    """Before the switch the old stay alone, and after it the new; ending twice does nothing."""
    await shelf.put("acme", *numbered(0, 4))
    shelf.server.failures.extend([FAILURE] * 1000)
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "openai")
        await until(reembedder, Status.WAITING)
        assert await reembedder.end(PLACE) == 0
        assert (await reembedder.status(PLACE)).status == Status.NONE
        shelf.server.failures.clear()
        await reembedder.start(PLACE, "openai")
        await until(reembedder, Status.SWITCHED)
        assert await reembedder.end(PLACE) == 4
        assert await reembedder.end(PLACE) == 0
        told = await reembedder.status(PLACE)
        assert (told.status, told.active.provider) == (Status.NONE, "openai")


async def test_a_deleted_collection_ends_it(shelf):
    """The task ends with the collection, and a new one of that name begins without it."""
    await shelf.put("acme", *numbered(0, 4))
    shelf.server.failures.extend([FAILURE] * 1000)
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "openai")
        await until(reembedder, Status.WAITING)
        await shelf.storage.delete_collection(*PLACE)
        await shelf.put("acme", *numbered(0, 1))
        await until(reembedder, Status.NONE)


async def test_records_without_text_are_named(shelf):
    """What cannot be embedded holds it up, and the message says which record it is."""
    await shelf.put("acme", *numbered(0, 1))
    kept, _ = await shelf.storage.get_collection(*PLACE)
    vector = np.ones(kept.dimension, np.float32)
    await shelf.storage.upsert(*PLACE, [NewRecord(record_id="bare", vector=vector)])
    async with working(shelf) as reembedder:
        await reembedder.start(PLACE, "openai")
        told = await until(reembedder, Status.WAITING)
        assert "bare" in told.message
        await shelf.storage.delete(*PLACE, ["bare"])
        await until(reembedder, Status.SWITCHED)


async def test_what_cannot_be_embedded_anew_is_refused(shelf):
    """No provider, one that is not there, no collection, and vectors that are the caller's."""
    await shelf.storage.create_collection(
        "acme", "global", "own", dimension=2, metric=Metric.COSINE
    )
    await shelf.put("acme", *numbered(0, 1))
    reembedder = shelf.reembedder
    for place, provider, reason in [
        (PLACE, "", Reason.FIELD_REQUIRED),
        (PLACE, "nobody", Reason.FIELD_INVALID),
        (PLACE, "local", Reason.FIELD_INVALID),
        (("acme", "global", "none"), "openai", Reason.COLLECTION_NOT_FOUND),
        (("initech", "global", "docs"), "openai", Reason.COLLECTION_NOT_FOUND),
        (("acme", "global", "own"), "openai", Reason.FIELD_INVALID),
    ]:
        with pytest.raises(ServiceError) as refused:
            await reembedder.start(place, provider)
        assert refused.value.reason == reason


async def test_a_write_that_meets_the_switch_is_made_anew(shelf):
    """An ingest that names no provider embeds with the new one instead of failing."""
    await shelf.put("acme", *numbered(0, 2))

    async def switch():
        await switched(shelf)

    rag = Rag(Between(shelf.storage, "upsert", switch), shelf.providers, shelf.cache)
    document = Document(text="late", document_id="l")
    await rag.ingest(*PLACE, [document], chunking=WHOLE)
    assert (await shelf.ask("acme", "late")).passages[0].text == "late"
    kept, _ = await shelf.storage.get_collection(*PLACE)
    assert kept.embedding.provider == "openai"


async def test_a_search_that_meets_the_switch_is_made_anew(shelf):
    """Vectors of the old length are not compared with new ones: the question is asked again."""
    await shelf.put("acme", *numbered(0, 3))

    async def switch():
        await switched(shelf)

    between = Between(shelf.storage, "search", switch)
    mixed = Library(between, shelf.providers, shelf.cache, shelf.server, shelf.clock)
    found = await mixed.ask("acme", "heron 2")
    assert found.passages[0].text == "heron 2"
    assert len(found.passages) == 3

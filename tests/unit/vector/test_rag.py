"""Claims about services.vector.rag, over both engines and a real provider."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.chunking import ChunkUnit, choose_chunking
from services.vector.model import (
    CollectionChanges,
    CollectionSettings,
    Condition,
    Equals,
    Mask,
    NewRecord,
)
from services.vector.rag import Document
from tests.unit.vector.documents import DIMENSION, ENGINES, library, texts

PLACE = ("acme", "global", "docs")
SMALL = choose_chunking(size=10, overlap=0)
SECOND = 10**9


@pytest.fixture(params=ENGINES)
async def shelf(request, tmp_path):
    """A library over each engine; globex has a document that acme must never see."""
    async with library(request.param, tmp_path) as made:
        await made.put("globex", Document(text="secret of globex", document_id="a"))
        yield made
        found = await made.ask("globex", "secret of globex")
        assert texts(found) == ["secret of globex"]


async def records(shelf, tenant="acme"):
    """Id and text of every record."""
    page = await shelf.storage.list_records(tenant, "global", "docs", limit=1000)
    return {record.record_id: record.text for record in page.records}


def put_changed(shelf, *documents, chunking=SMALL, **rest):
    """One message of an import."""
    return shelf.rag.ingest_changed(*PLACE, documents, chunking=chunking, **rest)


async def test_a_shorter_document_leaves_nothing_of_the_longer_one(shelf):
    """What is ingested again under an id is replaced whole."""
    await shelf.put("acme", Document(text="one two three four", document_id="a"), chunking=SMALL)
    assert len(await records(shelf)) > 1
    await shelf.put("acme", Document(text="five", document_id="a"), chunking=SMALL)
    assert await records(shelf) == {"a#0": "five"}


async def test_an_id_twice_in_a_request_is_the_last_one_alone(shelf):
    """No chunk of the first is left between those of the second."""
    both = [
        Document(text="one two three four five", document_id="a"),
        Document(text="six", document_id="a"),
    ]
    ingested = await shelf.put("acme", *both, chunking=SMALL)
    assert await records(shelf) == {"a#0": "six"}
    assert ingested.document_ids == ["a", "a"]
    assert ingested.chunk_count == 1


async def test_awkward_ids_do_not_meet(shelf):
    """No document's records are taken for another's, whatever signs their ids have."""
    names = ["a", "a#0", "a%23", "a%", "a b", "#", "a/../b", "ü", "a#", "漢"]
    await shelf.put("acme", *[Document(text=f"text {n}", document_id=n) for n in names])
    listed, cursor, _ = await shelf.rag.list_documents(*PLACE, limit=100)
    assert sorted(each.document_id for each in listed) == sorted(names)
    assert cursor is None
    for name in names:
        assert (await shelf.rag.delete(*PLACE, [name])).count == 1


async def test_documents_are_listed_page_by_page(shelf):
    """Each once, with its chunks counted and what its first chunk tells, whatever the page."""
    for n in range(7):
        text = "word " * (4 * n + 1)
        document = Document(text=text, document_id=f"d{n}", metadata={"n": n})
        await shelf.put("acme", document, chunking=SMALL)
    wanted = {f"d{n}": (2 * n + 1, {"n": n}) for n in range(7)}
    for limit in (1, 2, 7, 100):
        found, after = {}, ""
        while True:
            page, cursor, _ = await shelf.rag.list_documents(*PLACE, limit=limit, after=after)
            assert len(page) <= limit
            for each in page:
                assert each.document_id not in found
                assert each.ingest_time_ns == shelf.clock.now_ns()
                found[each.document_id] = (each.chunk_count, each.metadata)
            if cursor is None:
                break
            after = cursor
        assert found == wanted


async def test_records_that_are_no_chunks_are_not_listed(shelf):
    """What was written as vectors into the same collection does not stop the list."""
    await shelf.put("acme", Document(text="text", document_id="b"))
    vector = np.ones(DIMENSION, np.float32)
    for name in ("a", "b#x", "b~", "#", "#0", "z"):
        await shelf.storage.upsert(*PLACE, [NewRecord(record_id=name, vector=vector)])
    listed, cursor, _ = await shelf.rag.list_documents(*PLACE, limit=10)
    assert [each.document_id for each in listed] == ["b"]
    assert cursor is None


async def test_a_list_shows_what_the_caller_may_see(shelf):
    """A row filter hides documents from the list, and their chunks from the count."""
    for team in ("red", "blue"):
        await shelf.put("acme", Document(text="t", document_id=team, metadata={"team": team}))
    red = Condition("team", Equals("red"))
    listed, _, _ = await shelf.rag.list_documents(*PLACE, limit=10, where=red)
    assert [each.document_id for each in listed] == ["red"]
    assert (await shelf.rag.delete(*PLACE, ["red", "blue"], row_filter=red)).count == 1
    with pytest.raises(ServiceError) as refused:
        await shelf.put(
            "acme", Document(text="t", document_id="blue", metadata={"team": "red"}), row_filter=red
        )
    assert refused.value.reason == Reason.PERMISSION_DENIED


async def test_an_import_sent_again_writes_and_embeds_nothing(shelf):
    """Documents that are there just so are passed over, and the provider hears of none of them."""
    documents = [Document(text=f"document {n}", document_id=f"d{n}") for n in range(3)]
    first, unchanged = await put_changed(shelf, *documents[:2])
    assert (first.document_ids, unchanged) == (["d0", "d1"], 0)
    asked = len(shelf.server.requests)
    shelf.clock.advance(1)
    again, unchanged = await put_changed(shelf, *documents)
    assert (again.document_ids, unchanged) == (["d2"], 2)
    sent = [text for request in shelf.server.requests[asked:] for text in request["input"]]
    assert sent == ["document 2"]
    _, unchanged = await put_changed(shelf, *documents)
    assert unchanged == 3


@pytest.mark.parametrize(
    "change",
    [
        {"text": "one two three four"},
        {"text": "one"},
        {"metadata": {"n": True}},
        {"metadata": {"n": 1.0}},
        {"metadata": {}},
        {"metadata": {"n": 1, "m": None}},
        {"event_time_ns": 6},
        {"event_time_ns": None},
        {"ttl_ns": 1},
    ],
    ids=str,
)
async def test_any_change_is_written(shelf, change):
    """A document with other text, metadata (1 is not true) or times is not taken for unchanged."""
    same = {"text": "one two three", "document_id": "a", "metadata": {"n": 1}, "event_time_ns": 5}
    await put_changed(shelf, Document(**same))
    _, unchanged = await put_changed(shelf, Document(**same))
    assert unchanged == 1
    ingested, unchanged = await put_changed(shelf, Document(**{**same, **change}))
    assert (ingested.document_ids, unchanged) == (["a"], 0)


async def test_a_document_that_is_to_expire_is_written_again(shelf):
    """Sent without a time to live it stays, though the first one had one."""
    await put_changed(shelf, Document(text="one", document_id="a", ttl_ns=SECOND))
    _, unchanged = await put_changed(shelf, Document(text="one", document_id="a"))
    assert unchanged == 0
    shelf.clock.advance(2)
    assert await records(shelf) == {"a#0": "one"}


async def test_a_hidden_document_is_not_told_of_as_unchanged(shelf):
    """Who may not see a document learns nothing from sending the same."""
    blue = Document(text="one", document_id="a", metadata={"team": "blue"})
    await put_changed(shelf, blue)
    with pytest.raises(ServiceError) as refused:
        await put_changed(shelf, blue, row_filter=Condition("team", Equals("red")))
    assert refused.value.reason == Reason.PERMISSION_DENIED


async def test_a_failed_message_leaves_nothing(shelf):
    """One document that cannot be cut, and none of its message is there."""
    good = Document(text="one", document_id="a")
    with pytest.raises(ServiceError) as refused:
        await shelf.put("acme", good, Document(text=" ", document_id="b"))
    assert refused.value.metadata["field"] == "documents[1].text"
    with pytest.raises(ServiceError, match="chunks"):
        await shelf.put("acme", good, Document(text="ab " * 6000), chunking=choose_chunking(size=1))
    shelf.server.failures.append((400, {"error": {"message": "no"}}))
    with pytest.raises(ServiceError) as refused:
        await shelf.put("acme", good)
    assert refused.value.reason == Reason.PROVIDER_UNAVAILABLE
    assert await records(shelf) == {}


async def test_code_is_cut_by_its_language(shelf):
    """The id's end names the language where nothing else does."""
    code = "def one():\n    x = 1\n    return x\n\n\ndef two():\n    y = 2\n    return y\n"
    chunking = choose_chunking(ChunkUnit.CODE, 48)
    await shelf.put("acme", Document(text=code, document_id="a.py"), chunking=chunking)
    assert [text[:7] for text in (await records(shelf)).values()] == ["def one", "def two"]


async def test_a_collection_is_made_with_settings_and_kept(shelf):
    """The second call changes times to live alone; another provider is refused."""
    hour = 3600 * SECOND
    settings = CollectionSettings(default_ttl_ns=hour, history_window_ns=hour)
    made, _ = await shelf.rag.ensure_collection(*PLACE, provider="", settings=settings)
    assert (made.default_ttl_ns, made.history_window_ns) == (hour, hour)
    again, _ = await shelf.rag.ensure_collection(
        *PLACE, provider="", settings=CollectionSettings(default_ttl_ns=2 * hour, ttl_ns=hour)
    )
    assert (again.default_ttl_ns, again.history_window_ns) == (2 * hour, hour)
    assert again.expire_time_ns == shelf.clock.now_ns() + hour
    with pytest.raises(ServiceError) as refused:
        await shelf.rag.ensure_collection(*PLACE, provider="local", settings=CollectionSettings())
    assert refused.value.reason == Reason.EMBEDDING_MISMATCH


async def test_a_default_time_to_live_counts_for_chunks(shelf):
    """Chunks of a collection that sets one are gone when it has passed, and a session's too."""
    await shelf.put("acme", Document(text="one", document_id="a"))
    await shelf.storage.update_collection(*PLACE, CollectionChanges(default_ttl_ns=SECOND))
    await shelf.put("acme", Document(text="two", document_id="b"))
    shelf.clock.advance(2)
    assert await records(shelf) == {"a#0": "one"}
    page = await shelf.storage.list_records(*PLACE, limit=9, mask=Mask(text=False))
    assert [record.text for record in page.records] == [""]

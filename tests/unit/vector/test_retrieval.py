"""Claims about services.vector.retrieval, over both engines and real providers."""

from __future__ import annotations

import math

import pytest

from services.common.errors import Reason, ServiceError
from services.vector.model import CollectionSettings, Condition, Equals, Span
from services.vector.rag import Document
from services.vector.retrieval import Fusion
from tests.unit.vector.documents import ENGINES, library, texts

BOTH = {"dense": True, "lexical": True}
WORDS = {"dense": False, "lexical": True}
MODES = pytest.mark.parametrize("mode", [{}, WORDS, BOTH], ids=["dense", "lexical", "hybrid"])


@pytest.fixture(params=ENGINES)
async def shelf(request, tmp_path):
    """A library over each engine; globex has a text that acme must never see."""
    async with library(request.param, tmp_path) as made:
        await made.put("globex", Document(text="secret heron of globex", document_id="g"))
        yield made


def numbered(count, word="heron"):
    """Documents that share a word."""
    return [
        Document(text=f"{word} number {n}", document_id=f"d{n}", metadata={"n": n, "odd": n % 2})
        for n in range(count)
    ]


@MODES
async def test_every_mode_finds_the_text_itself_first(shelf, mode):
    """Asked with a document's own text, each mode puts it first, and never shows a neighbour's."""
    await shelf.put("acme", *numbered(5), Document(text="a blue kettle", document_id="k"))
    found = await shelf.ask("acme", "a blue kettle", **mode)
    assert found.passages[0].document_id == "k"
    assert found.passages[0].record_id == "k#0"
    assert "secret heron of globex" not in texts(await shelf.ask("acme", "heron", **mode))


async def test_a_passage_tells_how_it_was_found(shelf):
    """Hybrid passages have both scores where both looked, and the times of their record."""
    document = Document(text="a blue kettle", document_id="k", event_time_ns=5, metadata={"a": 1})
    await shelf.put("acme", document, *numbered(3))
    found = await shelf.ask("acme", "a blue kettle", **BOTH)
    first, last = found.passages[0], found.passages[-1]
    assert first.dense_score == pytest.approx(1, abs=1e-5)
    assert first.lexical_score > 0
    assert (first.event_time_ns, first.metadata) == (5, {"a": 1})
    assert first.ingest_time_ns == shelf.clock.now_ns()
    assert (last.lexical_score, last.event_time_ns) == (None, None)
    assert found.match_count == 4
    assert found.complete


@MODES
async def test_filters_and_times_bound_every_mode(shelf, mode):
    """What a filter, an event time or an ingest time leaves out is in no answer."""
    await shelf.put("acme", *numbered(6))
    await shelf.put("acme", Document(text="heron old", document_id="old", event_time_ns=10))
    odd = await shelf.ask("acme", "heron", filter=Condition("odd", Equals(1)), **mode)
    assert {each.metadata["odd"] for each in odd.passages} == {1}
    assert (len(odd.passages), odd.match_count) == (3, 3)
    old = await shelf.ask("acme", "heron", event_time=Span(start_ns=5, end_ns=11), **mode)
    assert texts(old) == ["heron old"]
    later = Span(start_ns=shelf.clock.now_ns() + 1)
    assert texts(await shelf.ask("acme", "heron", ingest_time=later, **mode)) == []


async def test_a_hybrid_answer_is_never_short(shelf):
    """As many passages as were asked for, or as match, even where words find one alone."""
    await shelf.put("acme", *numbered(8), Document(text="kettle", document_id="k"))
    assert len((await shelf.ask("acme", "kettle", limit=5, **BOTH)).passages) == 5
    assert len((await shelf.ask("acme", "kettle", limit=50, **BOTH)).passages) == 9
    assert texts(await shelf.ask("acme", "kettle", limit=50, **WORDS)) == ["kettle"]


@MODES
@pytest.mark.parametrize("limit", [1, 7, 60])
async def test_choosing_different_ones_does_not_shorten_an_answer(shelf, mode, limit):
    """With diversity there are as many passages as without (60 once became the 50 candidates)."""
    await shelf.put("acme", *numbered(70))
    found = await shelf.ask("acme", "heron", limit=limit, diversity=0.5, candidates=10, **mode)
    assert len(set(texts(found))) == limit
    first = (await shelf.ask("acme", "heron", limit=limit, **mode)).passages[0]
    assert found.passages[0].record_id == first.record_id


async def test_different_ones_are_chosen_from_the_past_too(shelf):
    """As of an earlier time, a document that is gone now takes part in the choice."""
    place = ("acme", "global", "docs")
    await shelf.rag.ensure_collection(
        *place, provider="", settings=CollectionSettings(history_window_ns=10**12)
    )
    shelf.clock.advance(1)
    await shelf.put("acme", *numbered(3))
    then = shelf.clock.now_ns()
    shelf.clock.advance(1)
    await shelf.rag.delete(*place, ["d0", "d1"])
    found = await shelf.ask("acme", "heron", as_of_ns=then, diversity=0.5)
    assert sorted(texts(found)) == ["heron number 0", "heron number 1", "heron number 2"]


async def test_equal_scores_come_in_order_of_id(shelf):
    """The same text under several ids is listed by id, whatever the mode."""
    same = [Document(text="heron", document_id=name) for name in "cab"]
    await shelf.put("acme", *same)
    for mode in ({}, WORDS, BOTH):
        found = await shelf.ask("acme", "heron", **mode)
        if mode != BOTH:
            assert [each.document_id for each in found.passages] == ["a", "b", "c"]
        again = await shelf.ask("acme", "heron", **mode)
        assert found.passages == again.passages


async def test_weights_decide_who_leads(shelf):
    """All weight on words puts the one with the words first, all on nearness the nearest."""
    await shelf.put("acme", *numbered(3), Document(text="kettle", document_id="k"))
    fusions = [
        Fusion(weighted=weighted, dense_weight=dense, lexical_weight=1 - dense)
        for weighted in (False, True)
        for dense in (0, 1)
    ]
    nearest = (await shelf.ask("acme", "kettle and heron number 1")).passages[0].record_id
    worded = (await shelf.ask("acme", "kettle and heron number 1", **WORDS)).passages[0].record_id
    found = [
        (await shelf.ask("acme", "kettle and heron number 1", fusion=fusion, **BOTH))
        for fusion in fusions
    ]
    assert [each.passages[0].record_id for each in found] == [worded, nearest, worded, nearest]


@MODES
async def test_a_threshold_is_of_the_score_that_is_shown(shelf, mode):
    """No passage has less, and none that has as much is missing."""
    await shelf.put("acme", *numbered(9))
    everything = await shelf.ask("acme", "heron number 3", **mode)
    least = everything.passages[2].score
    found = await shelf.ask("acme", "heron number 3", score_threshold=least, **mode)
    assert found.passages == [each for each in everything.passages if each.score >= least]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"fusion": Fusion(dense_weight=-1)}, "fusion"),
        ({"fusion": Fusion(dense_weight=math.nan)}, "fusion"),
        ({"fusion": Fusion(dense_weight=0, lexical_weight=0)}, "fusion"),
        ({"fusion": Fusion(rank_k=-1)}, "fusion.reciprocal_rank_k"),
        ({"diversity": 1.5}, "diversity.strength"),
        ({"diversity": math.nan}, "diversity.strength"),
        ({"candidates": -1}, "diversity.candidates"),
        ({"candidates": 1001}, "diversity.candidates"),
    ],
)
async def test_bad_settings_are_refused_by_name(shelf, wrong, field):
    """Nothing is searched, and the refusal names the field."""
    await shelf.put("acme", *numbered(1))
    with pytest.raises(ServiceError) as refused:
        await shelf.ask("acme", "heron", **wrong)
    assert (refused.value.reason, refused.value.metadata["field"]) == (
        Reason.FIELD_INVALID,
        field,
    )


@MODES
@pytest.mark.parametrize("text", ["AND (", '"', "a:b", "\\", "+-*?~^[]{}", "\U0001f600", "\0"])
async def test_no_question_is_malformed(shelf, mode, text):
    """What other engines take for syntax is text here."""
    await shelf.put("acme", *numbered(2))
    await shelf.ask("acme", text, **mode)

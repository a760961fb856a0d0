"""Claims about services.vector.engines.lexical."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vector.engines.lexical import LexicalIndex


def index_of(*texts: str) -> LexicalIndex:
    """An index of these, labelled from 0."""
    index = LexicalIndex()
    index.add(list(range(len(texts))), texts)
    return index


def found(index: LexicalIndex, text: str) -> list[int]:
    """The labels, best first."""
    return [label for label, _ in index.search(text, 100)]


def test_more_and_rarer_words_come_first():
    """The text with the rare word leads, the one with none of the words is not there."""
    index = index_of("a heron by the lake", "the lake", "the kettle", "the lake again")
    assert found(index, "heron lake")[0] == 0
    assert set(found(index, "heron lake")) == {0, 1, 3}
    assert index.search("heron lake", 1)[0][1] > index.search("heron lake", 2)[1][1] > 0


def test_words_are_found_in_their_other_forms():
    """Case, accents and English endings do not matter, and the very word is preferred."""
    index = index_of("Herons were FISHING", "naïve café", "fish")
    assert found(index, "heron") == [0]
    assert found(index, "NAIVE CAFE") == [1]
    assert found(index, "fish") == [2, 0]
    assert found(index, "fishing") == [0, 2]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("東京都に住んでいます。", "東京"),
        ("我家的猫在睡觉", "猫"),
        ("カタカナの言葉", "言葉"),
        ("ｶﾀｶﾅ", "ｶﾅ"),
        ("ฉันเรียนภาษาไทย", "ภาษา"),
        ("한국어를배웁니다", "한국어"),
        ("हिन्दी भाषा", "भाषा"),
        ("Привет, мир", "МИР"),
        ("x\U00020000\U00020001y", "\U00020000\U00020001"),
        ("id_4711-b", "4711"),
        ("a\0b", "b"),
    ],
)
def test_words_of_many_languages_are_found(text, question):
    """Also inside of runs without blanks, and a text without them is not found."""
    index = index_of("something else, 別の物, другое", text)
    assert found(index, question)[:1] == [1]


@pytest.mark.parametrize("text", ["", " ", "\0", "\U0001f600", "\"'", "()", "。、", "a" * 70_000])
def test_a_text_without_words_finds_nothing(text):
    """Neither as a question nor as a text does it do harm."""
    index = index_of(text, "heron")
    assert found(index, text) == []
    assert found(index, "heron") == [1]


@pytest.mark.parametrize(
    "text", ["AND (", "heron AND", '"heron', "heron:x^", "-heron", "NOT heron"]
)
def test_syntax_is_text(text):
    """What a query language would take for operators is words, or nothing."""
    index = index_of("heron", "kettle and not")
    assert LexicalIndex().search(text, 5) == []
    assert (0 in found(index, text)) == ("heron" in text)


@given(st.lists(st.text(), max_size=5), st.text())
def test_no_text_fails(texts, question):
    """Whatever is indexed and asked, there is an answer of known labels, best first."""
    pairs = index_of(*texts).search(question, 3)
    scores = [score for _, score in pairs]
    assert scores == sorted(scores, reverse=True)
    assert {label for label, _ in pairs} <= set(range(len(texts)))
    assert len(pairs) <= 3


def test_it_follows_by_label():
    """Texts that come later are found at once, beside the earlier ones; it says how far it is."""
    index = LexicalIndex()
    assert (index.covered, index.count) == (-1, 0)
    assert index.search("heron", 5) == []
    index.add([], [])
    index.add([3, 2**53 + 1], ["heron", "a heron"])
    assert (index.covered, index.count) == (2**53 + 1, 2)
    assert set(found(index, "heron")) == {3, 2**53 + 1}
    index.add([2**62], ["herons"])
    assert set(found(index, "heron")) == {3, 2**53 + 1, 2**62}


def test_long_texts_and_long_questions_are_taken():
    """64 KiB of text on both sides; of the question its first words count."""
    long = " ".join(f"w{n}" for n in range(11_000))
    assert found(index_of("other", long), long) == [1]


def test_statistics_are_of_one_index_alone():
    """What another index holds changes no score."""
    one = index_of("heron", "lake")
    before = one.search("heron", 2)
    index_of(*["heron"] * 500)
    assert one.search("heron", 2) == before


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's accounts")
def test_it_says_what_it_takes():
    """Ten thousand texts leave no more behind than it tells, with a little to spare."""
    index_of("warm").search("warm", 1)
    gc.collect()
    texts = [" ".join(f"w{n * 7919 % 20_011}" for n in range(m, m + 20)) for m in range(10_000)]
    before = _resident_kib()
    index = index_of(*texts)
    assert _resident_kib() - before < index.size_bytes() // 1024 + 6_000
    assert index_of("x").size_bytes() > 64 * 1024

"""Claims about services.vector.chunking and services.vector.sentences."""

from __future__ import annotations

import re
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.vector import structure
from services.vector.chunking import Chunk, Chunking, ChunkUnit, choose_chunking, chunk_text
from services.vector.sentences import sentences
from services.vector.structure import LANGUAGES

CHARACTERS, SENTENCES, TOKENS = ChunkUnit.CHARACTERS, ChunkUnit.SENTENCES, ChunkUnit.TOKENS
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def spans_of_words(text):
    """A tokenizer: words in parts of four signs, and every other sign by itself."""
    return (match.span() for match in re.finditer(r"\w{1,4}|[^\w\s]", text))


def cut(text, unit=CHARACTERS, size=0, overlap=None, chunks_max=100_000):
    """Choose and cut at once."""
    chunking = choose_chunking(unit, size, overlap)
    return chunk_text(text, chunking, token_spans=spans_of_words, chunks_max=chunks_max)


def texts(chunks: list[Chunk]) -> list[str]:
    """The chunks' texts."""
    return [chunk.text for chunk in chunks]


# What cuts turn on: spaces, line ends, sentence marks of two kinds, marks that combine, letters.
prose = st.text(st.sampled_from("aaabcZ1  \n\t..!?。」漢字e\u0301\u200d\U0001f468\U0001f1e9-'\""))
any_text = prose | st.text() | st.lists(prose, max_size=12).map(" ".join)


@st.composite
def chunkings(draw) -> Chunking:
    """Any chunking of small windows."""
    unit = draw(st.sampled_from(ChunkUnit))
    structured = unit in {ChunkUnit.MARKDOWN, ChunkUnit.CODE}
    least = 8 if unit is TOKENS else 32 if structured else 1
    size = draw(st.integers(least, 254 if unit is TOKENS else 120))
    return choose_chunking(unit, size, draw(st.integers(0, size - 1)))


@given(any_text, chunkings())
@example("a" + " " * 50 + "b", Chunking(CHARACTERS, 4, 3))
@example("aaaa bbbb cccccccccccccccc dd", Chunking(CHARACTERS, 20, 10))
@example("x" * 300 + ". " + "y" * 300, Chunking(SENTENCES, 64, 63))
def test_chunks_cover_a_text_in_order(text, chunking):
    """Every character that is not space is in a chunk; chunks are trimmed slices that move on."""
    chunks = chunk_text(text, chunking, token_spans=spans_of_words, chunks_max=100_000)
    covered = set()
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text
        if chunking.unit is not TOKENS:
            assert chunk.text == chunk.text.strip()
        covered.update(range(chunk.start, chunk.end))
    # The tokenizer decides what is a token: not each sign that is no space need be one.
    must = (
        {at for low, high in spans_of_words(text) for at in range(low, high)}
        if chunking.unit is TOKENS
        else {at for at, sign in enumerate(text) if not sign.isspace()}
    )
    assert must <= covered
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for one, other in pairwise(chunks):
        assert one.start < other.start
        assert one.end < other.end


@given(any_text, chunkings())
def test_no_chunk_is_larger_than_its_size(text, chunking):
    """Size bounds a chunk, and overlap bounds what it repeats, in the unit they are given in."""
    chunks = chunk_text(text, chunking, token_spans=spans_of_words, chunks_max=100_000)
    tokens = list(spans_of_words(text))

    def measure(start, end):
        if chunking.unit is TOKENS:
            return sum(start <= low and high <= end for low, high in tokens)
        return end - start

    for chunk in chunks:
        assert measure(chunk.start, chunk.end) <= chunking.size
    for one, other in pairwise(chunks):
        assert measure(other.start, max(one.end, other.start)) <= chunking.overlap


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
@pytest.mark.parametrize("unit", ChunkUnit)
def test_blank_text_has_no_chunks(text, unit):
    """A text of white space alone gives no chunk."""
    assert cut(text, unit) == []


@pytest.mark.parametrize("unit", ChunkUnit)
def test_a_short_text_is_one_chunk(unit):
    """What fits is kept whole, without the space around it."""
    (chunk,) = cut("  Two words. And two more.\n", unit)
    assert (chunk.text, chunk.start, chunk.end) == ("Two words. And two more.", 2, 26)


def test_defaults_follow_the_contract():
    """512 characters or 128 tokens, and an eighth of the size as overlap."""
    assert choose_chunking() == Chunking(CHARACTERS, 512, 64)
    assert choose_chunking(SENTENCES) == Chunking(SENTENCES, 512, 64)
    assert choose_chunking(TOKENS) == Chunking(TOKENS, 128, 16)
    assert choose_chunking(CHARACTERS, 100, 0) == Chunking(CHARACTERS, 100, 0)


@pytest.mark.parametrize(
    ("unit", "size", "overlap", "message"),
    [
        (CHARACTERS, -1, None, "chunking.size must be 1 to 8192 characters."),
        (CHARACTERS, 8193, None, "chunking.size must be 1 to 8192 characters."),
        (SENTENCES, 8193, None, "chunking.size must be 1 to 8192 characters."),
        (TOKENS, 7, None, "chunking.size must be 8 to 254 tokens."),
        (TOKENS, 255, None, "chunking.size must be 8 to 254 tokens."),
        (CHARACTERS, 100, 100, "chunking.overlap must be 0 to 99, below the size."),
        (TOKENS, 0, -1, "chunking.overlap must be 0 to 127, below the size."),
    ],
)
def test_a_size_out_of_range_is_refused(unit, size, overlap, message):
    """The error names the field and its limits."""
    with pytest.raises(ServiceError) as refused:
        choose_chunking(unit, size, overlap)
    assert refused.value.reason == Reason.FIELD_INVALID
    assert refused.value.message == message


def test_too_many_chunks_are_refused():
    """One chunk over the limit is an error that names it; the limit itself is not."""
    assert len(cut("ab " * 10, size=2, overlap=0, chunks_max=10)) == 10
    with pytest.raises(ServiceError) as refused:
        cut("ab " * 11, size=2, overlap=0, chunks_max=10)
    assert refused.value.reason == Reason.LIMIT_EXCEEDED
    assert refused.value.metadata == {"field": "chunks", "got": "11", "limit": "10"}


def test_windows_end_and_start_at_words():
    """No word is cut where words fit, and the overlap is made of whole words."""
    chunks = cut("one two three four five six seven", size=14, overlap=6)
    assert texts(chunks) == ["one two three", "three four", "four five six", "six seven"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aa bb" + " " * 50 + "cc", ["aa bb", "cc"]),
        ("aa bb longest dd", ["aa bb", "longest", "dd"]),
    ],
)
def test_the_overlap_gives_way_to_a_word(text, expected):
    """Where nothing whole fits beside the overlap, the next chunk begins without it."""
    assert texts(cut(text, size=7, overlap=3)) == expected


def test_a_paragraph_in_the_last_fifth_ends_a_window():
    """A blank line is preferred to a sentence's end after it, and that to a word's."""
    head = "word " * 17
    assert cut(head + "end.\n\nA b. " + "more " * 20, size=100)[0].text == head + "end."
    assert cut(head + "an end. Then " + "more " * 20, size=100)[0].text == head + "an end."
    assert cut(head + "漢字。" + "漢" * 60, size=100)[0].text == head + "漢字。"


def test_text_without_spaces_is_cut_by_size():
    """Windows of a text without spaces have exactly the size and overlap asked for."""
    chunks = cut("漢" * 25, size=10, overlap=4)
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 10), (6, 16), (12, 22), (18, 25)]


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param("e\u0301", id="combining accent"),
        pytest.param("\u0915\u094d\u0937\u093f", id="Devanagari with marks"),
        pytest.param(FAMILY, id="joined emoji"),
        pytest.param("\U0001f44d\U0001f3fd", id="skin tone"),
        pytest.param("\U0001f1e9\U0001f1ea", id="flag"),
        pytest.param("\u1112\u1161\u11ab", id="conjoining Hangul"),
    ],
)
@pytest.mark.parametrize("overlap", [0, 3])
def test_what_reads_as_one_character_is_not_parted(cluster, overlap):
    """A cut in a text without spaces leaves each cluster whole."""
    chunks = cut(cluster * 12, size=len(cluster) + 3, overlap=overlap)
    starts = range(0, len(cluster) * 12 + 1, len(cluster))
    if len(cluster) == 4:  # two Devanagari consonants: either may begin a chunk
        starts = range(0, len(cluster) * 12 + 1, 2)
    assert len(chunks) > 1
    assert {chunk.start for chunk in chunks} | {chunk.end for chunk in chunks} <= set(starts)


def test_a_pile_of_marks_is_cut_all_the_same():
    """A cluster longer than a chunk cannot be kept whole, and does not stop the work."""
    assert {len(chunk.text) for chunk in cut("e" + "\u0301" * 99, size=50, overlap=0)} == {50}


def test_sentences_are_kept_whole_and_repeated_whole():
    """Chunks hold whole sentences, and repeat those that fit into the overlap."""
    text = "One is here. Two is here. Three is here. Four is here."
    assert texts(cut(text, SENTENCES, size=28, overlap=14)) == [
        "One is here. Two is here.",
        "Two is here. Three is here.",
        "Three is here. Four is here.",
    ]
    assert texts(cut(text, SENTENCES, size=28, overlap=0)) == [
        "One is here. Two is here.",
        "Three is here. Four is here.",
    ]


def test_a_sentence_that_is_too_long_is_cut_at_words():
    """Nothing is lost of a sentence longer than a chunk, and no word is cut."""
    chunks = cut("Short. " + "word " * 40 + "end. Short.", SENTENCES, size=50)
    assert all(len(chunk.text) <= 50 for chunk in chunks)
    assert {word for chunk in chunks for word in chunk.text.split()} == {"Short.", "word", "end."}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat sat. It slept.", ["The cat sat.", "It slept."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("Dr. Smith met J. Doe. They spoke.", ["Dr. Smith met J. Doe.", "They spoke."]),
        ("Use it, e.g. Monday. Or not.", ["Use it, e.g. Monday.", "Or not."]),
        ("See Fig. 3 and No. 7. Done.", ["See Fig. 3 and No. 7.", "Done."]),
        ("So did I. We all did.", ["So did I.", "We all did."]),
        ("Pi is 3.14 or so. Yes!", ["Pi is 3.14 or so.", "Yes!"]),
        ("Apples, pears etc. are fruit.", ["Apples, pears etc. are fruit."]),
        ('"Stop!" he cried. "Why?" (So.) End', ['"Stop!" he cried.', '"Why?"', "(So.)", "End"]),
        ("Wait... What?! No…  Yes.", ["Wait...", "What?!", "No…", "Yes."]),
        ("A heading\n\nA text\nin lines.", ["A heading", "A text\nin lines."]),
        ("Prices etc.\n\nNext", ["Prices etc.", "Next"]),
        ("彼は言った。「はい。」次です！終", ["彼は言った。", "「はい。」", "次です！", "終"]),  # noqa: RUF001
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, expected):
    """Marks end sentences; dots of abbreviations, initials and numbers do not."""
    assert [text[start:end].strip() for start, end in sentences(text)] == expected


@given(any_text)
def test_sentences_are_the_whole_text(text):
    """Sentences follow each other without gap or overlap."""
    assert "".join(text[start:end] for start, end in sentences(text)) == text


def test_token_windows_keep_words_whole():
    """A window takes whole words up to its tokens and repeats whole words of the last one."""
    text = "alphabet " * 10  # two tokens each by `spans_of_words`
    chunks = cut(text, TOKENS, size=9, overlap=3)
    assert chunks[0].text == "alphabet alphabet alphabet alphabet"
    assert chunks[1].start == chunks[0].end - len("alphabet")


def test_few_tokens_do_not_make_a_huge_chunk():
    """Spaces between tokens, and a token without end, are still bounded in characters."""
    assert max(len(c.text) for c in cut(("a" + " " * 3000) * 20, TOKENS)) <= 8192
    chunking = choose_chunking(TOKENS, 64, 0)
    chunks = chunk_text("z" * 100_000, chunking, token_spans=lambda text: [(0, len(text))])
    assert max(len(chunk.text) for chunk in chunks) <= 8192
    assert "".join(texts(chunks)) == "z" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("The quick brown fox jumps. " * 40_000, id="prose"),
        pytest.param("漢字。" * 300_000, id="short sentences without spaces"),
        pytest.param("x" * 1_000_000, id="one word"),
        pytest.param("." * 1_000_000, id="dots"),
        pytest.param(".\"')" * 250_000, id="closing marks"),
        pytest.param("a" + " " * 1_000_000 + "b", id="spaces"),
        pytest.param("a" + "\n" * 1_000_000 + "b", id="line ends"),
        pytest.param(" \n" * 500_000 + "a", id="lines of spaces"),
        pytest.param("e" + "\u0301" * 1_000_000, id="marks"),
        pytest.param("\U0001f1e9" * 500_000, id="flags"),
    ],
)
@pytest.mark.parametrize("unit", [CHARACTERS, SENTENCES])
@pytest.mark.timeout(20)
def test_time_is_linear_in_the_text(text, unit):
    """A megabyte of the worst texts is cut; a quadratic cutter would meet the time limit."""
    assert cut(text, unit)


@pytest.mark.parametrize("unit", [CHARACTERS, SENTENCES])
@pytest.mark.timeout(20)
def test_the_limit_of_chunks_bounds_the_work(unit):
    """With the worst overlap the work stops at the limit instead of growing with the overlap."""
    with pytest.raises(ServiceError, match="chunks"):
        cut("漢。" * 1_000_000, unit, size=8192, overlap=8191, chunks_max=2000)


STRUCTURED = [ChunkUnit.MARKDOWN, ChunkUnit.CODE]
lines = st.lists(
    st.sampled_from(
        ["# Head", "", "  ", "def f():", "    return 1", "- item", "```", "漢字。" * 9, "a b. " * 9]
    )
    | prose,
    max_size=60,
).map("\n".join)


@given(lines | any_text.map(lambda text: text * 9), st.sampled_from(STRUCTURED), st.data())
def test_blocks_lose_nothing_and_keep_the_size(text, unit, data):
    """Texts of many blocks are covered too, in order, by pieces that fit."""
    size = data.draw(st.integers(32, 90))
    language = data.draw(st.sampled_from(["", *LANGUAGES])) if unit is ChunkUnit.CODE else ""
    chunking = choose_chunking(unit, size, data.draw(st.integers(0, size - 1)), language)
    with patch.object(structure, "BLOCK_CHARACTERS", 300):
        chunks = chunk_text(text, chunking, token_spans=spans_of_words, chunks_max=100_000)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= covered
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip()
        assert len(chunk.text) <= size
    for one, other in pairwise(chunks):
        assert one.start < other.start
        assert one.end < other.end
        assert one.end - other.start <= chunking.overlap


@pytest.mark.parametrize("unit", STRUCTURED)
@pytest.mark.parametrize("overlap", [18, 26])
def test_an_overlap_makes_no_chunk_twice(unit, overlap):
    """Pieces that differ in white space alone, or lie within the one before, are one chunk."""
    text = "    return 1\n11111111111111111\n  "
    assert texts(cut(text, unit, 32, overlap)) == [text.strip()]


def test_markdown_is_cut_at_headings():
    """A heading begins a chunk, and stays with the text below it."""
    text = "# One\n\nFirst words here.\n\n# Two\n\nSecond words here.\n"
    chunks = cut(text, ChunkUnit.MARKDOWN, 32)
    assert texts(chunks) == ["# One\n\nFirst words here.", "# Two\n\nSecond words here."]


def test_code_is_cut_between_definitions():
    """Two functions that do not fit together are two chunks, with nothing of the other."""
    text = "def one():\n    x = 1\n    return x\n\n\ndef two():\n    y = 2\n    return y\n"
    chunking = choose_chunking(ChunkUnit.CODE, 48, None, "python")
    chunks = chunk_text(text, chunking, token_spans=spans_of_words)
    assert [chunk.text.split("(")[0] for chunk in chunks] == ["def one", "def two"]


def test_a_long_file_is_cut_before_a_definition():
    """Where a block ends there is no half of a function (blocks are not seen in the chunks)."""
    text = "".join(f"def f{n}(x):\n    y = x\n\n    return y + {n}\n\n\n" for n in range(4000))
    chunking = choose_chunking(ChunkUnit.CODE, 64, None, "python")
    chunks = chunk_text(text, chunking, token_spans=spans_of_words)
    assert len(text) > 4 * structure.BLOCK_CHARACTERS
    assert all(chunk.text.startswith("def f") for chunk in chunks)
    assert len(chunks) == 4000


@pytest.mark.parametrize(
    ("named", "metadata", "document_id", "expected"),
    [
        ("go", "rust", "a.py", "go"),
        ("", "rust", "a.py", "rust"),
        ("", "klingon", "a.py", "python"),
        ("", 7, "src/a.tsx.h", "c"),
        ("", None, "a.py.txt", ""),
    ],
)
def test_a_language_is_named_told_or_seen(named, metadata, document_id, expected):
    """The request wins over metadata, and metadata that name a known one over the id's end."""
    assert structure.language_of(named, metadata, document_id) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("word " * 200_000, id="one line"),
        pytest.param("x" * 1_000_000, id="one word"),
        pytest.param("(" * 1_000_000, id="open brackets"),
        pytest.param("> " * 300_000 + "x", id="quotes in quotes"),
        pytest.param("# h\n" * 250_000, id="headings"),
        pytest.param("漢" * 200_000, id="no blanks"),
        pytest.param("def f(x):\n    return x\n\n" * 40_000, id="definitions"),
    ],
)
@pytest.mark.parametrize("unit", STRUCTURED)
@pytest.mark.timeout(20)
def test_structure_takes_time_that_is_linear_too(text, unit):
    """A megabyte of what the splitters like least: one pass over the whole took them minutes."""
    chunking = choose_chunking(unit, 512, None, "python" if unit is ChunkUnit.CODE else "")
    assert chunk_text(text, chunking, token_spans=spans_of_words)


@pytest.mark.parametrize("unit", STRUCTURED)
@pytest.mark.timeout(20)
def test_structure_is_not_cut_past_the_limit(unit):
    """The work stops at the limit of chunks."""
    with pytest.raises(ServiceError, match="chunks"):
        cut("word " * 10_000_000, unit, size=32, chunks_max=2000)

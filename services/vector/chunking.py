"""Cuts texts into chunks: windows of characters, whole sentences, or windows of tokens.

A chunk is a slice of its text without white space at its ends. Together the chunks hold every
character that is not white space; each starts after the one before it, and ends after it too.
Time is linear in the text, and nothing is computed past the limit of chunks.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from services.common.errors import field_invalid, limit_exceeded
from services.common.limits import CHUNK_CHARACTERS_MAX, CHUNKS_MAX
from services.vector.sentences import LAST_SENTENCE_END, sentences
from services.vector.structure import LANGUAGES, code_spans, markdown_spans

CHARACTERS_DEFAULT: Final = 512
TOKENS_DEFAULT: Final = 128
TOKENS_MIN: Final = 8
TOKENS_MAX: Final = 254
"""What the local model reads of a text beside its two marks (`embedding.local.TOKENS_MAX`)."""
STRUCTURED_MIN: Final = 32
"""Characters: smaller pieces of Markdown and code would be cut in the middle of words."""
OVERLAP_SHARE: Final = 8
"""The overlap is one eighth of the size where none is given."""

Span = tuple[int, int]
TokenSpans = Callable[[str], Iterable[Span]]


class ChunkUnit(StrEnum):
    """What a text is cut by."""

    CHARACTERS = "characters"
    SENTENCES = "sentences"
    TOKENS = "tokens"
    MARKDOWN = "markdown"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text."""

    text: str
    """`text[start:end]` of the whole."""
    start: int
    """Where it begins, in characters."""
    end: int
    """Where it ends, in characters; not part of it."""
    index: int
    """Its number, from 0."""


@dataclass(frozen=True, slots=True)
class Chunking:
    """How to cut: checked and complete."""

    unit: ChunkUnit
    size: int
    """Characters or tokens in a chunk at most."""
    overlap: int
    """Characters or tokens that a chunk repeats of the one before it at most."""
    language: str = ""
    """Of program text, one of `structure.LANGUAGES`; empty: not known."""


class _Piece(NamedTuple):
    """What is not cut further: a sentence, a word, or a part of one too long."""

    start: int
    end: int
    low: int
    """Where it begins in the unit that size and overlap are counted in."""
    high: int


def choose_chunking(
    unit: ChunkUnit = ChunkUnit.CHARACTERS,
    size: int = 0,
    overlap: int | None = None,
    language: str = "",
) -> Chunking:
    """Fill what is left out: size 0 means 512 characters or 128 tokens.

    An overlap that is None means an eighth of the size, and nothing for Markdown and code.

    Raises:
        ServiceError: FIELD_INVALID where size or overlap is outside its range.
    """
    by_tokens = unit is ChunkUnit.TOKENS
    structured = unit in {ChunkUnit.MARKDOWN, ChunkUnit.CODE}
    least, most = (TOKENS_MIN, TOKENS_MAX) if by_tokens else (1, CHUNK_CHARACTERS_MAX)
    least = STRUCTURED_MIN if structured else least
    size = size or (TOKENS_DEFAULT if by_tokens else CHARACTERS_DEFAULT)
    if not least <= size <= most:
        what = "tokens" if by_tokens else "characters"
        raise field_invalid("chunking.size", f"must be {least} to {most} {what}")
    if overlap is None:
        overlap = 0 if structured else size // OVERLAP_SHARE
    if not 0 <= overlap < size:
        raise field_invalid("chunking.overlap", f"must be 0 to {size - 1}, below the size")
    if language and (unit is not ChunkUnit.CODE or language not in LANGUAGES):
        raise field_invalid(
            "chunking.language", f"must be one of {', '.join(LANGUAGES)}, with the unit code"
        )
    return Chunking(unit, size, overlap, language)


def chunk_text(
    text: str, chunking: Chunking, *, token_spans: TokenSpans, chunks_max: int = CHUNKS_MAX
) -> list[Chunk]:
    """Cut a text; one of white space alone gives no chunks.

    - characters: windows that slide. A window ends at a paragraph's or a sentence's end where one
      lies in its last fifth, else at a word's end, else between two characters that do not belong
      together; it starts at a word where the overlap holds one.
    - sentences: as many whole ones as fit. One that is too long is cut as above into parts, which
      then count as sentences. As many whole ones are repeated as fit into the overlap.
    - tokens: as many whole words as fit, likewise repeated. Only a long run without spaces is cut.
      No chunk has more than 8 192 characters, however few its tokens.
    - markdown: at headings, then blocks, then sentences, as much as fits.
    - code: between definitions, then statements, as much as fits.

    Args:
        text: What to cut.
        chunking: From `choose_chunking`.
        token_spans: The embedding provider's; asked for tokens only.
        chunks_max: How many there may be.

    Raises:
        ServiceError: LIMIT_EXCEEDED where there would be more than `chunks_max`.
    """
    chunks: list[Chunk] = []
    for start, end in _spans(text, chunking, token_spans):
        if len(chunks) == chunks_max:
            raise limit_exceeded("chunks", chunks_max + 1, chunks_max)
        chunks.append(Chunk(text[start:end], start, end, len(chunks)))
    return chunks


def _spans(text: str, chunking: Chunking, token_spans: TokenSpans) -> Iterator[Span]:
    size, overlap = chunking.size, chunking.overlap
    if chunking.unit is ChunkUnit.TOKENS:
        return _pack(_words(text, size, overlap, token_spans(text)), size, overlap)
    if chunking.unit is ChunkUnit.SENTENCES:
        return _pack(_sentence_pieces(text, size, overlap), size, overlap)
    if chunking.unit is ChunkUnit.MARKDOWN:
        return markdown_spans(text, size, overlap)
    if chunking.unit is ChunkUnit.CODE:
        return code_spans(text, size, overlap, chunking.language)
    return _windows(text, (0, len(text)), size, overlap)


def _pack(pieces: Iterable[_Piece], size: int, overlap: int) -> Iterator[Span]:
    """Join neighbours as long as they fit; begin the next with those the overlap has room for."""
    held: deque[_Piece] = deque()
    for piece in pieces:
        if held and not _fits(held[0], piece, size):
            yield held[0].start, held[-1].end
            started, last = held[0].start, held[-1]
            while held and not (
                held[0].start > started
                and last.high - held[0].low <= overlap
                and _fits(held[0], piece, size)
            ):
                held.popleft()
        held.append(piece)
    if held:
        yield held[0].start, held[-1].end


def _fits(first: _Piece, last: _Piece, size: int) -> bool:
    return last.high - first.low <= size and last.end - first.start <= CHUNK_CHARACTERS_MAX


# Characters


_WORD_START = re.compile(r"\S")
_REST_OF_WORD = re.compile(r"\S*")
_LAST_WORD_END = re.compile(r".*\S(?=\s)", re.DOTALL)
_LAST_PARAGRAPH_END = re.compile(r".*\S(?=\s*\n\s*\n)", re.DOTALL)

_PREFERRED_ENDS: Final = ((_LAST_PARAGRAPH_END, 2), (LAST_SENTENCE_END, 1))
"""Best first, each with how many characters it must see after the end."""


def _windows(text: str, span: Span, size: int, overlap: int) -> Iterator[Span]:
    """Sliding windows over a part of a text."""
    start, stop = _trimmed(text, *span)
    ended = start
    while start < stop:
        latest = min(start + size, stop)
        end = stop if latest == stop else _good_end(text, start, ended, latest)
        if end is None and start < ended and text[ended].isspace():
            start = _skip_space(text, ended, stop)  # no room for a word beside the overlap
            continue
        if end is None:
            earliest = max(start, ended, latest - _CLUSTER_MAX)
            end = _whole_character(text, range(latest, earliest, -1))
        yield start, end
        if end == stop:
            return
        start, ended = _next_start(text, start, end, overlap), end


def _good_end(text: str, start: int, ended: int, latest: int) -> int | None:
    """The best end of a window, past the end of the one before it; None where all cut a word."""
    after = max(start, ended)
    last_fifth = max(after, latest - (latest - start) // 5)
    for pattern, seen in _PREFERRED_ENDS:
        if found := pattern.match(text, last_fifth, latest + seen):
            return found.end()
    found = _LAST_WORD_END.match(text, after, latest + 1)
    return found.end() if found else None


def _next_start(text: str, start: int, end: int, overlap: int) -> int:
    """The first word that begins in the overlap; where one word fills it, a part of that word.

    After a word's end no part of a word is repeated: it would say nothing.
    """
    earliest = max(end - overlap, start + 1)
    if earliest < end:
        word = earliest
        if not text[earliest - 1].isspace():
            word = _end_of(_REST_OF_WORD, text, earliest, end)
        word = _skip_space(text, word, end)
        if word < end:
            return word
        if not text[end].isspace():
            return _whole_character(text, range(earliest, min(end + 1, earliest + _CLUSTER_MAX)))
    return _skip_space(text, end, len(text))


def _trimmed(text: str, start: int, stop: int) -> Span:
    start = _skip_space(text, start, stop)
    return start, start + len(text[start:stop].rstrip())


def _skip_space(text: str, start: int, stop: int) -> int:
    found = _WORD_START.search(text, start, stop)
    return found.start() if found else stop


def _end_of(pattern: re.Pattern[str], text: str, start: int, stop: int) -> int:
    found = pattern.match(text, start, stop)
    return found.end() if found else start


# The standard library knows no grapheme clusters (UAX 29). This covers marks, joined emoji, skin
# tones, flags and conjoining Hangul.

_CLUSTER_MAX: Final = 32
_JOINER: Final = "\u200d"
_MARKS_BEGIN: Final = "\u0300"


def _whole_character(text: str, cuts: range) -> int:
    """The first of the cuts that parts nothing that belongs together; else the first of all."""
    return next((cut for cut in cuts if not _belongs_to_previous(text, cut)), cuts[0])


def _belongs_to_previous(text: str, cut: int) -> bool:
    here, before = text[cut], text[cut - 1]
    if here < _MARKS_BEGIN:
        return False
    if unicodedata.category(here).startswith("M") or _JOINER in {here, before}:
        return True
    if "\U0001f3fb" <= here <= "\U0001f3ff" or "\u1160" <= here <= "\u11ff":
        return True
    return _is_flag_half(here) and _flag_halves_before(text, cut) % 2 == 1


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flag_halves_before(text: str, cut: int) -> int:
    head = text[max(0, cut - _CLUSTER_MAX) : cut]
    return next((n for n, sign in enumerate(reversed(head)) if not _is_flag_half(sign)), len(head))


# Sentences


def _sentence_pieces(text: str, size: int, overlap: int) -> Iterator[_Piece]:
    """Sentences; those too long in parts, small enough that the overlap may hold one."""
    part = max(overlap, size // OVERLAP_SHARE, 1)
    for span in sentences(text):
        start, end = _trimmed(text, *span)
        if end - start > size:
            for low, high in _windows(text, (start, end), part, 0):
                yield _Piece(low, high, low, high)
        elif end > start:
            yield _Piece(start, end, start, end)


# Tokens


_WORD_TOKENS: Final = 8
_TOKEN_CHARACTERS_MAX: Final = 128
"""A longer token, such as a word unknown to the model, is cut and counts as several."""


def _words(text: str, size: int, overlap: int, tokens: Iterable[Span]) -> Iterator[_Piece]:
    """Tokens that touch as one piece, up to a part of the size that the overlap may hold."""
    part = max(overlap, size // OVERLAP_SHARE, _WORD_TOKENS)
    word: _Piece | None = None
    for token in _counted(text, tokens):
        if word and token.start <= word.end and _fits(word, token, part):
            word = _Piece(word.start, token.end, word.low, token.high)
            continue
        if word:
            yield word
        word = token
    if word:
        yield word


def _counted(text: str, tokens: Iterable[Span]) -> Iterator[_Piece]:
    count = 0
    for start, end in tokens:
        long = end - start > _TOKEN_CHARACTERS_MAX
        parts = _windows(text, (start, end), _TOKEN_CHARACTERS_MAX, 0) if long else [(start, end)]
        for low, high in parts:
            yield _Piece(low, high, count, count + 1)
            count += 1

"""Where sentences end: by their marks, for texts in European and East Asian languages.

Rules, no model: a dot that might be an abbreviation's does not end a sentence, for two sentences
held together do less harm to a chunk than one torn apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Written as escapes where the sign looks like another one.
_CLOSING: Final = "\"'\u201d\u2019)\\]"
_WIDE_MARKS: Final = "\u3002\uff01\uff1f\uff61"  # of Chinese and Japanese; no space follows them
_WIDE_CLOSING: Final = "\u300d\u300f\uff09\u201d\u2019"

_MARK: Final = rf"[.!?…][{_CLOSING}]*+"
_WIDE_MARK: Final = rf"[{_WIDE_MARKS}][{_WIDE_MARKS}{_WIDE_CLOSING}]*+"

LAST_SENTENCE_END: Final = re.compile(rf".*(?:{_MARK}(?=\s)|{_WIDE_MARK}(?=.))", re.DOTALL)
"""Matches up to the last mark of a part of a text that has a character after it."""

_SENTENCE_END = re.compile(
    rf"(?:{_MARK}\s++|(?P<sure>{_WIDE_MARK}|\n[^\S\n]*+\n\s*+))",
)
_LAST_WORD = re.compile(r"[\w.&-]*$")
_WORD_CHARACTERS_MAX: Final = 16

_ABBREVIATIONS: Final = frozenset(
    (
        *("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Hon", "Rev", "Gen", "Col", "Maj", "Capt"),
        *("Lt", "Sgt", "Gov", "Sen", "Rep", "Pres", "Messrs", "Mme", "Mlle", "Hr", "Fr"),
        *("e.g", "E.g", "i.e", "I.e", "cf", "Cf", "vs", "viz", "al", "bzw", "z.B", "d.h"),
        *("U.S", "U.K", "E.U", "U.N", "Ph.D", "a.m", "p.m"),
    )
)
_ABBREVIATIONS_BEFORE_NUMBERS: Final = frozenset(
    (
        *("No", "no", "Nos", "nos", "Nr", "Fig", "fig", "Figs", "figs", "Eq", "eq", "Eqs", "eqs"),
        *("Vol", "vol", "Ch", "ch", "Sec", "sec", "Sect", "Art", "art", "Ref", "ref", "Tab", "tab"),
        *("p", "pp", "ca", "approx", "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep"),
        *("Sept", "Oct", "Nov", "Dec"),
    )
)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, with the white space after it; together the whole text."""
    start = 0
    for end in _SENTENCE_END.finditer(text):
        if _ends_sentence(text, end):
            yield start, end.end()
            start = end.end()
    if start < len(text):
        yield start, len(text)


def _ends_sentence(text: str, end: re.Match[str]) -> bool:
    if end["sure"] or end[0].count("\n") > 1:
        return True
    following = text[end.end() : end.end() + 1]
    if following.islower():
        return False
    return end[0][0] != "." or not _is_abbreviation(_word_before(text, end.start()), following)


def _word_before(text: str, position: int) -> str:
    word = _LAST_WORD.search(text, max(0, position - _WORD_CHARACTERS_MAX), position)
    return word[0] if word else ""


def _is_abbreviation(word: str, following: str) -> bool:
    """Known ones, and initials such as the `J` of `J. Smith`; `I` may end a sentence."""
    if following.isdigit() and word in _ABBREVIATIONS_BEFORE_NUMBERS:
        return True
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")

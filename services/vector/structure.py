"""Where Markdown and program text may be cut: between headings, blocks, definitions, sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

Span = tuple[int, int]

BLOCK_CHARACTERS: Final = 32_768
"""A longer text is cut into blocks first; four of the largest chunks."""

LANGUAGES: dict[str, Callable[[], Any]] = {
    "c": tree_sitter_c.language,
    "go": tree_sitter_go.language,
    "java": tree_sitter_java.language,
    "javascript": tree_sitter_javascript.language,
    "python": tree_sitter_python.language,
    "rust": tree_sitter_rust.language,
    "typescript": tree_sitter_typescript.language_typescript,
}
_ENDINGS = {
    ".c": "c",
    ".h": "c",
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascript",
    ".py": "python",
    ".pyi": "python",
    ".rs": "rust",
    ".ts": "typescript",
}

_LINE_CHUNKS: Final = 4
_BLANK_LINE, _LINE, _WORD = (
    re.compile(pattern, re.DOTALL) for pattern in (r".*\n[ \t]*\n", r".*\n", r".*\s")
)
_MARKDOWN_ENDS = (re.compile(r".*\n(?=#)", re.DOTALL), _BLANK_LINE, _LINE)
_CODE_ENDS = (re.compile(r".*\n[ \t]*\n(?=[^\s})\]])", re.DOTALL), _BLANK_LINE, _LINE)
"""Best first: before a heading, or before a line that is not indented, behind a blank one."""


def language_of(named: str, metadata: object, document_id: str) -> str:
    """The language to cut by: as named, as metadata say, or by the end of the id; else none."""
    if named:
        return named
    if isinstance(metadata, str) and metadata in LANGUAGES:
        return metadata
    return next((name for end, name in _ENDINGS.items() if document_id.endswith(end)), "")


def markdown_spans(text: str, size: int, overlap: int) -> Iterator[Span]:
    """Where Markdown is cut; made as they are asked for."""
    splitter = MarkdownSplitter(size, overlap, trim=False)
    return _in_blocks(text, splitter, _MARKDOWN_ENDS, size)


def code_spans(text: str, size: int, overlap: int, language: str) -> Iterator[Span]:
    """Where program text is cut; text of no known language at its paragraphs and lines."""
    if language not in LANGUAGES:
        return _in_blocks(text, TextSplitter(size, overlap, trim=False), _CODE_ENDS, size)
    splitter = CodeSplitter(LANGUAGES[language](), size, overlap, trim=False)
    return _in_blocks(text, splitter, _CODE_ENDS, size)


def _in_blocks(
    text: str, splitter: Any, ends: Sequence[re.Pattern[str]], size: int
) -> Iterator[Span]:
    """Spans of one block after the other, without white space at their ends.

    The splitters take time that grows with the square of a text: of one of 4 MiB, minutes.
    """
    start, last = 0, (-1, 0)
    while start < len(text):
        end = _block_end(text, start, ends, size)
        for offset, piece in splitter.chunk_indices(text[start:end]):
            span = _beyond(text, last, start + offset, start + offset + len(piece))
            if span is not None:
                yield span
                last = span
        start = end


def _beyond(text: str, last: Span, start: int, end: int) -> Span | None:
    """A span without white space at its ends; None where the last one holds all of it.

    With an overlap, two that differ in white space alone would be the same chunk twice.
    """
    piece = text[start:end]
    low, high = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    if high <= max(low, last[1]):
        return None
    if low <= last[0]:
        rest = text[last[1] : high]
        low = high - len(rest.lstrip())
    return low, high


def _block_end(text: str, start: int, ends: Sequence[re.Pattern[str]], size: int) -> int:
    """The last of the best ends in the second half of what a block may hold."""
    left = len(text) - start
    in_lines = left <= BLOCK_CHARACTERS and text.find("\n", start) >= 0
    if in_lines or left <= max(BLOCK_CHARACTERS // 4, _LINE_CHUNKS * size):
        return len(text)
    latest = start + BLOCK_CHARACTERS
    for pattern in ends:
        if found := pattern.match(text, start + BLOCK_CHARACTERS // 2, latest):
            return found.end()
    # One long line has no structure to lose, and takes the splitters longest.
    latest = start + _LINE_CHUNKS * size
    found = _WORD.match(text, latest - size // 2, latest)
    return found.end() if found else latest

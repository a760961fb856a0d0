"""Where Markdown and program text may be cut: between headings, blocks, definitions, sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

Span = tuple[int, int]

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


def language_of(named: str, metadata: object, document_id: str) -> str:
    """The language to cut by: as named, as metadata say, or by the end of the id; else none."""
    if named:
        return named
    if isinstance(metadata, str) and metadata in LANGUAGES:
        return metadata
    return next((name for end, name in _ENDINGS.items() if document_id.endswith(end)), "")


def markdown_spans(text: str, size: int, overlap: int) -> Iterator[Span]:
    """Where Markdown is cut."""
    return _trimmed(text, MarkdownSplitter(size, overlap, trim=False))


def code_spans(text: str, size: int, overlap: int, language: str) -> Iterator[Span]:
    """Where program text is cut; text of no known language at its paragraphs and lines."""
    if language not in LANGUAGES:
        return _trimmed(text, TextSplitter(size, overlap, trim=False))
    splitter = CodeSplitter(LANGUAGES[language](), size, overlap, trim=False)
    return _trimmed(text, splitter)


def _trimmed(text: str, splitter: Any) -> Iterator[Span]:
    """Spans without white space at their ends; what is nothing but that is left out."""
    for start, piece in splitter.chunk_indices(text):
        left = len(piece) - len(piece.lstrip())
        kept = len(piece.strip())
        if kept:
            yield start + left, start + left + kept

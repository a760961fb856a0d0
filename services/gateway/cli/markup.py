"""What a document says and what it is called: HTML as text, titles of Markdown and reST."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "template", "noscript", "svg", "title"})
_BLOCK_NAMES = """
address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure
footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section summary table tbody td
tfoot th thead tr ul
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_BLANKS = re.compile(r"[ \t\r\f\v\n]+")
_MARKDOWN_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_REST_HEADING = re.compile(r"^(\S.*)\n([=\-~^\"'#*+])\2{2,}[ \t]*$", re.MULTILINE)
_TITLE_LENGTH_MAX = 200


class _Reader(HTMLParser):
    """Collects text; what a browser does not show is left out, blocks begin new lines."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._parts: list[str] = []
        self._silent: list[str] = []
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag in _BLOCKS:
            self._break()
        self._preformatted += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _BLOCKS:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            # An unclosed element ends with the one around it.
            del self._silent[self._silent.index(tag) :]
        elif tag in _BLOCKS:
            self._break()
        if tag == "pre" and self._preformatted:
            self._preformatted -= 1

    def handle_data(self, data: str) -> None:
        if self._silent:
            if self._silent == ["title"]:
                self.title += data
        elif self._preformatted:
            self._parts.append(data)
        else:
            self._parts.append(_BLANKS.sub(" ", data))

    def text(self) -> str:
        """What was collected, without empty lines in a row."""
        lines = [line.rstrip() for line in "".join(self._parts).split("\n")]
        lines = [line if line.startswith("  ") else line.strip() for line in lines]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _break(self) -> None:
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")


def html_to_text(markup: str) -> tuple[str, str]:
    """The title and the text of an HTML page; broken markup is read as a browser would."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return _one_line(reader.title), reader.text()


def heading(text: str, suffix: str) -> str:
    """The first heading of a Markdown (`.md`) or reST (`.rst`) text; empty where there is none."""
    pattern = {".md": _MARKDOWN_HEADING, ".rst": _REST_HEADING}.get(suffix)
    found = pattern.search(text) if pattern else None
    return _one_line(found.group(1)) if found else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_TITLE_LENGTH_MAX]

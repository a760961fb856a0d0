"""The tables of docs/reference/lua.md, from what stands above each function in the Lua files.

In a Lua file, a line that begins with `--|` is the name of a row, as Markdown, and the lines with
`---` under it are its text. The page has a place for each global, `<!-- lua: RAG -->` to
`<!-- end -->`; all else on it is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from services.runtime.worker import vm

_PARTS = Path(vm.__file__).parent / "lua"
_PLACE = re.compile(r"<!-- lua: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_OWNER = re.compile(r"`(\w+)")


def filled(text: str) -> str:
    """The page with its tables written again."""
    tables: dict[str, list[str]] = {}
    for part in vm.PARTS:
        for name, meaning in _rows((_PARTS / f"{part}.lua").read_text("utf-8")):
            owner = _OWNER.search(name)
            assert owner is not None, f"{part}.lua: {name} names no function"
            tables.setdefault(owner[1], []).append(f"| {name} | {meaning} |")
    places = _PLACE.findall(text)
    assert set(places) == set(tables), f"no place for {set(tables) ^ set(places)}"
    return _PLACE.sub(lambda place: _table(place[1], tables[place[1]]), text)


def _table(owner: str, rows: list[str]) -> str:
    lines = [f"<!-- lua: {owner} -->", "", "| function | |", "|---|---|", *rows, ""]
    return "\n".join([*lines, "<!-- end -->"])


def _rows(source: str) -> Iterator[tuple[str, str]]:
    """Names and texts of one Lua file."""
    names: list[str] = []
    words: list[str] = []
    for line in [*source.splitlines(), ""]:
        if line.startswith("--|"):
            names.append(line.removeprefix("--|").strip())
        elif line.startswith("---") and names:
            words.append(line.removeprefix("---").strip())
        elif names:
            # A Lua file names a page from the root, as all code does.
            yield " ".join(names), " ".join(words).replace("](docs/", "](../")
            names, words = [], []

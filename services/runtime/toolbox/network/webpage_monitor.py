"""webpage-monitor: a page's text now, and how it differs from what it was."""

from __future__ import annotations

import difflib
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.network import calling, pages, url
from services.runtime.toolbox.network.http import Http, Response

TEXT_LENGTH_MAX = MIB // 4
CHANGES_MAX = 1000


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    previous = arguments.get("previous_content")
    if previous is not None and len(previous) > TEXT_LENGTH_MAX:
        raise limit_exceeded("previous_content", len(previous), TEXT_LENGTH_MAX, "characters")
    http = Http(desk, timeout_s=arguments["timeout"])
    response = pages.page(http, url.parse(arguments["input"]))
    selector = arguments.get("selector")
    current = _content(response, selector)[:TEXT_LENGTH_MAX]
    squeeze = arguments["ignore_whitespace"]
    changes = [] if previous is None else _changes(previous, current, squeeze=squeeze)
    result = {
        "url": str(response.url),
        "current_content": current,
        "previous_content": previous,
        "has_changes": bool(changes),
        "changes": changes[:CHANGES_MAX],
        "change_count": len(changes),
        "selector_used": selector,
        "ignore_whitespace": squeeze,
    }
    message = f"{len(changes)} changes" if previous is not None else "Read for the first time"
    return Outcome(operation="monitor", result=result, message=message)


def _content(response: Response, selector: str | None) -> str:
    tree = pages.parsed(response)
    if selector is None:
        return "\n".join(pages.lines_of(tree))
    nodes = pages.selected(tree, selector, "selector")
    return "\n".join(filter(None, map(pages.text_of, nodes)))


def _changes(previous: str, current: str, *, squeeze: bool) -> list[dict[str, Any]]:
    """A line for each; one that was replaced is a modification of the one in its place."""
    before, now = (_lines(text, squeeze=squeeze) for text in (previous, current))
    found: list[dict[str, Any]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, now).get_opcodes():
        if kind == "equal":
            continue
        both = min(b - a, d - c)
        found += [
            {
                "type": "modification",
                "old_line": a + i + 1,
                "new_line": c + i + 1,
                "old_content": before[a + i],
                "content": now[c + i],
            }
            for i in range(both)
        ]
        found += [_one("deletion", "old_line", i, before) for i in range(a + both, b)]
        found += [_one("addition", "new_line", i, now) for i in range(c + both, d)]
    return found


def _one(kind: str, side: str, index: int, lines: list[str]) -> dict[str, Any]:
    return {"type": kind, side: index + 1, "content": lines[index]}


def _lines(text: str, *, squeeze: bool) -> list[str]:
    if not squeeze:
        return text.splitlines()
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


TOOLS = (
    Tool(
        name="webpage-monitor",
        description="Reads a web page's text and tells how it differs from an earlier one.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input=calling.URL,
            previous_content={
                "type": "string",
                "description": "`current_content` of the time before; without it nothing has "
                "changed.",
            },
            selector={"type": "string", "description": "CSS selector of the part to watch."},
            ignore_whitespace={
                "type": "boolean",
                "default": True,
                "description": "Whether spaces and empty lines do not count.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "url": {"description": "The page, after redirects.", "type": "string"},
                "current_content": {"description": "Its text now.", "type": "string"},
                "previous_content": {
                    "description": "Its text before, as given.",
                    "type": ["string", "null"],
                },
                "has_changes": {"description": "Whether they differ.", "type": "boolean"},
                "changes": {
                    "description": "Each with its `type`: deletion, addition or modification.",
                    "type": "array",
                    "items": {"type": "object"},
                },
                "change_count": {"description": "How many there are.", "type": "integer"},
                "selector_used": {
                    "description": "The selector that was given.",
                    "type": ["string", "null"],
                },
                "ignore_whitespace": {
                    "description": "Whether spaces did not count.",
                    "type": "boolean",
                },
            },
            "required": ["url", "current_content", "has_changes", "changes", "change_count"],
        },
        notes="At most 1000 changes are listed; `change_count` counts all. Lines begin at 1.",
        run=_run,
    ),
)

"""diff-calculator: what differs between two texts, files or JSON values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from services.runtime.toolbox import json_text
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    field_invalid,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.schema import anything, choice, listing, mapping, record, text, whole

BYTES_MAX = 4 * MIB
LINES_MAX = 50_000
RESULT_BYTES_MAX = 1_500_000
_CONTEXT_LINES = 3

Lines = list[str]


def _unified(old: Lines, new: Lines, names: tuple[str, str]) -> Iterable[str]:
    return difflib.unified_diff(old, new, *names, n=_CONTEXT_LINES, lineterm="")


def _context(old: Lines, new: Lines, names: tuple[str, str]) -> Iterable[str]:
    return difflib.context_diff(old, new, *names, n=_CONTEXT_LINES, lineterm="")


def _inline(old: Lines, new: Lines, _: tuple[str, str]) -> Iterable[str]:
    """Every line, with a sign before those that go and those that come."""
    for sign, line in _steps(old, new):
        yield f"{sign} {line}"


def _simple(old: Lines, new: Lines, _: tuple[str, str]) -> Iterable[str]:
    """Only the lines that go and those that come."""
    for sign, line in _steps(old, new):
        if sign != " ":
            yield f"{sign} {line}"


def _steps(old: Lines, new: Lines) -> Iterable[tuple[str, str]]:
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if tag == "equal":
            yield from ((" ", line) for line in old[i1:i2])
        else:
            yield from (("-", line) for line in old[i1:i2])
            yield from (("+", line) for line in new[j1:j2])


_FORMATS: dict[str, Callable[[Lines, Lines, tuple[str, str]], Iterable[str]]] = {
    "unified": _unified,
    "context": _context,
    "inline": _inline,
    "simple": _simple,
}


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    named = any(f"{side}_json" in arguments for side in ("old", "new"))
    kind = arguments.get("type") or ("json" if named else "text")
    result = _json_diff(arguments, desk) if kind == "json" else _text_diff(arguments, desk)
    return Outcome(operation="diff", result=result, message=f"Compared as {kind}")


def _given(arguments: Arguments, desk: Desk, side: str, kind: str) -> Any:
    """The value itself, or a file's text."""
    field, file_field = f"{side}_{kind}", f"{side}_file"
    if (field in arguments) == (file_field in arguments):
        if field not in arguments:
            raise ToolError("FIELD_REQUIRED", f"{field} or {file_field} must be set.", field=field)
        raise field_invalid(field, f"or {file_field} must be set, and not both")
    if field in arguments:
        return arguments[field]
    data = desk.folder.read(arguments[file_field], field=file_field, limit=BYTES_MAX)
    return data.decode(errors="replace")


def _text_diff(arguments: Arguments, desk: Desk) -> dict[str, Any]:
    sides = {}
    for side in ("old", "new"):
        source = str(_given(arguments, desk, side, "text"))
        if len(source.encode()) > BYTES_MAX:
            raise limit_exceeded(f"{side}_text", len(source.encode()), BYTES_MAX, "bytes")
        sides[side] = source.splitlines()
        if len(sides[side]) > LINES_MAX:
            raise limit_exceeded(f"{side}_text", len(sides[side]), LINES_MAX, "lines")
    names = (arguments.get("old_file", "old"), arguments.get("new_file", "new"))
    shape = arguments["format"]
    return {
        "type": "text",
        "format": shape,
        "diff": _bounded(_FORMATS[shape](sides["old"], sides["new"], names)),
        "stats": _stats(sides["old"], sides["new"]),
    }


def _bounded(lines: Iterable[str]) -> str:
    size, kept = 0, []
    for line in lines:
        size += len(line.encode()) + 1
        if size > RESULT_BYTES_MAX:
            raise limit_exceeded("result", size, RESULT_BYTES_MAX, "bytes")
        kept.append(line + "\n")
    return "".join(kept)


def _stats(old: Lines, new: Lines) -> dict[str, int]:
    signs = [sign for sign, _ in _steps(old, new)]
    return {
        "old_lines": len(old),
        "new_lines": len(new),
        "added": signs.count("+"),
        "removed": signs.count("-"),
    }


def _json_diff(arguments: Arguments, desk: Desk) -> dict[str, Any]:
    old, new = (
        json_text.given(_given(arguments, desk, side, "json"), field=f"{side}_json")
        for side in ("old", "new")
    )
    diff: dict[str, Any] = {"added": {}, "removed": {}, "modified": {}, "unchanged": []}
    _compare(old, new, "", diff)
    return {
        "type": "json",
        "diff": diff,
        "summary": {kind: len(found) for kind, found in diff.items()},
    }


def _compare(old: Any, new: Any, place: str, diff: dict[str, Any]) -> None:
    """What differs, by place, such as `users[0].name`; the value itself is `$`."""
    inner = _inner_places(old, new, place)
    if inner is not None:
        for known_old, known_new, where in inner:
            if known_new is _ABSENT:
                diff["removed"][where] = known_old
            elif known_old is _ABSENT:
                diff["added"][where] = known_new
            else:
                _compare(known_old, known_new, where, diff)
    elif old == new and isinstance(old, bool) == isinstance(new, bool):
        diff["unchanged"].append(place or "$")
    else:
        diff["modified"][place or "$"] = {"old": old, "new": new}


_ABSENT = object()


def _inner_places(old: Any, new: Any, place: str) -> list[tuple[Any, Any, str]] | None:
    """Parts that two objects or two lists have; None where they are none, or empty."""
    if isinstance(old, dict) and isinstance(new, dict) and (old or new):
        names = dict.fromkeys((*old, *new))
        return [
            (old.get(name, _ABSENT), new.get(name, _ABSENT), f"{place}.{name}" if place else name)
            for name in names
        ]
    if isinstance(old, list) and isinstance(new, list) and (old or new):
        return [
            (
                old[at] if at < len(old) else _ABSENT,
                new[at] if at < len(new) else _ABSENT,
                f"{place}[{at}]",
            )
            for at in range(max(len(old), len(new)))
        ]
    return None


TOOLS = (
    Tool(
        name="diff-calculator",
        description="Tells what differs between two texts, files or JSON values.",
        category="utility",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        synonyms={
            "old": "old_text",
            "new": "new_text",
            "text1": "old_text",
            "text2": "new_text",
            "file1": "old_file",
            "file2": "new_file",
        },
        parameters=parameters(
            (),
            type=choice(
                "What is compared; default text, json where old_json is set.", "text", "json"
            ),
            old_text=text("The text before."),
            new_text=text("The text after."),
            old_json=anything("The value before, or a JSON text."),
            new_json=anything("The value after, or a JSON text."),
            old_file=text("File that holds what was before."),
            new_file=text("File that holds what is after."),
            format=choice("text: how the difference is written.", *_FORMATS, default="unified"),
        ),
        result=record(
            "",
            ("type", "diff"),
            type=text("What was compared."),
            format=text("text: how it is written."),
            diff={
                "description": "text: the difference. json: what is added, removed, modified and "
                "unchanged, by place.",
                "anyOf": [
                    {"type": "string"},
                    record(
                        "",
                        ("added", "removed", "modified", "unchanged"),
                        added=mapping("New values.", anything("One.")),
                        removed=mapping("Values that went.", anything("One.")),
                        modified=mapping(
                            "Both values.",
                            record("", ("old", "new"), old=anything("Old."), new=anything("New.")),
                        ),
                        unchanged=listing("Places of what stayed.", text("One.")),
                    ),
                ],
            },
            stats=mapping("text: old_lines, new_lines, added, removed.", whole("A count.")),
            summary=mapping("json: how many of each.", whole("A count.")),
        ),
        notes=f"Texts of at most {BYTES_MAX // MIB} MiB and {LINES_MAX} lines.",
        run=_run,
    ),
)

"""regex-matcher: finds, replaces and splits by a regular expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.runtime.toolbox import patterns
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    limit_exceeded,
    parameters,
    required,
)
from services.runtime.toolbox.schema import anything, choice, flag, listing, mapping, record, text
from services.runtime.toolbox.schema import whole as integer

MATCHES_MAX = 10_000
RESULT_BYTES_MAX = 1_500_000


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation = arguments["operation"]
    found = patterns.compiled(arguments["pattern"], arguments["flags"], field="pattern")
    result = _OPERATIONS[operation](found, arguments["input"], arguments)
    return Outcome(operation=operation, result=result)


def _match(found: Any, source: str, arguments: Arguments) -> dict[str, Any]:
    match = found.fullmatch(source) if arguments["full"] else found.search(source)
    told = {} if match is None else _told(match, found)
    return {"matched": match is not None, **told}


def _told(match: Any, found: Any) -> dict[str, Any]:
    groups = list(match.groups())
    return {
        "match": match.group(),
        "start": match.start(),
        "end": match.end(),
        "groups": groups,
        "named_groups": {name: groups[at - 1] for name, at in found.groupindex.items()},
    }


def _find_all(found: Any, source: str, arguments: Arguments) -> dict[str, Any]:
    most = int(arguments["limit"])
    matches: list[dict[str, Any]] = []
    size = 0
    for match in patterns.matches(found, source):
        if len(matches) == most:
            return {"matches": matches, "count": len(matches), "truncated": True}
        matches.append(_told(match, found))
        size += sum(len(text.encode()) for text in (match.group(), *match.groups()) if text)
        if size > RESULT_BYTES_MAX:
            raise limit_exceeded("result", size, RESULT_BYTES_MAX, "bytes")
    return {"matches": matches, "count": len(matches), "truncated": False}


def _replace(found: Any, source: str, arguments: Arguments) -> dict[str, Any]:
    replacement = patterns.replacement(found, required(arguments, "replacement"))
    pieces: list[str] = []
    end, size, count = 0, 0, 0
    for match in patterns.matches(found, source):
        if count == int(arguments["limit"]):
            break
        pieces += (source[end : match.start()], replacement(match))
        size += len(pieces[-1].encode())
        if size > RESULT_BYTES_MAX:
            raise limit_exceeded("result", size, RESULT_BYTES_MAX, "bytes")
        end = match.end()
        count += 1
    return {"result": "".join(pieces) + source[end:], "count": count}


def _split(found: Any, source: str, arguments: Arguments) -> dict[str, Any]:
    parts: list[str] = []
    end = 0
    for match in patterns.matches(found, source):
        if len(parts) == int(arguments["limit"]) - 1:
            break
        if match.end() > match.start():
            parts.append(source[end : match.start()])
            end = match.end()
    parts.append(source[end:])
    return {"parts": parts, "count": len(parts)}


def _groups(found: Any, _: str, __: Arguments) -> dict[str, Any]:
    return {"count": found.groups, "names": dict(found.groupindex)}


_OPERATIONS: dict[str, Callable[[Any, str, Arguments], dict[str, Any]]] = {
    "match": _match,
    "find_all": _find_all,
    "replace": _replace,
    "split": _split,
    "groups": _groups,
}
_GROUPS = listing("What each group holds; null where it took no part.", anything("Text or null."))
_NAMED = mapping("The same by name.", anything("Text or null."))
_MATCH = {
    "match": text("What matches."),
    "start": integer("Its first letter, from 0."),
    "end": integer("The letter after its last."),
    "groups": _GROUPS,
    "named_groups": _NAMED,
}

TOOLS = (
    Tool(
        name="regex-matcher",
        description="Matches, finds, replaces and splits text by a regular expression.",
        category="utility",
        level=Level.SAFE,
        synonyms={
            "text": "input",
            "content": "input",
            "data": "input",
            "regex": "pattern",
            "replace_with": "replacement",
            "max_matches": "limit",
        },
        parameters=parameters(
            ("pattern",),
            operation=choice("What to do.", *_OPERATIONS, default="match"),
            pattern=text("The expression, as RE2 writes it, such as `(?P<year>[0-9]{4})`."),
            input=text("The text.", default=""),
            flags=text(
                "Letters: i ignores case, m lets ^ and $ match at lines, s lets . match newlines.",
                pattern="^[ims]*$",
                default="",
            ),
            full=flag("match: whether all of the text must match.", default=False),
            replacement=text(r"replace: what to put there; \1 or \g<name> is a group."),
            limit=integer(
                "Matches to find, replace, or parts to make; at most this many.",
                minimum=1,
                maximum=MATCHES_MAX,
                default=MATCHES_MAX,
            ),
        ),
        result=record(
            "",
            (),
            matched=flag("match: whether there is one."),
            **_MATCH,
            matches=listing("find_all: each.", record("", tuple(_MATCH), **_MATCH)),
            count=integer("How many matches, replacements, parts or groups."),
            truncated=flag("find_all: whether there are more."),
            result=text("replace: the text."),
            parts=listing("split: the parts.", text("One.")),
            names=mapping("groups: number by name.", integer("From 1.")),
        ),
        notes="RE2 takes linear time, so look-around and back references are refused. Positions "
        "count letters, not bytes.",
        run=_run,
    ),
)

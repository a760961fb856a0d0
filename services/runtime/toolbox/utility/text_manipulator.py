"""text-manipulator: one step on a text. Lengths and positions are bytes of UTF-8."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from services.runtime.toolbox import json_text
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    field_invalid,
    field_required,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.schema import choice, record, text, whole

WIDTH_MAX = 1_000
RESULT_BYTES_MAX = 2_000_000

_ELLIPSIS = "..."
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|[\W_]+")

Options = Mapping[str, Any]


def _words(source: str) -> list[str]:
    """`HTTPServer two` is HTTP, Server, two."""
    return [word for word in _BETWEEN_WORDS.split(source) if word]


def _camel(source: str) -> str:
    pascal = _pascal(source)
    first = _words(source)[:1]
    return first[0].lower() + pascal[len(first[0]) :] if first else ""


def _pascal(source: str) -> str:
    return "".join(word[:1].upper() + word[1:].lower() for word in _words(source))


def _required(options: Options, *names: str) -> list[Any]:
    for name in names:
        if name not in options:
            field = f"options.{name}"
            raise field_required(field)
    return [options[name] for name in names]


def _replace(source: str, options: Options) -> str:
    old, new = _required(options, "from", "to")
    if not old:
        raise field_invalid("options.from", "must not be empty")
    size = len(source.encode()) + source.count(old) * (len(new.encode()) - len(old.encode()))
    _check_size(size)
    return source.replace(old, new)


def _substring(source: str, options: Options) -> str:
    start, end = _required(options, "start", "end")
    data = source.encode()
    if end > len(data):
        return ""
    try:
        return data[int(start) : int(end)].decode()
    except UnicodeDecodeError:
        return ""


def _split(source: str, options: Options) -> str:
    delimiter = options.get("delimiter", " ")
    parts = source.split(delimiter) if delimiter else list(source)
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def _join(source: str, options: Options) -> str:
    parts = json_text.parse(source, field="input")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise field_invalid("input", "must be a JSON array of strings, or a list of them")
    delimiter = options.get("delimiter", " ")
    _check_size(len(source.encode()) + len(delimiter.encode()) * len(parts))
    return str(delimiter.join(parts))


def _sanitize(source: str, _: Options) -> str:
    return "".join(sign for sign in source.strip(" ") if " " <= sign <= "~" or sign in "\n\t")


def _truncate(source: str, options: Options) -> str:
    most = int(options.get("max_length", 100))
    data = source.encode()
    if len(data) <= most:
        return source
    if most <= len(_ELLIPSIS):
        return _ELLIPSIS[:most]
    return data[: most - len(_ELLIPSIS)].decode(errors="ignore") + _ELLIPSIS


def _indent(source: str, options: Options) -> str:
    spaces = int(options.get("spaces", 4))
    _check_size(len(source.encode()) + (source.count("\n") + 1) * spaces)
    return textwrap.indent(source, " " * spaces, lambda _: True)


def _word_wrap(source: str, options: Options) -> str:
    width = int(options.get("width", 80))
    lines = source.split("\n")
    return "\n".join(
        line if len(line) <= width else textwrap.fill(line, width, break_on_hyphens=False)
        for line in lines
    )


def _count(source: str, options: Options) -> int:
    match options.get("count_type", "words"):
        case "words":
            return len(source.split())
        case "lines":
            return len(source.splitlines())
        case "chars":
            return len(source)
        case _:
            return len(source.encode())


_OPERATIONS: dict[str, Callable[[str, Options], str | int]] = {
    "uppercase": lambda source, _: source.upper(),
    "lowercase": lambda source, _: source.lower(),
    "reverse": lambda source, _: source[::-1],
    "trim": lambda source, _: source.strip(),
    "replace": _replace,
    "substring": _substring,
    "split": _split,
    "join": _join,
    "snake_case": lambda source, _: "_".join(_words(source)).lower(),
    "camel_case": lambda source, _: _camel(source),
    "pascal_case": lambda source, _: _pascal(source),
    "sanitize": _sanitize,
    "truncate": _truncate,
    "indent": _indent,
    "dedent": lambda source, _: textwrap.dedent(source),
    "normalize_whitespace": lambda source, _: " ".join(source.split()),
    "word_wrap": _word_wrap,
    "count": _count,
}


def _check_size(size: int) -> None:
    if size > RESULT_BYTES_MAX:
        raise limit_exceeded("result", size, RESULT_BYTES_MAX, "bytes")


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation, given = arguments["operation"], arguments["input"]
    # A list saves `join` its caller's encoding.
    source = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    result = _OPERATIONS[operation](source, arguments["options"])
    return Outcome(
        operation=operation,
        message=f"Text {operation} operation completed",
        result={
            "result": result,
            "operation": operation,
            "original_length": len(source.encode()),
            "result_length": len(str(result).encode()),
        },
    )


_OPTIONS = record(
    "What the operation needs.",
    (),
    **{
        "from": text("replace: what to look for."),
        "to": text("replace: what to put there."),
        "start": whole("substring: first byte, from 0.", minimum=0),
        "end": whole("substring: byte after the last.", minimum=0),
        "delimiter": text("split and join: what stands between the parts; default a blank."),
        "max_length": whole("truncate: bytes, `...` counted; default 100.", minimum=0),
        "spaces": whole(
            "indent: blanks before each line; default 4.", minimum=0, maximum=WIDTH_MAX
        ),
        "width": whole("word_wrap: letters in a line; default 80.", minimum=1, maximum=WIDTH_MAX),
        "count_type": choice("count: of what; default words.", "words", "chars", "lines", "bytes"),
    },
)

TOOLS = (
    Tool(
        name="text-manipulator",
        description="Changes a text: case, parts, white space, width, and counts.",
        category="utility",
        level=Level.SAFE,
        synonyms={"text": "input", "content": "input", "data": "input", "string": "input"},
        parameters=parameters(
            ("operation", "input"),
            operation=choice("What to do.", *_OPERATIONS),
            input={
                "type": ["string", "array"],
                "items": {"type": "string"},
                "description": "The text; for join a JSON array of strings, or a list.",
            },
            options={**_OPTIONS, "default": {}},
        ),
        result=record(
            "",
            ("result", "operation", "original_length", "result_length"),
            result={
                "type": ["string", "integer"],
                "description": "The text; of split a JSON array of strings, of count a number.",
            },
            operation=text("What was done."),
            original_length=whole("Bytes of the input."),
            result_length=whole("Bytes of the result."),
        ),
        notes="Lengths and positions are bytes of UTF-8. A substring that is out of range, or cuts "
        "a letter, is empty.",
        run=_run,
    ),
)

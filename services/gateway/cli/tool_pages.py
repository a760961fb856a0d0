"""How a tool and what came of one are set out for people."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from services.gateway.cli.output import (
    say,
    show_error,
    show_json,
    show_line,
    show_raw,
    show_table,
    to_plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell.types import Tool, ToolResult

_LINE_LENGTH_MAX = 120
_COLUMNS_MAX = 6


# ---- a tool


def show_tool(tool: Tool) -> None:
    """All that is known of a tool."""
    show_line(f"{tool.name} {tool.version}: {tool.description}")
    show_line(f"category {tool.category}, level {tool.level}")
    if tool.old_names:
        show_line(f"also known as {', '.join(tool.old_names)}")
    if tool.unavailable:
        show_line(f"not here: {tool.unavailable}")
    show_line("\nparameters")
    rows = parameter_rows(tool.parameters)
    show_table(["name", "type", "default", "meaning"], rows)
    fields = result_rows(tool.result)
    if fields:
        show_line("\nresult")
        show_table(["name", "type", "meaning"], fields)
    if tool.notes:
        show_line(f"\n{tool.notes}")
    show_line(f"\nllmspell tool exec {tool.name} {' '.join(example(tool.parameters))}".rstrip())


def parameter_rows(schema: Mapping[str, Any]) -> list[list[str]]:
    """Name, type, default and meaning of each parameter; those that must be given come first."""
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    names = [*required, *(name for name in properties if name not in required)]
    return [_row(name, properties[name], must=name in required) for name in names]


def _row(name: str, rule: Mapping[str, Any], *, must: bool) -> list[str]:
    default = json.dumps(rule["default"], ensure_ascii=False) if "default" in rule else ""
    return [name, type_words(rule), "must be given" if must else default, meaning(rule)]


def result_rows(schema: Mapping[str, Any]) -> list[list[str]]:
    """Name, type and meaning of each field of a result."""
    properties = schema.get("properties", {})
    return [[name, type_words(rule), meaning(rule)] for name, rule in properties.items()]


def type_words(rule: Mapping[str, Any]) -> str:
    """A schema's type in a few words, such as `string`, `a | b`, `list of integer`."""
    if "enum" in rule:
        return " | ".join(str(value) for value in rule["enum"])
    for choice in ("oneOf", "anyOf"):
        if choice in rule:
            return " or ".join(dict.fromkeys(type_words(each) for each in rule[choice]))
    kind = rule.get("type", "any")
    if kind == "array":
        return f"list of {type_words(rule['items'])}" if rule.get("items") else "list"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def meaning(rule: Mapping[str, Any]) -> str:
    """Its description and the bounds that the type does not tell."""
    bounds = [
        f"{words} {rule[key]}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
            ("maxLength", "characters at most"),
            ("maxItems", "entries at most"),
        )
        if key in rule
    ]
    text = str(rule.get("description", ""))
    return f"{text} ({', '.join(bounds)})" if bounds else text


def example(schema: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE of the arguments that a first call gives."""
    properties = schema.get("properties", {})
    wanted = list(schema.get("required", []))
    for usual in ("operation", "input", "path"):
        if usual in properties and usual not in wanted:
            wanted.append(usual)
    return [f"{name}={shlex.quote(_sample(properties[name]))}" for name in wanted]


def _sample(rule: Mapping[str, Any]) -> str:
    for key in ("examples", "enum"):
        if rule.get(key):
            value = rule[key][0]
            return value if isinstance(value, str) else json.dumps(value)
    if "default" in rule:
        value = rule["default"]
        return value if isinstance(value, str) else json.dumps(value)
    kind = rule.get("type")
    known = {"integer": "1", "number": "1.5", "boolean": "true", "array": "[]", "object": "{}"}
    return known.get(kind, "…") if isinstance(kind, str) else "…"


# ---- what came of one


def show_outcome(done: ToolResult, *, raw: bool, as_json: bool) -> None:
    """What came of an execution: set out for people, bare, or all of it as JSON."""
    if as_json:
        show_json(done)
    elif raw:
        _show_bare(done.result)
    else:
        _show_result(done.result)
        told = [done.operation, done.message, f"{done.elapsed_s * 1000:.0f} ms"]
        say(" · ".join(filter(None, told)), "dim")
    if not done.success:
        code = f" ({done.failure_code})" if done.failure_code else ""
        show_error(f"{done.failure_message}{code}")


def _show_bare(value: Any) -> None:
    if isinstance(value, str):
        show_line(value)
    elif isinstance(value, bytes):
        show_raw(value)
    elif value is not None:
        show_json(value)


def _show_result(value: Any) -> None:
    """Short fields as a table, then each long one under its name.

    In order of name: a map has none of its own on the wire.
    """
    if not isinstance(value, dict):
        _show_part(value)
        return
    value = dict(sorted(value.items()))
    short = {name: text for name, inner in value.items() if (text := _short(inner)) is not None}
    if short:
        show_table(["field", "value"], [[name, text] for name, text in short.items()])
    for name, inner in value.items():
        if name not in short:
            show_line(f"\n{name}")
            _show_part(inner)


def _short(value: Any) -> str | None:
    """A value that fits on a line beside its name."""
    text = value
    if not isinstance(value, str):
        text = json.dumps(to_plain(value), ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LINE_LENGTH_MAX and "\n" not in text else None


def _show_part(value: Any) -> None:
    """A list of records that are all alike and short is a table."""
    if _is_table(value):
        headings = sorted(value[0])
        rows = [[_short(row[name]) or "" for name in headings] for row in value]
        show_table(headings, rows)
    else:
        _show_bare(value)


def _is_table(value: Any) -> bool:
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    names = value[0].keys()
    return 0 < len(names) <= _COLUMNS_MAX and all(
        isinstance(row, dict)
        and row.keys() == names
        and all(_short(cell) is not None for cell in row.values())
        for row in value
    )

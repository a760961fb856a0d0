"""Conditions on rows, such as `age >= 18 and name contains "Ann"`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from services.runtime.toolbox import patterns
from services.runtime.toolbox.data import tables
from services.runtime.toolbox.model import field_invalid

CONDITIONS_MAX = 20
_FIELD = "options.filter"

_CONDITION = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]+)"|\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^\s=<>!]+))\s*"""
    r"(?P<sign>==|!=|<=|>=|<>|=|<|>|not\s+contains\b|contains\b|starts_?with\b|ends_?with\b"
    r"|matches\b|is\s+not\s+null\b|is\s+null\b)\s*"
    r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>.*?))\s*""",
    re.IGNORECASE | re.DOTALL,
)
_AND = re.compile(r"""\s+and\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", re.IGNORECASE)

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda cell, value: value.lower() in cell.lower(),
    "not contains": lambda cell, value: value.lower() not in cell.lower(),
    "startswith": lambda cell, value: cell.lower().startswith(value.lower()),
    "endswith": lambda cell, value: cell.lower().endswith(value.lower()),
    "is null": lambda cell, _: cell.strip().lower() in tables.NULLS,
    "is not null": lambda cell, _: cell.strip().lower() not in tables.NULLS,
}

Condition = Callable[[list[str]], bool]


def read(source: str, columns: list[str]) -> Condition:
    """Whether a row is wanted.

    Raises:
        ToolError: FIELD_INVALID.
    """
    parts = _AND.split(source)
    if len(parts) > CONDITIONS_MAX:
        raise field_invalid(_FIELD, f"must have at most {CONDITIONS_MAX} conditions")
    conditions = [_one(part, columns) for part in parts]
    return lambda row: all(condition(row) for condition in conditions)


def _one(source: str, columns: list[str]) -> Condition:
    match = _CONDITION.fullmatch(source)
    if match is None:
        raise field_invalid(_FIELD, f"must be `column operator value`; {source[:100]!r} is not")
    name = match["quoted"] or match["bracketed"] or match["plain"]
    if name not in columns:
        raise field_invalid(_FIELD, f"names {name[:100]!r}; the columns are {', '.join(columns)}")
    at = columns.index(name)
    value = next(
        text for text in (match["double"], match["single"], match["bare"]) if text is not None
    )
    sign = " ".join(match["sign"].lower().split()).replace("_", "")
    if sign == "matches":
        found = patterns.compiled(value, field=_FIELD)
        return lambda row: found.search(row[at]) is not None
    if sign in _WORDS:
        by_words = _WORDS[sign]
        return lambda row: by_words(row[at], value)
    return _by_order(at, _ORDER[sign], value)


def _by_order(at: int, compare: Callable[[Any, Any], bool], value: str) -> Condition:
    """As numbers where the value is one, otherwise as text; a missing cell only differs."""
    number = float(value) if tables.is_number(value.strip()) else None

    def condition(row: list[str]) -> bool:
        cell = row[at].strip()
        if number is not None and tables.is_number(cell):
            return compare(float(cell), number)
        if number is not None or cell.lower() in tables.NULLS:
            return compare is operator.ne or (compare is operator.eq and cell == value)
        return compare(cell, value)

    return condition

"""What a database may be asked: one statement that reads rows or changes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.runtime.toolbox.model import field_invalid

ROWS_MAX = 1000
STATEMENT_LENGTH_MAX = 64 * 1024
_READS = frozenset({"select", "values"})
_CHANGES = frozenset({"insert", "update", "delete", "replace"})
_PIECE = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'?|\"(?:[^\"]|\"\")*\"?|`[^`]*`?"
    r"|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)|[A-Za-z_]\w*|;|[()]",
    re.DOTALL,
)
_NUMBER_MAX = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What came of a statement."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    is_cut: bool
    """Whether there were more rows."""
    affected: int
    """Rows that were changed."""


def kind_of(sql: str) -> str:
    """`select`, `insert`, `update` or `delete`.

    Whoever executes it decides again: SQLite's authorizer, PostgreSQL's transaction. This is for
    an error that says what is allowed.

    Raises:
        ToolError: FIELD_INVALID where it is none of these, or more than one statement.
    """
    if not sql.strip() or len(sql) > STATEMENT_LENGTH_MAX or "\0" in sql:
        raise field_invalid("query", f"must be a statement of at most {STATEMENT_LENGTH_MAX} bytes")
    words = _words(sql)
    while words and words[-1] == ";":
        words.pop()
    if ";" in words:
        raise field_invalid("query", "must be one statement")
    first = words[0] if words else ""
    kind = first
    if first == "with":
        # The statement's own word is the first one outside the parentheses of its tables.
        kind = next((word for word in words[1:] if word in _READS | _CHANGES), "")
    if kind not in _READS | _CHANGES:
        raise field_invalid("query", "must be SELECT, INSERT, UPDATE or DELETE")
    if kind in _READS and "into" in words:
        raise field_invalid("query", "must not make a table with SELECT INTO")
    return {"values": "select", "replace": "insert"}.get(kind, kind)


def _words(sql: str) -> list[str]:
    """Words and semicolons outside texts, comments and parentheses, in lower case."""
    depth, found = 0, []
    for match in _PIECE.finditer(sql):
        piece = match[0]
        if piece in "()":
            depth += 1 if piece == "(" else -1
        elif piece == ";" or (depth <= 0 and (piece[0].isalpha() or piece[0] == "_")):
            found.append(piece.lower())
    return found


def plain(value: Any) -> Any:
    """A database's value as one that an answer can hold."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < _NUMBER_MAX or _fits(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return _text(value)


def _fits(value: float) -> bool:
    if isinstance(value, int):
        return value == -_NUMBER_MAX
    return abs(value) < float("inf")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def told(rows: Rows) -> dict[str, Any]:
    """Columns, and each row by their names."""
    names = _distinct(rows.columns)
    return {
        "columns": names,
        "results": [dict(zip(names, map(plain, row), strict=False)) for row in rows.rows],
        "row_count": len(rows.rows),
        "rows_affected": rows.affected,
        "truncated": rows.is_cut,
    }


def _distinct(columns: Sequence[str]) -> list[str]:
    """Two columns of one name are told apart by a number."""
    names: list[str] = []
    for column in columns:
        name, number = column, 2
        while name in names:
            name, number = f"{column}_{number}", number + 1
        names.append(name)
    return names

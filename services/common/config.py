"""Reads the configuration: defaults < file < environment < flags.

An unknown key or a wrong type is an error that names the file, the key and the nearest known key.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from services.common.errors import Reason, ServiceError
from services.common.settings import Settings

ENVIRONMENT_PREFIX = "LLMSPELL__"

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def load_settings(
    file: Path | None, environment: Mapping[str, str], overrides: Iterable[str] = ()
) -> Settings:
    """The settings of a process.

    Args:
        file: A TOML file; None: defaults.
        environment: `LLMSPELL__VECTOR__LISTEN=…` sets `vector.listen`.
        overrides: `vector.listen=…`, stronger than both.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    tables: dict[str, dict[str, Any]] = {}
    if file is not None:
        _merge_file(tables, file)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            dotted = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            _merge_text(tables, dotted, text, source=name)
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals:
            raise _invalid(f"--set {override}", "", "must be written as TABLE.KEY=VALUE")
        _merge_text(tables, dotted.strip(), text, source=f"--set {dotted}")
    return _build(tables, str(file or "the settings"))


def describe() -> list[tuple[str, str, str, object, str]]:
    """Every setting as (table, key, type, default, meaning), in the order of the code."""
    rows: list[tuple[str, str, str, object, str]] = []
    for table in dataclasses.fields(Settings):
        kind = _table_type(table.name)
        meanings = _attribute_docs(kind)
        rows += [
            (table.name, key.name, str(key.type), key.default, meanings[key.name])
            for key in dataclasses.fields(kind)
        ]
    return rows


def example() -> str:
    """`llmspell.toml.example`: every key with its default, commented out."""
    lines = ["# Every setting, with its default. `llmspell config check FILE` reads one like this."]
    table = ""
    for name, key, _, default, meaning in describe():
        if name != table:
            heading = (inspect.getdoc(_table_type(name)) or "").splitlines()[0]
            lines += ["", f"# {heading}", f"[{name}]"]
            table = name
        lines += [f"# {meaning}", f"# {key} = {toml_text(default)}"]
    return "\n".join(lines) + "\n"


def toml_text(value: object) -> str:
    """A scalar as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A TOML basic string is a JSON string, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _merge_file(tables: dict[str, dict[str, Any]], file: Path) -> None:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _invalid(str(file), "", f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(str(file), "", f"is not TOML: {error}") from None
    for table, keys in content.items():
        kind = _known_table(table, str(file))
        if not isinstance(keys, dict):
            raise _invalid(str(file), table, f"must be a table, written as [{table}]")
        for key, value in keys.items():
            expected = _known_key(kind, table, key, str(file))
            tables.setdefault(table, {})[key] = _checked(value, expected, table, key, str(file))


def _merge_text(tables: dict[str, dict[str, Any]], dotted: str, text: str, *, source: str) -> None:
    table, _, key = dotted.partition(".")
    expected = _known_key(_known_table(table, source), table, key, source)
    tables.setdefault(table, {})[key] = _parsed(text, expected, table, key, source)


def _build(tables: dict[str, dict[str, Any]], source: str) -> Settings:
    try:
        return Settings(**{name: _table_type(name)(**keys) for name, keys in tables.items()})
    except ValueError as error:
        raise _invalid(source, str(error).partition(" ")[0], str(error).partition(" ")[2]) from None


def _table_type(name: str) -> Any:
    return get_type_hints(Settings)[name]


def _known_table(table: str, source: str) -> Any:
    names = [field.name for field in dataclasses.fields(Settings)]
    if table not in names:
        raise _unknown(source, table, table, names)
    return _table_type(table)


def _known_key(kind: Any, table: str, key: str, source: str) -> type:
    hints = get_type_hints(kind)
    if key not in hints:
        raise _unknown(source, f"{table}.{key}", key, list(hints))
    expected: type = hints[key]
    return expected


def _checked(value: Any, expected: type, table: str, key: str, source: str) -> Any:
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        words = {str: "text in quotes", int: "a whole number", float: "a number", bool: "a boolean"}
        raise _invalid(source, f"{table}.{key}", f"must be {words[expected]}, not {value!r}")
    number: Any = value
    if expected in {int, float} and not 0 < number < math.inf:  # nan is neither
        raise _invalid(source, f"{table}.{key}", f"must be finite and more than 0, not {value}")
    return value


def _parsed(text: str, expected: type, table: str, key: str, source: str) -> Any:
    try:
        value = _BOOLEANS[text.lower()] if expected is bool else expected(text)
    except (KeyError, ValueError):
        value = text
    return _checked(value, expected, table, key, source)


def _unknown(source: str, dotted: str, key: str, known: list[str]) -> ServiceError:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    return _invalid(source, dotted, f"is not a setting{hint}")


def _invalid(source: str, key: str, why: str) -> ServiceError:
    subject = f"{source}: {key}" if key else source
    return ServiceError(Reason.CONFIG_INVALID, f"{subject} {why}", file=source, key=key)


def _attribute_docs(kind: Any) -> dict[str, str]:
    """The text under each field: the literal that follows its assignment in the class's source."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            literal = after.value if isinstance(after, ast.Expr) else None
            text = literal.value if isinstance(literal, ast.Constant) else ""
            docs[node.target.id] = " ".join(str(text).split())
    return docs

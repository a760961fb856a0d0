"""Filters and tests that Tera has and MiniJinja has not, or has with other arguments.

https://keats.github.io/tera/docs/#built-ins
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from services.runtime.toolbox import patterns
from services.runtime.toolbox.utility import time_format


def _default(subject: Any, /, fallback: Any = "", **named: Any) -> Any:
    return named.get("value", fallback) if subject is None else subject


def _replace(subject: str, /, *given: str, **named: str) -> str:
    old, new = given or (named["from"], named["to"])
    return str(subject).replace(old, new)


def _truncate(subject: str, /, length: int = 255, end: str = "…", **_: Any) -> str:
    text = str(subject)
    return text if len(text) <= length else text[:length] + end


def _date(subject: Any, /, format: str = "%Y-%m-%d", **_: Any) -> str:  # noqa: A002 - Tera's name
    if isinstance(subject, int | float):
        moment = datetime.fromtimestamp(subject, UTC)
    else:
        moment = datetime.fromisoformat(str(subject))
    return time_format.written(moment, format)


def _slugify(subject: str, /) -> str:
    plain = unicodedata.normalize("NFKD", str(subject)).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain.lower()).strip("-")


def _json_encode(subject: Any, /, *, pretty: bool = False) -> str:
    return json.dumps(subject, ensure_ascii=False, indent=2 if pretty else None)


def _join(subject: list[Any], /, sep: str = "", **_: Any) -> str:
    return sep.join(map(str, subject))


def _slice(subject: list[Any], /, start: int = 0, end: int | None = None) -> list[Any]:
    return subject[start:end]


def _filter(subject: list[dict[str, Any]], /, attribute: str, value: Any = None) -> list[Any]:
    if value is None:
        return [one for one in subject if _at(one, attribute) is not None]
    return [one for one in subject if _at(one, attribute) == value]


def _group_by(subject: list[Any], /, attribute: str) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for one in subject:
        groups.setdefault(str(_at(one, attribute)), []).append(one)
    return groups


def _at(value: Any, attribute: str) -> Any:
    for name in attribute.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _get(subject: dict[str, Any], /, key: str, default: Any = None) -> Any:
    return subject.get(key, default)


def _concat(subject: list[Any], /, **named: Any) -> list[Any]:
    more = named["with"]
    return [*subject, *(more if isinstance(more, list) else [more])]


def _pluralize(subject: float, /, singular: str = "", plural: str = "s") -> str:
    return singular if subject == 1 else plural


def _matches(subject: str, /, pattern: str = "", **named: str) -> bool:
    expression = patterns.compiled(named.get("pat", pattern), field="input")
    return expression.search(str(subject)) is not None


PAIRS = "pairs_of"
"""Name of the filter by which a loop with two names walks a map."""
_LOOP_OVER_PAIRS = re.compile(
    r"(\{%[-+]?\s*for\s+\w+\s*,\s*\w+\s+in\s+[\w.\[\]'\"]+)(\s*[-+]?%\})", re.ASCII
)


def with_pairs(source: str) -> str:
    """The template whose loops `for key, value in map` are as MiniJinja has them."""
    if "raw" in source:
        return source  # what is raw must not be touched; `map | items` can be written there
    return _LOOP_OVER_PAIRS.sub(rf"\1 | {PAIRS}\2", source)


def _pairs(subject: Any, /) -> Any:
    return list(map(list, subject.items())) if isinstance(subject, dict) else subject


FILTERS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "replace": _replace,
    "truncate": _truncate,
    "date": _date,
    "slugify": _slugify,
    "json_encode": _json_encode,
    "join": _join,
    "slice": _slice,
    "filter": _filter,
    "group_by": _group_by,
    "get": _get,
    "concat": _concat,
    "pluralize": _pluralize,
    "nth": lambda subject, n: subject[n] if 0 <= n < len(subject) else "",
    "split": lambda subject, pat=" ": str(subject).split(pat),
    "trim_start": lambda subject: str(subject).lstrip(),
    "trim_end": lambda subject: str(subject).rstrip(),
    "trim_start_matches": lambda subject, pat: str(subject).removeprefix(pat),
    "trim_end_matches": lambda subject, pat: str(subject).removesuffix(pat),
    "wordcount": lambda subject: len(str(subject).split()),
    "escape_html": lambda subject: html.escape(str(subject)),
    "linebreaksbr": lambda subject: str(subject).replace("\n", "<br>"),
    "as_str": str,
    PAIRS: _pairs,
}
"""Name → what it does to what stands before the bar."""
TESTS: dict[str, Callable[..., bool]] = {
    "starting_with": lambda subject, prefix: str(subject).startswith(prefix),
    "ending_with": lambda subject, suffix: str(subject).endswith(suffix),
    "containing": lambda subject, part: part in subject,
    "matching": _matches,
    "object": lambda subject: isinstance(subject, dict),
}
"""Name → whether it holds."""

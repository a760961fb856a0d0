"""The filter shorthand: a dictionary as the contract's `Filter`. No I/O.

    {"lang": "en"}                       the field equals the value
    {"year": {"gte": 2000, "lt": 2010}}  within bounds: gt, gte, lt, lte
    {"tag": {"in": ["a", "b"]}}          equals one of these
    {"author": {"exists": True}}         is there
    {"all": [...]}, {"any": [...]}       of other filters
    {"not": {...}}                       of another filter

Several keys in one dictionary must all hold. Scripts write the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmspell import types
from llmspell._values import to_value
from llmspell.errors import InvalidArgument
from llmspell.v1.types_pb2 import Condition, Filter, FilterList, ListValue, Range

_BOUNDS = ("gt", "gte", "lt", "lte")
_TESTS = (*_BOUNDS, "in", "exists")
_DEPTH_MAX = 32


def to_filter(shorthand: types.Filter | None) -> Filter | None:
    """The message for a filter; None stays None, a message stays as it is.

    Raises:
        InvalidArgument: FILTER_INVALID; `path` in its metadata says where.
    """
    if shorthand is None or isinstance(shorthand, Filter):
        return shorthand
    return _filter(shorthand, "filter", 0)


def _filter(shorthand: Any, path: str, depth: int) -> Filter:
    if not isinstance(shorthand, Mapping):
        raise _invalid(path, f"must be an object of fields, not {_shown(shorthand)}")
    if depth > _DEPTH_MAX:
        raise _invalid(path, f"is nested more than {_DEPTH_MAX} deep")
    parts: list[Filter] = []
    for name, test in shorthand.items():
        if not isinstance(name, str) or not name:
            raise _invalid(path, f"must name fields by text, not {_shown(name)}")
        parts += _part(name, test, f"{path}.{name}", depth + 1)
    return parts[0] if len(parts) == 1 else Filter(all=FilterList(filters=parts))


def _part(name: str, test: Any, path: str, depth: int) -> list[Filter]:
    if name == "all":
        return [Filter(all=_filters(test, path, depth))]
    if name == "any":
        return [Filter(any=_filters(test, path, depth))]
    if name == "not":
        return [_not(_filter(test, path, depth))]
    return [Filter(condition=condition) for condition in _conditions(name, test, path)]


def _filters(entries: Any, path: str, depth: int) -> FilterList:
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise _invalid(path, f"must be a list of filters, not {_shown(entries)}")
    filters = [_filter(entry, f"{path}[{n}]", depth) for n, entry in enumerate(entries)]
    return FilterList(filters=filters)


def _conditions(field: str, test: Any, path: str) -> list[Condition]:
    """The tests of one field; its bounds are one test."""
    if not isinstance(test, Mapping):
        return [Condition(field=field, equals=_value(test, path))]
    for name in test:
        if name not in _TESTS:
            raise _invalid(f"{path}.{name}", f"is not a test; known are {', '.join(_TESTS)}")
    bounds = {name: _value(test[name], f"{path}.{name}") for name in _BOUNDS if name in test}
    conditions = [Condition(field=field, range=Range(**bounds))] if bounds else []
    if "in" in test:
        choices = _choices(test["in"], f"{path}.in")
        conditions.append(_in(field, choices))
    if "exists" in test:
        conditions.append(Condition(field=field, exists=_boolean(test["exists"], f"{path}.exists")))
    if not conditions:
        raise _invalid(path, f"must hold a value or a test: {', '.join(_TESTS)}")
    return conditions


def _choices(entries: Any, path: str) -> ListValue:
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise _invalid(path, f"must be a list of values, not {_shown(entries)}")
    return ListValue(values=[_value(entry, f"{path}[{n}]") for n, entry in enumerate(entries)])


def _not(inner: Filter) -> Filter:
    keyword: Any = {"not": inner}  # not a name that Python allows to be written
    return Filter(**keyword)


def _in(field: str, choices: ListValue) -> Condition:
    keyword: Any = {"in": choices}
    return Condition(field=field, **keyword)


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(path, f"must be true or false, not {_shown(value)}")
    return value


def _value(value: Any, path: str) -> Any:
    try:
        return to_value(value, path)
    except InvalidArgument as error:
        raise _invalid(error.metadata["field"], error.metadata["rule"]) from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"  # noqa: PLR2004  (a line of a message)


def _invalid(path: str, rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} {rule}.", reason="FILTER_INVALID", metadata={"path": path, "rule": rule}
    )

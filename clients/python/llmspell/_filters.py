"""The filter shorthand: a dictionary as the contract's `Filter`. No I/O.

    {"lang": "en"}                       the field equals the value
    {"year": {"gte": 2000, "lt": 2010}}  within bounds: gt, gte, lt, lte
    {"tag": ["a", "b"]}                  equals one of these; also {"tag": {"in": ["a", "b"]}}
    {"lang": {"ne": "en"}}               does not equal; also {"equals": …} or {"eq": …}
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
_TESTS = ("equals", "eq", "ne", "in", *_BOUNDS, "exists")
_DEPTH_MAX = 32


def to_filter(shorthand: types.Filter | None) -> Filter | None:
    """The message for a filter; None where it asks for nothing, a message stays as it is.

    Raises:
        InvalidArgument: FILTER_INVALID; `path` in its metadata says where.
    """
    if isinstance(shorthand, Filter):
        return shorthand
    if shorthand is None or shorthand == {}:
        return None
    return _filter(shorthand, "filter", 0)


def _filter(shorthand: Any, path: str, depth: int) -> Filter:
    if not isinstance(shorthand, Mapping):
        raise _invalid(path, f"must be an object of fields, not {_shown(shorthand)}")
    if depth > _DEPTH_MAX:
        raise _invalid(path, f"is nested more than {_DEPTH_MAX} deep")
    if not shorthand:
        raise _invalid(path, "must not be empty")
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
    return _tests(name, test, path)


def _filters(entries: Any, path: str, depth: int) -> FilterList:
    if not _is_list(entries):
        raise _invalid(path, f"must be a list of filters, not {_shown(entries)}")
    filters = [_filter(entry, f"{path}[{n}]", depth) for n, entry in enumerate(entries)]
    return FilterList(filters=filters)


def _tests(field: str, test: Any, path: str) -> list[Filter]:
    """The tests of one field; its bounds are one test."""
    if _is_list(test):
        return [_in(field, _choices(test, path))]
    if not isinstance(test, Mapping):
        return [_equals(field, test, path)]
    if not test:
        raise _invalid(path, f"must hold a value or a test: {', '.join(_TESTS)}")
    filters = [
        _test(field, name, operand, f"{path}.{name}")
        for name, operand in test.items()
        if name not in _BOUNDS
    ]
    bounds = {name: _value(test[name], f"{path}.{name}") for name in _BOUNDS if name in test}
    if bounds:
        filters.append(Filter(condition=Condition(field=field, range=Range(**bounds))))
    return filters


def _test(field: str, name: str, operand: Any, path: str) -> Filter:
    match name:
        case "equals" | "eq":
            return _equals(field, operand, path)
        case "ne":
            return _not(_equals(field, operand, path))
        case "in":
            return _in(field, _choices(operand, path))
        case "exists":
            exists = _boolean(operand, path)
            return Filter(condition=Condition(field=field, exists=exists))
        case _:
            raise _invalid(path, f"is not a test; known are {', '.join(_TESTS)}")


def _equals(field: str, value: Any, path: str) -> Filter:
    return Filter(condition=Condition(field=field, equals=_value(value, path)))


def _in(field: str, choices: ListValue) -> Filter:
    keyword: Any = {"in": choices}
    return Filter(condition=Condition(field=field, **keyword))


def _choices(entries: Any, path: str) -> ListValue:
    if not _is_list(entries):
        raise _invalid(path, f"must be a list of values, not {_shown(entries)}")
    return ListValue(values=[_value(entry, f"{path}[{n}]") for n, entry in enumerate(entries)])


def _not(inner: Filter) -> Filter:
    keyword: Any = {"not": inner}  # not a name that Python allows to be written
    return Filter(**keyword)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


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

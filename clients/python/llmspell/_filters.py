"""The filter shorthand: a dictionary as the contract's `Filter`. No I/O.

    {"lang": "en"}                       the field equals the value
    {"year": {"gte": 2000, "lt": 2010}}  within bounds: gt, gte, lt, lte
    {"tag": ["a", "b"]}                  equals one of these; also {"tag": {"in": ["a", "b"]}}
    {"lang": {"ne": "en"}}               does not equal; also {"equals": …} or {"eq": …}
    {"author": {"exists": True}}         is there
    {"tag": {"except": ["a"]}}           is there, and none of these
    {"name": {"prefix": "Mac"}}          text that begins so
    {"note": {"is_empty": True}}         absent, null, or nothing in it
    {"date": {"since": "2024-01-01", "before": "2025-01-01T00:00:00Z"}}
                                         a moment: after, since, before, until
    {"all": [...]}, {"any": [...]}       of other filters
    {"not": {...}}                       of another filter
    {"at_least": {"count": 2, "filters": [...]}}
                                         so many of other filters
    {"nested": {"field": "cities", "filter": {...}}}
                                         one entry of a list of maps passes all of it

Several keys in one dictionary must all hold. Scripts write the same. What Qdrant's users write is
understood too: `must`, `should`, `must_not` and `min_should` with conditions such as
`{"key": "lang", "match": {"value": "en"}}`, and others of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from llmspell import types
from llmspell._values import to_value
from llmspell.errors import InvalidArgument
from llmspell.v1.types_pb2 import (
    Clauses,
    Condition,
    Filter,
    FilterList,
    ListValue,
    Nested,
    Range,
    TimeBounds,
)

_BOUNDS = ("gt", "gte", "lt", "lte")
_TIMES = {"after": "gt", "since": "gte", "before": "lt", "until": "lte"}
_TESTS = ("equals", "eq", "ne", "in", "except", *_BOUNDS, *_TIMES, "prefix", "exists", "is_empty")
_CLAUSES = ("must", "should", "must_not", "min_should")
_NOT_THERE = ("has_id", "has_vector")
"""What Qdrant has beside fields; taken for a field's name it would silently match nothing."""
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
    if "key" in shorthand:
        return _condition(shorthand, path)
    parts: list[Filter] = []
    if any(name in shorthand for name in _CLAUSES):
        parts.append(Filter(clauses=_clauses(shorthand, path, depth + 1)))
    for name, test in shorthand.items():
        if name in _CLAUSES:
            continue
        if not isinstance(name, str) or not name:
            raise _invalid(path, f"must name fields by text, not {_shown(name)}")
        parts += _part(name, test, f"{path}.{name}", depth + 1)
    return parts[0] if len(parts) == 1 else Filter(all=FilterList(filters=parts))


def _part(name: str, test: Any, path: str, depth: int) -> list[Filter]:
    if name in _NODES:
        return [_NODES[name](test, path, depth)]
    if name in {"is_empty", "is_null"} and isinstance(test, Mapping) and test.keys() == {"key"}:
        return [_condition({"key": test["key"], name: True}, path)]
    if name in _NOT_THERE:
        raise _invalid(path, "is no condition here; a field of this name is {'key': …, 'match': …}")
    return _tests(name, test, path)


def _clauses(shorthand: Mapping[str, Any], path: str, depth: int) -> Clauses:
    """`must`, `should` and `must_not`, each a filter or a list of them."""
    lists = {
        name: _one_or_more(shorthand[name], f"{path}.{name}", depth)
        for name in _CLAUSES[:3]
        if name in shorthand
    }
    least = shorthand.get("min_should", 0)
    if isinstance(least, Mapping):  # Qdrant's own form
        lists["should"] = _one_or_more(least.get("conditions"), f"{path}.min_should", depth)
        least = least.get("min_count")
    if not isinstance(least, int) or isinstance(least, bool) or least < 0:
        raise _invalid(f"{path}.min_should", "must be a whole number")
    return Clauses(min_should=least, **lists)


def _one_or_more(entries: Any, path: str, depth: int) -> list[Filter]:
    if isinstance(entries, Mapping):
        return [_filter(entries, path, depth)]
    return list(_filters(entries, path, depth).filters)


def _at_least(test: Any, path: str, depth: int) -> Filter:
    count = test.get("count") if isinstance(test, Mapping) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise _invalid(path, "must hold a count, a whole number from 1, and filters")
    filters = _filters(test.get("filters"), f"{path}.filters", depth).filters
    if not filters:
        raise _invalid(f"{path}.filters", "must not be empty")
    return Filter(clauses=Clauses(should=filters, min_should=count))


def _nested(test: Any, path: str, depth: int) -> Filter:
    field = test.get("field", test.get("key")) if isinstance(test, Mapping) else None
    if not isinstance(field, str) or "filter" not in test:
        raise _invalid(path, "must hold field and filter")
    inner = _filter(test["filter"], f"{path}.filter", depth)
    return Filter(nested=Nested(field=field, filter=inner))


_NODES: dict[str, Callable[[Any, str, int], Filter]] = {
    "all": lambda test, path, depth: Filter(all=_filters(test, path, depth)),
    "any": lambda test, path, depth: Filter(any=_filters(test, path, depth)),
    "not": lambda test, path, depth: _not(_filter(test, path, depth)),
    "nested": _nested,
    "at_least": _at_least,
}
_MATCHES = {"value": "equals", "any": "in", "except": "except", "prefix": "prefix"}


def _condition(shorthand: Mapping[str, Any], path: str) -> Filter:
    """One condition as Qdrant has them."""
    field = shorthand["key"]
    if not isinstance(field, str) or not field:
        raise _invalid(f"{path}.key", f"must be a field's name, not {_shown(field)}")
    tests: list[Filter] = []
    for name, operand in shorthand.items():
        here = f"{path}.{name}"
        if name == "match":
            tests += [_match(field, *pair, here) for pair in _mapping(operand, here).items()]
        elif name == "range":
            tests += _ranges(field, _mapping(operand, here), here)
        elif name in {"is_empty", "is_null", "exists"}:
            test = "exists" if name == "is_null" else name
            wanted = _boolean(operand, here)
            tests.append(_test(field, test, not wanted if name == "is_null" else wanted, here))
        elif name != "key":
            known = "match, range, is_empty, is_null, exists"
            raise _invalid(here, f"is no condition; known are {known}")
    if not tests:
        raise _invalid(path, "must have a condition: match, range, is_empty, is_null or exists")
    return tests[0] if len(tests) == 1 else Filter(all=FilterList(filters=tests))


def _match(field: str, name: str, operand: Any, path: str) -> Filter:
    if name not in _MATCHES:
        raise _invalid(f"{path}.{name}", f"is no match; known are {', '.join(_MATCHES)}")
    return _test(field, _MATCHES[name], operand, f"{path}.{name}")


def _ranges(field: str, bounds: Mapping[str, Any], path: str) -> list[Filter]:
    """Bounds; RFC 3339 text means moments, as in Qdrant's datetime range."""
    texts = [bound for bound in bounds.values() if isinstance(bound, str | datetime)]
    if not texts:
        return _tests(field, bounds, path)
    names = {bound: name for name, bound in _TIMES.items()}
    return _tests(field, {names.get(name, name): bound for name, bound in bounds.items()}, path)


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise _invalid(path, f"must be an object, not {_shown(value)}")
    return value


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
        if name not in _BOUNDS and name not in _TIMES
    ]
    bounds = {name: _value(test[name], f"{path}.{name}") for name in _BOUNDS if name in test}
    if bounds:
        filters.append(Filter(condition=Condition(field=field, range=Range(**bounds))))
    moments = {
        to: _moment(test[name], f"{path}.{name}") for name, to in _TIMES.items() if name in test
    }
    if moments:
        filters.append(Filter(condition=Condition(field=field, time=TimeBounds(**moments))))
    return filters


def _moment(value: Any, path: str) -> Timestamp:
    """RFC 3339 text, a date, or a datetime with its time zone."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise _invalid(path, "must be RFC 3339 text, such as 2024-05-01T12:00:00Z, or a date")
    if moment.tzinfo is None:
        if moment.time() != time():
            raise _invalid(path, "must have a time zone, such as Z")
        moment = moment.replace(tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _test(field: str, name: str, operand: Any, path: str) -> Filter:
    match name:
        case "equals" | "eq":
            return _equals(field, operand, path)
        case "ne":
            return _not(_equals(field, operand, path))
        case "in":
            return _in(field, _choices(operand, path))
        case "except":
            return _condition_of(field, "except", _choices(operand, path))
        case "prefix":
            if not isinstance(operand, str):
                raise _invalid(path, f"must be text, not {_shown(operand)}")
            return _condition_of(field, "prefix", operand)
        case "exists" | "is_empty":
            return _condition_of(field, name, _boolean(operand, path))
        case _:
            raise _invalid(path, f"is not a test; known are {', '.join(_TESTS)}")


def _equals(field: str, value: Any, path: str) -> Filter:
    return Filter(condition=Condition(field=field, equals=_value(value, path)))


def _in(field: str, choices: ListValue) -> Filter:
    return _condition_of(field, "in", choices)


def _condition_of(field: str, test: str, operand: Any) -> Filter:
    keyword: Any = {test: operand}  # some are not names that Python allows to be written
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

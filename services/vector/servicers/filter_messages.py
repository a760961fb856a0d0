"""Filters as they travel, to filters as engines know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmspell.v1 import types_pb2

from services.common.errors import Reason, ServiceError
from services.common.limits import FILTER_DEPTH_MAX
from services.common.values import to_python
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    Condition,
    Equals,
    Except,
    Exists,
    Filter,
    In,
    IsEmpty,
    Moment,
    Nested,
    Not,
    Prefix,
    Range,
    Test,
    Value,
)

_SECOND_NS = 10**9
_INT64 = 2**63
_BOUNDS = ("gt", "gte", "lt", "lte")


def read_filter(message: types_pb2.Filter, field: str = "filter", depth: int = 1) -> Filter:
    """A filter tree. What it may say is checked by the engine.

    Raises:
        ServiceError: FILTER_INVALID with the path of what is unset or nested too deep.
    """
    if depth > FILTER_DEPTH_MAX:
        raise _invalid(field, f"is nested deeper than {FILTER_DEPTH_MAX} levels")
    match message.WhichOneof("kind"):
        case "all":
            return All(_several(message.all.filters, f"{field}.all", depth))
        case "any":
            return AnyOf(_several(message.any.filters, f"{field}.any", depth))
        case "not":
            return Not(read_filter(getattr(message, "not"), f"{field}.not", depth + 1))
        case "clauses":
            return _clauses(message.clauses, field, depth)
        case "nested":
            inner = read_filter(message.nested.filter, f"{field}.nested", depth + 1)
            return Nested(message.nested.field, inner)
        case "condition":
            return Condition(message.condition.field, _test(message.condition, field))
        case _:
            raise _invalid(field, "must be all, any, not, clauses, nested or a condition")


def _several(messages: Sequence[types_pb2.Filter], field: str, depth: int) -> tuple[Filter, ...]:
    return tuple(read_filter(each, f"{field}[{n}]", depth + 1) for n, each in enumerate(messages))


def _clauses(message: types_pb2.Clauses, field: str, depth: int) -> Filter:
    """`must`, `should` and `must_not` together; the parts are one level below this."""
    parts = list(_several(message.must, f"{field}.must", depth))
    unwanted = _several(message.must_not, f"{field}.must_not", depth)
    parts += [Not(each) for each in unwanted]
    should = _several(message.should, f"{field}.should", depth)
    if should:
        least = message.min_should or 1
        parts.append(AnyOf(should) if least == 1 else AtLeast(least, should))
    elif message.min_should:
        raise _invalid(f"{field}.min_should", "needs filters in should")
    return parts[0] if len(parts) == 1 else All(tuple(parts))


_TESTS: dict[str, Callable[[Any, str], Test]] = {
    "equals": lambda value, path: Equals(to_python(value, path)),
    "in": lambda values, path: In(_values(values, path)),
    "except": lambda values, path: Except(_values(values, path)),
    "range": lambda bounds, path: Range(**_bounds(bounds, path)),
    "exists": lambda present, _: Exists(present),
    "prefix": lambda text, _: Prefix(text),
    "is_empty": lambda empty, _: IsEmpty(empty),
    "time": lambda bounds, path: Moment(**_times(bounds, path)),
}


def _test(condition: types_pb2.Condition, path: str) -> Test:
    name = condition.WhichOneof("test")
    if name is None:
        raise _invalid(path, f"must have a test: {', '.join(_TESTS)}")
    return _TESTS[name](getattr(condition, name), f"{path}.{name}")


def _values(message: types_pb2.ListValue, path: str) -> tuple[Value, ...]:
    return tuple(to_python(value, f"{path}[{n}]") for n, value in enumerate(message.values))


def _bounds(message: types_pb2.Range, path: str) -> Mapping[str, Any]:
    names = [name for name in _BOUNDS if message.HasField(name)]
    return {name: to_python(getattr(message, name), f"{path}.{name}") for name in names}


def _times(message: types_pb2.TimeBounds, path: str) -> dict[str, int]:
    found = {}
    for name in _BOUNDS:
        if message.HasField(name):
            time = getattr(message, name)
            found[f"{name}_ns"] = time_ns = time.seconds * _SECOND_NS + time.nanos
            if not 0 <= time.nanos < _SECOND_NS or not -_INT64 < time_ns < _INT64:
                raise _invalid(f"{path}.{name}", "must be a time between the years 1678 and 2261")
    return found


def _invalid(path: str, rule: str) -> ServiceError:
    return ServiceError(Reason.FILTER_INVALID, f"{path} {rule}.", path=path, rule=rule)

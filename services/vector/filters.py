"""What a filter means: its rules, and whether a record's metadata match it.

Types are compared as a caller would: 1 equals 1.0; true does not equal 1; text is ordered by code
point; values of different kinds are neither equal nor in order. A null counts as absent, and an
absent field passes no test but `exists = false`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services.common.errors import Reason, ServiceError
from services.common.limits import FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX
from services.vector.model import (
    All,
    AnyOf,
    Condition,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Range,
    Test,
    Value,
)

_ORDERED = {"number", "text"}


def check_filter(filter: Filter) -> None:  # noqa: A002  (the contract's word)
    """Refuse a filter that breaks a rule.

    Raises:
        ServiceError: FILTER_INVALID with the path of the part at fault; LIMIT_EXCEEDED.
    """
    count = 0
    for path, depth, part in _walk(filter, "filter", 1):
        if depth > FILTER_DEPTH_MAX:
            raise _invalid(path, f"is nested deeper than {FILTER_DEPTH_MAX} levels")
        if isinstance(part, Condition):
            count += 1
            _check_condition(part, path)
    if count > FILTER_CONDITIONS_MAX:
        raise _invalid("filter", f"has {count} conditions; the limit is {FILTER_CONDITIONS_MAX}")


def matches(filter: Filter, metadata: Mapping[str, Value]) -> bool:  # noqa: A002
    """Whether a record's metadata match a filter that `check_filter` has let through."""
    match filter:
        case All(filters):
            return all(matches(part, metadata) for part in filters)
        case AnyOf(filters):
            return any(matches(part, metadata) for part in filters)
        case Not(part):
            return not matches(part, metadata)
        case Condition(field, test):
            return passes(test, field_value(metadata, field))


def fields(filter: Filter) -> list[str]:  # noqa: A002
    """The fields that a filter looks at, each once."""
    conditions = (part for _, _, part in _walk(filter, "", 1) if isinstance(part, Condition))
    return list(dict.fromkeys(condition.field for condition in conditions))


def field_value(metadata: Mapping[str, Value], field: str) -> Value:
    """The value under a field, stepping into maps at dots; None where there is none."""
    value: Value = dict(metadata)
    for name in field.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def passes(test: Test, value: Value) -> bool:
    """Whether one field's value passes a test; None stands for an absent field."""
    if isinstance(test, Exists):
        return (value is not None) == test.present
    if value is None:
        return False
    if isinstance(value, list) and any(_passes_one(test, entry) for entry in value):
        return True
    return _passes_one(test, value)


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal, numbers by amount and everything by kind."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return _kind(left) == _kind(right) and left == right


def _passes_one(test: Test, value: Value) -> bool:
    match test:
        case Equals(wanted):
            return same(value, wanted)
        case In(values):
            return any(same(value, wanted) for wanted in values)
        case Range():
            return all(_within(name, bound, value) for name, bound in test.bounds())
        case Exists():
            raise AssertionError("exists looks at the field, not at its entries")


def _within(name: str, bound: Value, value: Value) -> bool:
    kind = _kind(value)
    if kind not in _ORDERED or kind != _kind(bound):
        return False
    left, right = _comparable(value), _comparable(bound)
    if name == "gt":
        return left > right
    if name == "gte":
        return left >= right
    return left < right if name == "lt" else left <= right


def _comparable(value: Value) -> float:
    """A number or a text. Both know `<`; the type checker is told of one of them."""
    return value  # type: ignore[return-value]


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _walk(part: Filter, path: str, depth: int) -> Iterator[tuple[str, int, Filter]]:
    """Every part with its path and depth; nothing below one that is already too deep."""
    yield path, depth, part
    if depth > FILTER_DEPTH_MAX:
        return
    match part:
        case All(filters) | AnyOf(filters):
            name = "all" if isinstance(part, All) else "any"
            for number, child in enumerate(filters):
                yield from _walk(child, f"{path}.{name}[{number}]", depth + 1)
        case Not(child):
            yield from _walk(child, f"{path}.not", depth + 1)


def _check_condition(condition: Condition, path: str) -> None:
    if not all(condition.field.split(".")):
        raise _invalid(f"{path}.field", "must name a field; a dot stands between two names")
    match condition.test:
        case Equals(None):
            raise _invalid(f"{path}.equals", "must not be null; use exists = false")
        case In(values) if None in values:
            raise _invalid(f"{path}.in", "must not hold null; use exists = false")
        case Range():
            _check_range(condition.test, path)


def _check_range(test: Range, path: str) -> None:
    bounds = test.bounds()
    if not bounds:
        raise _invalid(f"{path}.range", "must have a bound: gt, gte, lt or lte")
    for name, bound in bounds:
        if _kind(bound) not in _ORDERED:
            raise _invalid(f"{path}.range.{name}", "must be a number or text")
        if _kind(bound) != _kind(bounds[0][1]):
            raise _invalid(f"{path}.range", "must not mix numbers and text")


def _invalid(path: str, rule: str) -> ServiceError:
    return ServiceError(Reason.FILTER_INVALID, f"{path} {rule}.", path=path, rule=rule)

"""What a filter means: whether a record's metadata match it. `filter_rules` says which are refused.

Types are compared as a caller would: 1 equals 1.0; true does not equal 1; text is ordered by code
point; values of different kinds are neither equal nor in order. A null counts as absent, and an
absent field passes no test but `exists = false` and `is_empty`. Where a field holds a list, one
entry that passes is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from services.vector.filter_rules import check_filter
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
from services.vector.values import kind_of, parse_moment, same

__all__ = ["check_filter", "matches", "passes", "values_at"]

_EMPTY: tuple[Value, ...] = ("", [], {})


def matches(filter: Filter, metadata: Mapping[str, Value]) -> bool:  # noqa: A002  (the word)
    """Whether a record's metadata match a filter that `check_filter` has let through."""
    match filter:
        case Condition(field, test):
            return passes(test, values_at(metadata, field))
        case All(filters):
            return all(matches(part, metadata) for part in filters)
        case AnyOf(filters):
            return any(matches(part, metadata) for part in filters)
        case Not(part):
            return not matches(part, metadata)
        case AtLeast(count, filters):
            return sum(matches(part, metadata) for part in filters) >= count
        case Nested(field, part):
            return any(matches(part, entry) for entry in maps_at(metadata, field))


def values_at(metadata: Mapping[str, Value], field: str) -> list[Value]:
    """What stands under a field, nulls left out; several values where `[]` steps into lists."""
    found: list[Value] = [dict(metadata)]
    for step in field.split("."):
        name, every = (step[:-2], True) if step.endswith("[]") else (step, False)
        found = [value[name] for value in found if isinstance(value, dict) and name in value]
        if every:
            found = [entry for value in found if isinstance(value, list) for entry in value]
    return [value for value in found if value is not None]


def maps_at(metadata: Mapping[str, Value], field: str) -> list[dict[str, Value]]:
    """The maps of a list under a field; a single map counts as a list of one."""
    found = [entry for value in values_at(metadata, field) for entry in _entries(value)]
    return [entry for entry in found if isinstance(entry, dict)]


def passes(test: Test, values: Sequence[Value]) -> bool:
    """Whether what stands under a field passes a test; nothing stands for an absent field."""
    match test:
        case Exists(present):
            return bool(values) == present
        case IsEmpty(empty):
            return all(any(same(value, none) for none in _EMPTY) for value in values) == empty
        case Except(unwanted):
            return bool(values) and not passes(In(unwanted), values)
        case _:
            return any(passes_one(test, entry) for value in values for entry in _entries(value))


def passes_one(test: Test, value: Value) -> bool:
    """Whether one value passes a test that looks at values."""
    match test:
        case Equals(wanted):
            return same(value, wanted)
        case In(wanted):
            return any(same(value, each) for each in wanted)
        case Range():
            return all(_within(name, bound, value) for name, bound in test.bounds())
        case Prefix(text):
            return isinstance(value, str) and value.startswith(text)
        case Moment():
            return _is_within(test, parse_moment(value))
        case _:
            raise AssertionError("this test looks at the field, not at its entries")


def _entries(value: Value) -> Iterator[Value]:
    """A value, and the entries of a list."""
    yield value
    if isinstance(value, list):
        yield from value


def _within(name: str, bound: Value, value: Value) -> bool:
    kind = kind_of(value)
    if kind not in {"number", "text"} or kind != kind_of(bound):
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


def _is_within(test: Moment, moment: int | None) -> bool:
    if moment is None:
        return False
    return not (
        (test.gt_ns is not None and moment <= test.gt_ns)
        or (test.gte_ns is not None and moment < test.gte_ns)
        or (test.lt_ns is not None and moment >= test.lt_ns)
        or (test.lte_ns is not None and moment > test.lte_ns)
    )

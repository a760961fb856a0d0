"""Which filters are refused, and in what words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from services.common.errors import Reason, ServiceError
from services.common.limits import FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    Condition,
    Equals,
    Except,
    Filter,
    In,
    Moment,
    Nested,
    Not,
    Prefix,
    Range,
    Test,
    Value,
)
from services.vector.values import kind_of

_ORDERED = {"number", "text"}
_STEP = re.compile(r"[^.\[\]]+(\[\])?")
FIELD_BYTES_MAX = 1024


def check_filter(filter: Filter) -> None:  # noqa: A002  (the contract's word)
    """Refuse a filter that breaks a rule.

    Raises:
        ServiceError: FILTER_INVALID with the path of the part at fault.
    """
    count = 0
    for path, depth, part in _walk(filter, "filter", 1):
        if depth > FILTER_DEPTH_MAX:
            raise _invalid(path, f"is nested deeper than {FILTER_DEPTH_MAX} levels")
        if isinstance(part, Condition):
            count += 1
            check_field(part.field, path)
            _check_test(part.test, path)
        elif isinstance(part, Nested):
            check_field(part.field, path)
        elif isinstance(part, AtLeast) and not 1 <= part.count <= len(part.filters):
            raise _invalid(
                path, f"asks for {part.count} of {len(part.filters)} filters; it must be 1 to that"
            )
    if count > FILTER_CONDITIONS_MAX:
        raise _invalid("filter", f"has {count} conditions; the limit is {FILTER_CONDITIONS_MAX}")


def check_field(field: str, path: str) -> None:
    """Refuse a path that no field can have.

    Raises:
        ServiceError: FILTER_INVALID.
    """
    if len(field.encode()) > FIELD_BYTES_MAX:
        raise _invalid(f"{path}.field", f"must have at most {FIELD_BYTES_MAX} bytes")
    if not all(map(_STEP.fullmatch, field.split("."))):
        raise _invalid(
            f"{path}.field",
            "must name a field; a dot stands between two names, and [] at the end of one",
        )


def _walk(part: Filter, path: str, depth: int) -> Iterator[tuple[str, int, Filter]]:
    """Every part with its path and depth; nothing below one that is already too deep."""
    yield path, depth, part
    if depth > FILTER_DEPTH_MAX:
        return
    for name, child in _children(part):
        yield from _walk(child, f"{path}.{name}", depth + 1)


def _children(part: Filter) -> Iterator[tuple[str, Filter]]:
    match part:
        case All(filters):
            yield from ((f"all[{n}]", child) for n, child in enumerate(filters))
        case AnyOf(filters):
            yield from ((f"any[{n}]", child) for n, child in enumerate(filters))
        case AtLeast(_, filters):
            yield from ((f"should[{n}]", child) for n, child in enumerate(filters))
        case Not(child):
            yield "not", child
        case Nested(_, child):
            yield "nested", child
        case Condition():
            pass


def _check_test(test: Test, path: str) -> None:
    if not all(map(_is_finite, _operands(test))):
        raise _invalid(path, "must hold finite numbers only")
    match test:
        case Equals(None):
            raise _invalid(f"{path}.equals", "must not be null; use exists = false")
        case In(values) if None in values:
            raise _invalid(f"{path}.in", "must not hold null; use exists = false")
        case Except(values) if None in values:
            raise _invalid(f"{path}.except", "must not hold null; use exists = true")
        case Prefix(""):
            raise _invalid(f"{path}.prefix", "must not be empty")
        case Range():
            _check_range(test, path)
        case Moment(gt_ns=None, gte_ns=None, lt_ns=None, lte_ns=None):
            raise _invalid(f"{path}.time", "must have a bound: gt, gte, lt or lte")
        case _:
            pass


def _operands(test: Test) -> list[Value]:
    match test:
        case Equals(value):
            return [value]
        case In(values) | Except(values):
            return list(values)
        case Range():
            return [bound for _, bound in test.bounds()]
        case _:
            return []


def _is_finite(value: Value) -> bool:
    """Whether a value could stand in a record; what is in no order must not reach a comparison."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _check_range(test: Range, path: str) -> None:
    bounds = test.bounds()
    if not bounds:
        raise _invalid(f"{path}.range", "must have a bound: gt, gte, lt or lte")
    for name, bound in bounds:
        if kind_of(bound) not in _ORDERED:
            raise _invalid(f"{path}.range.{name}", "must be a number or text")
        if kind_of(bound) != kind_of(bounds[0][1]):
            raise _invalid(f"{path}.range", "must not mix numbers and text")


def _invalid(path: str, rule: str) -> ServiceError:
    return ServiceError(Reason.FILTER_INVALID, f"{path} {rule}.", path=path, rule=rule)

"""Row filters of keys: what a key's records must match, checked once, when the key is made.

The vector process checks filters again at each call and refuses what is unfit, so that a key whose
filter slipped through here sees nothing rather than everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llmspell.v1.policy_pb2 import Policy
from llmspell.v1.tenant_pb2 import CreateApiKeyRequest
from llmspell.v1.types_pb2 import Condition, Filter, Range, Value

from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.limits import (
    FILTER_CONDITIONS_MAX,
    FILTER_DEPTH_MAX,
    ROW_FILTER_BYTES_MAX,
)
from services.common.values import to_python

_FIELD = "row_filter"
_BOUNDS = ("gt", "gte", "lt", "lte")
_NUMBERS = {"int_value", "double_value"}


def checked_row_filter(request: CreateApiKeyRequest | Policy) -> bytes:
    """The filter of a key or a policy as it is kept: the same filter, the same bytes; empty: none.

    Raises:
        ServiceError: LIMIT_EXCEEDED, FIELD_INVALID or FILTER_INVALID; the path says where.
    """
    if not request.HasField(_FIELD):
        return b""
    size = request.row_filter.ByteSize()
    if size > ROW_FILTER_BYTES_MAX:
        raise limit_exceeded(_FIELD, size, ROW_FILTER_BYTES_MAX, "bytes")
    conditions = sum(1 for _ in _conditions(request.row_filter, _FIELD, 1))
    if conditions > FILTER_CONDITIONS_MAX:
        rule = f"has {conditions} conditions; the limit is {FILTER_CONDITIONS_MAX}"
        raise _invalid(_FIELD, rule)
    return request.row_filter.SerializeToString(deterministic=True)


def _conditions(message: Filter, path: str, depth: int) -> Iterator[Condition]:
    """Every condition, each part checked on the way."""
    if depth > FILTER_DEPTH_MAX:
        raise _invalid(path, f"is nested deeper than {FILTER_DEPTH_MAX} levels")
    if message.WhichOneof("kind") == "condition":
        _check_condition(message.condition, path)
        yield message.condition
    for name, child in _children(message, path):
        yield from _conditions(child, f"{path}.{name}", depth + 1)


def _children(message: Filter, path: str) -> Iterable[tuple[str, Filter]]:
    match message.WhichOneof("kind"):
        case "all":
            return _named("all", message.all.filters)
        case "any":
            return _named("any", message.any.filters)
        case "not":
            return [("not", getattr(message, "not"))]
        case "nested":
            _check_field(message.nested.field, f"{path}.nested")
            return [("nested", message.nested.filter)]
        case "clauses":
            return _clauses(message, path)
        case "condition":
            return ()
        case _:
            raise _invalid(path, "must be all, any, not, clauses, nested or a condition")


def _clauses(message: Filter, path: str) -> list[tuple[str, Filter]]:
    clauses = message.clauses
    if not 0 <= clauses.min_should <= len(clauses.should):
        rule = f"must be at most {len(clauses.should)}, which is how many there are in should"
        raise _invalid(f"{path}.min_should", rule)
    return [
        *_named("must", clauses.must),
        *_named("should", clauses.should),
        *_named("must_not", clauses.must_not),
    ]


def _named(name: str, filters: Sequence[Filter]) -> list[tuple[str, Filter]]:
    return [(f"{name}[{number}]", child) for number, child in enumerate(filters)]


def _check_condition(condition: Condition, path: str) -> None:
    _check_field(condition.field, path)
    test = condition.WhichOneof("test")
    path = f"{path}.{test}"
    match test:
        case None:
            raise _invalid(path.rpartition(".")[0], "must have a test")
        case "equals":
            _check_values([condition.equals], path)
        case "in" | "except":
            _check_values(getattr(condition, test).values, path)
        case "prefix" if not condition.prefix:
            raise _invalid(path, "must not be empty")
        case "range":
            _check_range(condition.range, path)
        case "time" if not any(map(condition.time.HasField, _BOUNDS)):
            raise _invalid(path, "must have a bound: gt, gte, lt or lte")
        case _:
            pass


def _check_field(field: str, path: str) -> None:
    if not all(field.split(".")):
        raise _invalid(f"{path}.field", "must name a field; a dot stands between two names")


def _check_values(values: Iterable[Value], path: str) -> None:
    for value in values:
        if to_python(value, path) is None:
            raise _invalid(path, "must not be null; use exists")


def _check_range(bounds: Range, path: str) -> None:
    kinds = set()
    for name in filter(bounds.HasField, _BOUNDS):
        kind = getattr(bounds, name).WhichOneof("kind")
        to_python(getattr(bounds, name), f"{path}.{name}")
        if kind not in {*_NUMBERS, "string_value"}:
            raise _invalid(f"{path}.{name}", "must be a number or text")
        kinds.add("number" if kind in _NUMBERS else "text")
    if len(kinds) != 1:
        rule = "must not mix numbers and text" if kinds else "must have a bound: gt, gte, lt or lte"
        raise _invalid(path, rule)


def _invalid(path: str, rule: str) -> ServiceError:
    return ServiceError(Reason.FILTER_INVALID, f"{path} {rule}.", path=path, rule=rule)

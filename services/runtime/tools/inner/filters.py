"""Filters as tools take them: the contract's own, or fields and what they are equal to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import field_invalid

_KINDS = frozenset({"all", "any", "not", "condition", "clauses", "nested"})
_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": 'Only what matches: fields and their values, such as {"lang": "en", "year": '
    '{"gte": 2000}, "tag": ["a", "b"]}, or a Filter of the contract.',
}


def filter_tree(given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The contract's filter as a plain tree.

    Raises:
        ServiceError: FIELD_INVALID where a field's test is not known.
    """
    if given is None or given.keys() & _KINDS:
        return given
    conditions = [
        {"condition": {"field": field, **_test(field, wanted)}} for field, wanted in given.items()
    ]
    return {"all": {"filters": conditions}}


def _test(field: str, wanted: Any) -> Mapping[str, Any]:
    if isinstance(wanted, list):
        return {"in": wanted}
    if not isinstance(wanted, dict):
        return {"equals": wanted}
    if wanted and wanted.keys() <= _BOUNDS:
        return {"range": wanted}
    raise field_invalid(
        f"filter.{field}", "must be a value, a list of values, or gt, gte, lt or lte with numbers"
    )

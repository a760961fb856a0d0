r"""Puts values where a workflow's texts refer to them.

`{{inputs.city}}` in a text is replaced; a text that is nothing but one reference becomes the value
itself, a list, number or map among them. `\{{` stands for two braces. What is put in is never read
for references again, so no value can smuggle one in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.limits import VALUE_DEPTH_MAX, WORKFLOW_ARGUMENT_BYTES_MAX
from services.runtime.workflows.references import (
    Reference,
    ReferenceTextError,
    Values,
    find,
    parse_reference,
)

_BRACES = re.compile(r"\\\{\{|\{\{(.*?)\}\}", re.DOTALL)


def interpolate(value: Any, values: Values, *, limit: int = WORKFLOW_ARGUMENT_BYTES_MAX) -> Any:
    """A value with all of its texts' references replaced.

    Raises:
        ServiceError: WORKFLOW_REFERENCE_MISSING where one stands for nothing, LIMIT_EXCEEDED where
            the whole becomes larger than `limit` bytes, counted as JSON roughly.
    """
    budget = _Budget(limit)
    return _replaced(value, values, budget)


def references_of(value: Any) -> Iterator[Reference]:
    """Every reference in the texts of a value.

    Raises:
        ReferenceTextError: at one that cannot be read.
    """
    for text in _texts(value):
        for part in _BRACES.finditer(text):
            if part[1] is not None:
                yield parse_reference(part[1])


def has_references(value: Any) -> bool:
    """Whether any text in it would be changed."""
    return any("{{" in text for text in _texts(value))


def as_text(value: Any) -> str:
    """A value as it stands in the middle of a text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(plain(value), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Layers of shared data and the like as dictionaries and lists that nobody else has."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    return value


def size_of(value: Any, *, most: int) -> int:
    """Bytes of a value, roughly as JSON; stops to count beyond `most`."""
    budget = _Budget(most)
    try:
        _count(value, budget)
    except ServiceError:
        return most + 1
    return most - budget.left


class _Budget:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise limit_exceeded("what the step is given", self.limit + 1, self.limit, "bytes")


def _replaced(value: Any, values: Values, budget: _Budget, depth: int = 0) -> Any:
    if depth > VALUE_DEPTH_MAX:
        raise limit_exceeded("what the step is given (depth)", depth, VALUE_DEPTH_MAX, "levels")
    if isinstance(value, str):
        return _text(value, values, budget)
    if isinstance(value, Mapping):
        replaced: dict[str, Any] = {}
        for key, entry in value.items():
            budget.take(len(key) + 4)
            replaced[key] = _replaced(entry, values, budget, depth + 1)
        return replaced
    if isinstance(value, list | tuple):
        return [_replaced(entry, values, budget, depth + 1) for entry in value]
    _count(value, budget)
    return value


def _text(text: str, values: Values, budget: _Budget) -> Any:
    if "{{" not in text:
        budget.take(len(text) + 2)
        return text
    whole = _BRACES.fullmatch(text)
    if whole is not None and whole[1] is not None and "}}" not in whole[1]:
        found = plain(_find(whole[1], values))
        _count(found, budget)
        return found

    def put(part: re.Match[str]) -> str:
        if part[1] is None:
            return "{{"
        told = as_text(_find(part[1], values))
        budget.take(len(told))
        return told

    budget.take(len(text))
    return _BRACES.sub(put, text)


def _find(text: str, values: Values) -> Any:
    try:
        reference = parse_reference(text)
    except ReferenceTextError as error:
        raise _unreadable(error) from None
    return find(reference, values)


def _unreadable(error: ReferenceTextError) -> ServiceError:
    return ServiceError(Reason.WORKFLOW_INVALID, f"{{{{…}}}}: {error}.")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)


def _count(value: Any, budget: _Budget, depth: int = 0) -> None:
    if depth > VALUE_DEPTH_MAX:
        raise limit_exceeded("a value (depth)", depth, VALUE_DEPTH_MAX, "levels")
    if isinstance(value, str | bytes):
        budget.take(len(value) + 2)
    elif isinstance(value, Mapping):
        budget.take(2)
        for key, entry in value.items():
            budget.take(len(str(key)) + 4)
            _count(entry, budget, depth + 1)
    elif isinstance(value, Sequence):
        budget.take(2)
        for entry in value:
            _count(entry, budget, depth + 1)
    else:
        budget.take(8)

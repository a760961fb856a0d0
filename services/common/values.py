"""`Value` of the contract ⇄ plain Python: None, bool, int, float, str, bytes, list, dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmspell.v1.types_pb2 import Value

from services.common.errors import field_invalid, limit_exceeded
from services.common.limits import VALUE_DEPTH_MAX

_SCALARS = {
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
    str: "string_value",
    bytes: "bytes_value",
}


def to_python(value: Value, field: str, *, depth: int = 1) -> Any:
    """The Python value of a message; an unset one is None.

    Args:
        value: The message.
        field: Its name in the request, for errors.
        depth: How deep it stands in another value, itself counted.

    Raises:
        ServiceError: FIELD_INVALID where a number is not finite, LIMIT_EXCEEDED where it is nested
            too deep.
    """
    if depth > VALUE_DEPTH_MAX:
        raise limit_exceeded(f"{field} (depth)", depth, VALUE_DEPTH_MAX, "levels")
    match value.WhichOneof("kind"):
        case None:
            return None
        case "list_value":
            entries = enumerate(value.list_value.values)
            return [to_python(entry, f"{field}[{n}]", depth=depth + 1) for n, entry in entries]
        case "map_value":
            return map_to_python(value.map_value.fields, field, depth=depth + 1)
        case "double_value" if not math.isfinite(value.double_value):
            raise field_invalid(field, "must be a finite number")
        case kind:
            return getattr(value, kind)


def map_to_python(fields: Mapping[str, Value], field: str, *, depth: int = 1) -> dict[str, Any]:
    """A dictionary from a message's map of values.

    Raises:
        ServiceError: as `to_python`.
    """
    return {key: to_python(entry, f"{field}.{key}", depth=depth) for key, entry in fields.items()}


def to_value(value: Any) -> Value:
    """The message of a Python value.

    Raises:
        TypeError: where it is of no such kind.
        ValueError: where a number is not finite, or has more than 64 bits.
    """
    message = Value()
    _fill(message, value)
    return message


def fill_map(fields: Any, values: Mapping[str, Any]) -> None:
    """Put a dictionary into a message's map of values.

    Raises:
        TypeError: where an entry is of no known kind.
        ValueError: where a number does not fit.
    """
    for key, entry in values.items():
        _fill(fields[key], entry)


def _fill(message: Value, value: Any) -> None:
    if value is None:
        return
    field = _SCALARS.get(type(value))
    if field == "double_value" and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if field is not None:
        setattr(message, field, value)
    elif isinstance(value, Mapping):
        message.map_value.SetInParent()
        fill_map(message.map_value.fields, value)
    elif isinstance(value, Sequence):
        message.list_value.SetInParent()
        for entry in value:
            _fill(message.list_value.values.add(), entry)
    else:
        raise TypeError(f"{type(value).__name__} is no kind of value")

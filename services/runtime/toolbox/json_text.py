"""JSON of strangers: strict, with numbers that every client can hold."""

from __future__ import annotations

import json
import math
from typing import Any

from services.runtime.toolbox.model import field_invalid

INTEGERS = range(-(2**63), 2**63)


def parse(source: str | bytes, *, field: str) -> Any:
    """The value that a JSON text holds. A whole number past 64 bits becomes a float.

    Raises:
        ToolError: FIELD_INVALID naming line and column.
    """
    try:
        value = json.loads(source, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise field_invalid(
            field, f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise field_invalid(field, f"is not JSON: {_why(error)}") from None
    _check_letters(value, field)
    return value


def _check_letters(value: Any, field: str) -> None:
    r"""A `\ud800` alone is half a letter, which no text can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise field_invalid(field, "is not JSON: it has half a surrogate pair") from None


def given(value: Any, *, field: str) -> Any:
    """The value itself, or what it holds where it is a JSON text.

    Raises:
        ToolError: FIELD_INVALID.
    """
    return parse(value, field=field) if isinstance(value, str | bytes) else value


def fitting(value: Any) -> Any:
    """The same with numbers that fit: no whole number past 64 bits, nothing infinite."""
    if isinstance(value, dict):
        return {name: fitting(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [fitting(inner) for inner in value]
    if isinstance(value, int) and value not in INTEGERS:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _why(error: Exception) -> str:
    return "it nests too deeply" if isinstance(error, RecursionError) else str(error)


def _integer(digits: str) -> int | float:
    # Python reads no number of many thousand digits; nor does anybody need one.
    if len(digits) > 400:  # noqa: PLR2004 - longer than the longest float
        raise ValueError("a number is too large")
    number = int(digits)
    return number if number in INTEGERS else _finite(float(number))


def _float(digits: str) -> float:
    return _finite(float(digits))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")

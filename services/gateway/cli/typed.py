"""Values that are typed at the command line: NAME=VALUE, and JSON where it parses."""

from __future__ import annotations

import json
from typing import Any

import typer


def pair(argument: str, what: str) -> tuple[str, str]:
    """Name and value of NAME=VALUE; `what` is what a refusal calls it."""
    name, equals, text = argument.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{what} must be NAME=VALUE, not {argument!r}")
    return name, text


def value(text: str) -> Any:
    """What JSON it is, else the text itself."""
    try:
        return _parsed(text)
    except (ValueError, RecursionError):
        return text


def json_object(text: str | None, option: str) -> dict[str, Any]:
    """The JSON object that an option was given; an empty one where it was not."""
    if text is None:
        return {}
    try:
        found = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint=option) from None
    if not isinstance(found, dict):
        raise typer.BadParameter("must be a JSON object", param_hint=option)
    return found


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)

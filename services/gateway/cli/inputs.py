"""What people type, as values: filters, times, spans of time."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

FilterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="JSON",
        help='Such as {"lang": "en", "year": {"gte": 2000}}, or {"must": [...]} as in Qdrant.',
    ),
]
AsOfOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME", help="As it was then, within the history kept."),
]
SinceOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Of what happened at that time or later.")
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Of what happened before that time.")
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_filter(text: str | None, option: str = "--filter") -> Any:
    """A filter from JSON; what it says is checked by the client.

    Raises:
        InvalidArgument: FILTER_INVALID where it is not JSON.
    """
    if text is None:
        return None
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{option} is not JSON: {error}."
        raise InvalidArgument(message, reason="FILTER_INVALID") from None


def parse_time(text: str | None, option: str) -> datetime | None:
    """A moment in ISO 8601; a date means its first instant, and UTC where no zone is named.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2024-05-31 or 2024-05-31T12:00:00Z", param_hint=option
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_span(
    since: str | None, until: str | None
) -> tuple[datetime | None, datetime | None] | None:
    """From one moment to another; None where neither is given.

    Raises:
        typer.BadParameter: one is none.
    """
    if since is None and until is None:
        return None
    return parse_time(since, "--since"), parse_time(until, "--until")


def parse_duration(text: str | None, option: str) -> float | None:
    """Seconds from `90`, `90s`, `15m`, `36h`, `30d` or `2w`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no length of time; write 90s, 15m, 36h, 30d or 2w", param_hint=option
        )
    return float(match[1]) * _SECONDS[match[2]]

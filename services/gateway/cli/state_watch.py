"""`llmspell state watch`: a tenant's item changes as they happen."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import say, show_line, to_plain
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import StateChange, StateChanges

_SHOWN_LENGTH = 60


def watch(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this.")] = "",
    *,
    scope: Annotated[
        str | None, typer.Option("--scope", help="Only this scope.", show_default="all")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(metavar="REVISION", help="Begin after this.", show_default="from now on"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after so many changes.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print changes of items as they happen, one a line, until Ctrl-C."""
    left = limit
    with connect(context, tenant) as client:
        changes = client.watch_state(prefix, scope=scope, after=after, values=True, progress=True)
        with closing(changes):
            for number, told in enumerate(changes):
                if number == 0:
                    say(f"Watching after revision {told.revision}.", "dim")
                _show(told, left, as_json=as_json)
                left = None if left is None else left - len(told.changes)
                if left is not None and left <= 0:
                    return


def _show(told: StateChanges, most: int | None, *, as_json: bool) -> None:
    for change in told.changes[:most]:
        if as_json:
            sys.stdout.write(json.dumps(to_plain(change), ensure_ascii=False) + "\n")
        else:
            show_line(_line(change))
    sys.stdout.flush()


def _line(change: StateChange) -> str:
    if change.kind == "purge":
        return f"{change.revision} purge"
    return f"{change.revision} {change.kind} {change.scope} {change.key}{_value(change)}"


def _value(change: StateChange) -> str:
    if change.item is None:
        return ""
    value = change.item.value
    if change.item.encoding == "raw":
        return f" = {len(value)} bytes"
    text = value if change.item.encoding == "text" else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return f" = {line if len(line) <= _SHOWN_LENGTH else line[: _SHOWN_LENGTH - 1] + '…'}"

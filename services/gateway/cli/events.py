"""`llmspell event`: what happened in a tenant, and telling of it."""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import say, show_json, show_line, show_table, to_plain
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Event, Events

app = typer.Typer(no_args_is_help=True, help="Events of a tenant.")

_SHOWN_LENGTH = 60

PatternArgument = Annotated[str, typer.Argument(help="Which types; * stands for any text.")]


@app.command("publish")
def publish(
    context: typer.Context,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Such as order.paid.")],
    data: Annotated[str, typer.Argument(help="JSON where it parses, else text.")] = "null",
    *,
    correlation_id: Annotated[str, typer.Option(help="What ties it to others.")] = "",
    source: Annotated[str, typer.Option(help="Who says so.")] = "",
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Nobody sees it after so long.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish one event."""
    with connect(context, tenant) as client:
        sequence = client.publish_event(
            type_, _read_data(data), correlation_id=correlation_id, source=source, ttl_s=ttl
        )
    if as_json:
        show_json({"type": type_, "sequence": sequence})
    else:
        show_line(f"{type_} is published as {sequence}.")


@app.command("list")
def list_events(
    context: typer.Context,
    pattern: PatternArgument = "*",
    *,
    after: Annotated[
        int, typer.Option(metavar="SEQUENCE", min=0, help="Only what comes after this.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events that are kept, the oldest first."""
    with connect(context, tenant) as client:
        events = list(itertools.islice(client.list_events(pattern, after=after), limit))
    if as_json:
        show_json(events)
    elif events:
        rows = [
            [str(one.sequence), str(to_plain(one.time)), one.type, _short(one.data)]
            for one in events
        ]
        show_table(["sequence", "time", "type", "data"], rows, numbers=(0,))
    else:
        say("There are no such events.")


@app.command("tail")
def tail(
    context: typer.Context,
    pattern: PatternArgument = "*",
    *,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="SEQUENCE", min=0, help="Begin after this.", show_default="from now on"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after so many events.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print events as they happen, one a line, until Ctrl-C."""
    left = limit
    with connect(context, tenant) as client:
        told = client.subscribe_events(pattern, after=after, skip=True, progress=True)
        with closing(told):
            for number, events in enumerate(told):
                if number == 0:
                    say(f"Events after {events.sequence}.", "dim")
                left = _show(events, left, as_json=as_json)
                if left == 0:
                    return


def _show(events: Events, left: int | None, *, as_json: bool) -> int | None:
    """Print what came; how many are left to print."""
    if events.skipped is not None:
        count = events.skipped.event_count
        some = "Some" if count is None else f"{count:,}"
        say(f"{some} events were let go before they were seen.", "yellow")
    shown = events.events[:left]
    for event in shown:
        if as_json:
            sys.stdout.write(json.dumps(to_plain(event), ensure_ascii=False) + "\n")
        else:
            show_line(_line(event))
    sys.stdout.flush()
    return None if left is None else left - len(shown)


def _line(event: Event) -> str:
    tie = f" [{event.correlation_id}]" if event.correlation_id else ""
    return f"{to_plain(event.time)} {event.type}{tie} {_short(event.data)}"


def _short(data: Any) -> str:
    text = " ".join(json.dumps(data, ensure_ascii=False).split())
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _read_data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

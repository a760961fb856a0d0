"""`llmspell state`: a tenant's items."""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli import state_places
from services.gateway.cli.output import (
    say,
    show_json,
    show_line,
    show_raw,
    show_table,
    to_plain,
)
from services.gateway.cli.state_watch import watch
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Item

app = typer.Typer(no_args_is_help=True, help="Keys and values of a tenant.")
app.command("watch")(watch)
app.command("copy")(state_places.copy)
app.command("move")(state_places.move)
app.command("clear")(state_places.clear)
app.command("increment", context_settings={"ignore_unknown_options": True})(state_places.increment)
app.command("resolve")(state_places.resolve)

_SHOWN_LENGTH = 60

KeyArgument = Annotated[str, typer.Argument(help="Key.")]


@app.command("get")
def get(
    context: typer.Context,
    key: KeyArgument,
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one item's value: JSON as JSON, text and bytes as they are."""
    with connect(context, tenant) as client:
        item = client.get_state(key, scope=scope)
    if item is None:
        raise _no_item(key, scope)
    if as_json:
        show_json(item)
    elif item.encoding == "json":
        show_json(item.value)
    elif item.encoding == "text":
        show_line(item.value)
    else:
        show_raw(item.value)


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    context: typer.Context,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="JSON where it parses, else text; - reads stdin.")],
    *,
    scope: ScopeOption = "global",
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Ends so long from now.")
    ] = None,
    sensitive: Annotated[
        bool, typer.Option("--sensitive", help="Keep it out of logs, events, errors and exports.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one item."""
    content, is_text = _read_value(value)
    with connect(context, tenant) as client:
        revision = client.set_state(
            key, content, scope=scope, ttl_s=ttl, text=is_text, sensitive=sensitive
        )
    if as_json:
        show_json({"key": key, "scope": scope, "revision": revision})
    else:
        show_line(f"{key} is set at revision {revision}.")


@app.command("delete")
def delete(
    context: typer.Context,
    key: KeyArgument,
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one item; one that is not there is no error."""
    with connect(context, tenant) as client:
        deleted = client.delete_state(key, scope=scope)
    if as_json:
        show_json({"key": key, "scope": scope, "deleted": deleted})
    else:
        show_line(f"{key} is deleted." if deleted else f"{key} was not there.")


@app.command("list")
def list_items(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this.")] = "",
    *,
    scope: ScopeOption = "global",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List items in order of key; what is sensitive is shown by `get`, and here with --json."""
    with connect(context, tenant) as client:
        items = list(itertools.islice(client.list_state(prefix, scope=scope), limit))
    if as_json:
        show_json(items)
    elif items:
        headings = ["key", "value", "revision", "ends"]
        show_table(headings, [_row(item) for item in items], numbers=(2,))
    else:
        say(f"There are no items in {scope}.")


def _no_item(key: str, scope: str) -> Any:
    from llmspell.errors import NotFound  # noqa: PLC0415  (slow to import)

    return NotFound(f"There is no item {key!r} in {scope}.", reason="ITEM_NOT_FOUND")


def _read_value(argument: str) -> tuple[Any, bool]:
    """The value, and whether it is to be kept as text."""
    if argument == "-":
        raw = sys.stdin.buffer.read()
        try:
            argument = raw.decode()
        except UnicodeDecodeError:
            return raw, False
    try:
        return json.loads(argument, parse_constant=_no_constant), False
    except (ValueError, RecursionError):
        return argument, True


def _no_constant(name: str) -> Any:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


def _row(item: Item) -> list[str]:
    text = item.value
    if item.encoding == "json":
        text = json.dumps(item.value, ensure_ascii=False)
    elif item.encoding == "raw":
        text = f"{len(item.value)} bytes"
    line = "(sensitive)" if item.sensitive else " ".join(text.split())
    shown = line if len(line) <= _SHOWN_LENGTH else line[: _SHOWN_LENGTH - 1] + "…"
    ends = to_plain(item.expire_time) if item.expire_time else "never"
    return [item.key, shown, str(item.revision), ends]

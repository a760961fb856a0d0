"""`llmspell state copy`, `move`, `clear`, `increment` and `resolve`."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import show_count, show_json, show_line, show_raw, to_plain
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Item

KeyArgument = Annotated[str, typer.Argument(help="Key; leave it out for the whole scope.")]
ToKeyArgument = Annotated[str, typer.Argument(help="Key to write to; else the same.")]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="SCOPE", help="Scope to write to; else the same.")
]
PrefixOption = Annotated[
    str, typer.Option("--prefix", help="Of a whole scope: only keys that begin with this.")
]
IfAbsentOption = Annotated[
    bool, typer.Option("--if-absent", help="Refuse where something would be written over.")
]


def copy(
    context: typer.Context,
    key: KeyArgument = "",
    to_key: ToKeyArgument = "",
    *,
    scope: ScopeOption = "global",
    to: ToOption = None,
    prefix: PrefixOption = "",
    if_absent: IfAbsentOption = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy an item, or all items of a scope, to another place."""
    target = scope if to is None else to
    with connect(context, tenant) as client:
        if key:
            client.copy_state(
                key, to_key or key, source_scope=scope, scope=target, if_absent=if_absent
            )
            count = 1
        else:
            count = client.copy_state_scope(scope, target, prefix=prefix, if_absent=if_absent)
    _tell("copied", count, as_json=as_json)


def move(
    context: typer.Context,
    key: KeyArgument = "",
    to_key: ToKeyArgument = "",
    *,
    scope: ScopeOption = "global",
    to: ToOption = None,
    prefix: PrefixOption = "",
    if_absent: IfAbsentOption = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move an item, or all items of a scope, to another place."""
    target = scope if to is None else to
    with connect(context, tenant) as client:
        if key:
            client.move_state(
                key, to_key or key, source_scope=scope, scope=target, if_absent=if_absent
            )
            count = 1
        else:
            count = client.move_state_scope(scope, target, prefix=prefix, if_absent=if_absent)
    _tell("moved", count, as_json=as_json)


def clear(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this.")] = "",
    *,
    scope: Annotated[str, typer.Option("--scope", help="Scope to clear.")],
    in_parts: Annotated[
        bool,
        typer.Option("--in-parts", help="More than 10,000 at once: call after call, not at once."),
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all items of a scope, or those under a prefix."""
    with connect(context, tenant) as client:
        count = client.clear_state(prefix, scope=scope, in_parts=in_parts)
    _tell("removed", count, as_json=as_json)


def increment(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Key.")],
    by: Annotated[str, typer.Argument(help="A number; one with a point is added exactly.")] = "1",
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add to a number, where none counts as 0, and print the sum."""
    with connect(context, tenant) as client:
        total = str(client.increment_state(key, _number(by), scope=scope))
    if as_json:
        show_json({"key": key, "scope": scope, "value": total})
    else:
        show_line(total)


def resolve(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Key.")],
    *,
    component: Annotated[
        str, typer.Option(metavar="SCOPE", help="Looked at first, such as agent:writer.")
    ] = "",
    workflow: Annotated[str, typer.Option(metavar="ID", help="Then this workflow.")] = "",
    session: Annotated[
        str, typer.Option(metavar="ID", help="Then this session; last global.")
    ] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the value of the nearest scope that has a key."""
    from llmspell.errors import NotFound  # noqa: PLC0415  (slow to import)

    with connect(context, tenant) as client:
        found = client.resolve_state(
            key, component=component, workflow_id=workflow, session_id=session
        )
    if found is None:
        raise NotFound(f"There is no item {key!r} in any of them.", reason="ITEM_NOT_FOUND")
    if as_json:
        show_json(found)
    else:
        _show_value(found.item)


def _show_value(item: Item) -> None:
    if item.encoding == "raw":
        show_raw(item.value)
    elif item.encoding == "text":
        show_line(item.value)
    else:
        show_line(json.dumps(to_plain(item.value), ensure_ascii=False))


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint="BY") from None


def _tell(done: str, count: int, *, as_json: bool) -> None:
    if as_json:
        show_json({f"{done}_count": count})
    else:
        show_line(f"{show_count(count, 'item')} {done}.")

"""`llmspell tenant`: the operator's commands for tenants."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.gateway.cli.admin import TenantArgument, confirm, plain_key, show_keys
from services.gateway.cli.output import (
    ExitCode,
    say,
    show_json,
    show_line,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, connect

if TYPE_CHECKING:
    from llmspell.types import DeletionReceipt, LimitChanges, RetentionChanges, Tenant

app = typer.Typer(no_args_is_help=True, help="Tenants, for the operator.")

_HEADINGS = ["tenant", "name", "status", "isolation", "made"]
_DAY_S = 86_400

NameOption = Annotated[str | None, typer.Option("--name", help="A name for people.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help="vectors, bytes, dimensions, requests_per_minute, tokens_per_minute, "
        "concurrent_calls, concurrent_runs, monthly_cost_usd or weight; 0: as the deployment "
        "gives. May be repeated.",
    ),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="WHAT=DAYS",
        help="How long events, backups or runs are kept; 0: as the deployment says. May be "
        "repeated.",
    ),
]
ProviderOption = Annotated[
    str | None,
    typer.Option(metavar="NAME/MODEL", help="Asked where an agent names no model."),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="Something to remember of it. May be repeated."),
]
NoteOption = Annotated[str, typer.Option(help="Why; its callers are told.")]


@app.command("create")
def create(
    context: typer.Context,
    tenant_id: TenantArgument,
    *,
    name: NameOption = None,
    isolation: Annotated[
        Literal["namespace", "database", "metadata", "hybrid"],
        typer.Option(help="How its vectors are kept apart; cannot be changed later."),
    ] = "namespace",
    limit: LimitOption = None,
    keep: KeepOption = None,
    default_provider: ProviderOption = None,
    metadata: MetadataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant."""
    limits, retention, entries = _limits(limit), _retention(keep), _pairs("--metadata", metadata)
    with connect(context) as client:
        tenant = client.create_tenant(
            tenant_id,
            display_name=name or "",
            isolation=isolation,
            limits=limits,
            retention=retention,
            default_provider=default_provider or "",
            metadata=entries,
        )
    _tell(tenant, "is made", as_json=as_json)


@app.command("list")
def list_(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List all tenants."""
    with connect(context) as client:
        found = list(client.list_tenants())
    if as_json:
        show_json(found)
    elif found:
        show_table(_HEADINGS, [_row(tenant) for tenant in found])
    else:
        say("There are no tenants. `llmspell tenant create ID` makes one.")


@app.command("show")
def show(context: typer.Context, tenant_id: TenantArgument, *, as_json: JsonOption = False) -> None:
    """Show a tenant, its limits and its keys."""
    with connect(context) as client:
        tenant = client.get_tenant(tenant_id)
        found = list(client.list_keys(tenant_id))
    if as_json:
        show_json({**to_plain(tenant), "keys": [plain_key(key) for key in found]})
        return
    show_table(_HEADINGS, [_row(tenant)])
    _show_details(tenant)
    if found:
        show_line("")
        show_keys(found)


@app.command("update")
def update(
    context: typer.Context,
    tenant_id: TenantArgument,
    *,
    name: NameOption = None,
    limit: LimitOption = None,
    keep: KeepOption = None,
    default_provider: ProviderOption = None,
    metadata: MetadataOption = None,
    remove_metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An entry to take away.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given and nothing else; limits hold everywhere within a second."""
    limits, retention, entries = _limits(limit), _retention(keep), _pairs("--metadata", metadata)
    with connect(context) as client:
        tenant = client.update_tenant(
            tenant_id,
            display_name=name,
            limits=limits,
            retention=retention,
            default_provider=default_provider,
            metadata=entries,
            removed_metadata=remove_metadata or (),
        )
    _tell(tenant, "is changed", as_json=as_json)


@app.command("suspend")
def suspend(
    context: typer.Context,
    tenant_id: TenantArgument,
    *,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Refuse its calls and end what runs; nothing of it is lost."""
    with connect(context) as client:
        tenant = client.suspend_tenant(tenant_id, note=note)
    _tell(tenant, "is suspended", as_json=as_json)


@app.command("freeze")
def freeze(
    context: typer.Context,
    tenant_id: TenantArgument,
    *,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Refuse its calls and take it out of memory; it can be shown and exported."""
    with connect(context) as client:
        tenant = client.freeze_tenant(tenant_id, note=note)
    _tell(tenant, "is frozen", as_json=as_json)


@app.command("resume")
def resume(
    context: typer.Context, tenant_id: TenantArgument, *, as_json: JsonOption = False
) -> None:
    """Take the calls of a suspended or frozen tenant again."""
    with connect(context) as client:
        tenant = client.resume_tenant(tenant_id)
    _tell(tenant, "takes calls again", as_json=as_json)


@app.command("delete")
def delete(
    context: typer.Context,
    tenant_id: TenantArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a tenant, its keys and everything it has stored. There is no way back."""
    if not yes:
        confirm(f"Remove the tenant {tenant_id} with all its data and keys?")
    with connect(context) as client:
        deleted = client.delete_tenant(tenant_id)
    if as_json:
        show_json({"tenant_id": tenant_id, **to_plain(deleted)})
    else:
        show_line(
            f"The tenant {tenant_id} is removed, with {deleted.item_count} items, "
            f"{deleted.record_count} records and {deleted.key_count} keys."
        )
        if deleted.receipt is not None:
            _show_receipt(deleted.receipt)


@app.command("receipt")
def receipt(
    context: typer.Context,
    tenant_id: TenantArgument,
    receipt_id: Annotated[
        str, typer.Argument(metavar="[RECEIPT]", help="Which; the last one where none is named.")
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what was erased of a tenant that was removed; exit code 1 where something was left."""
    with connect(context) as client:
        found = client.get_deletion_receipt(tenant_id, receipt_id)
    if as_json:
        show_json(found)
    else:
        _show_receipt(found)
    if not found.complete:
        raise typer.Exit(ExitCode.PARTIAL)


def _show_receipt(found: DeletionReceipt) -> None:
    rows = [
        [part.process, part.what, str(part.erased_count), str(part.left_count), part.note]
        for part in found.parts
    ]
    show_table(["process", "what", "erased", "left", "note"], rows, numbers=(2, 3))
    ended = f"{found.end_time:%Y-%m-%d %H:%M:%S} UTC" if found.end_time else ""
    left = "nothing is left" if found.complete else "something is left: see the notes"
    say(f"Receipt {found.receipt_id} of {found.tenant_id}, {ended}: {left}.")


def _tell(tenant: Tenant, what: str, *, as_json: bool) -> None:
    if as_json:
        show_json(tenant)
    else:
        show_line(f"The tenant {tenant.tenant_id} {what}.")


def _show_details(tenant: Tenant) -> None:
    """What differs from what every tenant has."""
    if tenant.status_note:
        show_line(f"note: {tenant.status_note}")
    for name, figure in to_plain(tenant.limits).items():
        if figure != (1 if name == "weight" else 0):
            show_line(f"limit {name}: {figure}")
    for name, seconds in to_plain(tenant.retention).items():
        if seconds:
            show_line(f"keeps {name.removesuffix('_s')}: {seconds / _DAY_S:g} days")
    if tenant.default_provider:
        show_line(f"default provider: {tenant.default_provider}")
    for name, text in tenant.metadata.items():
        show_line(f"metadata {name}: {text}")


def _row(tenant: Tenant) -> list[str]:
    made = _made(tenant.create_time)
    return [tenant.tenant_id, tenant.display_name, tenant.status, tenant.isolation, made]


def _made(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _limits(given: list[str] | None) -> LimitChanges | None:
    """Limits of the command line; None where there are none."""
    from llmspell.types import TenantLimits  # noqa: PLC0415  (slow to import)

    known = TenantLimits()
    limits: LimitChanges = {}
    for name, text in _pairs("--limit", given).items():
        if not hasattr(known, name):
            raise typer.BadParameter(f"there is no limit {name}", param_hint="--limit")
        kind = type(getattr(known, name))
        try:
            limits[name] = kind(text)  # type: ignore[literal-required]  # it is one of them
        except ValueError:
            word = "whole number" if kind is int else "number"
            raise typer.BadParameter(
                f"{name} must be a {word}, not {text!r}", param_hint="--limit"
            ) from None
    return limits or None


def _retention(given: list[str] | None) -> RetentionChanges | None:
    """Days of the command line in seconds; None where there are none."""
    retention: RetentionChanges = {}
    for name, text in _pairs("--keep", given).items():
        if name not in ("events", "backups", "runs"):
            raise typer.BadParameter(
                f"there are events, backups and runs, not {name}", param_hint="--keep"
            )
        try:
            retention[f"{name}_s"] = float(text) * _DAY_S  # type: ignore[literal-required]
        except ValueError:
            raise typer.BadParameter(
                f"{name} must be a number of days, not {text!r}", param_hint="--keep"
            ) from None
    return retention or None


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`NAME=TEXT` as often as it was given."""
    pairs: dict[str, str] = {}
    for each in given or ():
        name, sign, text = each.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{each!r} must be NAME=VALUE", param_hint=option)
        pairs[name] = text
    return pairs

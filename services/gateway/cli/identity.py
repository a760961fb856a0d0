"""`llmspell key rotate`, `llmspell token` and `llmspell grant`: credentials that come and go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.inputs import parse_duration, parse_time
from services.gateway.cli.output import say, show_json, show_line, show_table
from services.gateway.cli.target import JsonOption, connect

if TYPE_CHECKING:
    from llmspell.types import Grant

grants = typer.Typer(
    no_args_is_help=True, help="The operator's access to tenants' data, for the operator."
)

ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="When it ends: 30d from now, or 2027-01-31."),
]
ScopesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="PERMISSION",
        help="Such as vector.read: no others. May be repeated; else all that the roles give.",
    ),
]
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]


def parse_end(text: str | None, option: str = "--expires") -> datetime | None:
    """When something ends, from a length of time or a moment.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None:
        return None
    if text.strip()[:5].rstrip("-").isdigit() and "-" in text:
        return parse_time(text, option)
    seconds = parse_duration(text, option) or 0.0
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too far away", param_hint=option) from None


def rotate_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Public part of the key.")],
    *,
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN", help="How long the secret before is taken too: 1d, or 0 for not at all."
        ),
    ] = None,
    expires: ExpiresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and print it; the one before is taken for a day more."""
    overlap_s, end = parse_duration(overlap, "--overlap"), parse_end(expires)
    with connect(context) as client:
        rotated = client.rotate_key(key_id, overlap_s=overlap_s, expire_time=end)
    until = rotated.api_key.previous_expire_time
    if as_json:
        show_json({"key": rotated.key, "key_id": rotated.api_key.key_id, "previous_until": until})
        return
    show_line(rotated.key)
    if until is not None and overlap_s != 0:
        say(f"The secret before is taken until {_when(until)}.")
    say("This one is not shown again; keep it somewhere safe.")


def token(
    context: typer.Context,
    *,
    scope: ScopesOption = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(help="gateway, runtime, vector or state; may be repeated. Else all."),
    ] = None,
    lifetime: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Such as 60s; 5m at most, which is usual.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Exchange the key for a token of a few minutes and print it."""
    lifetime_s = parse_duration(lifetime, "--lifetime")
    with connect(context) as client:
        made = client.exchange_token(
            scopes=scope or (), audience=audience or (), lifetime_s=lifetime_s
        )
    if as_json:
        show_json(
            {"token": made.token, "expire_time": made.expire_time, "permissions": made.permissions}
        )
    else:
        show_line(made.token)
        say(f"Good until {_when(made.expire_time)}.")


@grants.command("create")
def create_grant(
    context: typer.Context,
    tenant: TenantArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is in the audit log.")],
    role: Annotated[
        list[str] | None, typer.Option(help="reader (default), writer or admin; may be repeated.")
    ] = None,
    scope: ScopesOption = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="Such as 15m; else 1h. 1d at most.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let the operator at a tenant's data for a while."""
    duration_s = parse_duration(duration, "--for")
    with connect(context) as client:
        grant = client.grant_access(
            tenant, reason=reason, roles=role or (), scopes=scope or (), duration_s=duration_s
        )
    if as_json:
        show_json(grant)
    else:
        show_line(f"The operator sees the data of {tenant} until {_when(grant.expire_time)}.")


@grants.command("list")
def list_grants(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="[TENANT]", help="Whose; else all.")] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """List what the operator was let at, and why."""
    with connect(context) as client:
        found = list(client.list_grants(tenant))
    if as_json:
        show_json(found)
    elif found:
        headings = ["grant", "tenant", "why", "given", "until", ""]
        show_table(headings, [_row(grant) for grant in found])
    else:
        say("There are no grants.")


@grants.command("end")
def end_grant(
    context: typer.Context,
    tenant: TenantArgument,
    grant_id: Annotated[
        str, typer.Argument(metavar="[GRANT]", help="Which; else all that go on.")
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """End a grant within a second; one that is not there is no error."""
    with connect(context) as client:
        count = client.end_grant(tenant, grant_id)
    if as_json:
        show_json({"tenant_id": tenant, "ended": count})
    else:
        show_line(f"{count} grants of {tenant} are ended.")


def _row(grant: Grant) -> list[str]:
    state = "ended" if grant.ended else "goes on"
    made, end = _when(grant.create_time), _when(grant.expire_time)
    return [grant.grant_id, grant.tenant_id, grant.reason, made, end, state]


def _when(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else ""

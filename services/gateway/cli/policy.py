"""`llmspell policy`: what callers may do, beyond what their roles say. The operator's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.gateway.cli.inputs import parse_filter
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
    from llmspell.types import Policy

app = typer.Typer(no_args_is_help=True, help="Policies of tenants and roles, for the operator.")

PolicyTenant = Annotated[str, typer.Argument(metavar="TENANT", help="A tenant, or * for each.")]
Subject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="* for all callers, role:ROLE, or key:ID.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPERATION",
        help="What is let through: state.read, state.*, StateService/Get*, or *. May be repeated.",
    ),
]
DenyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="OPERATION", help="What is refused all the same. May be repeated."),
]
ScopesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", metavar="PATTERN", help="global, user:alice, session:*, or *. May be repeated."
    ),
]
DenyScopesOption = Annotated[
    list[str] | None,
    typer.Option("--deny-scope", metavar="PATTERN", help="Refused all the same. May be repeated."),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--row-filter", metavar="JSON", help='Only records that match, such as {"lang": "en"}.'
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    tenant: PolicyTenant,
    subject: Subject,
    *,
    allow: AllowOption = None,
    deny: DenyOption = None,
    scope: ScopesOption = None,
    deny_scope: DenyScopesOption = None,
    row_filter: FilterOption = None,
    max_dimension: Annotated[int, typer.Option(min=0, help="Of collections; 0: any.")] = 0,
    cross_session: Annotated[
        Literal["all", "read", "own"],
        typer.Option(help="Which sessions a call that works in one may touch beside it."),
    ] = "all",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, help="Only where this is the version, 0 for none.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a policy, or a new version of it, whole; it holds everywhere within a second."""
    from llmspell.types import Policy  # noqa: PLC0415  (grpc is slow to import)

    policy = Policy(
        tenant_id=tenant,
        subject=subject,
        allow=allow or (),
        deny=deny or (),
        scopes=scope or (),
        denied_scopes=deny_scope or (),
        row_filter=parse_filter(row_filter, "--row-filter"),
        max_dimension=max_dimension,
        cross_session=cross_session,
        description=description,
    )
    with connect(context) as client:
        kept = client.set_policy(policy, expected_version=expected_version)
    if as_json:
        show_json(_plain(kept))
    else:
        show_line(f"{tenant}/{subject} is version {kept.version}.")


@app.command("show")
def show(
    context: typer.Context,
    tenant: PolicyTenant,
    subject: Subject,
    *,
    version: Annotated[int, typer.Option(min=0, help="An earlier one; 0: what holds.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show a policy, or an earlier version of it."""
    with connect(context) as client:
        found = client.get_policy(tenant, subject, version=version)
    if as_json:
        show_json(_plain(found))
    else:
        show_table(["", ""], [[name, _told(value)] for name, value in _plain(found).items()])


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[
        str, typer.Argument(metavar="[TENANT]", help="Only those about it, or about *.")
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """List policies."""
    with connect(context) as client:
        found = list(client.list_policies(tenant))
    _show_all(found, as_json=as_json, none="There are no policies: roles are all there is.")


@app.command("history")
def history(
    context: typer.Context, tenant: PolicyTenant, subject: Subject, *, as_json: JsonOption = False
) -> None:
    """List the versions of a policy, the oldest first."""
    with connect(context) as client:
        found = list(client.list_policy_versions(tenant, subject))
    _show_all(found, as_json=as_json, none="")


@app.command("delete")
def delete(
    context: typer.Context, tenant: PolicyTenant, subject: Subject, *, as_json: JsonOption = False
) -> None:
    """End a policy. Its versions stay."""
    with connect(context) as client:
        ended = client.delete_policy(tenant, subject)
    if as_json:
        show_json({"deleted": ended})
    else:
        show_line(f"{tenant}/{subject} is {'ended' if ended else 'not there'}.")


@app.command("test")
def decide(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Such as StateService/GetState.")],
    *,
    tenant: Annotated[str, typer.Option(help="Of which tenant the caller is.")],
    role: Annotated[
        list[str] | None, typer.Option(help="The caller's role. May be repeated.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="ID", help="A key that there is.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="What the call would name. May be repeated.")
    ] = None,
    dimension: Annotated[int, typer.Option(min=0, help="Likewise.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Tell what would be decided of a call, and by which rule; end with 1 where it is refused."""
    with connect(context) as client:
        found = client.test_policy(
            tenant, method, roles=role or (), key_id=key, scopes=scope or (), dimension=dimension
        )
    if as_json:
        plain = to_plain(replace(found, row_filter=None))
        show_json(plain | {"row_filter": _filter(found.row_filter)})
    else:
        show_line(found.decision)
        for line in filter(None, (found.reason, _told(_filter(found.row_filter)))):
            show_line(line)
        show_line(f"policies: {', '.join(found.policies) or 'none'}")
    if found.decision == "deny":
        raise typer.Exit(ExitCode.PARTIAL)


def _show_all(found: list[Policy], *, as_json: bool, none: str) -> None:
    if as_json:
        show_json([_plain(policy) for policy in found])
    elif found:
        heads = ["tenant", "subject", "version", "made", "by", "allow", "deny", "scopes"]
        show_table(heads, [_row(policy) for policy in found], numbers=(2,))
    else:
        say(none)


def _row(policy: Policy) -> list[str]:
    return [
        policy.tenant_id,
        policy.subject,
        str(policy.version),
        str(to_plain(policy.create_time)),
        policy.author,
        "(ended)" if policy.deleted else " ".join(policy.allow),
        " ".join(policy.deny),
        " ".join((*policy.scopes, *(f"-{scope}" for scope in policy.denied_scopes))),
    ]


def _plain(policy: Policy) -> dict[str, Any]:
    """A policy for JSON; its filter in the contract's own words."""
    plain: dict[str, Any] = to_plain(replace(policy, row_filter=None))
    return plain | {"row_filter": _filter(policy.row_filter)}


def _filter(message: Any) -> Any:
    if message is None:
        return None
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    return MessageToDict(message)


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)

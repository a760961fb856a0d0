"""`llmspell health` and `llmspell key`: the operator's commands."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.identity import ExpiresOption, ScopesOption, parse_end
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
    from llmspell import Client
    from llmspell.types import ApiKey, ProcessStatus

keys = typer.Typer(no_args_is_help=True, help="API keys of tenants, for the operator.")

_PROCESS_COUNT = 4
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_MIB = 1024 * 1024

TenantArgument = Annotated[str, typer.Argument(metavar="ID", help="The tenant's id.")]
NameOption = Annotated[str, typer.Option("--name", help="A name for people.")]
OwnerOption = Annotated[str, typer.Option("--tenant", metavar="ID", help="Whose.")]


def health(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Show the four processes; exit code 1 unless all of them serve."""
    with connect(context) as client:
        serving = _show_health(client, as_json=as_json)
    if not serving:
        raise typer.Exit(ExitCode.PARTIAL)


@keys.command("create")
def create_key(
    context: typer.Context,
    *,
    tenant: OwnerOption,
    role: Annotated[
        list[str] | None, typer.Option(help="reader, writer or admin (default); may be repeated.")
    ] = None,
    name: NameOption = "",
    row_filter: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Only records that match exist for the key, such as {"team": "red"}.',
        ),
    ] = None,
    scope: ScopesOption = None,
    expires: ExpiresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: the only time that it is shown."""
    end = parse_end(expires)
    with connect(context) as client:
        created = client.create_key(
            tenant,
            roles=role or (),
            display_name=name,
            row_filter=parse_filter(row_filter, "--row-filter"),
            scopes=scope or (),
            expire_time=end,
        )
    if as_json:
        show_json({"key": created.key, **plain_key(created.api_key)})
        return
    show_line(created.key)
    roles = ", ".join(created.api_key.roles)
    say(f"This {roles} key of {tenant} is not shown again; keep it somewhere safe.")


@keys.command("list")
def list_keys(context: typer.Context, *, tenant: OwnerOption, as_json: JsonOption = False) -> None:
    """List a tenant's keys without their secrets."""
    with connect(context) as client:
        found = list(client.list_keys(tenant))
    if as_json:
        show_json([plain_key(key) for key in found])
    elif found:
        show_keys(found)
    else:
        say(f"{tenant} has no keys. `llmspell key create --tenant {tenant}` makes one.")


@keys.command("revoke")
def revoke_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Public part of the key.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """End a key within a second; one that is not there is no error."""
    with connect(context) as client:
        revoked = client.revoke_key(key_id)
    if as_json:
        show_json({"key_id": key_id, "revoked": revoked})
    else:
        show_line(f"The key {key_id} is ended." if revoked else f"There is no key {key_id}.")


def _show_health(client: Client, *, as_json: bool) -> bool:
    """The processes, or what grpc.health says where this key may not see them; whether all serve.

    grpc.health needs no key, so this also works inside a container and on one process alone.
    """
    from llmspell.errors import PermissionDenied, Unauthenticated  # noqa: PLC0415  (slow)

    try:
        processes = client.processes()
    except (PermissionDenied, Unauthenticated) as error:
        status = client.health()
        _show_answer(status, as_json=as_json)
        say(f"The processes are not shown: {error.message}")
        return status == "SERVING"
    serving = _all_serve(processes)
    _show_processes(processes, serving=serving, as_json=as_json)
    return serving


def _all_serve(processes: list[ProcessStatus]) -> bool:
    serving = [process for process in processes if process.status == "SERVING"]
    return len(processes) == len(serving) >= _PROCESS_COUNT


def _show_answer(status: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"status": status, "processes": []})
    else:
        show_line(status)


def _show_processes(processes: list[ProcessStatus], *, serving: bool, as_json: bool) -> None:
    if as_json:
        show_json({"status": "SERVING" if serving else "NOT_SERVING", "processes": processes})
        return
    headings = ["process", "status", "pid", "up", "memory", "version"]
    now = datetime.now(UTC)
    show_table(headings, [_process_row(process, now) for process in processes], numbers=(2, 3, 4))
    for process in processes:
        for reason in process.not_ready_reasons:
            show_line(f"{process.name} is not ready: {reason}.")
        if process.damage_count:
            show_line(f"{process.name} has found {process.damage_count} damaged:")
        for damage in process.damages:
            show_line(f"  {damage.name}: {damage.why}")
        if process.jail:
            show_line(process.jail)
        for certificate in process.certificates:
            if certificate.problem:
                show_line(
                    f"The {certificate.purpose} certificate of {process.name}: "
                    f"{certificate.problem}."
                )


def _process_row(process: ProcessStatus, now: datetime) -> list[str]:
    if not process.pid:
        return [process.name, process.status, "", "", "", ""]
    up = _duration((now - process.start_time).total_seconds()) if process.start_time else ""
    memory = f"{process.resident_bytes / _MIB:.0f} MiB"
    return [process.name, process.status, str(process.pid), up, memory, process.version]


def _duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def show_keys(found: list[ApiKey]) -> None:
    """Keys as a table."""
    rows = [
        [
            key.key_id,
            ", ".join(key.roles) + (f": {', '.join(key.scopes)}" if key.scopes else ""),
            key.display_name,
            "some" if key.row_filter is not None else "all",
            _made(key.create_time),
            _made(key.last_use_time) or "not yet",
            _made(key.expire_time) or "never",
        ]
        for key in found
    ]
    show_table(["key id", "roles", "name", "records", "made", "used", "ends"], rows)


def plain_key(key: ApiKey) -> dict[str, Any]:
    """A key for JSON; its filter in the contract's own words."""
    plain: dict[str, Any] = to_plain(replace(key, row_filter=None))
    if key.row_filter is not None:
        from google.protobuf.json_format import MessageToDict  # noqa: PLC0415  (slow to import)

        plain["row_filter"] = MessageToDict(key.row_filter)
    return plain


def _made(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def confirm(question: str) -> Any:
    """Ask, where someone can answer; else say how to do it without."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("give --yes: there is nobody to ask")
    typer.confirm(question, abort=True, err=True)

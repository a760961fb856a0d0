"""`llmspell vault`: the keys that what tenants keep is encrypted with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import show_json, show_line, show_table
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import VaultStatus

app = typer.Typer(no_args_is_help=True, help="Keys of what is kept encrypted.")


@app.command("status")
def status(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """Show whether what is kept is encrypted, and what is still to be moved to newer keys."""
    with connect(context, tenant) as client:
        found = client.vault_status()
    if as_json:
        show_json(found)
        return
    show_table(["", ""], _rows(found))
    if found.versions:
        show_table(
            ["data key", "made", "under master key", ""],
            [
                [
                    str(key.version),
                    f"{key.create_time:%Y-%m-%d %H:%M:%S}" if key.create_time else "",
                    key.master_key_id,
                    "current" if key.current else "older",
                ]
                for key in found.versions
            ],
        )


@app.command("rotate")
def rotate(
    context: typer.Context,
    *,
    master: Annotated[
        bool,
        typer.Option("--master", help="The master key, to the one that its file holds now."),
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new data key for a tenant, or put a new master key into force."""
    with connect(context, tenant) as client:
        if master:
            key_id = client.rotate_master_key()
            told, words = {"master_key_id": key_id}, f"The master key {key_id} is in force."
        else:
            version = client.rotate_tenant_key()
            told, words = {"version": str(version)}, f"Data key {version} is in force."
    if as_json:
        show_json(told)
    else:
        show_line(f"{words} `llmspell vault status` shows what is still under the one before.")


def _rows(found: VaultStatus) -> list[list[str]]:
    return [
        ["encrypted", "yes" if found.encrypted else "no"],
        ["master key", found.master_key_id or "none"],
        ["data keys", str(found.data_key_count)],
        ["older data keys, still in use", str(found.older_count)],
        ["data keys under the master key before", str(found.previous_wrapped_count)],
        ["values from before encryption left", "perhaps" if found.plain_left else "no"],
    ]

"""`llmspell backup`: backups of a tenant's state, or of all tenants'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import (
    ExitCode,
    say,
    show_count,
    show_json,
    show_line,
    show_size,
    show_table,
    stderr,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Backup, Restored

app = typer.Typer(
    no_args_is_help=True,
    help="Backups of a tenant's state; the operator's without --tenant: of all tenants'.",
)

IdArgument = Annotated[str, typer.Argument(metavar="BACKUP", help="Its id.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")]


@app.command("create")
def create(
    context: typer.Context,
    *,
    full: Annotated[bool, typer.Option("--full", help="Write everything anew.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up what is there now; only what no earlier backup has is written."""
    with connect(context, tenant) as client, _working("backing up"):
        backup = client.create_backup(full=full)
    if as_json:
        show_json(backup)
        return
    show_line(backup.backup_id)
    say(
        f"{show_count(backup.record_count, 'record')} of "
        f"{show_count(backup.tenant_count, 'tenant')} at revision {backup.revision}; "
        f"{show_size(backup.written_bytes)} written of {show_size(backup.stored_bytes)}."
    )


@app.command("list")
def list_backups(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List backups, the newest first."""
    with connect(context, tenant) as client:
        backups = list(client.list_backups())
    if as_json:
        show_json(backups)
    elif backups:
        headings = ["backup", "of", "made", "revision", "records", "size", "added"]
        show_table(headings, [_row(each) for each in backups], numbers=(3, 4, 5, 6))
    else:
        say("There are no backups.")


@app.command("verify")
def verify(
    context: typer.Context,
    backup: IdArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read all of a backup; exit code 1 where something of it is damaged."""
    with connect(context, tenant) as client, _working("reading"):
        check = client.verify_backup(backup)
    if as_json:
        show_json(check)
    else:
        for damage in check.damages:
            show_line(f"{damage.file} {damage.why}")
        files = show_count(check.chunk_count + check.blob_count, "file")
        state = "is as it was made" if check.valid else "is damaged and cannot be restored"
        say(f"{backup} {state}: {files}, {show_size(check.stored_bytes)}.")
    if not check.valid:
        raise typer.Exit(ExitCode.PARTIAL)


@app.command("restore")
def restore(
    context: typer.Context,
    backup: IdArgument,
    *,
    dry_run: DryRunOption = False,
    no_safety_backup: Annotated[
        bool, typer.Option("--no-safety-backup", help="Keep no backup of what is there now.")
    ] = False,
    include_system: Annotated[
        bool,
        typer.Option(
            "--include-system",
            help="With all tenants: restore who they are and their keys, revoked ones too.",
        ),
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the tenant what it was when the backup was made; its calls are refused meanwhile."""
    with connect(context, tenant) as client, _working("restoring"):
        done = client.restore_backup(
            backup,
            dry_run=dry_run,
            backup_current=not no_safety_backup,
            include_system=include_system,
        )
    if as_json:
        show_json(done)
        return
    rows = [
        [
            delta.tenant_id,
            delta.database,
            str(delta.added_count),
            str(delta.changed_count),
            str(delta.removed_count),
            str(delta.unchanged_count),
        ]
        for delta in done.deltas
    ]
    headings = ["tenant", "database", "added", "changed", "removed", "unchanged"]
    show_table(headings, rows, numbers=(2, 3, 4, 5))
    say(_told(done))


@app.command("delete")
def delete(
    context: typer.Context,
    backup: IdArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a backup; one that is not there is no error."""
    with connect(context, tenant) as client:
        deleted = client.delete_backup(backup)
    if as_json:
        show_json({"backup_id": backup, "deleted": deleted})
    else:
        show_line(f"{backup} is deleted." if deleted else f"{backup} was not there.")


@app.command("usage")
def usage(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """Show what backups take on disk."""
    with connect(context, tenant) as client:
        found = client.backup_usage()
    if as_json:
        show_json(found)
    else:
        show_line(
            f"{show_count(found.backup_count, 'backup')} in "
            f"{show_count(found.file_count, 'file')}: {show_size(found.stored_bytes)} for "
            f"{show_size(found.plain_bytes)}."
        )


@app.command("cleanup")
def clean_up(
    context: typer.Context,
    *,
    dry_run: DryRunOption = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove backups that the settings keep no longer, as happens by itself too."""
    with connect(context, tenant) as client:
        cleaned = client.clean_up_backups(dry_run=dry_run)
    if as_json:
        show_json(cleaned)
        return
    for backup_id in cleaned.backup_ids:
        show_line(backup_id)
    verb = "would be removed" if dry_run else "removed"
    count = show_count(len(cleaned.backup_ids), "backup")
    say(f"{count} {verb}, {show_size(cleaned.freed_bytes)} of files.")


@contextmanager
def _working(what: str) -> Iterator[None]:
    """A sign of life with the seconds so far, on a terminal."""
    from rich.progress import (  # noqa: PLC0415  (slow to import)
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = stderr()
    columns = (SpinnerColumn(), TextColumn(what), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        progress.add_task(what, total=None)
        yield


def _row(backup: Backup) -> list[str]:
    if backup.damaged:
        return [backup.backup_id, backup.tenant_id or "all", "damaged", "", "", "", ""]
    return [
        backup.backup_id,
        backup.tenant_id or "all",
        str(to_plain(backup.create_time)),
        str(backup.revision),
        str(backup.record_count),
        show_size(backup.stored_bytes),
        show_size(backup.written_bytes),
    ]


def _told(done: Restored) -> str:
    if done.dry_run:
        return "Nothing was changed: this was a dry run."
    if not done.safety_backup_id:
        return f"Restored at revision {done.revision}."
    return (
        f"Restored at revision {done.revision}. What was there before is backup "
        f"{done.safety_backup_id}."
    )

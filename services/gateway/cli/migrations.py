"""`llmspell schema` and `llmspell migrate`: what items look like, and how that changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import (
    ExitCode,
    say,
    show_count,
    show_error,
    show_json,
    show_line,
    show_size,
    show_table,
    stderr,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import Migration, StateSchema

schemas = typer.Typer(no_args_is_help=True, help="Schemas of a tenant's items, with versions.")
app = typer.Typer(no_args_is_help=True, help="Migrations of items to a schema's next version.")

_WAIT_S = 0.2

SchemaArgument = Annotated[str, typer.Argument(metavar="SCHEMA", help="Its name.")]
VersionArgument = Annotated[str, typer.Argument(help="Where to; the latest where none is given.")]
IdArgument = Annotated[str, typer.Argument(metavar="MIGRATION", help="Its id.")]
ValidationOption = Annotated[
    str, typer.Option("--validation", help="What to check: none, basic or strict.")
]


@schemas.command("put")
def put(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="JSON with name, version, fields, transforms; - reads stdin.")
    ],
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a version of a schema; docs/guide/migrations.md has the form of the file."""
    given = _read(file)
    with connect(context, tenant) as client:
        schema = client.put_schema(
            str(given.get("name", "")),
            str(given.get("version", "")),
            fields=[_field(each) for each in given.get("fields", [])],
            transforms=given.get("transforms", []),
            scope_pattern=str(given.get("scope_pattern", "")),
            key_prefix=str(given.get("key_prefix", "")),
        )
    if as_json:
        show_json(_plain(schema))
    else:
        latest = schema.versions[-1].version
        show_line(f"{schema.name} {latest} is put; items are at {schema.current_version}.")


@schemas.command("list")
def list_schemas(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List schemas in order of name."""
    with connect(context, tenant) as client:
        found = list(client.list_schemas())
    if as_json:
        show_json([_plain(each) for each in found])
    elif found:
        headings = ["schema", "items", "current", "latest", "versions"]
        show_table(headings, [_row(each) for each in found], numbers=(4,))
    else:
        say("There are no schemas.")


@schemas.command("show")
def show(
    context: typer.Context,
    schema: SchemaArgument,
    *,
    tenant: TenantOption = None,
) -> None:
    """Print a schema with its versions, as JSON."""
    with connect(context, tenant) as client:
        show_json(_plain(client.get_schema(schema)))


@schemas.command("delete")
def delete(
    context: typer.Context,
    schema: SchemaArgument,
    *,
    version: Annotated[str, typer.Option(help="Only this version.", show_default="all")] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a version that is not current, or all of a schema; items stay as they are."""
    with connect(context, tenant) as client:
        count = client.delete_schema(schema, version=version)
    if as_json:
        show_json({"schema": schema, "deleted_count": count})
    else:
        show_line(f"{show_count(count, 'version')} of {schema} removed.")


@app.command("plan")
def plan(
    context: typer.Context,
    schema: SchemaArgument,
    version: VersionArgument = "",
    *,
    validation: ValidationOption = "basic",
    samples: Annotated[int, typer.Option(min=0, max=20, help="Items to show.")] = 3,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a migration would do; nothing is changed."""
    with connect(context, tenant) as client:
        planned = client.plan_migration(
            schema,
            version,
            validation=validation,  # type: ignore[arg-type]  # the client checks it
            samples=samples,
        )
    if as_json:
        show_json(planned)
        return
    migration = planned.migration
    way = " → ".join([migration.from_version, *migration.versions])
    items, size = show_count(migration.items_total, "item"), show_size(planned.size_bytes)
    show_line(f"{schema}: {way}, {items}, {size}{', in slices' if migration.staged else ''}")
    for sample in planned.samples:
        show_line(f"{sample.scope} {sample.key}")
        show_line(f"  - {json.dumps(sample.before, ensure_ascii=False)}")
        after = json.dumps(sample.after, ensure_ascii=False)
        show_line(f"  ! {sample.field} {sample.rule}" if sample.rule else f"  + {after}")


@app.command("run")
def run(
    context: typer.Context,
    schema: SchemaArgument,
    version: VersionArgument = "",
    *,
    validation: ValidationOption = "basic",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it all and keep nothing.")] = False,
    backup: Annotated[bool, typer.Option(help="Make a backup first.")] = True,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Migrate, and wait for the end; Ctrl-C leaves it running."""
    with connect(context, tenant) as client:
        begun = client.start_migration(
            schema,
            version,
            validation=validation,  # type: ignore[arg-type]  # the client checks it
            dry_run=dry_run,
            backup=backup,
        )
        ended = _follow(client, begun) if begun.migration_id else begun
    _show_end(ended, as_json=as_json)


@app.command("status")
def status(
    context: typer.Context,
    migration: Annotated[str, typer.Argument(help="Its id; else the last ones.")] = "",
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how far a migration has come, or list the last ones."""
    with connect(context, tenant) as client:
        one = [client.get_migration(migration)] if migration else None
        found = one or list(client.list_migrations())
    if as_json:
        show_json(found[0] if migration else found)
    elif found:
        headings = ["migration", "schema", "from", "to", "status", "items", "begun"]
        show_table(headings, [_migration_row(each) for each in found], numbers=(5,))
    else:
        say("There were no migrations.")


@app.command("cancel")
def cancel(
    context: typer.Context,
    migration: IdArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a migration; no item has changed then."""
    with connect(context, tenant) as client:
        ended = client.cancel_migration(migration)
    if as_json:
        show_json(ended)
    else:
        show_line(f"{migration} is {ended.status.replace('_', ' ')}.")


def _follow(client: Client, migration: Migration) -> Migration:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = stderr()
    columns = (TextColumn("migrating"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("migrating", total=None)
        while migration.status == "running":
            migration = client.get_migration(migration.migration_id, wait_s=_WAIT_S)
            total = migration.items_total or None
            bar.update(task, completed=migration.items_done, total=total)
    return migration


def _show_end(migration: Migration, *, as_json: bool) -> None:
    for warning in migration.warnings:
        say(warning, "yellow")
    if as_json:
        show_json(migration)
    elif not migration.migration_id:
        show_line(f"{migration.schema} is at {migration.to_version} already.")
    elif migration.status == "completed":
        items = show_count(migration.items_done, "item")
        done = "could go" if migration.dry_run else "went"
        backup = f"; backup {migration.backup_id}" if migration.backup_id else ""
        way = f"from {migration.from_version} to {migration.to_version}"
        show_line(f"{migration.schema}: {items} {done} {way}{backup}.")
    if migration.status != "completed":
        why = [each.message for each in migration.errors] or ["The migration was cancelled."]
        show_error(" ".join(why))
        raise typer.Exit(ExitCode.PRECONDITION)


def _read(file: Path) -> Mapping[str, Any]:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        given = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}.") from None
    if not isinstance(given, dict):
        raise InvalidArgument(f"{file} must hold a JSON object.")
    return given


def _field(given: Any) -> Any:
    from llmspell import SchemaField  # noqa: PLC0415
    from llmspell.errors import InvalidArgument  # noqa: PLC0415

    try:
        return SchemaField(**given)
    except TypeError:
        known = "name, type, required and default"
        raise InvalidArgument(f"fields must be objects with {known}.") from None


def _plain(schema: StateSchema) -> dict[str, Any]:
    """A schema in the form of a file that is put."""
    from llmspell._migration_types import NOTHING  # noqa: PLC0415

    versions = []
    for version in schema.versions:
        fields = []
        for field in version.fields:
            told = {"name": field.name, "type": field.type, "required": field.required}
            fields.append(told if field.default is NOTHING else told | {"default": field.default})
        transforms = to_plain(version.transforms)
        told = {"version": version.version, "fields": fields, "transforms": transforms}
        versions.append(told)
    return {
        "name": schema.name,
        "scope_pattern": schema.scope_pattern,
        "key_prefix": schema.key_prefix,
        "current_version": schema.current_version,
        "versions": versions,
    }


def _row(schema: StateSchema) -> list[str]:
    where = f"{schema.scope_pattern} {schema.key_prefix}".strip()
    latest = schema.versions[-1].version
    return [schema.name, where, schema.current_version, latest, str(len(schema.versions))]


def _migration_row(migration: Migration) -> list[str]:
    return [
        migration.migration_id,
        migration.schema,
        migration.from_version,
        migration.to_version,
        migration.status.replace("_", " ") + (" (dry run)" if migration.dry_run else ""),
        f"{migration.items_done:,}/{migration.items_total:,}",
        str(to_plain(migration.create_time)),
    ]

"""`llmspell tenant export` and `import`: a tenant's state as an archive in an open form."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from services.gateway.cli.output import say, show_json, show_size
from services.gateway.cli.target import JsonOption, connect

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its id.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A tar; - is a pipe.")]

_PIECE_BYTES = 1024**2


def export(
    context: typer.Context,
    tenant_id: TenantArgument,
    file: FileArgument,
    *,
    include_sensitive: Annotated[
        bool,
        typer.Option("--include-sensitive", help="Write what is marked, or looks, secret too."),
    ] = False,
) -> None:
    """Write a tenant's state to a file: a tar of JSON lines and bytes. Keep it safe."""
    size = 0
    with connect(context, tenant_id) as client:
        pieces = client.export_tenant(include_sensitive=include_sensitive)
        if str(file) == "-":
            for piece in pieces:
                size += sys.stdout.buffer.write(piece)
            sys.stdout.flush()
        else:
            size = _write(file, pieces)
    say(f"{tenant_id} is exported: {show_size(size)}.")


def import_(
    context: typer.Context,
    tenant_id: TenantArgument,
    file: FileArgument,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="What is there goes, after a backup of it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check, and tell what would happen.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant what an export says, all or nothing."""
    result = None
    with connect(context, tenant_id) as client, _opened(file) as archive:
        pieces = iter(lambda: archive.read(_PIECE_BYTES), b"")
        for progress in client.import_tenant(pieces, replace=replace, dry_run=dry_run):
            result = progress.result
    if as_json:
        show_json(result)
        return
    deltas = result.deltas if result else []
    count = sum(delta.added_count + delta.changed_count for delta in deltas)
    removed = sum(delta.removed_count for delta in deltas)
    verb = "would be" if dry_run else "are"
    say(f"{count} records of {tenant_id} {verb} written, {removed} {verb} removed.")
    if result and result.safety_backup_id:
        say(f"What was there before is backup {result.safety_backup_id}.")


def _write(file: Path, pieces: Iterator[bytes]) -> int:
    """Into a file that only its owner reads; whole or not at all."""
    aside = file.with_name(f"{file.name}.part")
    size = 0
    try:
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        with aside.open("wb") as target:
            for piece in pieces:
                size += target.write(piece)
        aside.replace(file)
    except OSError as error:
        raise _unfit(f"{file} cannot be written: {error.strerror}.") from None
    finally:
        aside.unlink(missing_ok=True)
    return size


def _opened(file: Path) -> IO[bytes]:
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as error:
        raise _unfit(f"{file} cannot be read: {error.strerror}.") from None


def _unfit(message: str) -> Exception:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    return InvalidArgument(message, metadata={"field": "file"})

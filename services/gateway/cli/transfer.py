"""`llmspell tenant export`, `import`, `clone`: a tenant as an archive, or as a folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from services.gateway.cli.bundle import read_bundle, read_manifest, write_bundle
from services.gateway.cli.output import say, show_json, show_line, show_size, to_plain
from services.gateway.cli.target import JsonOption, connect

if TYPE_CHECKING:
    from llmspell.types import Isolation, LimitChanges, RetentionChanges, Tenant

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its id.")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A tar; - is a pipe; with --whole a folder.")
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="State and vectors, as a folder with a manifest.")
]

_PIECE_BYTES = 1024**2
_GRANT_S = 3600.0


def export(
    context: typer.Context,
    tenant_id: TenantArgument,
    file: FileArgument,
    *,
    include_sensitive: Annotated[
        bool,
        typer.Option("--include-sensitive", help="Write what is marked, or looks, secret too."),
    ] = False,
    whole: WholeOption = False,
) -> None:
    """Write a tenant's state to a file: a tar of JSON lines and bytes. Keep it safe."""
    if whole:
        _export_whole(context, tenant_id, file, sensitive=include_sensitive)
        return
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
    whole: WholeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant what an export says, all or nothing."""
    if whole:
        _import_whole(context, tenant_id, file, replace=replace, dry_run=dry_run, as_json=as_json)
        return
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


def clone(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The tenant that is copied.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The tenant that is made.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a new tenant that has what another one has: state and vectors, limits and settings.

    The operator is let in to both for that; the audit log says so.
    """
    with connect(context) as operator, tempfile.TemporaryDirectory() as folder:
        given = operator.get_tenant(source)
        operator.create_tenant(
            target,
            display_name=given.display_name,
            isolation=cast("Isolation", given.isolation),
            limits=given_limits(given),
            retention=given_retention(given),
            default_provider=given.default_provider,
            metadata=given.metadata,
        )
        for tenant in (source, target):
            reason = f"clone of {source} as {target}"
            operator.grant_access(tenant, reason=reason, roles=["admin"], duration_s=_GRANT_S)
        try:
            bundle = Path(folder) / "bundle"
            with connect(context, source) as client:
                manifest = write_bundle(client, given, bundle, sensitive=True)
            with connect(context, target) as client:
                count = read_bundle(client, bundle, manifest, replace=True)
        finally:
            for tenant in (source, target):
                operator.end_grant(tenant)
    if as_json:
        show_json({"tenant_id": target, "source": source, "record_count": count})
    else:
        show_line(f"The tenant {target} is made of {source}, with {count} records.")


def _export_whole(context: typer.Context, tenant_id: str, folder: Path, *, sensitive: bool) -> None:
    with connect(context) as operator:
        tenant = operator.get_tenant(tenant_id)
    with connect(context, tenant_id) as client:
        manifest = write_bundle(client, tenant, folder, sensitive=sensitive)
    records = sum(each["record_count"] for each in manifest["collections"])
    say(f"{tenant_id} is exported to {folder}, with {records} records of vectors.")
    say(f"Left out: {', '.join(manifest['left_out'])}.")


def _import_whole(
    context: typer.Context,
    tenant_id: str,
    folder: Path,
    *,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    manifest = read_manifest(folder)
    count = sum(each["record_count"] for each in manifest["collections"])
    if not dry_run:
        with connect(context, tenant_id) as client:
            count = read_bundle(client, folder, manifest, replace=replace)
    if as_json:
        show_json({"tenant_id": tenant_id, "record_count": count, "dry_run": dry_run})
        return
    verb = "would be" if dry_run else "is"
    say(f"{tenant_id} {verb} what {folder} says, with {count} records of vectors.")


def given_limits(tenant: Tenant) -> LimitChanges:
    """The limits of a tenant, to give to another."""
    limits: LimitChanges = to_plain(tenant.limits)
    return limits


def given_retention(tenant: Tenant) -> RetentionChanges:
    """How long a tenant's things are kept, to give to another."""
    return cast("RetentionChanges", {k: v for k, v in to_plain(tenant.retention).items() if v})


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

"""`llmspell artifact`: named bytes with versions."""

from __future__ import annotations

import itertools
import json
import mimetypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from services.gateway.cli.inputs import SinceOption, UntilOption, parse_span
from services.gateway.cli.output import (
    clean,
    say,
    show_count,
    show_json,
    show_line,
    show_size,
    show_table,
    stderr,
    to_plain,
)
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Artifact

app = typer.Typer(no_args_is_help=True, help="Artifacts of a tenant: named bytes with versions.")

_PIECE_BYTES = 1024 * 1024
_SHOWN_DIGITS = 12
_BAR_BYTES_MIN = 4 * 1024 * 1024
"""Fewer are there before a bar would be seen."""

NameArgument = Annotated[str, typer.Argument(help="Name; empty with --digest or --sequence.")]
VersionOption: TypeAlias = Annotated[
    int, typer.Option("--version", min=0, help="Of the name.", show_default="the newest")
]
DigestOption: TypeAlias = Annotated[
    str, typer.Option(metavar="HEX", help="Only the one of these bytes.", show_default=False)
]
SequenceOption: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Its number in the scope.", show_default=False)
]
TagOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")
]
TypeOption: TypeAlias = Annotated[
    str, typer.Option("--type", help="Such as agent_output or tool_result.", show_default=False)
]


@app.command("put")
def put(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What to store; - reads stdin.")],
    *,
    name: Annotated[str, typer.Option(help="Name.", show_default="the file's")] = "",
    scope: ScopeOption = "global",
    type_: TypeOption = "",
    mime_type: Annotated[str, typer.Option(help="Media type.", show_default="by the name")] = "",
    description: Annotated[str, typer.Option(help="For people.", show_default=False)] = "",
    tag: TagOption = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object with whatever else belongs to it.")
    ] = None,
    parent: Annotated[
        str,
        typer.Option(metavar="HEX", help="Digest of what it was made from.", show_default=False),
    ] = "",
    digest: Annotated[
        str, typer.Option(metavar="HEX", help="Store only these bytes.", show_default=False)
    ] = "",
    keep: Annotated[
        int, typer.Option(min=0, help="Versions to keep, this one counted; 0 keeps all.")
    ] = 0,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a file as a new version of a name."""
    name = name or _name_of(file)
    details: dict[str, Any] = {
        "artifact_type": type_,
        "mime_type": mime_type or mimetypes.guess_type(name)[0] or "",
        "description": description,
        "tags": tag or [],
        "metadata": _read_metadata(metadata),
        "parent_digest": parent,
        "digest": digest,
        "keep_versions": keep,
    }
    with ExitStack() as stack:
        source, size = _opened(file, stack)
        client = stack.enter_context(connect(context, tenant))
        moved = stack.enter_context(_bar(f"storing {name}", size))
        stored = client.put_artifact(name, _pieces(source, moved), scope=scope, **details)
    if as_json:
        show_json(stored)
    else:
        show_line(stored.digest)
        say(f"{name} is stored as version {stored.version}: {show_size(stored.size_bytes)}.")


@app.command("get")
def get(
    context: typer.Context,
    name: NameArgument = "",
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout.")
    ] = Path("-"),
    scope: ScopeOption = "global",
    version: VersionOption = 0,
    digest: DigestOption = "",
    sequence: SequenceOption = 0,
    tenant: TenantOption = None,
) -> None:
    """Write an artifact's bytes to stdout, or to a file that appears whole or not at all."""
    which: dict[str, Any] = {
        "scope": scope,
        "version": version,
        "digest": digest,
        "sequence": sequence,
    }
    with connect(context, tenant) as client:
        known = client.get_artifact(name, **which)
        # A version that is stored meanwhile is another artifact.
        same: dict[str, Any] = {
            "scope": known.scope,
            "digest": known.digest,
            "sequence": known.sequence,
        }
        with _bar(f"reading {known.name}", known.size_bytes) as moved:
            if str(output) == "-":
                for piece in client.read_artifact(**same):
                    sys.stdout.buffer.write(piece)
                    moved(len(piece))
                sys.stdout.buffer.flush()
            else:
                _download(client, same, output, moved)
    if str(output) != "-":
        say(
            f"{known.name}, version {known.version}, is in {output}: {show_size(known.size_bytes)}."
        )


@app.command("list")
def list_artifacts(
    context: typer.Context,
    pattern: Annotated[
        str, typer.Argument(help="Which names; * is any characters, ? is one.", show_default="all")
    ] = "",
    *,
    scope: ScopeOption = "global",
    type_: TypeOption = "",
    tag: TagOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    min_size: Annotated[
        int | None, typer.Option(metavar="BYTES", min=0, help="At least so large.")
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(metavar="BYTES", min=0, help="At most so large.")
    ] = None,
    newest_only: Annotated[
        bool, typer.Option("--newest-only", help="Of each name the newest version only.")
    ] = False,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="In that order.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a scope's artifacts in the order in which they were stored."""
    query: dict[str, Any] = {
        "artifact_type": type_,
        "name_pattern": pattern,
        "tags": tag or [],
        "created": parse_span(since, until) or (None, None),
        "size_bytes_min": min_size,
        "size_bytes_max": max_size,
        "newest_only": newest_only,
        "newest_first": newest_first,
    }
    with connect(context, tenant) as client:
        found = list(itertools.islice(client.list_artifacts(scope=scope, **query), limit))
    _show(found, f"There are no such artifacts in {scope}.", as_json=as_json)


@app.command("versions")
def versions(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name.")],
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a name, the oldest first."""
    with connect(context, tenant) as client:
        found = list(client.list_artifact_versions(name, scope=scope))
    _show(found, f"There is no artifact {name!r} in {scope}.", as_json=as_json)


@app.command("show")
def show(
    context: typer.Context,
    name: NameArgument = "",
    *,
    scope: ScopeOption = "global",
    version: VersionOption = 0,
    digest: DigestOption = "",
    sequence: SequenceOption = 0,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of an artifact, without its bytes."""
    with connect(context, tenant) as client:
        known = client.get_artifact(
            name, scope=scope, version=version, digest=digest, sequence=sequence
        )
    plain = to_plain(known)
    if as_json:
        show_json(plain)
        return
    rows = [[field.replace("_", " "), _written(value)] for field, value in plain.items()]
    show_table(["", known.name], [row for row in rows if row[1]])


@app.command("delete")
def delete(
    context: typer.Context,
    name: NameArgument = "",
    *,
    scope: ScopeOption = "global",
    version: VersionOption = 0,
    digest: DigestOption = "",
    sequence: SequenceOption = 0,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="All versions of the name.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a version, or all of a name; one that is not there is no error."""
    with connect(context, tenant) as client:
        count = client.delete_artifact(
            name,
            scope=scope,
            version=version,
            digest=digest,
            sequence=sequence,
            all_versions=all_versions,
        )
    if as_json:
        show_json({"scope": scope, "deleted_count": count})
    else:
        show_line(f"{show_count(count, 'artifact')} deleted." if count else "There was none.")


def _show(found: list[Artifact], nothing: str, *, as_json: bool) -> None:
    if as_json:
        show_json(found)
    elif found:
        headings = ["name", "version", "size", "type", "stored", "digest", "tags"]
        show_table(headings, [_row(each) for each in found], numbers=(1, 2))
    else:
        say(nothing)


def _row(artifact: Artifact) -> list[str]:
    return [
        artifact.name,
        str(artifact.version),
        show_size(artifact.size_bytes),
        artifact.artifact_type,
        str(to_plain(artifact.create_time) or ""),
        artifact.digest[:_SHOWN_DIGITS],
        ", ".join(artifact.tags),
    ]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else str(value)


def _name_of(file: Path) -> str:
    if str(file) == "-":
        raise typer.BadParameter("what comes from stdin needs a name", param_hint="--name")
    return file.name


def _read_metadata(text: str | None) -> dict[str, Any]:
    try:
        fields = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise _unfit(f"--metadata is not JSON: {error}.", "metadata") from None
    if not isinstance(fields, dict):
        raise _unfit("--metadata must be a JSON object.", "metadata")
    return fields


def _opened(file: Path, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    """What to read, and how many bytes it has where that is known."""
    if str(file) == "-":
        return sys.stdin.buffer, None
    try:
        source = stack.enter_context(file.open("rb"))
        return source, file.stat().st_size
    except OSError as error:
        raise _unfit(f"{file} cannot be read: {error.strerror}.", "file") from None


def _pieces(source: IO[bytes], moved: Callable[[int], None]) -> Iterator[bytes]:
    while piece := source.read(_PIECE_BYTES):
        yield piece
        moved(len(piece))


def _download(client: Any, which: dict[str, Any], file: Path, moved: Callable[[int], None]) -> None:
    at = 0

    def tell(done: int, _: int) -> None:
        nonlocal at
        moved(done - at)
        at = done

    try:
        client.download_artifact("", file, progress=tell, **which)
    except OSError as error:
        raise _unfit(f"{file} cannot be written: {error.strerror}.", "output") from None


@contextmanager
def _bar(what: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, of what is large or of unknown size; told of the bytes that moved."""
    console = stderr()
    if not console.is_terminal or (size is not None and size < _BAR_BYTES_MIN):
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415  (slow to import)
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(clean(what), total=size)
        yield lambda count: progress.update(task, advance=count)


def _unfit(message: str, field: str) -> Exception:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    return InvalidArgument(message, metadata={"field": field})

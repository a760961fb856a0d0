"""`llmspell vector`: collections of vectors, their settings, copies and graphs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import typer

from services.gateway.cli.inputs import (
    AsOfOption,
    FilterOption,
    SinceOption,
    UntilOption,
    parse_duration,
    parse_filter,
    parse_span,
    parse_time,
)
from services.gateway.cli.output import (
    say,
    show_count,
    show_footer,
    show_json,
    show_line,
    show_size,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Collection, Hit, Metric, SearchResult, Snapshot, VectorSettings

app = typer.Typer(no_args_is_help=True, help="Collections of vectors, and care of them.")
snapshots = typer.Typer(no_args_is_help=True, help="Copies of collections.")
app.add_typer(snapshots, name="snapshot")

CollectionArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="The collection's name.")
]
ScopesOption: TypeAlias = Annotated[
    str, typer.Option("--scope", help="Scope; * means all of them.")
]
RecordTtlOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--record-ttl", metavar="TIME", help="How long records live, such as 30d."),
]
HistoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--history", metavar="TIME", help="How far back --as-of can look, such as 7d."),
]
TtlOption: TypeAlias = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="How long the collection lives.")
]


@app.command("collections")
def list_collections(
    context: typer.Context,
    *,
    scope: ScopesOption = "*",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the collections."""
    with connect(context, tenant) as client:
        found = list(client.list_collections(scope=scope))
    if as_json:
        show_json(found)
    elif found:
        headings = ["collection", "scope", "dimension", "metric", "records", "indexed", "history"]
        rows = [_collection_row(collection) for collection in found]
        show_table([*headings, "lives until"], rows, numbers=(2, 4, 5, 6))
    else:
        say("There are no collections. `llmspell vector create COLLECTION DIMENSION` makes one.")


@app.command("create")
def create_collection(
    context: typer.Context,
    collection: CollectionArgument,
    dimension: Annotated[int, typer.Argument(metavar="DIMENSION", help="Length of each vector.")],
    *,
    metric: Annotated[str, typer.Option(help="cosine, dot, l2 or manhattan.")] = "cosine",
    preset: Annotated[
        Literal["fast", "balanced", "accurate"] | None, typer.Option(help="How graphs are built.")
    ] = None,
    quantization: Annotated[
        Literal["bf16", "i8"] | None, typer.Option(help="What graphs keep of each number.")
    ] = None,
    record_ttl: RecordTtlOption = None,
    history: HistoryOption = None,
    ttl: TtlOption = None,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a collection for vectors of your own."""
    from llmspell.types import Hnsw  # noqa: PLC0415  (slow to import)

    with connect(context, tenant) as client:
        made = client.create_collection(
            collection,
            dimension,
            metric=cast("Metric", metric),  # the client checks it
            scope=scope,
            hnsw=Hnsw(preset=preset or "", quantization=quantization or ""),
            default_ttl_s=parse_duration(record_ttl, "--record-ttl"),
            history_s=parse_duration(history, "--history"),
            ttl_s=parse_duration(ttl, "--ttl"),
        )
    _show_collection(made, "made", as_json=as_json)


@app.command("update")
def update_collection(
    context: typer.Context,
    collection: CollectionArgument,
    *,
    record_ttl: RecordTtlOption = None,
    history: HistoryOption = None,
    ttl: TtlOption = None,
    ef_search: Annotated[
        int | None, typer.Option(help="Width of a search that names none; 0: the preset's.")
    ] = None,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change settings; 0 takes one away."""
    with connect(context, tenant) as client:
        changed = client.update_collection(
            collection,
            scope=scope,
            default_ttl_s=parse_duration(record_ttl, "--record-ttl"),
            history_s=parse_duration(history, "--history"),
            ttl_s=parse_duration(ttl, "--ttl"),
            ef_search=ef_search,
        )
    _show_collection(changed, "changed", as_json=as_json)


@app.command("drop")
def drop_collection(
    context: typer.Context,
    collection: CollectionArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a collection with all its records."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("give --yes: there is nobody to ask")
        typer.confirm(f"Remove the collection {collection} of {scope}?", abort=True, err=True)
    with connect(context, tenant) as client:
        count = client.delete_collection(collection, scope=scope)
    if as_json:
        show_json({"deleted_count": count})
    else:
        show_line(f"{collection} is removed, with {show_count(count, 'record')}.")


@app.command("import")
def import_vectors(
    context: typer.Context,
    collection: CollectionArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help='A record a line: {"id", "vector", "metadata", "text", "event_time", "ttl_s"}.',
        ),
    ],
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write any number of records from a file, with progress; - means stdin.

    What progress told of is on disk. Importing the file again replaces records of the same id.
    """
    from services.gateway.cli.importing import import_file  # noqa: PLC0415  (rich is slow)

    with connect(context, tenant) as client:
        done = import_file(client, collection, file, scope)
    if as_json:
        show_json(done)
        return
    rate = done.record_count / done.elapsed_s if done.elapsed_s else 0
    show_line(
        f"{show_count(done.record_count, 'record')} in {done.elapsed_s:.1f} s ({rate:.0f} a second)"
    )


@app.command("search")
def search(
    context: typer.Context,
    collection: CollectionArgument,
    vector: Annotated[str, typer.Argument(metavar="NUMBERS", help="Such as 0.1,0.2,0.3.")],
    *,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    where: FilterOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_of: AsOfOption = None,
    exact: Annotated[bool, typer.Option("--exact", help="Look at every record.")] = False,
    min_recall: Annotated[
        float | None, typer.Option(help="Least share of the true nearest, 0 to 1.")
    ] = None,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the records nearest to a vector."""
    settings: VectorSettings = {
        "filter": parse_filter(where),
        "event_time": parse_span(since, until),
        "as_of": parse_time(as_of, "--as-of"),
        "exact": True if exact else None,
        "min_recall": min_recall,
    }
    with connect(context, tenant) as client:
        found = client.search(collection, _numbers(vector), k, scope=scope, **settings)
    if as_json:
        show_json(_result_for_json(found))
    elif found:
        rows = [[hit.record_id, f"{hit.score:.4f}", _shown(hit)] for hit in found]
        show_table(["record", "score", "metadata"], rows, numbers=(1,))
        show_footer(found)
    else:
        say("No records were found.")
        show_footer(found)


@app.command("delete")
def delete_vectors(
    context: typer.Context,
    collection: CollectionArgument,
    record_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Records; or give --filter.")
    ] = None,
    *,
    where: FilterOption = None,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove records by id, or all that match a filter."""
    if bool(record_ids) == (where is not None):
        raise typer.BadParameter("give either ids or --filter")
    with connect(context, tenant) as client:
        count = client.delete_vectors(
            collection, record_ids or (), filter=parse_filter(where), scope=scope
        )
    if as_json:
        show_json({"deleted_count": count})
    else:
        show_line(f"{show_count(count, 'record')} removed.")


@app.command("rebuild")
def rebuild(
    context: typer.Context,
    collection: CollectionArgument,
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the graphs anew; searches are answered meanwhile."""
    with connect(context, tenant) as client:
        count = client.rebuild_index(collection, scope=scope)
    if as_json:
        show_json({"record_count": count})
    else:
        show_line(f"The graphs of {collection} are being built of {show_count(count, 'record')}.")


@app.command("checkpoint")
def checkpoint(
    context: typer.Context,
    collection: CollectionArgument,
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until graphs cover what was written, and give back what deletions left."""
    with connect(context, tenant) as client:
        done = client.checkpoint_index(collection, scope=scope)
    if as_json:
        show_json(done)
        return
    covered = f"{done.indexed_count} of {show_count(done.record_count, 'record')}"
    show_line(f"Graphs cover {covered}; {show_size(done.disk_bytes)} on disk.")


@snapshots.command("create")
def create_snapshot(
    context: typer.Context,
    collection: CollectionArgument,
    *,
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a copy of a collection as it is now."""
    with connect(context, tenant) as client:
        made = client.create_snapshot(collection, scope=scope)
    if as_json:
        show_json(made)
        return
    show_line(made.snapshot_id)
    say(f"{show_count(made.record_count, 'record')}, {show_size(made.size_bytes)}.")


@snapshots.command("list")
def list_snapshots(
    context: typer.Context,
    *,
    collection: Annotated[str, typer.Option("--collection", help="Of this one only.")] = "",
    scope: ScopesOption = "*",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the copies, the newest first."""
    with connect(context, tenant) as client:
        found = client.list_snapshots(scope=scope, collection=collection)
    if as_json:
        show_json(found)
    elif found:
        headings = ["snapshot", "collection", "scope", "made", "records", "size"]
        show_table(headings, [_snapshot_row(snapshot) for snapshot in found], numbers=(4, 5))
    else:
        say("There are no snapshots. `llmspell vector snapshot create COLLECTION` makes one.")


@snapshots.command("restore")
def restore_snapshot(
    context: typer.Context,
    snapshot_id: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its id.")],
    *,
    to: Annotated[
        str, typer.Option(metavar="COLLECTION", help="Restore to another collection.")
    ] = "",
    scope: Annotated[str, typer.Option("--scope", help="Restore to another scope.")] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a collection back as it was, or make another one of it, in one step."""
    with connect(context, tenant) as client:
        count = client.restore_snapshot(snapshot_id, scope=scope, collection=to)
    if as_json:
        show_json({"record_count": count})
    else:
        show_line(f"{show_count(count, 'record')} restored.")


@snapshots.command("delete")
def delete_snapshot(
    context: typer.Context,
    snapshot_id: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its id.")],
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a copy."""
    with connect(context, tenant) as client:
        deleted = client.delete_snapshot(snapshot_id)
    if as_json:
        show_json({"snapshot_id": snapshot_id, "deleted": deleted})
    else:
        show_line("The snapshot is removed." if deleted else f"There is no {snapshot_id}.")


def _show_collection(collection: Collection, what: str, *, as_json: bool) -> None:
    if as_json:
        show_json(collection)
    else:
        show_line(f"The collection {collection.collection_id} is {what}.")


def _collection_row(collection: Collection) -> list[str]:
    ends = collection.expire_time
    return [
        collection.collection_id,
        collection.scope,
        str(collection.dimension),
        collection.metric,
        str(collection.record_count),
        str(collection.indexed_count),
        str(collection.history_count) if collection.history_s else "",
        f"{ends:%Y-%m-%d %H:%M}" if ends else "",
    ]


def _snapshot_row(snapshot: Snapshot) -> list[str]:
    made = snapshot.create_time
    return [
        snapshot.snapshot_id,
        snapshot.collection_id,
        snapshot.scope,
        f"{made:%Y-%m-%d %H:%M}" if made else "",
        str(snapshot.record_count),
        show_size(snapshot.size_bytes),
    ]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in _parts(text)]
    except ValueError:
        raise typer.BadParameter("write numbers with commas between, such as 0.1,0.2") from None


def _parts(text: str) -> Iterator[str]:
    return (part for part in text.strip("[] ").replace(",", " ").split())


def _shown(hit: Hit) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(hit.metadata.items()))


def _result_for_json(found: SearchResult[Any]) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(found)
    return plain

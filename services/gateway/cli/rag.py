"""`llmspell rag`: documents in, passages out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from services.gateway.cli.output import (
    ExitCode,
    clean,
    say,
    show_json,
    show_line,
    show_table,
    stdout,
    to_plain,
)
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Collection, Passage, VectorStats

    from services.gateway.cli.ingestion import Report

app = typer.Typer(no_args_is_help=True, help="Documents in, passages out.")

_SCORE_DIGITS = 6
_SNIPPET_LENGTH = 480

CollectionOption = Annotated[str, typer.Option("--collection", help="Collection of documents.")]


@app.command("ingest")
def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(help="Files and folders of txt, md, rst, html, htm.")
    ],
    *,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    chunk_unit: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Cut by characters (default), sentences or tokens."),
    ] = None,
    chunk_size: Annotated[int, typer.Option(help="In that unit; 0: the default.")] = 0,
    overlap: Annotated[
        int | None,
        typer.Option(help="What the next chunk repeats; else an eighth.", show_default=False),
    ] = None,
    provider: Annotated[str, typer.Option(help="Embedding provider; else the default.")] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest files, and folders with all that is in them; exit code 1 where any was skipped.

    A document's id is its path below the folder given; ingesting it again replaces it. Names that
    begin with a dot are left out.
    """
    from services.gateway.cli.documents import find_sources  # noqa: PLC0415  (rich is slow)
    from services.gateway.cli.ingestion import Report, ingest_sources  # noqa: PLC0415

    sources, unfit = find_sources(paths)
    report = Report()
    for file in unfit:
        report.skip(file.path, file.why)
    with connect(context, tenant) as client:

        def send(documents: list[Any]) -> Any:
            return client.ingest(
                documents,
                collection=collection,
                scope=scope,
                chunk_unit=chunk_unit,  # type: ignore[arg-type]  # the client checks it
                chunk_size=chunk_size,
                overlap=overlap,
                provider=provider,
            )

        try:
            ingest_sources(sources, send, report)
        except BaseException:
            done, total = report.document_count, len(sources)
            say(f"{done} of {total} documents are in; ingesting again replaces them.")
            raise
    _show_report(report, as_json=as_json)


@app.command("search")
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 5,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="JSON", help='Such as {"lang": "en", "year": {"gte": 2000}}.'
        ),
    ] = None,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    threshold: Annotated[
        float | None, typer.Option(help="Only passages with at least this score.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the passages nearest to a text."""
    conditions = None if where is None else _parse_filter(where)
    with connect(context, tenant) as client:
        found = client.retrieve(
            text, k, filter=conditions, collection=collection, scope=scope, threshold=threshold
        )
    if as_json:
        passages = [_plain(passage) for passage in found]
        show_json({"passages": passages, "exact": found.exact, "revision": found.revision})
    elif found:
        for rank, passage in enumerate(found, start=1):
            _show_passage(rank, passage)
    else:
        say("No passages were found.")


@app.command("stats")
def stats(
    context: typer.Context,
    *,
    scope: Annotated[str, typer.Option("--scope", help="Scope; * means all of them.")] = "*",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the collections and what they hold."""
    with connect(context, tenant) as client:
        collections = list(client.list_collections(scope=scope))
        totals = client.stats(None if scope == "*" else scope)
    if as_json:
        show_json({**to_plain(totals), "collections": collections})
    elif collections:
        _show_collections(collections, totals)
    else:
        say("There are no collections. `llmspell rag ingest PATH` makes one.")


def _show_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        show_json(report)
    else:
        rate = report.chunk_count / report.elapsed_s if report.elapsed_s else 0
        show_line(
            f"{_count(report.document_count, 'document')} in "
            f"{_count(report.chunk_count, 'chunk')}, "
            f"{report.cached_count} of them from the cache, in {report.elapsed_s:.1f} s "
            f"({rate:.0f} chunks/s)"
        )
    if report.skipped:
        say(f"{len(report.skipped)} skipped.", "yellow")
    if report.skipped or not report.document_count:
        if not report.skipped:
            say("There was nothing to ingest.")
        raise typer.Exit(ExitCode.PARTIAL)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _parse_filter(text: str) -> Any:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"--filter is not JSON: {error}."
        raise InvalidArgument(message, reason="FILTER_INVALID") from None


def _show_passage(rank: int, passage: Passage) -> None:
    console = stdout()
    source = str(passage.metadata.get("source") or passage.document_id)
    title = str(passage.metadata.get("title") or "")
    line = Text.assemble(
        (f"{rank:>2}  ", "bold"), (f"{passage.score:.3f}  ", "green"), (clean(source), "cyan")
    )
    if title:
        line.append(f"  {clean(title)}", "bold")
    console.print(line, soft_wrap=True)
    for part in Text(_snippet(passage.text)).wrap(console, max(console.width - 4, 20)):
        part.rstrip()
        console.print(Text("    ").append_text(part), soft_wrap=True)
    console.print()


def _snippet(text: str) -> str:
    line = clean(" ".join(text.split()))
    return line if len(line) <= _SNIPPET_LENGTH else line[: _SNIPPET_LENGTH - 1] + "…"


def _plain(passage: Passage) -> dict[str, Any]:
    """A passage for JSON; a float32 has no more than these digits."""
    plain: dict[str, Any] = to_plain(passage)
    plain["score"] = round(passage.score, _SCORE_DIGITS)
    return plain


def _show_collections(collections: list[Collection], totals: VectorStats) -> None:
    headings = ["collection", "scope", "dimension", "metric", "embedding", "records", "indexed"]
    rows = [_collection_row(collection) for collection in collections]
    show_table(headings, rows, numbers=(2, 5, 6))
    size = totals.stored_bytes / (1024 * 1024)
    show_line(f"\n{totals.record_count} records, {size:.1f} MiB")


def _collection_row(collection: Collection) -> list[str]:
    embedding = collection.embedding
    return [
        collection.collection_id,
        collection.scope,
        str(collection.dimension),
        collection.metric,
        f"{embedding.provider} {embedding.model}" if embedding else "the caller's",
        str(collection.record_count),
        str(collection.indexed_count),
    ]

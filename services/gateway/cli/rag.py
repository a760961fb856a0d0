"""`llmspell rag`: documents in, passages out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from services.gateway.cli.inputs import (
    AsOfOption,
    FilterOption,
    SinceOption,
    UntilOption,
    parse_filter,
    parse_span,
    parse_time,
)
from services.gateway.cli.output import (
    ExitCode,
    clean,
    say,
    show_count,
    show_footer,
    show_json,
    show_line,
    show_size,
    show_table,
    stdout,
    to_plain,
)
from services.gateway.cli.target import JsonOption, ScopeOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import (
        Collection,
        DocumentSummary,
        Passage,
        Reembedding,
        TextSettings,
        VectorStats,
    )

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
        typer.Option(
            metavar="UNIT", help="Cut by characters (default), sentences, tokens, markdown or code."
        ),
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
    settings: dict[str, Any] = {
        "collection": collection,
        "scope": scope,
        "chunk_unit": chunk_unit,
        "chunk_size": chunk_size,
        "overlap": overlap,
        "provider": provider,
    }
    with connect(context, tenant) as client:
        try:
            ingest_sources(
                sources,
                lambda documents: client.import_documents(documents, **settings),
                lambda documents: client.ingest(documents, **settings),
                report,
            )
        except BaseException:
            done, total = report.done_count, len(sources)
            say(f"{done} of {total} documents are in; ingest again to go on from there.")
            raise
    _show_report(report, as_json=as_json)


@app.command("search")
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 5,
    mode: Annotated[
        Literal["dense", "lexical", "hybrid"],
        typer.Option(help="By meaning, by words, or by both."),
    ] = "dense",
    where: FilterOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_of: AsOfOption = None,
    mmr: Annotated[
        float | None,
        typer.Option(metavar="STRENGTH", help="Passages that differ: 0 (not at all) to 1."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Look at every record.")] = False,
    min_recall: Annotated[
        float | None, typer.Option(help="Least share of the true nearest, 0 to 1.")
    ] = None,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    threshold: Annotated[
        float | None, typer.Option(help="Only passages with at least this score.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the best passages for a text."""
    settings: TextSettings = {
        "filter": parse_filter(where),
        "threshold": threshold,
        "mode": mode,
        "event_time": parse_span(since, until),
        "as_of": parse_time(as_of, "--as-of"),
        "diversity": mmr,
        "exact": True if exact else None,
        "min_recall": min_recall,
    }
    with connect(context, tenant) as client:
        found = client.retrieve(text, k, collection=collection, scope=scope, **settings)
    if as_json:
        facts = ("exact", "revision", "path", "candidate_count", "match_count", "complete")
        passages = [_plain(passage) for passage in found]
        show_json({"passages": passages, **{name: getattr(found, name) for name in facts}})
        return
    for rank, passage in enumerate(found, start=1):
        _show_passage(rank, passage)
    if not found:
        say("No passages were found.")
    show_footer(found, "by words" if mode == "lexical" else "")


@app.command("list")
def list_documents(
    context: typer.Context,
    *,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the documents of a collection."""
    with connect(context, tenant) as client:
        found = list(client.list_documents(collection=collection, scope=scope))
    if as_json:
        show_json(found)
    elif found:
        headings = ["document", "title", "chunks", "ingested"]
        show_table(headings, [_document_row(document) for document in found], numbers=(2,))
    else:
        say("There are no documents. `llmspell rag ingest PATH` brings some in.")


@app.command("delete")
def delete(
    context: typer.Context,
    document_ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Documents, as `rag list` shows them.")
    ],
    *,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove documents with all their chunks; exit code 1 where none of them was there."""
    with connect(context, tenant) as client:
        count = client.delete_documents(document_ids, collection=collection, scope=scope)
    if as_json:
        show_json({"deleted_count": count})
    else:
        show_line(f"{show_count(count, 'chunk')} removed.")
    if not count:
        raise typer.Exit(ExitCode.PARTIAL)


@app.command("reembed")
def reembed(
    context: typer.Context,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="Embedding provider; begins or goes on.")
    ] = "",
    *,
    status: Annotated[bool, typer.Option("--status", help="Tell how far it is.")] = False,
    end: Annotated[
        bool, typer.Option("--end", help="End it, or give up the vectors kept to go back.")
    ] = False,
    collection: CollectionOption = "documents",
    scope: ScopeOption = "global",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a collection anew with another provider, in the background.

    The old vectors answer until the new ones are complete; then the collection switches. With the
    provider that was there before, it goes back.
    """
    if bool(provider) + status + end != 1:
        raise typer.BadParameter("give a PROVIDER, --status or --end")
    with connect(context, tenant) as client:
        if end:
            count = client.end_reembedding(collection=collection, scope=scope)
            _show_ended(count, as_json=as_json)
            return
        if status:
            state = client.reembedding(collection=collection, scope=scope)
        else:
            state = client.reembed(provider, collection=collection, scope=scope)
    _show_reembedding(state, as_json=as_json)


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
            f"{show_count(report.document_count, 'document')} in "
            f"{show_count(report.chunk_count, 'chunk')}, "
            f"{report.cached_count} of them from the cache, in {report.elapsed_s:.1f} s "
            f"({rate:.0f} chunks/s)"
        )
        if report.unchanged_count:
            show_line(f"{show_count(report.unchanged_count, 'document')} were there unchanged.")
    if report.skipped:
        say(f"{len(report.skipped)} skipped.", "yellow")
    if report.skipped or not report.done_count:
        if not report.skipped:
            say("There was nothing to ingest.")
        raise typer.Exit(ExitCode.PARTIAL)


def _document_row(document: DocumentSummary) -> list[str]:
    written = document.ingest_time
    title = str(document.metadata.get("title") or "")
    return [
        document.document_id,
        title,
        str(document.chunk_count),
        f"{written:%Y-%m-%d %H:%M}" if written else "",
    ]


def _show_ended(count: int, *, as_json: bool) -> None:
    if as_json:
        show_json({"deleted_count": count})
    else:
        show_line(f"Ended; {show_count(count, 'other vector')} given up.")


def _show_reembedding(state: Reembedding, *, as_json: bool) -> None:
    if as_json:
        show_json(state)
        return
    active, other = _model(state.active), _model(state.other)
    sentences = {
        "RUNNING": f"Embedding with {other}: {state.done_count} of {state.total_count}. "
        f"{active} answers until then.",
        "WAITING": f"Waiting to go on with {other} after {state.done_count} of "
        f"{state.total_count}: {state.message}",
        "SWITCHED": f"{active} answers. {other} is kept to go back; --end gives it up.",
    }
    show_line(sentences.get(state.status, f"No re-embedding is going on; {active} answers."))


def _model(embedding: Any) -> str:
    return f"{embedding.provider} {embedding.model}" if embedding else "no model"


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
    facts = [
        show_count(totals.record_count, "record"),
        f"{show_size(totals.stored_bytes)} stored",
        f"{show_count(totals.segment_count, 'segment')} ({show_size(totals.index_bytes)})",
        f"{totals.dead_count:,} dead",
        f"{show_size(totals.memory_bytes)} of memory",
    ]
    if totals.history_count:
        facts.append(f"{totals.history_count:,} in history ({show_size(totals.history_bytes)})")
    show_line("\n" + ", ".join(facts))


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

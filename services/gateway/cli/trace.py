"""`llmspell trace`: what calls caused and how long each part took, from files on this machine."""

from __future__ import annotations

from datetime import UTC, datetime
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
    show_table,
)
from services.gateway.cli.serve import default_data
from services.gateway.cli.target import JsonOption

if TYPE_CHECKING:
    from services.gateway.cli.trace_reading import SpanLine, Trace

app = typer.Typer(no_args_is_help=True, help="Traces: what a call caused, and what took long.")

BAR_WIDTH = 20
_SHORT_ID = 12
_NOT_SHOWN = (
    "rpc.", "llmspell.request_id", "llmspell.tenant", "llmspell.principal", "gen_ai.operation",
    "gen_ai.system",
)  # fmt: skip
"""Said otherwise, or of no use to a person."""

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="Where the processes write traces (telemetry.traces); else that of `llmspell up`.",
        show_default=False,
    ),
]


@app.command("list")
def list_traces(
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="The slowest first, not the newest.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only such as failed.")] = False,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="ID", help="Only this tenant's.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """List traces that were kept, the newest first."""
    found = [
        trace
        for trace in _read(folder)
        if (not failed or trace.error) and tenant in (None, trace.tenant)
    ]
    found.sort(key=lambda trace: trace.elapsed_s if slow else trace.begin_ns, reverse=True)
    found = found[:limit]
    if as_json:
        show_json([_summary(trace) for trace in found])
    elif found:
        headings = ["trace", "began", "took", "call", "tenant", "spans", "failed"]
        show_table(headings, [_row(trace) for trace in found], numbers=(2, 5))
        say("`llmspell trace show TRACE` shows one; the beginning of its id will do.")
    else:
        say("No trace fits.")


@app.command("show")
def show_trace(
    trace_id: Annotated[
        str, typer.Argument(metavar="ID", help="A trace's id or a request's, or how it begins.")
    ],
    *,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a trace as a tree, with what each part took and when."""
    named = [trace for trace in _read(folder) if trace.is_named(trace_id.lower())]
    if not named:
        show_error(f"No trace or request {trace_id} was kept.")
        say("Slow and failed calls are, and of others so many a second as the settings say.")
        raise typer.Exit(ExitCode.NOT_FOUND)
    if len(named) > 1:
        show_error(f"{len(named)} traces begin with {trace_id}; give more of the id.")
        raise typer.Exit(ExitCode.INVALID)
    [trace] = named
    if as_json:
        show_json({**_summary(trace), "spans": [_span(*each) for each in trace.in_order()]})
    else:
        _show_tree(trace)


def _read(folder: Path | None) -> list[Trace]:
    from services.gateway.cli.trace_reading import read_traces  # noqa: PLC0415  (msgspec)

    where = folder or default_data() / "traces"
    if not where.is_dir():
        show_error(f"There is no folder {where}.")
        say("Name the one in telemetry.traces with --folder; of `llmspell up --data D`, D/traces.")
        raise typer.Exit(ExitCode.NOT_FOUND)
    try:
        traces, bad = read_traces(where)
    except OSError as error:
        show_error(f"{where} cannot be read: {error.strerror}.")
        raise typer.Exit(ExitCode.REFUSED) from None
    if bad:
        say(f"{show_count(bad, 'line')} of it could not be read.", "yellow")
    return traces


def _row(trace: Trace) -> list[str]:
    return [
        trace.trace_id[:_SHORT_ID],
        f"{_time(trace.begin_ns).astimezone():%H:%M:%S}",
        show_took(trace.elapsed_s),
        short_name(trace.first.name),
        trace.tenant,
        str(len(trace.spans)),
        trace.error,
    ]


def _show_tree(trace: Trace) -> None:
    processes = len({span.process for span in trace.spans})
    within = f"{processes} process" + ("es" if processes > 1 else "")
    told = f"{show_count(len(trace.spans), 'span')} in {within}"
    show_line(f"trace {trace.trace_id}  {show_took(trace.elapsed_s)}  {told}")
    first = trace.first
    facts = {"request": first.told("llmspell.request_id"), "tenant": trace.tenant}
    show_line("  ".join(f"{name} {fact}" for name, fact in facts.items() if fact))
    for depth, span in trace.in_order():
        failed = f"  {span.error}" if span.error else ""
        more = "".join(f"  {name}={value}" for name, value in _details(span))
        show_line(
            f"{show_took(span.elapsed_s):>9} {_bar(trace, span)} "
            f"{'  ' * depth}{span.process} {short_name(span.name)}{failed}{more}"
        )


def _bar(trace: Trace, span: SpanLine) -> str:
    """When a span was, within its trace."""
    whole = max(trace.elapsed_s * 1e9, 1)
    begin = min(int(BAR_WIDTH * (span.begin_ns - trace.begin_ns) / whole), BAR_WIDTH - 1)
    width = max(round(BAR_WIDTH * span.elapsed_s * 1e9 / whole), 1)
    return f"{'·' * begin}{'█' * min(width, BAR_WIDTH - begin)}".ljust(BAR_WIDTH, "·")


def _details(span: SpanLine) -> list[tuple[str, object]]:
    """What a person wants to see of it beside its name; sizes and ids are in the JSON."""
    return [
        (name.rpartition(".")[2], value)
        for name, value in span.attributes.items()
        if not name.startswith(_NOT_SHOWN) and not name.endswith("_bytes")
    ]


def _summary(trace: Trace) -> dict[str, Any]:
    return {
        "trace_id": trace.trace_id,
        "request_id": trace.first.told("llmspell.request_id"),
        "begin_time": _time(trace.begin_ns),
        "elapsed_s": round(trace.elapsed_s, 6),
        "name": trace.first.name,
        "tenant": trace.tenant,
        "span_count": len(trace.spans),
        "error": trace.error,
    }


def _span(depth: int, span: SpanLine) -> dict[str, Any]:
    return {
        "depth": depth,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "process": span.process,
        "name": span.name,
        "begin_time": _time(span.begin_ns),
        "elapsed_s": round(span.elapsed_s, 6),
        "error": span.error,
        "attributes": span.attributes,
    }


def _time(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)


def short_name(name: str) -> str:
    """The name of a call without the package, which is always the same."""
    return name.replace("llmspell.v1.", "")


def show_took(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 0.001:  # noqa: PLR2004
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"

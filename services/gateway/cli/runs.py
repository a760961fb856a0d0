"""`llmspell run`: a script, and the runs of which a journal is kept.

`llmspell run FILE` runs a file; a file that is called like one of the commands is given as ./list.
"""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from typer.core import TyperGroup

from services.gateway.cli import script
from services.gateway.cli.output import (
    ExitCode,
    clean,
    say,
    show_count,
    show_error,
    show_json,
    show_line,
    show_raw,
    show_size,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Modification, ReplayMode, ReplayReport, Run, RunStatus

_DEFAULT = "script"


class _Commands(TyperGroup):
    """What is no command's name is a file to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    help="Run a Lua file: run FILE. List, show, cancel, replay and resume runs that are kept.",
)
app.command(_DEFAULT)(script.run)

RunArgument: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    session: Annotated[
        str, typer.Option(metavar="ID", help="Only those of this session.", show_default=False)
    ] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only running, succeeded, failed, cancelled or interrupted ones."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs of which a journal is kept, the newest first."""
    with connect(context, tenant) as client:
        statuses = cast("list[RunStatus]", status or [])
        runs = list(itertools.islice(client.list_runs(session=session, statuses=statuses), limit))
    if as_json:
        show_json(runs)
    elif runs:
        rows = [_row(run) for run in runs]
        head = ["run", "script", "status", "began", "calls", "output"]
        show_table(head, rows, numbers=(4, 5))
        say(f"{show_count(len(runs), 'run')}.", "dim")
    else:
        say("No runs are kept.")


@app.command("show")
def show(
    context: typer.Context,
    run: RunArgument,
    *,
    calls: Annotated[bool, typer.Option("--calls", help="List its calls too.")] = False,
    content: Annotated[
        bool, typer.Option("--content", help="With --json: what was asked and answered, too.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of a run."""
    if content and not as_json:
        raise typer.BadParameter("needs --json", param_hint="--content")
    with connect(context, tenant) as client:
        known = client.get_run(run)
        wanted = calls or content
        made = list(client.list_run_calls(run, content=content)) if wanted else []
    if as_json:
        plain = to_plain(known)
        show_json(plain | {"calls": to_plain(made)} if wanted else plain)
        return
    for name, value in to_plain(known).items():
        if value not in (None, "", [], {}):
            show_line(f"{name:<14} {value if isinstance(value, str) else json.dumps(value)}")
    if calls:
        rows = [
            [str(call.number), clean(call.method), clean(call.failure_reason) or "done"]
            for call in made
        ]
        show_table(["call", "method", "outcome"], rows, numbers=(0,))


@app.command("cancel")
def cancel(context: typer.Context, run: RunArgument, *, tenant: TenantOption = None) -> None:
    """End a run that goes on."""
    with connect(context, tenant) as client:
        cancelled = client.cancel_run(run)
    say(f"{run} was cancelled." if cancelled else f"{run} had ended already.")


@app.command("delete")
def delete(context: typer.Context, run: RunArgument, *, tenant: TenantOption = None) -> None:
    """Erase the journal of a run that has ended."""
    with connect(context, tenant) as client:
        deleted = client.delete_run(run)
    say(f"{run} is not kept any more." if deleted else f"No {run} was kept.")


@app.command("resume")
def resume(
    context: typer.Context,
    run: RunArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run whose worker or process was lost; nothing is written twice."""
    with connect(context, tenant) as client:
        script.follow(client.resume_run(run), "", as_json=as_json)


@app.command("replay")
def replay(
    context: typer.Context,
    run: RunArgument,
    *,
    mode: Annotated[str, typer.Option(help="exact, simulate, modified or debug.")] = "exact",
    modify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CALL[.PATH]=ANSWER",
            help="With --mode modified: JSON, or a reason to fail for. CALL is a number or a "
            "method such as GetState; may be repeated.",
        ),
    ] = None,
    stop_at: Annotated[
        int, typer.Option(metavar="CALL", min=0, help="With --mode debug: where to stop.")
    ] = 0,
    output: Annotated[bool, typer.Option("--output", help="Show what it prints.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run again from its journal, and say whether it came out the same."""
    from llmspell.types import ReplayReport, RunOutput  # noqa: PLC0415  (slow to import)

    modifications = [_modification(each) for each in modify or []]
    report: ReplayReport | None = None
    with connect(context, tenant) as client:
        events = client.replay_run(
            run,
            mode=cast("ReplayMode", mode),
            modifications=modifications,
            stop_at_call=stop_at,
        )
        with closing(events):
            for event in events:
                if isinstance(event, RunOutput) and output:
                    show_raw(event.data)
                elif isinstance(event, ReplayReport):
                    report = event
    assert report is not None
    if as_json:
        show_json(report)
    else:
        _show_report(report)
    if report.difference is not None and mode in {"exact", "debug"}:
        raise typer.Exit(ExitCode.PRECONDITION)


def _show_report(report: ReplayReport) -> None:
    counts = f"{show_count(report.call_count, 'call')}, {report.output_bytes} bytes of output"
    if report.stopped_call is not None:
        call = report.stopped_call
        show_line(f"stopped before call {call.number}: {call.method}")
        show_line(f"  asked     {json.dumps(call.request, ensure_ascii=False)}")
        show_line(f"  recorded  {json.dumps(call.answer, ensure_ascii=False)}")
    elif report.identical:
        show_line(f"identical: {counts}")
    else:
        show_line(f"made again: {counts}")
    if report.asked_count or report.refused_count:
        made = f"{report.asked_count} asked anew, {report.refused_count} refused"
        show_line(f"  {report.answered_count} calls answered from the journal, {made}")
    if report.difference is not None:
        _show_difference(report)
    if report.message:
        show_line(f"{report.reason}: {report.message}" if report.reason else report.message)


def _show_difference(report: ReplayReport) -> None:
    difference = report.difference
    assert difference is not None
    place = {
        "call": f"call {difference.call_number}",
        "output": f"byte {difference.output_offset} of the output",
    }.get(difference.what, f"the {difference.what}")
    show_error(f"It differs first in {place}.")
    is_text = difference.what == "output"
    for name, text in (("recorded", difference.recorded), ("replayed", difference.replayed)):
        told = json.dumps(text, ensure_ascii=False) if is_text else text or "nothing"
        show_line(f"  {name}  {told}")


def _modification(argument: str) -> Modification:
    from llmspell.types import Modification  # noqa: PLC0415  (slow to import)

    place, equals, answer = argument.partition("=")
    call, _, path = place.partition(".")
    if not equals or not call:
        raise typer.BadParameter(f"--modify must be CALL=ANSWER, not {argument!r}")
    number, method = (int(call), "") if call.isdecimal() else (0, call)
    if answer.isupper() and answer.replace("_", "").isalpha():
        return Modification(call_number=number, method=method, reason=answer)
    try:
        value = json.loads(answer)
    except ValueError as error:
        raise typer.BadParameter(f"--modify {place}: no JSON: {error}") from None
    return Modification(call_number=number, method=method, path=path, answer=value)


def _row(run: Run) -> list[str]:
    return [
        run.run_id,
        clean(run.name.rpartition("/")[2]),
        run.status,
        str(to_plain(run.start_time)),
        str(run.call_count),
        show_size(run.output_bytes),
    ]

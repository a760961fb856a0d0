"""`llmspell workflow`: run, check and keep workflows, and look at what came of them."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from services.gateway.cli.output import (
    ExitCode,
    say,
    show_count,
    show_json,
    show_line,
    show_table,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect
from services.gateway.cli.typed import json_object, pair, value
from services.gateway.cli.workflow_files import is_file, read_file
from services.gateway.cli.workflow_pages import Steps, show_form, show_result, show_seconds

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import WorkflowProblem, WorkflowResult, WorkflowRun, WorkflowStatus

app = typer.Typer(
    no_args_is_help=True, help="Workflows: steps in a row, side by side, by condition, in loops."
)

SourceArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME", help="File in TOML, JSON or YAML (- is stdin), or a registered name."
    ),
]
FileArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="File in TOML, JSON or YAML; - is stdin.")
]
RunArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="EXECUTION", help="The run's execution id.")
]
FullOption: TypeAlias = Annotated[
    bool, typer.Option("--full", help="All of each step's input and output.")
]


@app.command("run")
def run(
    context: typer.Context,
    source: SourceArgument,
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Inputs: JSON where it parses, else text."),
    ] = None,
    *,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="An object with inputs.", show_default=False),
    ] = None,
    session: Annotated[
        str, typer.Option(metavar="ID", help="Session whose run it is.", show_default=False)
    ] = "",
    request_id: Annotated[
        str,
        typer.Option(metavar="ID", help="Names the run: the same again goes on with the same."),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no steps meanwhile.")] = False,
    full: FullOption = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a workflow; its steps as they go on, and a tree of them at the end.

    1 is the exit code where it did not succeed.
    """
    workflow = read_file(source) if is_file(source) else source
    pairs = (pair(argument, "an input") for argument in given or [])
    values = json_object(inputs, "--inputs") | {name: value(text) for name, text in pairs}
    with connect(context, tenant) as client, Steps(source, quiet=quiet or as_json) as hear:
        result = client.execute_workflow(
            workflow, values, on_event=hear, session_id=session, request_id=request_id
        )
    _end(result, full=full, as_json=as_json)


@app.command("validate")
def validate(
    context: typer.Context,
    source: FileArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what is wrong with a workflow, without running it; 6 is the exit code then."""
    form = read_file(source)
    with connect(context, tenant) as client:
        problems = client.validate_workflow(form)
    if as_json:
        show_json(problems)
    elif problems:
        show_table(["", "step", "field", "what"], [_problem_row(each) for each in problems])
    else:
        say(f"{source} can run.")
    if any(not problem.is_warning for problem in problems):
        raise typer.Exit(ExitCode.INVALID)


@app.command("list")
def list_(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List registered workflows in order of name."""
    with connect(context, tenant) as client:
        registered = list(client.list_workflows())
    if as_json:
        show_json(registered)
    elif registered:
        rows = [
            [one.name, one.kind, one.description, _moment(one.update_time)] for one in registered
        ]
        show_table(["workflow", "kind", "what it does", "changed"], rows)
    else:
        say("No workflows are registered.")


@app.command("runs")
def runs(
    context: typer.Context,
    *,
    name: Annotated[
        str, typer.Option(help="Only those of workflows of this name.", show_default=False)
    ] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only running, completed, failed, cancelled or interrupted ones."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs of workflows, the newest first."""
    with connect(context, tenant) as client:
        statuses = cast("list[WorkflowStatus]", status or [])
        found = client.list_workflow_runs(name=name, statuses=statuses)
        listed = list(itertools.islice(found, limit))
    if as_json:
        show_json(listed)
    elif listed:
        show_table(["execution", "workflow", "status", "began", "took"], [_row(r) for r in listed])
        say(f"{show_count(len(listed), 'run')}.", "dim")
    else:
        say("No runs are kept.")


@app.command("show")
def show(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="EXECUTION|NAME", help="A run, or a registered workflow.")
    ],
    *,
    brief: Annotated[bool, typer.Option("--brief", help="One line for each step.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run with every step's result, or a registered workflow as a file would have it."""
    with connect(context, tenant) as client:
        found = _find(client, name)
    if as_json:
        show_json(found)
    elif isinstance(found, dict):
        show_form(found)
    else:
        _show_run(found, full=not brief)


@app.command("create")
def create(
    context: typer.Context,
    source: FileArgument,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace one that has the name.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a workflow under its name."""
    form = read_file(source)
    with connect(context, tenant) as client:
        made = client.create_workflow(form, replace=replace)
    if as_json:
        show_json(made)
    else:
        say(f"{made.name} is registered.")


@app.command("delete")
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow's name.")],
    *,
    run: Annotated[
        bool, typer.Option("--run", help="NAME is an execution id: erase what is kept of the run.")
    ] = False,
    tenant: TenantOption = None,
) -> None:
    """Remove a registered workflow, or what is kept of a run."""
    with connect(context, tenant) as client:
        gone = client.delete_workflow_run(name) if run else client.delete_workflow(name)
    say(f"{name} is gone." if gone else f"{name} was not there.")


@app.command("cancel")
def cancel(context: typer.Context, execution: RunArgument, *, tenant: TenantOption = None) -> None:
    """End a run that goes on."""
    with connect(context, tenant) as client:
        ended = client.cancel_workflow_run(execution)
    say(f"{execution} is cancelled." if ended else f"{execution} had ended before.")


@app.command("resume")
def resume(
    context: typer.Context,
    execution: RunArgument,
    *,
    full: FullOption = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was lost with its process; finished steps are not done again."""
    with connect(context, tenant) as client, Steps(execution, quiet=as_json) as hear:
        result = client.resume_workflow_run(execution, on_event=hear)
    _end(result, full=full, as_json=as_json)


def _end(result: WorkflowResult, *, full: bool, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        show_result(result, full=full)
    if not result.success:
        raise typer.Exit(ExitCode.PARTIAL)


def _find(client: Client, name: str) -> WorkflowRun | dict[str, Any]:
    """A run of the id, else a registered workflow of the name."""
    from llmspell import NotFound  # noqa: PLC0415  (slow to import)

    try:
        return client.get_workflow_run(name)
    except NotFound:
        return dict(client.get_workflow(name).form)


def _show_run(run: WorkflowRun, *, full: bool) -> None:
    show_line(f"execution  {run.execution_id}")
    show_line(f"status     {run.status}")
    show_line(f"began      {_moment(run.start_time)}")
    if run.resumed_count:
        show_line(f"resumed    {run.resumed_count} times")
    if run.inputs:
        show_line(f"inputs     {json.dumps(run.inputs, ensure_ascii=False, default=str)}")
    if run.result is not None:
        show_result(run.result, full=full)


def _row(run: WorkflowRun) -> list[str]:
    took = None
    if run.start_time is not None and run.end_time is not None:
        took = (run.end_time - run.start_time).total_seconds()
    return [
        run.execution_id,
        run.name,
        run.status,
        _moment(run.start_time),
        show_seconds(took),
    ]


def _problem_row(problem: WorkflowProblem) -> list[str]:
    word = "warning" if problem.is_warning else "error"
    return [word, problem.step, problem.field, problem.message]


def _moment(time: Any) -> str:
    return time.isoformat(sep=" ", timespec="seconds") if time is not None else ""

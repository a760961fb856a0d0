"""`llmspell template`: agents and workflows that are ready to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import (
    say,
    show_json,
    show_line,
    show_raw,
    show_table,
    stderr,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect
from services.gateway.cli.typed import json_object, pair, value

if TYPE_CHECKING:
    from llmspell.types import Template, TemplateEstimate, TemplateParameter, TemplateResult

app = typer.Typer(no_args_is_help=True, help="Templates: agents and workflows ready to use.")

IdArgument = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Its id.")]
ParametersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME=VALUE]...", help="JSON where it parses, else text."),
]
ParamsOption = Annotated[
    str | None, typer.Option(metavar="JSON", help="An object with parameters.", show_default=False)
]


@app.command("list")
def list_templates(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Only with this text in what they say.")] = "",
    *,
    category: Annotated[str, typer.Option(help="Only of this category.", show_default=False)] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List templates with what they need."""
    with connect(context, tenant) as client:
        templates = client.list_templates(category=category, query=query)
    if as_json:
        show_json(templates)
    elif templates:
        rows = [[t.id, t.category, ", ".join(t.requires), t.description] for t in templates]
        show_table(["template", "category", "needs", "what it does"], rows)
    else:
        say("There are no such templates.")


@app.command("info")
def info(
    context: typer.Context,
    template_id: IdArgument,
    *,
    source: Annotated[bool, typer.Option("--source", help="Print its script, to copy it.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one template: its parameters, its result, its script."""
    with connect(context, tenant) as client:
        template = client.get_template(template_id)
    if source:
        show_raw(template.source.encode())
    elif as_json:
        show_json(template)
    else:
        _show(template)


@app.command("run", context_settings={"ignore_unknown_options": True})
def run(
    context: typer.Context,
    template_id: IdArgument,
    parameters: ParametersArgument = None,
    *,
    params: ParamsOption = None,
    session: Annotated[
        str, typer.Option(metavar="ID", help="Session that it belongs to.", show_default=False)
    ] = "",
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long it may take.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what it makes into this folder.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only tell what it would cost.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute a template, or tell what that would cost."""
    with connect(context, tenant) as client:
        template = client.get_template(template_id)
        given = _given(template, parameters or [], params)
        if estimate:
            _show_estimate(client.estimate_template(template_id, given), as_json=as_json)
            return
        with stderr().status(f"{template_id} …"):
            done = client.execute_template(
                template_id, given, session_id=session, execution_s=timeout
            )
    if output is not None:
        _write(done, output)
    if as_json:
        show_json(done)
    else:
        _show_result(done, written=output is not None)


def _given(template: Template, pairs: list[str], params: str | None) -> dict[str, Any]:
    given = json_object(params, "--params")
    kinds = {parameter.name: parameter.param_type for parameter in template.parameters}
    for each in pairs:
        name, text = pair(each, "a parameter")
        given[name] = text if kinds.get(name) == "string" else value(text)
    return given


def _show(template: Template) -> None:
    show_line(f"{template.id} {template.version}: {template.description}")
    show_line(f"category {template.category}, needs {', '.join(template.requires) or 'nothing'}")
    show_line("")
    show_table(["parameter", "type", "default", "meaning"], list(map(_row, template.parameters)))
    must = [f"{each.name}=..." for each in template.parameters if each.required]
    show_line(f"\nllmspell template run {' '.join([template.id, *must])}")


def _row(parameter: TemplateParameter) -> list[str]:
    default = "" if parameter.default is None else json.dumps(parameter.default)
    meaning = parameter.description
    if parameter.allowed_values:
        meaning += f" One of {', '.join(map(str, parameter.allowed_values))}."
    if parameter.min is not None and parameter.max is not None:
        meaning += f" From {parameter.min:g} to {parameter.max:g}."
    must = "must be given" if parameter.required else default
    return [parameter.name, parameter.param_type, must, meaning]


def _show_estimate(told: TemplateEstimate, *, as_json: bool) -> None:
    if as_json:
        show_json(told)
        return
    show_line(
        f"about {told.tokens} tokens, ${told.cost_usd:.4f}, {told.duration_s:.0f} s "
        f"(confidence {told.confidence:.0%})"
    )


def _show_result(done: TemplateResult, *, written: bool) -> None:
    texts = [artifact.content for artifact in done.artifacts]
    if done.result_type == "text" and texts:
        show_raw(texts[0].rstrip("\n").encode() + b"\n")
    else:
        show_json(done.result)
    if done.artifacts and not written:
        names = ", ".join(artifact.filename for artifact in done.artifacts)
        say(f"It made {names}; --output FOLDER writes them.", "dim")
    say(
        f"{done.agents_invoked} agents asked, {done.tokens} tokens, ${done.cost_usd:.4f}, "
        f"{done.elapsed_s:.1f} s",
        "dim",
    )


def _write(done: TemplateResult, folder: Path) -> None:
    """Write artifacts; a name never leads out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for artifact in done.artifacts:
        path = folder / (Path(artifact.filename).name or "artifact")
        path.write_text(artifact.content, "utf-8")
        say(f"wrote {path}", "dim")

"""`llmspell tool`: named functions with a schema, executed beside the tenant's files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from services.gateway.cli.output import ExitCode, fail, say, show_json, show_table
from services.gateway.cli.target import JsonOption, TenantOption, connect
from services.gateway.cli.tool_pages import show_outcome, show_tool
from services.gateway.cli.typed import json_object, pair, value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell import Client, LLMSpellError

app = typer.Typer(no_args_is_help=True, help="Tools: what there is, and their execution.")

NameArgument = Annotated[str, typer.Argument(metavar="TOOL", help="Its name, or an old one.")]


@app.command("list")
def list_tools(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Only with this in name or description.")] = "",
    *,
    category: Annotated[str, typer.Option(help="Only of this category.", show_default=False)] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tools by category, with what their caller must hold."""
    with connect(context, tenant) as client:
        tools = list(client.list_tools(category=category, query=query))
    tools.sort(key=lambda tool: (tool.category, tool.name))
    if as_json:
        show_json(tools)
        return
    if not tools:
        say("There are no such tools.")
        return
    rows, shown = [], ""
    for tool in tools:
        told = f"{tool.description} (not here: {tool.unavailable})"
        text = told if tool.unavailable else tool.description
        rows.append(["" if tool.category == shown else tool.category, tool.name, tool.level, text])
        shown = tool.category
    show_table(["category", "tool", "level", "what it does"], rows)


@app.command("categories")
def categories(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List the categories and how many tools each has."""
    counts: dict[str, int] = {}
    with connect(context, tenant) as client:
        for tool in client.list_tools():
            counts[tool.category] = counts.get(tool.category, 0) + 1
    ordered = dict(sorted(counts.items()))
    if as_json:
        show_json(ordered)
    else:
        rows = [[name, str(count)] for name, count in ordered.items()]
        show_table(["category", "tools"], rows, numbers=(1,))


@app.command("show")
def show(
    context: typer.Context,
    name: NameArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one tool: its parameters, its result, an example."""
    with connect(context, tenant) as client:
        tool = client.get_tool(name)
    if as_json:
        show_json(tool)
    else:
        show_tool(tool)


@app.command("exec", context_settings={"ignore_unknown_options": True})
def execute(
    context: typer.Context,
    name: NameArgument,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="JSON where it parses, else text."),
    ] = None,
    *,
    params: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="An object with arguments.", show_default=False),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON file with them; - reads stdin."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long it may take.")
    ] = None,
    session: Annotated[
        str, typer.Option(metavar="ID", help="Session whose call it is.", show_default=False)
    ] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Print the bare result.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute a tool; 1 is the exit code where its answer is that it did not succeed."""
    from llmspell import LLMSpellError  # noqa: PLC0415  (slow to import)

    with connect(context, tenant) as client:
        given = json_object(params, "--params") | json_object(_read(file), "--file")
        given |= _typed(client, name, arguments or [])
        try:
            done = client.execute_tool(name, given, session_id=session, execution_s=timeout)
        except LLMSpellError as error:
            _refuse(name, error)
    show_outcome(done, raw=raw, as_json=as_json)
    if not done.success:
        raise typer.Exit(ExitCode.PARTIAL)


def _refuse(name: str, error: LLMSpellError) -> NoReturn:
    """An argument that does not fit also tells where to look."""
    if error.reason in ("FIELD_INVALID", "FIELD_REQUIRED"):
        say(f"`llmspell tool show {name}` shows its parameters.", "dim")
    fail(error)


def _typed(client: Client, name: str, arguments: list[str]) -> dict[str, Any]:
    """What was typed as NAME=VALUE; where the tool wants text, what was typed is that text."""
    if not arguments:
        return {}
    pairs = [pair(argument, "an argument") for argument in arguments]
    properties = client.get_tool(name).parameters.get("properties", {})
    return {key: _value(text, properties.get(key, {})) for key, text in pairs}


def _value(text: str, rule: Mapping[str, Any]) -> Any:
    return text if rule.get("type") == "string" else value(text)


def _read(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8 text") from None

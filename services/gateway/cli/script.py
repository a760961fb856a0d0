"""`llmspell run` and `llmspell exec`: Lua scripts beside a tenant's data."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from services.gateway.cli.output import (
    ExitCode,
    clean,
    fail,
    say,
    show_error,
    show_json,
    show_raw,
    stderr,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell import LLMSpellError
    from llmspell.types import RunResult

COMMAND_LINE = "command line"
"""What messages call a script that was given as an argument."""


def run(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="Lua file; - reads stdin.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS]...", help="Read as ARGS[1], ARGS[2], …"),
    ] = None,
    *,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="Read as ARGS.NAME; may be repeated."),
    ] = None,
    session: Annotated[
        str, typer.Option(metavar="ID", help="The run's current session.", show_default=False)
    ] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Lua file; what it prints appears as it happens, then what it returns."""
    named = dict(_named(argument) for argument in arg or [])
    name, source = _read_source(file)
    call = {"source": source, "name": name, "args": arguments or [], "named": named}
    call["session"] = session
    _run(context, tenant, call, as_json=as_json)


def execute(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="Lua code.")],
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a piece of Lua code."""
    call = {"source": code, "name": COMMAND_LINE}
    _run(context, tenant, call, as_json=as_json)


def _run(
    context: typer.Context,
    tenant: str | None,
    call: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Run with these arguments of `Client.run`."""
    from llmspell import LLMSpellError, RunOutput, RunResult  # noqa: PLC0415  (slow to import)

    printed = bytearray()
    result: RunResult | None = None
    with connect(context, tenant) as client:
        events = client.run(**call)
        try:
            # Closing it kills the run where we are interrupted.
            with closing(events):
                for event in events:
                    if isinstance(event, RunOutput):
                        printed += event.data
                        if not as_json:
                            show_raw(event.data)
                    elif isinstance(event, RunResult):
                        result = event
        except LLMSpellError as error:
            if as_json:  # there is no result to put it into
                say(printed.decode("utf-8", "replace").rstrip("\n"))
            _end_line(printed, as_json=as_json)
            _show_failure(error, call["source"])
    _end_line(printed, as_json=as_json)
    _show_result(result, bytes(printed), as_json=as_json)


def _show_result(result: RunResult | None, printed: bytes, *, as_json: bool) -> None:
    if result is None:
        show_error("The run ended without a result.")
        raise typer.Exit(ExitCode.INTERNAL)
    if as_json:
        output = printed.decode("utf-8", "replace")
        show_json({"result": result.value, "output": output, "elapsed_s": result.elapsed_s})
    elif isinstance(result.value, str):
        sys.stdout.write(result.value + "\n")
    elif result.value is not None:
        sys.stdout.write(json.dumps(result.value, ensure_ascii=False, indent=2) + "\n")


def _end_line(printed: bytearray, *, as_json: bool) -> None:
    """What follows the script's output begins on a line of its own."""
    if printed and not as_json and not printed.endswith(b"\n"):
        show_raw(b"\n")


def _show_failure(error: LLMSpellError, source: str) -> None:
    """An error of the script with the line that it is about; others as usual."""
    line = _source_line(error, source)
    if line is None:
        fail(error)
    number, text = line
    place = f"{error.metadata.get('name', '')}:{number}"
    show_error(error.message.removeprefix(f"{place}: "))
    margin = " " * len(str(number))
    console = stderr()
    console.print(Text(clean(f"{margin}--> {place}"), "dim"))
    console.print(Text(f"{margin} |", "dim"))
    console.print(Text.assemble((f"{number} | ", "dim"), clean(text)))
    console.print(Text(f"{margin} |", "dim"))
    script_is_wrong = error.reason == "SCRIPT_SYNTAX"
    raise typer.Exit(ExitCode.INVALID if script_is_wrong else ExitCode.PRECONDITION)


def _source_line(error: LLMSpellError, source: str) -> tuple[int, str] | None:
    """The line that the error names, where it names one that is there."""
    number = error.metadata.get("line", "")
    lines = source.split("\n")
    if error.reason not in ("SCRIPT_SYNTAX", "SCRIPT_FAILED") or not number.isdecimal():
        return None
    if not 1 <= int(number) <= len(lines):
        return None
    return int(number), lines[int(number) - 1].rstrip("\r").expandtabs(4)


def _named(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--arg must be NAME=VALUE, not {argument!r}")
    return name, value


def _read_source(file: str) -> tuple[str, str]:
    """A script's name and text."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return ("stdin" if file == "-" else file), raw.decode()
    except OSError as error:
        raise _unreadable(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _unreadable(file, f"is not UTF-8 text at byte {error.start}") from None


def _unreadable(file: str, why: str) -> Any:
    from llmspell.errors import InvalidArgument, NotFound  # noqa: PLC0415  (slow to import)

    family = InvalidArgument if Path(file).exists() else NotFound
    return family(f"{file} {why}.")

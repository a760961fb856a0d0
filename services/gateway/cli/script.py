"""`llmspell run` and `llmspell exec`: Lua scripts beside a tenant's data."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
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
from services.gateway.cli.typed import pair

if TYPE_CHECKING:
    from llmspell import LLMSpellError
    from llmspell.types import RunEvent, RunLog, RunMetrics, RunResult

_LOG_STYLES = {"error": "bold red", "warn": "yellow", "info": ""}
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
    journal: Annotated[
        bool | None,
        typer.Option(
            "--journal/--no-journal",
            help="Keep what it observes, so that it can be replayed or resumed; else where there "
            "is a session.",
            show_default=False,
        ),
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Lua file; what it prints appears as it happens, then what it returns.

    `llmspell run FILE` is the same.
    """
    named = dict(pair(argument, "--arg") for argument in arg or [])
    name, source = _read_source(file)
    call: dict[str, Any] = {"source": source, "name": name, "args": arguments or []}
    call |= {"named": named, "session": session, "journal": journal}
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


class _Told:
    """What a run has told so far; where it is not collected for JSON it is shown at once."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.run_id = ""
        """Where its journal is kept."""
        self.printed = bytearray()
        self.logs: list[RunLog] = []
        self.metrics: RunMetrics | None = None
        self.result: RunResult | None = None

    def take(self, event: RunEvent) -> None:
        from llmspell import (  # noqa: PLC0415  (slow to import)
            RunLog,
            RunMetrics,
            RunOutput,
            RunResult,
            RunStarted,
        )

        if isinstance(event, RunOutput):
            self.printed += event.data
            if not self.as_json:
                show_raw(event.data)
        elif isinstance(event, RunLog):
            self.logs.append(event)
            if not self.as_json:
                show_log(event)
        elif isinstance(event, RunMetrics):
            self.metrics = event
        elif isinstance(event, RunResult):
            self.result = event
        elif isinstance(event, RunStarted) and event.journal:
            self.run_id = event.run_id


def show_log(line: RunLog) -> None:
    """A line of a run's log, on stderr: it is not what the run prints."""
    module = f" {line.module}" if line.module else ""
    data = "" if line.data is None else f" {json.dumps(line.data, ensure_ascii=False)}"
    say(f"{line.level}{module}: {line.message}{data}", _LOG_STYLES.get(line.level, "dim"))


def _run(
    context: typer.Context,
    tenant: str | None,
    call: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Run with these arguments of `Client.run`."""
    with connect(context, tenant) as client:
        follow(client.run(**call), call["source"], as_json=as_json)


def follow(events: Generator[RunEvent, None, None], source: str, *, as_json: bool) -> None:
    """Show what happens in a run, as it happens, and what came of it.

    Args:
        events: As the client gives them.
        source: Lines of it are shown where an error names one; empty: none.
        as_json: Whether to print one JSON document at the end.
    """
    from llmspell import LLMSpellError  # noqa: PLC0415  (slow to import)

    told = _Told(as_json=as_json)
    try:
        # Closing it kills the run where we are interrupted.
        with closing(events):
            for event in events:
                told.take(event)
    except LLMSpellError as error:
        if as_json:  # there is no result to put it into
            say(told.printed.decode("utf-8", "replace").rstrip("\n"))
            for line in told.logs:
                show_log(line)
        _end_line(told.printed, as_json=as_json)
        _say_kept(told)
        show_failure(error, source)
    _end_line(told.printed, as_json=as_json)
    _show_result(told)
    _say_kept(told)


def _say_kept(told: _Told) -> None:
    if told.run_id:
        say(f"Kept as {told.run_id}.", "dim")


def _show_result(told: _Told) -> None:
    result = told.result
    if result is None:
        show_error("The run ended without a result.")
        raise typer.Exit(ExitCode.INTERNAL)
    if told.as_json:
        output = told.printed.decode("utf-8", "replace")
        shown = {"result": result.value, "output": output, "elapsed_s": result.elapsed_s}
        shown |= {"run_id": told.run_id} if told.run_id else {}
        logs = {"logs": told.logs} if told.logs else {}
        show_json(shown | logs | ({"metrics": told.metrics} if told.metrics else {}))
    elif isinstance(result.value, str):
        sys.stdout.write(result.value + "\n")
    elif result.value is not None:
        sys.stdout.write(json.dumps(result.value, ensure_ascii=False, indent=2) + "\n")


def _end_line(printed: bytearray, *, as_json: bool) -> None:
    """What follows the script's output begins on a line of its own."""
    if printed and not as_json and not printed.endswith(b"\n"):
        show_raw(b"\n")


def show_failure(error: LLMSpellError, source: str) -> None:
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

"""The `llmspell` command: its parts and its options. Each command loads what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.gateway.cli import (
    admin,
    artifact,
    backups,
    events,
    migrations,
    rag,
    rpc,
    script,
    serve,
    session,
    session_journal,
    settings,
    state,
    transfer,
    vault,
    vectors,
)
from services.gateway.cli.output import ExitCode, failures
from services.gateway.cli.target import Target


class _Commands(TyperGroup):
    """The root: here every command's failures become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        with failures():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Gateway to call; else LLMSPELL_ADDRESS."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key to call with; better in LLMSPELL_API_KEY."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Profile with both; else the one of `llmspell up`."),
    ] = None,
) -> None:
    """Run Lua scripts for many tenants: processes, documents, state and scripts."""
    context.obj = Target(address=address, api_key=api_key, profile=profile)


app.command("up")(serve.up)
app.command("run")(script.run)
app.command("exec")(script.execute)
app.command("health")(admin.health)
app.add_typer(rag.app, name="rag")
app.add_typer(vectors.app, name="vector")
app.add_typer(state.app, name="state")
app.add_typer(migrations.schemas, name="schema")
app.add_typer(migrations.app, name="migrate")
app.add_typer(events.app, name="event")
app.add_typer(artifact.app, name="artifact")
session.app.command("journal")(session_journal.journal)
session.app.command("journals")(session_journal.journals)
app.add_typer(session.app, name="session")
app.add_typer(backups.app, name="backup")
app.add_typer(vault.app, name="vault")
admin.tenants.command("export")(transfer.export)
admin.tenants.command("import")(transfer.import_)
app.add_typer(admin.tenants, name="tenant")
app.add_typer(admin.keys, name="key")
app.add_typer(rpc.app, name="rpc")
app.add_typer(settings.app, name="config")
app.command("version")(settings.version)


def main() -> None:
    """The entry point of the installed command."""
    if sys.stdout is None or sys.stderr is None:  # closed by the shell: nobody would be told
        sys.exit(ExitCode.PIPE_CLOSED)
    for stream in (sys.stdout, sys.stderr):
        # A passage may hold a character that the terminal's encoding lacks.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # they are text files
    app(prog_name="llmspell")


if __name__ == "__main__":
    main()

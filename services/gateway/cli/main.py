"""The `llmspell` command: its parts and its options. Each command loads what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.gateway.cli.commands import Commands
from services.gateway.cli.output import ExitCode, failures
from services.gateway.cli.target import Target


class _Commands(TyperGroup):
    """The root: here every command's failures become messages and exit codes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": Commands()})

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
    *,
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
        typer.Option(
            metavar="FILE|NAME", help="Profile with both; else the one in use: `llmspell profile`."
        ),
    ] = None,
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Authority of the gateway's certificate, or `system`; else LLMSPELL_CA_FILE.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Own certificate, if asked for; else LLMSPELL_CERTIFICATE_FILE."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key; else LLMSPELL_KEY_FILE.")
    ] = None,
) -> None:
    """Run Lua scripts for many tenants: processes, documents, state and scripts."""
    context.obj = Target(
        address=address, api_key=api_key, profile=profile, ca=ca, certificate=cert, key=key
    )


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

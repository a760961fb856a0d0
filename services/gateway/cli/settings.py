"""`llmspell config` and `llmspell version`."""

from __future__ import annotations

import dataclasses
import os
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import show_json, show_line
from services.gateway.cli.target import JsonOption

if TYPE_CHECKING:
    from services.common.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The settings of a deployment.")

MASK = "***"
_SECRET_KEY = re.compile(r"(?:_key|_secret|_token|password)$")
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")

FileArgument = Annotated[
    Path | None,
    typer.Argument(help="Settings file; else LLMSPELL_CONFIG, else defaults.", show_default=False),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting.")
]


@app.command("show")
def show(file: FileArgument = None, *, sets: SetOption = None, as_json: JsonOption = False) -> None:
    """Print the settings in force here, from defaults, file, environment and --set."""
    tables = {
        table: {key: _masked(key, value) for key, value in values.items()}
        for table, values in dataclasses.asdict(_load(file, sets)).items()
    }
    if as_json:
        show_json(tables)
        return
    from services.common.config import toml_text  # noqa: PLC0415  (slow to import)

    for table, values in tables.items():
        show_line(f"[{table}]")
        for key, value in values.items():
            show_line(f"{key} = {toml_text(value)}")
        show_line("")


@app.command("check")
def check(file: FileArgument = None, *, sets: SetOption = None) -> None:
    """Read the settings and say whether they are good; an error names file and key."""
    _load(file, sets)
    show_line(f"{_named_file(file) or 'The settings'}: good.")


@app.command("example")
def example() -> None:
    """Print a settings file with every key, its default and its meaning."""
    from services.common.config import example as text  # noqa: PLC0415  (slow to import)

    typer.echo(text(), nl=False)


def version(*, as_json: JsonOption = False) -> None:
    """Print the release."""
    release = metadata.version("llmspell-services")
    if as_json:
        show_json({"version": release})
    else:
        show_line(f"llmspell {release}")


def _load(file: Path | None, sets: list[str] | None) -> Settings:
    from services.common.config import load_settings  # noqa: PLC0415  (slow to import)

    return load_settings(_named_file(file), os.environ, sets or [])


def _named_file(file: Path | None) -> Path | None:
    """The file that the processes would read too."""
    from_environment = os.environ.get("LLMSPELL_CONFIG")
    return file or (Path(from_environment) if from_environment else None)


def _masked(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _SECRET_KEY.search(key) and value:
        return MASK
    return _CREDENTIALS_IN_URL.sub(MASK, value)

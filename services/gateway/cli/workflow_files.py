"""Files that hold a workflow: TOML, JSON or YAML, told by their name."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import typer

from services.common.limits import WORKFLOW_BYTES_MAX

SUFFIXES = (".toml", ".json", ".yaml", ".yml")
_STDIN = "-"


def is_file(source: str) -> bool:
    """Whether what was typed names a file, and no registered workflow."""
    return source == _STDIN or source.endswith(SUFFIXES) or Path(source).is_file()


def read_file(source: str) -> dict[str, Any]:
    """The workflow of a file; `-` is JSON or YAML on stdin.

    Raises:
        typer.BadParameter: where it cannot be read, or holds something else.
    """
    data = _bytes_of(source)
    if len(data) > WORKFLOW_BYTES_MAX:
        raise typer.BadParameter(f"{source} is larger than {WORKFLOW_BYTES_MAX} bytes")
    try:
        form = _parse(source, data.decode())
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{source} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{source} cannot be read: {error}") from None
    if not isinstance(form, dict):
        raise typer.BadParameter(f"{source} holds no workflow: it must be a mapping")
    return form


def _bytes_of(source: str) -> bytes:
    if source == _STDIN:
        return sys.stdin.buffer.read(WORKFLOW_BYTES_MAX + 1)
    try:
        with Path(source).open("rb") as file:
            return file.read(WORKFLOW_BYTES_MAX + 1)
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror}") from None


def _parse(source: str, text: str) -> Any:
    if source.endswith(".toml"):
        return tomllib.loads(text)
    if source.endswith(".json"):
        return json.loads(text)
    import yaml  # noqa: PLC0415  (slow to import)

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None

"""process-executor: a few harmless programs of this machine, in the tenant's folder."""

from __future__ import annotations

import os
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    field_invalid,
    limit_exceeded,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.programs import Ended, find_program, run_program

OUTPUT_BYTES_MAX = 900 * 1024
ARGUMENTS_BYTES_MAX = 64 * 1024
PROGRAMS = (
    "echo", "cat", "ls", "pwd", "date", "uname", "which", "test", "head", "tail", "wc", "grep",
    "find", "sort", "uniq", "whoami",
)  # fmt: skip
_ENVIRONMENT = ("PATH", "HOME", "USER", "SHELL", "TERM", "LANG", "LC_ALL", "TZ")
_PATHS = {name: find_program(name) for name in PROGRAMS}
"""Looked up before the jail."""


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    name = arguments["executable"]
    path = _path(name)
    given: list[str] = arguments["arguments"]
    _check(given)
    directory = arguments["working_directory"]
    folder = desk.folder.open(directory, os.O_RDONLY | os.O_DIRECTORY, field="working_directory")
    ended = run_program(
        [path, *given],
        folder=folder,
        wall_s=arguments["timeout_seconds"],
        output_bytes=OUTPUT_BYTES_MAX,
        environment=arguments["environment"],
    )
    how = "timed out" if ended.timed_out else f"ended with {ended.exit_code}"
    return Outcome(operation="execute", message=f"{name} {how}", result=_told(name, given, ended))


def _path(name: str) -> str:
    """Where a program of the list is.

    Raises:
        ToolError: PERMISSION_DENIED for any other; NOT_IMPLEMENTED where it is not installed.
    """
    plain = name.removeprefix("/usr/bin/").removeprefix("/bin/")
    if plain not in PROGRAMS:
        text = f"{name[:100]} is not among the programs that may run: {', '.join(PROGRAMS)}."
        raise ToolError("PERMISSION_DENIED", text, field="executable")
    path = _PATHS[plain]
    if path is None:
        raise not_implemented(f"The program {plain} is not installed here.")
    return path


def _check(arguments: list[str]) -> None:
    size = sum(len(argument.encode()) + 1 for argument in arguments)
    if size > ARGUMENTS_BYTES_MAX:
        raise limit_exceeded("arguments", size, ARGUMENTS_BYTES_MAX, "bytes")
    if any("\0" in argument for argument in arguments):
        raise field_invalid("arguments", "must not hold NUL")


def _told(name: str, given: list[str], ended: Ended) -> dict[str, Any]:
    return {
        "executable": name,
        "arguments": given,
        "exit_code": ended.exit_code,
        "success": ended.exit_code == 0,
        "stdout": ended.stdout.decode("utf-8", "replace"),
        "stderr": ended.stderr.decode("utf-8", "replace"),
        "execution_time_ms": round(ended.elapsed_s * 1000, 3),
        "timed_out": ended.timed_out,
        "truncated": ended.truncated,
    }


TOOLS = (
    Tool(
        name="process-executor",
        description="Runs one of a few programs, such as grep or sort, in the tenant's folder.",
        category="system",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES, Need.PROGRAMS}),
        limits=ToolLimits(wall_s=35.0, cpu_s=20),
        synonyms={
            "command": "executable",
            "input": "executable",
            "args": "arguments",
            "path": "working_directory",
            "env": "environment",
            "timeout": "timeout_seconds",
        },
        parameters=parameters(
            ("executable",),
            executable={"type": "string", "description": f"One of {', '.join(PROGRAMS)}."},
            arguments={
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 200,
                "default": [],
                "description": "What it is given; no shell looks at it.",
            },
            working_directory={
                "type": "string",
                "default": ".",
                "description": "Folder that it works in.",
            },
            environment={
                "type": "object",
                "properties": {name: {"type": "string"} for name in _ENVIRONMENT},
                "additionalProperties": False,
                "default": {},
                "description": f"Its environment: {', '.join(_ENVIRONMENT)}; nothing is inherited.",
            },
            timeout_seconds={
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 30,
                "default": 30,
                "description": "It is ended then.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "executable": {"description": "The program.", "type": "string"},
                "arguments": {"description": "What it was given.", "type": "array"},
                "exit_code": {"description": "How it ended; 0 is well.", "type": "integer"},
                "success": {"description": "Whether that is 0.", "type": "boolean"},
                "stdout": {"description": "What it printed.", "type": "string"},
                "stderr": {"description": "What it printed of errors.", "type": "string"},
                "execution_time_ms": {"description": "How long it took.", "type": "number"},
                "timed_out": {
                    "description": "Whether it was ended for its time.",
                    "type": "boolean",
                },
                "truncated": {"description": "Whether it printed more.", "type": "boolean"},
            },
        },
        notes="The program sees the tenant's folder and the machine's programs, no network, and "
        "starts no other program. Each output is cut at 900 KiB, and `truncated` is true then. A "
        "negative `exit_code` is the signal that ended it.",
        run=_run,
    ),
)

"""file-watcher: waits until something changes in the tenant's folder, and tells what."""

from __future__ import annotations

import fnmatch
import time
from pathlib import PurePosixPath
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.filesystem.changes import KINDS, Changes
from services.runtime.toolbox.folder import WORK, Folder
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.paths import not_found, shown

PATHS_MAX = 100
EVENTS_MAX = 1000
SECONDS_MAX = 290
DEBOUNCE_MS = 100


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    if arguments["operation"] == "config":
        result: dict[str, Any] = {
            "max_events": EVENTS_MAX,
            "default_timeout": SECONDS_MAX,
            "default_debounce_ms": DEBOUNCE_MS,
            "max_paths": PATHS_MAX,
        }
        return Outcome(operation="config", message="Limits of file-watcher", result=result)
    events, timed_out = _watch(arguments, desk.folder, _paths(arguments, desk.folder))
    result = {"events": events, "event_count": len(events), "timed_out": timed_out}
    return Outcome(operation="watch", message=f"{len(events)} changes", result=result)


def _paths(arguments: Arguments, folder: Folder) -> list[str]:
    """Files and folders to watch, each of which is there."""
    named = arguments["input"]
    paths = [named] if isinstance(named, str) else named
    if not paths:
        raise ToolError("FIELD_REQUIRED", "input must name a path.", field="input")
    if len(paths) > PATHS_MAX:
        raise limit_exceeded("input", len(paths), PATHS_MAX, "paths")
    for path in paths:
        if folder.stat(path, field="input") is None:
            raise not_found(path, "input")
    return [str(PurePosixPath(path)) for path in paths]


def _seconds(arguments: Arguments) -> float:
    if "timeout_ms" in arguments:
        return float(arguments["timeout_ms"]) / 1000
    return float(arguments["timeout_seconds"])


def _watch(
    arguments: Arguments, folder: Folder, paths: list[str]
) -> tuple[list[dict[str, str]], bool]:
    """What changed first, and what followed at once; or nothing until the time is over."""
    with Changes(folder, recursive=arguments["recursive"]) as changes:
        for path in paths:
            changes.watch(path)
        deadline = time.monotonic() + _seconds(arguments)
        found: dict[str, str] = {}
        while (left := deadline - time.monotonic()) > 0:
            for path, kind in changes.wait(left):
                if _is_wanted(path, arguments.get("pattern")):
                    found[path] = _joined(found.get(path), kind)
                    # From the first on, only what follows at once belongs to it.
                    deadline = min(deadline, time.monotonic() + arguments["debounce_ms"] / 1000)
    events = [{"type": kind, "path": shown(path)} for path, kind in found.items()]
    return events[: arguments["max_events"]], not found


def _joined(before: str | None, kind: str) -> str:
    """What became of a file to which two things happened."""
    return before if before == "created" and kind == "modified" else kind


def _is_wanted(path: str, pattern: str | None) -> bool:
    if path.split("/", 1)[0] == WORK:
        return False
    name = path.rsplit("/", 1)[-1]
    return pattern is None or fnmatch.fnmatchcase(name, pattern)


TOOLS = (
    Tool(
        name="file-watcher",
        description="Waits until files change, and tells which.",
        category="filesystem",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES, Need.WATCH}),
        limits=ToolLimits(wall_s=300.0, cpu_s=10, memory_bytes=256 * MIB, file_bytes=0),
        synonyms={"path": "input", "paths": "input", "timeout": "timeout_seconds"},
        parameters=parameters(
            (),
            operation={
                "enum": ["watch", "config"],
                "default": "watch",
                "description": "Wait for changes, or tell the limits.",
            },
            input={
                "type": ["array", "string"],
                "items": {"type": "string"},
                "default": ".",
                "description": "Files and folders to watch.",
            },
            recursive={"type": "boolean", "default": True, "description": "Folders within too."},
            pattern={"type": "string", "description": "Only names like it, such as `*.txt`."},
            debounce_ms={
                "type": "integer",
                "minimum": 1,
                "maximum": 10_000,
                "default": DEBOUNCE_MS,
                "description": "How long changes are gathered after the first.",
            },
            timeout_seconds={
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": SECONDS_MAX,
                "default": SECONDS_MAX,
                "description": "How long to wait.",
            },
            timeout_ms={
                "type": "integer",
                "minimum": 1,
                "maximum": SECONDS_MAX * 1000,
                "description": "The same in milliseconds.",
            },
            max_events={
                "type": "integer",
                "minimum": 1,
                "maximum": EVENTS_MAX,
                "default": EVENTS_MAX,
                "description": "Most changes that are told.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "events": {
                    "description": "`type` and `path` of each change.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"enum": list(KINDS)},
                            "path": {"type": "string"},
                        },
                    },
                },
                "event_count": {"description": "How many there are.", "type": "integer"},
                "timed_out": {"description": "Whether the time was over.", "type": "boolean"},
                "max_events": {"description": "config: most events of a call.", "type": "integer"},
                "default_timeout": {
                    "description": "config: seconds that are waited.",
                    "type": "integer",
                },
                "default_debounce_ms": {
                    "description": "config: changes so near to each other are one.",
                    "type": "integer",
                },
                "max_paths": {"description": "config: most paths of a call.", "type": "integer"},
            },
        },
        notes="Answers with the first changes that fit, as soon as they come; nothing changed in "
        "time is an answer too. A call waits as long as its own deadline only.",
        run=_run,
    ),
)

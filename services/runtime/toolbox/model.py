"""What a tool is, and what comes of one; shared by the jailed side and the host's."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = dict[str, Any]
"""Checked against the tool's schema, defaults filled in, old names replaced."""
Schema = Mapping[str, Any]
"""JSON Schema, 2020-12."""

MIB = 1024 * 1024


class Level(enum.StrEnum):
    """How much harm a tool could do."""

    SAFE = "safe"
    """Computes; reaches nothing outside but what it is given."""
    RESTRICTED = "restricted"
    """Reads the tenant's files, or reaches outside within limits."""
    PRIVILEGED = "privileged"
    """Changes what others may rely on."""


class Need(enum.StrEnum):
    """What a tool's process is given beyond computing."""

    FILES = "files"
    """The tenant's own folder, to read and to write."""
    NETWORK = "network"
    """Connections that the host makes for it, to addresses that the host has checked."""
    PROGRAMS = "programs"
    """Other programs of the machine, within the same jail, each of which starts no other."""
    WATCH = "watch"
    """To be told of changes in folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimits:
    """Limits of one execution."""

    wall_s: float = 30.0
    """Seconds on the clock; a caller may ask for less."""
    cpu_s: int = 10
    """Seconds of processor time."""
    memory_bytes: int = 256 * MIB
    """Address space beyond the empty process's."""
    file_bytes: int = 64 * MIB
    """Largest file that it may write."""


class ToolError(Exception):
    """The call is refused or cannot be done. Raised by bodies; the host gives it to the caller.

    `reason` is a name of the contract's reasons; metadata names field and limit where there is one.
    """

    def __init__(self, reason: str, message: str, /, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {name: str(value) for name, value in metadata.items()}


def field_invalid(field: str, rule: str) -> ToolError:
    """An argument breaks its rule, such as `must be positive`."""
    return ToolError("FIELD_INVALID", f"{field} {rule}.", field=field, rule=rule)


def field_required(field: str) -> ToolError:
    """An argument that must be set is not."""
    return ToolError("FIELD_REQUIRED", f"{field} must be set.", field=field)


def required(arguments: Mapping[str, Any], name: str) -> Any:
    """An argument that this operation cannot do without.

    Raises:
        ToolError: FIELD_REQUIRED.
    """
    if name not in arguments:
        raise field_required(name)
    return arguments[name]


def limit_exceeded(field: str, got: float, limit: float, unit: str = "") -> ToolError:
    """An argument, or what it leads to, is larger than its limit."""
    words = f" {unit}" if unit else ""
    return ToolError(
        "LIMIT_EXCEEDED",
        f"{field} is {got}{words}; the limit is {limit}{words}.",
        field=field,
        got=got,
        limit=limit,
    )


def failed(message: str, /, **metadata: object) -> ToolError:
    """The tool cannot do what it was asked."""
    return ToolError("TOOL_FAILED", message, **metadata)


def not_implemented(message: str) -> ToolError:
    """What is known and not offered, by name."""
    return ToolError("NOT_IMPLEMENTED", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a tool did not do what it was asked, where that is an answer: `success` is false."""

    message: str
    """One sentence."""
    code: str = ""
    """Such as `division_by_zero`."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an execution."""

    result: Any = None
    """None, bool, int, float, str, bytes, list, dict with text keys; finite numbers only."""
    operation: str = ""
    """What was done, such as `encode`."""
    message: str = ""
    """One sentence for people."""
    failure: Failure | None = None
    """Set where it was not done."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool, without the place where it is executed."""

    name: str
    """Such as `text-manipulator`."""
    description: str
    """One sentence."""
    category: str
    """Such as `utility`."""
    level: Level
    """What its caller must hold."""
    parameters: Schema
    """JSON Schema of its arguments: an object; `additionalProperties` is taken to be false."""
    result: Schema
    """JSON Schema of the result."""
    run: Callable[..., Any]
    """`(arguments, desk) → Outcome` in a jailed process; see `Desk`."""
    old_names: tuple[str, ...] = ()
    """Other names, beside its own with underscores, which is always known."""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """Old name of a parameter → its name."""
    needs: frozenset[Need] = frozenset()
    """What its process is given."""
    limits: ToolLimits = ToolLimits()
    """Of one execution."""
    version: str = "1.0.0"
    """Of its behaviour."""
    notes: str = ""
    """What is special, for people."""
    unavailable: Callable[[], str] | None = None
    """Why it cannot be executed on this machine; asked in the jail's parent, before the jail."""


def parameters(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """The schema of a tool's arguments: these and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def described(tool: Tool) -> dict[str, Any]:
    """All of a tool but its body, as plain values."""
    plain = tool.name.replace("-", "_")
    names = (plain, *tool.old_names) if plain != tool.name else tool.old_names
    return {
        "name": tool.name,
        "description": tool.description,
        "category": tool.category,
        "level": tool.level.value,
        "parameters": tool.parameters,
        "result": tool.result,
        "old_names": list(dict.fromkeys(names)),
        "synonyms": dict(tool.synonyms),
        "needs": sorted(need.value for need in tool.needs),
        "limits": {
            "wall_s": tool.limits.wall_s,
            "cpu_s": tool.limits.cpu_s,
            "memory_bytes": tool.limits.memory_bytes,
            "file_bytes": tool.limits.file_bytes,
        },
        "version": tool.version,
        "notes": tool.notes,
        "unavailable": tool.unavailable() if tool.unavailable else "",
    }

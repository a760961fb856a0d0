"""Hook points: which exist, and which of them a call of a method passes.

One table for both sides: the host's hooks read it here, and a VM is given it as Lua text. Imports
the standard library only, since the worker loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """When a point is reached, and so what its hooks can do."""

    BEFORE = "before"
    """The call is still to be made: its data are the arguments."""
    AFTER = "after"
    """The call was answered: its data are the answer."""
    ERROR = "error"
    """The call failed: its data are the error."""
    NOTICE = "notice"
    """Nothing hangs on it: only that it happened is told."""
    CUSTOM = "custom"
    """A script fires it by a name of its own."""


@dataclass(frozen=True, slots=True)
class Points:
    """What a call passes."""

    component: str
    """Kind of what is called: `tool`, `state`, `session`, `event`, `vector`, `agent`,
    `workflow`."""
    before: tuple[str, ...] = ()
    """In this order."""
    after: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    """Where the call fails, whatever the reason."""
    name: str = ""
    """Argument that names the component: a tool's name, a session's id."""
    target: str = ""
    """Argument that another target of the same kind replaces; empty: there is no other target."""


_READ = (("BeforeStateRead",), ("AfterStateRead",))
_WRITE = (("BeforeStateWrite",), ("AfterStateWrite",))
_FOUND = (("BeforeToolDiscovery",), ("AfterToolDiscovery",), ("ToolError",))
_TOOL = (("ToolValidation", "BeforeToolExecution"), ("AfterToolExecution",), ("ToolError",))
_BROKEN = ("AgentError",)
_AGENT = (("BeforeAgentExecution",), ("AfterAgentExecution",), _BROKEN)
_EVENT = (("BeforeEventEmit",), ("AfterEventEmit",), ("EventHandlerError",))
_CHANGED = ((), ("ConfigurationChange",))


def _session(*, before: str = "", after: str = "") -> Points:
    name = "session_id"
    return Points("session", (before,) if before else (), (after,) if after else (), (), name, name)


POINTS: dict[str, Points] = {
    "StateService/GetState": Points("state", *_READ, name="scope", target="key"),
    "StateService/ListState": Points("state", *_READ, name="scope", target="scope"),
    "StateService/ResolveState": Points("state", *_READ, name="", target="key"),
    "StateService/SetState": Points("state", *_WRITE, name="scope", target="key"),
    "StateService/DeleteState": Points("state", *_WRITE, name="scope", target="key"),
    "StateService/IncrementState": Points("state", *_WRITE, name="scope", target="key"),
    "StateService/BatchState": Points("state", *_WRITE),
    "StateService/CopyState": Points("state", *_WRITE, name="scope", target="key"),
    "StateService/MoveState": Points("state", *_WRITE, name="scope", target="key"),
    "StateService/CopyStateScope": Points("state", *_WRITE, name="scope", target="scope"),
    "StateService/MoveStateScope": Points("state", *_WRITE, name="scope", target="scope"),
    "StateService/ClearState": Points("state", *_WRITE, name="scope", target="scope"),
    "MigrationService/StartMigration": Points(
        "state", ("StateMigration",), name="schema", target="schema"
    ),
    "MigrationService/PutSchema": Points("state", *_CHANGED),
    "MigrationService/DeleteSchema": Points("state", *_CHANGED, name="name", target="name"),
    "VectorService/ConfigureScope": Points("vector", *_CHANGED, name="scope", target="scope"),
    "VectorService/UpdateCollection": Points(
        "vector", *_CHANGED, name="collection_id", target="collection_id"
    ),
    "SessionService/CreateSession": _session(after="SessionStart"),
    "SessionService/CompleteSession": _session(before="SessionEnd"),
    "SessionService/FailSession": _session(before="SessionEnd"),
    "SessionService/DeleteSession": _session(before="SessionEnd"),
    "SessionService/CreateCheckpoint": _session(before="SessionCheckpoint"),
    "SessionService/RestoreCheckpoint": _session(after="SessionRestore"),
    "SessionService/ResumeSession": _session(after="SessionRestore"),
    "SessionService/SaveSession": _session(before="SessionSave"),
    "SessionService/SuspendSession": _session(before="SessionSave"),
    "EventService/PublishEvents": Points("event", *_EVENT, target="type"),
    "ToolService/ExecuteTool": Points("tool", *_TOOL, name="name", target="name"),
    "ToolService/GetTool": Points("tool", *_FOUND, name="name", target="name"),
    "ToolService/ListTools": Points("tool", *_FOUND),
    "AgentService/CreateAgent": Points("agent", ("BeforeAgentInit",), ("AfterAgentInit",), _BROKEN),
    "AgentService/ExecuteAgent": Points("agent", *_AGENT, name="agent", target="agent"),
    "AgentService/DeleteAgent": Points(
        "agent", ("BeforeAgentShutdown",), ("AfterAgentShutdown",), _BROKEN, "name", "name"
    ),
}
"""Method, without the package of the contract → what a call of it passes."""

AROUND: dict[str, Points] = {
    "WorkflowService/ExecuteWorkflow": Points(
        "workflow",
        ("BeforeWorkflowStart",),
        ("AfterWorkflowComplete",),
        ("WorkflowError",),
        name="name",
    ),
    "WorkflowStep/Run": Points(
        "workflow",
        ("WorkflowStageTransition", "BeforeWorkflowStage"),
        ("AfterWorkflowStage",),
        name="step",
    ),
}
"""The same of what is more than one call: a workflow and each of its steps. The VM has its own."""

EXECUTES = frozenset({"AgentService/ExecuteAgent", "WorkflowService/ExecuteWorkflow"})
"""Methods whose call only begins what passes the points: its answer may be that it goes on."""

BY_CODE = {"ABORTED": "StateConflict", "RESOURCE_EXHAUSTED": "ResourceLimitExceeded"}
"""Code of a failure → the point it reaches beside its method's own."""

BY_REASON = {
    "LIMIT_EXCEEDED": "ResourceLimitExceeded",
    "TOOL_TIME_LIMIT": "ResourceLimitExceeded",
    "REVISION_MISMATCH": "StateConflict",
    "PERMISSION_DENIED": "SecurityViolation",
    "TENANT_NOT_FOUND": "SecurityViolation",
}
"""Likewise by its reason; `SecurityViolation` for every other reason of PERMISSION_DENIED too."""

NOTICES = (
    "SystemStartup", "SystemShutdown", "PerformanceThresholdExceeded", "MemoryUsageHigh",
    "CpuUsageHigh", "WorkflowCheckpoint", "WorkflowRollback",
)  # fmt: skip
"""Points that no call of a method passes."""


def error_points(points: Points | None, code: str, reason: str) -> tuple[str, ...]:
    """The points that a failed call reaches, in order."""
    found = list(points.error) if points else []
    other = BY_REASON.get(reason) or BY_CODE.get(code)
    if other is None and code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}:
        other = "SecurityViolation"
    if other == "StateConflict" and (points is None or points.component != "state"):
        other = None
    if other is not None:
        found.append(other)
    return tuple(found)


def _phases() -> dict[str, Phase]:
    phases = dict.fromkeys(NOTICES, Phase.NOTICE)
    for points in (*POINTS.values(), *AROUND.values()):
        phases |= dict.fromkeys(points.before, Phase.BEFORE)
        phases |= dict.fromkeys(points.after, Phase.AFTER)
        phases |= dict.fromkeys(points.error, Phase.ERROR)
    errors = {*BY_CODE.values(), *BY_REASON.values(), "SecurityViolation"}
    return phases | dict.fromkeys(errors, Phase.ERROR)


PHASES = _phases()
"""Every point by name and when it is reached; `Custom(name)` is none of them."""


def lua_text() -> bytes:
    """The table as the Lua part `points`: sets `kit.points` and what goes with it."""
    rows = [f'  ["llmspell.v1.{method}"] = {_lua_row(row)},' for method, row in POINTS.items()]
    return "\n".join(
        (
            "local kit = ...",
            "kit.points = {",
            *rows,
            "}",
            f"kit.point_phases = {_lua_map(PHASES)}",
            f"kit.points_by_code = {_lua_map(BY_CODE)}",
            f"kit.points_by_reason = {_lua_map(BY_REASON)}",
        )
    ).encode()


def _lua_row(points: Points) -> str:
    lists = {"before": points.before, "after": points.after, "error": points.error}
    fields = [f"{name} = {{{', '.join(map(_quoted, names))}}}" for name, names in lists.items()]
    texts = {"component": points.component, "name": points.name, "target": points.target}
    fields += [f"{name} = {_quoted(text)}" for name, text in texts.items() if text]
    return "{" + ", ".join(fields) + "}"


def _lua_map(names: dict[str, str] | dict[str, Phase]) -> str:
    return "{" + ", ".join(f"{key} = {_quoted(value)}" for key, value in names.items()) + "}"


def _quoted(text: str) -> str:
    assert text.replace("_", "").isalnum(), text
    return f'"{text}"'

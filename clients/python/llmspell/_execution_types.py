"""What goes on in an execution of an agent or a workflow, as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money."""

    input_tokens: int = 0
    """That models read."""
    output_tokens: int = 0
    """That models wrote."""
    cached_tokens: int = 0
    """Of the first, those that the provider had in its cache."""
    cost_usd: float = 0.0
    """In US dollars."""
    estimated: bool = False
    """Whether a part of it is an estimate."""
    model_calls: int = 0
    """Calls of models."""
    tool_calls: int = 0
    """Calls of tools."""


NOTHING_SPENT = Spent()
"""What costs nothing."""


@dataclass(frozen=True, slots=True)
class ExecutionFailure:
    """Why something did not succeed, where that is an answer."""

    reason: str
    """Such as `TOOL_FAILED`; what a caller's function raised has none."""
    message: str
    """One sentence."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """More of it, by name."""


@dataclass(frozen=True, slots=True)
class ExecutionCallback:
    """Something that the caller itself must do before an execution goes on."""

    callback_id: str
    """To answer it by."""
    kind: Literal["function", "tool"]
    """What it is."""
    name: str
    """Of the function or tool."""
    arguments: Mapping[str, Any]
    """With these."""
    path: str = ""
    """Who needs it, such as `review/summarise` for a step of a workflow."""


@dataclass(frozen=True, slots=True)
class AgentToolCall:
    """A call of a tool that an agent has made."""

    call_id: str
    """That the model gave it."""
    tool: str
    """Its name."""
    arguments: Mapping[str, Any]
    """With these."""
    result: Any = None
    """What came of it."""
    failure: ExecutionFailure | None = None
    """Set where it failed; the model was told."""
    elapsed_s: float = 0.0
    """Seconds that it took."""


WorkflowStatus = Literal[
    "pending",
    "running",
    "completed",
    "failed",
    "cancelled",
    "partially_completed",
    "skipped",
    "interrupted",
]
"""How it is with a workflow or with one of its steps."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one step of a workflow."""

    path: str
    """Where it stands, such as `fetch`, `each#2/summarise`, `left/check`."""
    name: str
    """Its name."""
    kind: str
    """`tool`, `agent`, `workflow`, `function`, `call`, `template`, `branch` or `iteration`."""
    status: WorkflowStatus
    """How it is with it."""
    output: Any = None
    """What it gave."""
    failure: ExecutionFailure | None = None
    """Set where it failed."""
    attempts: int = 0
    """How often it was tried."""
    start_time: datetime | None = None
    """When it began."""
    end_time: datetime | None = None
    """When it ended."""
    spent: Spent = NOTHING_SPENT
    """What was spent."""
    input: Any = None
    """What it was given, after interpolation."""
    is_compensation: bool = False
    """Whether it undid a step that had been done."""

    @property
    def elapsed_s(self) -> float | None:
        """Seconds that it took; None where it has not ended."""
        if self.start_time is None or self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds()


ExecutionEventKind = Literal[
    "text",
    "tool_started",
    "tool_ended",
    "model_answered",
    "step_started",
    "step_ended",
    "retried",
]
"""What happened."""


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """Something that happened in an execution."""

    number: int
    """From 1; a gap tells that events were let go."""
    path: str
    """Where: an agent's name or a step's path; empty: the execution itself."""
    time: datetime | None
    """When."""
    kind: ExecutionEventKind
    """What."""
    text: str = ""
    """A piece of what a model says; of `retried`, why."""
    tool: AgentToolCall | None = None
    """Of `tool_started` and `tool_ended`."""
    step: StepResult | None = None
    """Of `step_started` and `step_ended`."""
    spent: Spent | None = None
    """Of `model_answered`: what that took."""

"""Workflows and what came of them, as users see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmspell._execution_types import (
    NOTHING_SPENT,
    ExecutionFailure,
    Spent,
    StepResult,
    WorkflowStatus,
)

WorkflowForm = Mapping[str, Any]
"""A workflow as a file has it, see `docs/guide/workflows.md`; functions may stand in it."""
WorkflowFunction = Callable[..., Any]
"""Called with the step's arguments, by name in one mapping; what it gives is the step's output."""


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What came of a workflow."""

    execution_id: str
    """By which its run is found."""
    name: str
    """The workflow's."""
    kind: str
    """`sequential`, `parallel`, `conditional` or `loop`."""
    success: bool
    """Whether all went well."""
    status: WorkflowStatus
    """How it is with it."""
    output: Any = None
    """As a whole: the last step's, all branches' by name, or the aggregate of a loop."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Of each of its own steps, by name."""
    steps: tuple[StepResult, ...] = ()
    """All, those of workflows within included, in the order in which they began."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Such as `total_steps`, `matched_branches`, `break_reason`."""
    summary: str = ""
    """One sentence."""
    failure: ExecutionFailure | None = None
    """Set where it failed."""
    spent: Spent = NOTHING_SPENT
    """What was spent."""
    elapsed_s: float = 0.0
    """Seconds that it took."""
    shared_data: Mapping[str, Any] = field(default_factory=dict)
    """At its end."""

    def step(self, path: str) -> StepResult:
        """The step of a path, the last one where it was done again.

        Raises:
            KeyError: where there is none.
        """
        for result in reversed(self.steps):
            if result.path == path:
                return result
        raise KeyError(path)


@dataclass(frozen=True, slots=True)
class WorkflowProblem:
    """Something that is wrong with a workflow."""

    step: str
    """Path of the step; empty: the workflow itself."""
    field: str
    """Its field."""
    message: str
    """One sentence."""
    is_warning: bool = False
    """Whether it can run all the same."""


@dataclass(frozen=True, slots=True)
class RegisteredWorkflow:
    """A workflow that is registered."""

    name: str
    """Its name."""
    kind: str
    """`sequential`, `parallel`, `conditional` or `loop`."""
    description: str
    """One sentence."""
    form: Mapping[str, Any]
    """It, as a file would have it."""
    create_time: datetime | None = None
    """When it was registered."""
    update_time: datetime | None = None
    """When it was last changed."""


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """What is known of a run of a workflow."""

    execution_id: str
    """Its execution."""
    status: WorkflowStatus
    """How it is with it."""
    name: str
    """The workflow's."""
    form: Mapping[str, Any]
    """The workflow, as a file would have it."""
    inputs: Mapping[str, Any]
    """With these."""
    session_id: str = ""
    """Its session; empty: none."""
    start_time: datetime | None = None
    """When it began."""
    end_time: datetime | None = None
    """When it ended; None where it goes on, or was lost."""
    result: WorkflowResult | None = None
    """How far it is, or what came of it."""
    resumed_count: int = 0
    """How often it was resumed."""

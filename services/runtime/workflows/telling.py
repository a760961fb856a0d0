"""Tells of a run as it goes on: whoever listens to it, its tenant's events, and hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmspell.v1 import execution_pb2

from services.runtime.execution import Execution
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.model import RunInfo
from services.runtime.workflows.messages import step_message
from services.runtime.workflows.results import Status, StepResult, WorkflowResult

_TEXT_LENGTH_MAX = 500


class Telling:
    """Of one run."""

    def __init__(
        self, execution: Execution, hosting: Hosting, run: RunInfo, *, name: str, kind: str
    ) -> None:
        """`run`: whose it is; `name` and `kind` of the workflow."""
        self._execution = execution
        self._hosting = hosting
        self._run = run
        self._known: dict[str, object] = {
            "execution_id": execution.execution_id,
            "workflow": name,
            "workflow_type": kind,
        }

    # The whole

    def started(self, *, resumed: bool) -> None:
        """It begins, or goes on."""
        self._event("workflow.started", {"resumed": resumed})

    def ended(self, result: WorkflowResult) -> None:
        """It has ended."""
        told: dict[str, object] = {
            "status": result.status.value,
            "elapsed_ms": round(result.elapsed_s * 1000, 3),
            "cost_usd": result.spent.cost_usd,
        }
        if result.failure is None:
            self._event("workflow.completed", told)
            return
        failure = {"reason": result.failure.reason, "message": _short(result.failure.message)}
        self._event("workflow.failed", told | failure)

    async def kept(self, count: int) -> None:
        """Steps are safe."""
        await self._hosting.notice("WorkflowCheckpoint", self._known | {"steps": count}, self._run)

    # What the engine tells

    def step_started(self, result: StepResult) -> None:
        """A step begins."""
        if self._execution.keeps_events:
            told = execution_pb2.ExecutionEvent(path=result.path)
            told.step_started.CopyFrom(step_message(result, is_brief=True))
            self._execution.tell(told)
        self._event("workflow.step.started", _step(result))

    def step_ended(self, result: StepResult) -> None:
        """A step has ended."""
        if self._execution.keeps_events:
            told = execution_pb2.ExecutionEvent(path=result.path)
            told.step_ended.CopyFrom(step_message(result))
            self._execution.tell(told)
        if result.status is Status.SKIPPED:
            return
        told_of: dict[str, object] = {"attempts": result.attempts, "status": result.status.value}
        if result.failure is not None:
            told_of["reason"] = result.failure.reason
            told_of["message"] = _short(result.failure.message)
        event = "workflow.step.completed" if result.success else "workflow.step.failed"
        self._event(event, _step(result) | told_of)

    def shared(self, path: str, values: Mapping[str, Any]) -> None:
        """Shared data has changed."""
        self._event("workflow.state.updated", {"path": path, "keys": sorted(values)[:100]})

    async def rolling_back(self, workflow: str, path: str, steps: Sequence[str]) -> None:
        """Steps are about to be undone."""
        told = {"workflow": workflow, "path": path.removesuffix("/"), "steps": list(steps)}
        await self._hosting.notice("WorkflowRollback", self._known | told, self._run)

    def _event(self, event: str, data: Mapping[str, object]) -> None:
        self._hosting.announce(self._run, event, {**self._known, **data})


def _step(result: StepResult) -> dict[str, object]:
    return {"path": result.path, "step": result.name, "kind": result.kind}


def _short(text: str) -> str:
    return text[:_TEXT_LENGTH_MAX]

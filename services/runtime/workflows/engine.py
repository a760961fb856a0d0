"""Runs a workflow and those within it, and tells what came of it, however it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_DEPTH_MAX, WORKFLOW_ROLLBACK_SECONDS_MAX
from services.runtime.money.model import NOTHING_SPENT, Purse, Spent
from services.runtime.workflows.inputs import check_inputs
from services.runtime.workflows.interpolate import plain
from services.runtime.workflows.kinds import KindRun, begin
from services.runtime.workflows.model import OnError, Workflow, WorkflowAction
from services.runtime.workflows.places import Place
from services.runtime.workflows.results import (
    Failure,
    Status,
    StepResult,
    WorkflowResult,
)
from services.runtime.workflows.scope import Scope
from services.runtime.workflows.stepping import Acted, Order, StepFailed, Steps


class Registered(Protocol):
    """Knows the workflows that are registered."""

    async def workflow(self, name: str) -> Workflow:
        """One by name.

        Raises:
            ServiceError: WORKFLOW_NOT_FOUND.
        """


_STEP_FAILED = Reason.Name(Reason.WORKFLOW_STEP_FAILED)


@dataclass(frozen=True, slots=True)
class Made:
    """How far a workflow came."""

    status: Status
    failure: Failure | None = None


class Engine:
    """Runs one execution: the outermost workflow and what is within."""

    def __init__(self, steps: Steps, registered: Registered, execution_id: str) -> None:
        self._steps = steps
        self._registered = registered
        self._execution_id = execution_id
        steps.nested = self._nested

    async def run(self, workflow: Workflow, inputs: Mapping[str, Any]) -> WorkflowResult:
        """Run the outermost.

        Its failure is a result. A cancellation is not: it is raised, and `cancelled` tells what was
        done until then.
        """
        begin_s = self._steps.clock.monotonic()
        scope = Scope(
            inputs=inputs,
            shared=dict(workflow.shared_data),
            facts={"execution_id": self._execution_id, "workflow": workflow.name},
        )
        place = Place("", workflow.name, _strategy(workflow, OnError.FAIL_FAST), workflow.retry)
        result = await self._workflow(workflow, scope, place)
        elapsed_s = self._steps.clock.monotonic() - begin_s
        steps = tuple(self._steps.results.values())
        return replace(result, steps=steps, spent=self._steps.spent, elapsed_s=elapsed_s)

    def cancelled(self, workflow: Workflow, failure: Failure) -> WorkflowResult:
        """What is told of a run that somebody has ended."""
        return WorkflowResult(
            execution_id=self._execution_id,
            name=workflow.name,
            kind=workflow.kind_name,
            status=Status.CANCELLED,
            steps=tuple(self._steps.results.values()),
            facts={"workflow_type": workflow.kind_name, "workflow_name": workflow.name},
            summary=f"{_kind_of(workflow)} workflow '{workflow.name}' was cancelled.",
            failure=failure,
            spent=self._steps.spent,
        )

    async def _workflow(self, workflow: Workflow, scope: Scope, place: Place) -> WorkflowResult:
        mark = len(self._steps.undo)
        kind = begin(workflow, self._steps, scope, place)
        begin_s = self._steps.clock.monotonic()
        made = await self._made(workflow, kind)
        if made.failure is not None and workflow.rollback:
            await self._roll_back(mark, place)
        elapsed_s = self._steps.clock.monotonic() - begin_s
        return self._result(workflow, kind, made, scope, elapsed_s)

    async def _made(self, workflow: Workflow, kind: KindRun) -> Made:
        try:
            async with asyncio.timeout(workflow.timeout_s) as timer:
                await kind.run()
        except StepFailed as failed:
            return Made(Status.FAILED, _of_step(failed.result))
        except TimeoutError:
            if not timer.expired():
                raise
            return Made(Status.FAILED, _time_is_over(workflow))
        except ServiceError as error:
            return Made(Status.FAILED, Failure.of(error))
        some_failed = any(not _is_well(step) for _, step in kind.own())
        some_failed = some_failed or bool(kind.facts().get("failed_steps"))
        return Made(Status.PARTIALLY_COMPLETED if some_failed else Status.COMPLETED)

    async def _roll_back(self, mark: int, place: Place) -> None:
        try:
            async with asyncio.timeout(WORKFLOW_ROLLBACK_SECONDS_MAX):
                await self._steps.roll_back(mark, place)
        except TimeoutError:
            return

    async def _nested(
        self, action: WorkflowAction, order: Order, scope: Scope, place: Place
    ) -> Acted:
        if place.depth + 1 >= WORKFLOW_DEPTH_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"Workflows stand within each other more than {WORKFLOW_DEPTH_MAX} deep at "
                f"{order.path}.",
                limit=WORKFLOW_DEPTH_MAX,
                step=order.path,
            )
        workflow = action.definition or await self._registered.workflow(action.name)
        check_inputs(workflow, order.arguments)
        inner = Scope(
            inputs=order.arguments,
            shared=dict(workflow.shared_data),
            around=scope if action.definition is not None else None,
            facts={"execution_id": self._execution_id, "workflow": workflow.name},
        )
        strategy, retry = _strategy(workflow, place.on_error), workflow.retry or place.retry
        # What was undone is done again by the next try, as something else than before.
        again = f"~{order.attempt}" if workflow.rollback and order.attempt > 1 else ""
        path = f"{order.path}{again}/"
        purses = place.purses
        if workflow.max_cost_usd:
            purses = (*purses, Purse.of_usd("workflow", workflow.max_cost_usd))
        within = Place(path, workflow.name, strategy, retry, place.depth + 1, purses)
        before = self._steps.spent
        result = await self._workflow(workflow, inner, within)
        if result.failure is not None:
            raise _failed_within(order.path, result)
        spent = _difference(self._steps.spent, before)
        return Acted(output=result.output, spent=spent)

    def _result(
        self, workflow: Workflow, kind: KindRun, made: Made, scope: Scope, elapsed_s: float
    ) -> WorkflowResult:
        facts = kind.facts() | {
            "workflow_type": workflow.kind_name,
            "workflow_name": workflow.name,
            "execution_id": self._execution_id,
            "workflow_id": self._execution_id,
            "agent_outputs": {
                name: step.output for name, step in kind.own() if step.kind == "agent"
            },
        }
        return WorkflowResult(
            execution_id=self._execution_id,
            name=workflow.name,
            kind=workflow.kind_name,
            status=made.status,
            output=kind.output(),
            outputs={name: step.output for name, step in kind.own() if step.success},
            facts=facts,
            summary=_summary(workflow, made, facts, elapsed_s),
            failure=made.failure,
            shared_data=plain(scope.shared),
        )


def _strategy(workflow: Workflow, around: OnError) -> OnError:
    return around if workflow.on_error is OnError.INHERIT else workflow.on_error


def _is_well(step: StepResult) -> bool:
    return step.status not in {Status.FAILED, Status.PARTIALLY_COMPLETED}


def _of_step(result: StepResult) -> Failure:
    """Why a workflow failed whose step failed: the step's reason stands in the metadata."""
    told = result.failure or Failure("", "It failed.")
    named = {"step": result.path, "step_reason": told.reason}
    kept = {name: value for name, value in told.metadata.items() if name not in named}
    if told.reason == _STEP_FAILED:  # of a workflow within: the innermost step is the one to name
        return told
    return Failure(_STEP_FAILED, f"The step {result.path} failed: {told.message}", kept | named)


def _failed_within(path: str, result: WorkflowResult) -> ServiceError:
    failure = result.failure
    assert failure is not None
    metadata = {"step": path} | dict(failure.metadata)
    told = Failure(failure.reason or _STEP_FAILED, failure.message, metadata)
    return told.error()


def _time_is_over(workflow: Workflow) -> Failure:
    return Failure(
        Reason.Name(Reason.WORKFLOW_TIME_LIMIT),
        f"The workflow {workflow.name} took longer than {workflow.timeout_s:g} s.",
        {"workflow": workflow.name, "limit_s": f"{workflow.timeout_s:g}"},
    )


def _difference(after: Spent, before: Spent) -> Spent:
    if after == before:
        return NOTHING_SPENT
    return Spent(
        after.input_tokens - before.input_tokens,
        after.output_tokens - before.output_tokens,
        after.cached_tokens - before.cached_tokens,
        after.cost_usd - before.cost_usd,
        after.estimated,
        after.model_calls - before.model_calls,
        after.tool_calls - before.tool_calls,
    )


def _kind_of(workflow: Workflow) -> str:
    return workflow.kind_name.capitalize()


def _summary(workflow: Workflow, made: Made, facts: Mapping[str, Any], elapsed_s: float) -> str:
    """As workflows of before said it."""
    words = {
        Status.COMPLETED: "completed successfully",
        Status.PARTIALLY_COMPLETED: "completed, and some of its steps failed",
    }
    told = words.get(made.status, "failed")
    count = facts["successful_steps"] + facts["failed_steps"]
    text = f"{_kind_of(workflow)} workflow '{workflow.name}' {told}. {count} steps executed."
    return f"{text} Duration: {elapsed_s:.3f} s."

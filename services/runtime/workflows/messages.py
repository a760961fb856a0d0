"""Results as messages of the contract, within what an answer may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from llmspell.v1 import execution_pb2, workflow_pb2

from services.common.limits import MIB, WORKFLOW_STEPS_TOLD_MAX
from services.common.values import fill_map, to_value
from services.runtime.money.messages import spent_message
from services.runtime.money.model import NOTHING_SPENT
from services.runtime.workflows.records import ListedRun, RegisteredRecord
from services.runtime.workflows.results import (
    MEMO,
    Failure,
    Status,
    StepResult,
    WorkflowResult,
)
from services.runtime.workflows.structure import Problem

OUTPUT_BYTES_MAX = MIB + MIB // 4
"""Of a workflow's output as a script or client is told it; a frame of a script has 2 MiB."""
LEFT_OUT = "steps_left_out"


def status_of(status: Status) -> execution_pb2.WorkflowStatus:
    """The contract's word."""
    number = execution_pb2.WorkflowStatus.Value(f"WORKFLOW_STATUS_{status.name}")
    return cast("execution_pb2.WorkflowStatus", number)


def read_status(status: int) -> Status:
    """Ours."""
    name = execution_pb2.WorkflowStatus.Name(status).removeprefix("WORKFLOW_STATUS_")
    return Status[name]


def failure_message(failure: Failure) -> execution_pb2.ExecutionFailure:
    """Why something did not succeed."""
    return execution_pb2.ExecutionFailure(
        reason=failure.reason, message=failure.message, metadata=dict(failure.metadata)
    )


def step_message(result: StepResult, *, is_brief: bool = False) -> execution_pb2.StepResult:
    """What came of a step; `is_brief`: without what it was given and gave."""
    message = execution_pb2.StepResult(
        path=result.path,
        name=result.name,
        kind=result.kind,
        status=status_of(result.status),
        attempts=result.attempts,
        is_compensation=result.is_compensation,
    )
    if result.failure is not None:
        message.failure.CopyFrom(failure_message(result.failure))
    if result.start_ns:
        message.start_time.FromNanoseconds(result.start_ns)
    if result.end_ns:
        message.end_time.FromNanoseconds(result.end_ns)
    if result.spent != NOTHING_SPENT:
        message.spent.CopyFrom(spent_message(result.spent))
    if not is_brief:
        if result.output is not None:
            message.output.CopyFrom(to_value(result.output))
        if result.input is not None:
            message.input.CopyFrom(to_value(result.input))
    return message


def output_message(result: WorkflowResult) -> execution_pb2.WorkflowOutput:
    """What came of a workflow.

    Where it is too large, steps are told without what they were given, then without what they
    gave, then not all; the facts say how many are left out.
    """
    message = _whole(result, _told(result.steps))
    if message.ByteSize() > OUTPUT_BYTES_MAX:
        for step in message.steps:
            step.ClearField("input")
    if message.ByteSize() > OUTPUT_BYTES_MAX:
        for step in message.steps:
            step.ClearField("output")
    if message.ByteSize() > OUTPUT_BYTES_MAX:
        for field in ("shared_data", "steps", "outputs", "output"):
            message.ClearField(field)
            if message.ByteSize() <= OUTPUT_BYTES_MAX:
                break
    count = len(result.steps) - len(message.steps)
    if count:
        message.facts.fields[LEFT_OUT].int_value = count
    return message


def _told(steps: Sequence[StepResult]) -> Sequence[StepResult]:
    """Steps without what was asked in and between them; of very many the first and the last."""
    shown = [step for step in steps if step.kind not in {"condition", MEMO}]
    half = WORKFLOW_STEPS_TOLD_MAX // 2
    return shown if len(shown) <= 2 * half else [*shown[:half], *shown[-half:]]


def _whole(result: WorkflowResult, steps: Sequence[StepResult]) -> execution_pb2.WorkflowOutput:
    message = execution_pb2.WorkflowOutput(
        execution_id=result.execution_id,
        name=result.name,
        kind=result.kind,
        success=result.success,
        status=status_of(result.status),
        steps=[step_message(step) for step in steps],
        summary=result.summary,
        spent=spent_message(result.spent),
    )
    message.elapsed.FromMicroseconds(round(result.elapsed_s * 1e6))
    for field, values in (
        ("outputs", result.outputs),
        ("facts", result.facts),
        ("shared_data", result.shared_data),
    ):
        fill_map(getattr(message, field).fields, values)
    if result.output is not None:
        message.output.CopyFrom(to_value(result.output))
    if result.failure is not None:
        message.failure.CopyFrom(failure_message(result.failure))
    return message


def listed_message(run: ListedRun, *, goes_on: bool) -> workflow_pb2.WorkflowRun:
    """A run as a list tells it."""
    status = run.status
    if status is Status.RUNNING and not goes_on:
        status = Status.INTERRUPTED
    message = workflow_pb2.WorkflowRun(
        execution_id=run.execution_id, status=status_of(status), session_id=run.session_id
    )
    message.workflow.name = run.name
    message.output.name, message.output.kind = run.name, run.kind
    message.output.execution_id = run.execution_id
    message.output.status = message.status
    message.output.success = status is Status.COMPLETED
    message.output.summary = run.summary
    message.start_time.FromNanoseconds(run.start_ns)
    if run.end_ns:
        message.end_time.FromNanoseconds(run.end_ns)
    return message


def registered_message(record: RegisteredRecord) -> workflow_pb2.RegisteredWorkflow:
    """A registered workflow."""
    message = workflow_pb2.RegisteredWorkflow()
    message.workflow.ParseFromString(record.workflow)
    message.create_time.FromNanoseconds(record.create_ns)
    message.update_time.FromNanoseconds(record.update_ns)
    return message


def problem_message(problem: Problem) -> workflow_pb2.WorkflowProblem:
    """Something that is wrong with a workflow."""
    return workflow_pb2.WorkflowProblem(
        step=problem.step,
        field=problem.field,
        message=problem.message,
        is_warning=problem.is_warning,
    )


def as_tree(result: WorkflowResult) -> Mapping[str, Any]:
    """What hooks are told of it."""
    return {
        "execution_id": result.execution_id,
        "name": result.name,
        "success": result.success,
        "status": result.status.value,
        "summary": result.summary,
        "output": result.output,
        "outputs": dict(result.outputs),
    }

"""WorkflowService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from llmspell import _executions
from llmspell._contract import Call, Page
from llmspell._execution_types import WorkflowStatus
from llmspell._executions import Progress
from llmspell._values import from_duration, from_fields, from_timestamp, from_value, to_map
from llmspell._workflow_forms import read_form
from llmspell._workflow_told import form_of
from llmspell._workflow_types import (
    RegisteredWorkflow,
    WorkflowForm,
    WorkflowProblem,
    WorkflowResult,
    WorkflowRun,
)
from llmspell.errors import InvalidArgument
from llmspell.v1 import execution_pb2
from llmspell.v1 import workflow_pb2 as pb

Source = str | WorkflowForm | pb.Workflow
"""Name of a registered one, or one as a file has it, or as the contract has it."""
Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Execute:
    """An execution that is ready to begin."""

    request: pb.ExecuteWorkflowRequest
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """What does its callbacks, by name; those that stood in the form among them."""

    def begin(self, *, with_events: bool) -> Call[Progress[WorkflowResult]]:
        """The call that begins it."""
        self.request.with_events = with_events
        self.request.wait.CopyFrom(_executions.wait())
        return Call(
            self.request,
            lambda answer: read_progress(answer.progress),
            timeout_s=_executions.TIMEOUT_S,
        )

    def stream(self) -> Call[Progress[WorkflowResult] | None]:
        """The call that streams it."""
        request = pb.StreamWorkflowRequest(execute=self.request)
        return Call(request, lambda answer: read_progress(answer.progress))


def execute(
    workflow: Source,
    inputs: Mapping[str, Any] | None,
    *,
    functions: Functions | None,
    session_id: str,
    executes_tools: bool,
    request_id: str,
) -> Execute:
    """An execution of a workflow."""
    request = pb.ExecuteWorkflowRequest(
        inputs=to_map(inputs or {}, "inputs"),
        session_id=session_id,
        caller_executes_tools=executes_tools,
        request_id=request_id,
    )
    if isinstance(workflow, str):
        request.name = workflow
        return Execute(request, dict(functions or {}))
    definition, found = definition_of(workflow)
    request.workflow.CopyFrom(definition)
    return Execute(request, {**(functions or {}), **found})


def definition_of(
    workflow: WorkflowForm | pb.Workflow,
) -> tuple[pb.Workflow, dict[str, Callable[..., Any]]]:
    """A workflow as the contract has it, and the functions that stood in it."""
    if isinstance(workflow, pb.Workflow):
        return workflow, {}
    read = read_form(workflow)
    return read.workflow, read.functions


def validate(workflow: WorkflowForm | pb.Workflow, functions: Iterable[str] | None) -> Any:
    """What is wrong with a workflow."""
    definition, found = definition_of(workflow)
    request = pb.ValidateWorkflowRequest(
        workflow=definition,
        functions=sorted({*(functions or ()), *found}),
        check_functions=functions is not None,
    )
    return Call(request, lambda answer: [_problem(each) for each in answer.problems])


def create(workflow: WorkflowForm | pb.Workflow, *, replace: bool) -> Call[RegisteredWorkflow]:
    """Register a workflow."""
    definition, found = definition_of(workflow)
    if found:
        raise InvalidArgument(
            "A registered workflow cannot hold functions; name them, and give them to each "
            "execution.",
            metadata={"field": "functions"},
        )
    request = pb.CreateWorkflowRequest(workflow=definition, replace=replace)
    return Call(request, lambda answer: _registered(answer.workflow))


def get(name: str) -> Call[RegisteredWorkflow]:
    """A registered workflow."""
    return Call(pb.GetWorkflowRequest(name=name), lambda answer: _registered(answer.workflow))


def list_workflows() -> Call[Page[RegisteredWorkflow]]:
    """A page of registered workflows."""
    return Call(
        pb.ListWorkflowsRequest(),
        lambda answer: Page([_registered(one) for one in answer.workflows], answer.next_page_token),
    )


def delete(name: str) -> Call[bool]:
    """Remove a registered workflow; whether it was there."""
    return Call(pb.DeleteWorkflowRequest(name=name), lambda answer: answer.deleted)


def get_run(execution_id: str) -> Call[WorkflowRun]:
    """What is known of a run."""
    request = pb.GetWorkflowRunRequest(execution_id=execution_id)
    return Call(request, lambda answer: _run(answer.run))


def list_runs(name: str, statuses: Iterable[WorkflowStatus]) -> Call[Page[WorkflowRun]]:
    """A page of runs."""
    request = pb.ListWorkflowRunsRequest(name=name, statuses=[_number(word) for word in statuses])
    return Call(
        request, lambda answer: Page([_run(one) for one in answer.runs], answer.next_page_token)
    )


def cancel_run(execution_id: str) -> Call[bool]:
    """End a run; whether it went on."""
    request = pb.CancelWorkflowRunRequest(execution_id=execution_id)
    return Call(request, lambda answer: answer.cancelled)


def resume_run(execution_id: str) -> Call[Progress[WorkflowResult]]:
    """Go on with a run that was lost."""
    request = pb.ResumeWorkflowRunRequest(execution_id=execution_id, wait=_executions.wait())
    return Call(
        request, lambda answer: read_progress(answer.progress), timeout_s=_executions.TIMEOUT_S
    )


def delete_run(execution_id: str) -> Call[bool]:
    """Erase what is kept of a run; whether it was there."""
    request = pb.DeleteWorkflowRunRequest(execution_id=execution_id)
    return Call(request, lambda answer: answer.deleted)


# Reading.


def read_progress(progress: execution_pb2.ExecutionProgress) -> Progress[WorkflowResult]:
    """The news of a workflow."""
    return Progress(
        execution_id=progress.execution_id,
        output=read_result(progress.workflow) if progress.done else None,
        callbacks=[_executions.read_callback(each) for each in progress.callbacks],
        events=_executions.read_events(progress),
    )


def read_result(message: execution_pb2.WorkflowOutput) -> WorkflowResult:
    """What came of a workflow."""
    return WorkflowResult(
        execution_id=message.execution_id,
        name=message.name,
        kind=message.kind,
        success=message.success,
        status=_executions.read_status(message.status),
        output=from_value(message.output),
        outputs=from_fields(message.outputs.fields),
        steps=tuple(map(_executions.read_step, message.steps)),
        facts=from_fields(message.facts.fields),
        summary=message.summary,
        failure=_executions.read_failure(message),
        spent=_executions.read_spent(message.spent),
        elapsed_s=from_duration(message, "elapsed") or 0.0,
        shared_data=from_fields(message.shared_data.fields),
    )


def _problem(message: pb.WorkflowProblem) -> WorkflowProblem:
    return WorkflowProblem(message.step, message.field, message.message, message.is_warning)


def _registered(message: pb.RegisteredWorkflow) -> RegisteredWorkflow:
    workflow = message.workflow
    return RegisteredWorkflow(
        name=workflow.name,
        kind=workflow.WhichOneof("kind") or "",
        description=workflow.description,
        form=form_of(workflow),
        create_time=from_timestamp(message, "create_time"),
        update_time=from_timestamp(message, "update_time"),
    )


def _run(message: pb.WorkflowRun) -> WorkflowRun:
    return WorkflowRun(
        execution_id=message.execution_id,
        status=_executions.read_status(message.status),
        name=message.workflow.name,
        form=form_of(message.workflow),
        inputs=from_fields(message.inputs.fields),
        session_id=message.session_id,
        start_time=from_timestamp(message, "start_time"),
        end_time=from_timestamp(message, "end_time"),
        result=read_result(message.output) if message.HasField("output") else None,
        resumed_count=message.resumed_count,
    )


def _number(word: str) -> Any:
    try:
        return cast("Any", execution_pb2.WorkflowStatus.Value(f"WORKFLOW_STATUS_{word.upper()}"))
    except ValueError:
        raise InvalidArgument(
            f"statuses holds {word!r}, which is none.", metadata={"field": "statuses"}
        ) from None

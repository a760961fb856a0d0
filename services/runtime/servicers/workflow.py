"""WorkflowService: registered workflows, and runs of those or of ones that are described."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from llmspell.v1 import workflow_pb2, workflow_pb2_grpc

from services.common.context import current_context
from services.common.errors import Reason, ServiceError, field_invalid, required
from services.common.paging import page_size
from services.common.values import map_to_python
from services.runtime.callers import check_request_id, wait_of
from services.runtime.execution import Execution
from services.runtime.executions import Executions
from services.runtime.workflows.desk import Workflows
from services.runtime.workflows.messages import (
    listed_message,
    problem_message,
    read_status,
    registered_message,
)
from services.runtime.workflows.past import Past, read_past, run_not_found
from services.runtime.workflows.reading import read_workflow
from services.runtime.workflows.records import ListedRun
from services.runtime.workflows.results import Status
from services.runtime.workflows.seen import run_message
from services.runtime.workflows.shelf import RUNS_SCOPE, Entry, listed_key, run_scope
from services.runtime.workflows.validate import invalid

_EXECUTION_ID_LENGTH_MAX = 64


class WorkflowServicer(workflow_pb2_grpc.WorkflowServiceServicer):
    """Answers callers of the door and scripts alike."""

    def __init__(self, workflows: Workflows, executions: Executions) -> None:
        self._workflows = workflows
        self._executions = executions

    # Registered workflows

    async def ValidateWorkflow(  # noqa: N802  (the contract's name)
        self, request: workflow_pb2.ValidateWorkflowRequest, context: object
    ) -> workflow_pb2.ValidateWorkflowResponse:
        """Look for what is wrong."""
        del context
        workflow = read_workflow(_given(request))
        functions = frozenset(request.functions) if request.check_functions else None
        problems = await self._workflows.problems(workflow, functions)
        return workflow_pb2.ValidateWorkflowResponse(
            valid=all(problem.is_warning for problem in problems),
            problems=map(problem_message, problems),
        )

    async def CreateWorkflow(  # noqa: N802
        self, request: workflow_pb2.CreateWorkflowRequest, context: object
    ) -> workflow_pb2.CreateWorkflowResponse:
        """Register one."""
        del context
        message = _given(request)
        check_request_id(request.request_id)
        workflow = read_workflow(message)
        wrong = invalid(workflow, await self._workflows.problems(workflow))
        if wrong is not None:
            raise wrong
        record = await self._workflows.registered.create(
            current_context().tenant,
            message,
            replace=request.replace,
            request_id=request.request_id,
        )
        return workflow_pb2.CreateWorkflowResponse(workflow=registered_message(record))

    async def GetWorkflow(  # noqa: N802
        self, request: workflow_pb2.GetWorkflowRequest, context: object
    ) -> workflow_pb2.GetWorkflowResponse:
        """One that is registered."""
        del context
        if not request.name:
            raise required("name")
        record = await self._workflows.registered.get(current_context().tenant, request.name)
        return workflow_pb2.GetWorkflowResponse(workflow=registered_message(record))

    async def ListWorkflows(  # noqa: N802
        self, request: workflow_pb2.ListWorkflowsRequest, context: object
    ) -> workflow_pb2.ListWorkflowsResponse:
        """A page of those that are registered."""
        del context
        records, token = await self._workflows.registered.page(
            current_context().tenant, page_size(request.page_size), request.page_token
        )
        return workflow_pb2.ListWorkflowsResponse(
            workflows=map(registered_message, records), next_page_token=token
        )

    async def DeleteWorkflow(  # noqa: N802
        self, request: workflow_pb2.DeleteWorkflowRequest, context: object
    ) -> workflow_pb2.DeleteWorkflowResponse:
        """Remove one."""
        del context
        if not request.name:
            raise required("name")
        deleted = await self._workflows.registered.delete(current_context().tenant, request.name)
        return workflow_pb2.DeleteWorkflowResponse(deleted=deleted)

    # Runs that begin

    async def ExecuteWorkflow(  # noqa: N802
        self, request: workflow_pb2.ExecuteWorkflowRequest, context: object
    ) -> workflow_pb2.ExecuteWorkflowResponse:
        """Run one, and wait for its end as long as was asked."""
        wait_s = wait_of(request.wait if request.HasField("wait") else None, context)
        execution = await self._begin(request)
        progress = await self._progress(execution, wait_s, with_events=request.with_events)
        return workflow_pb2.ExecuteWorkflowResponse(progress=progress)

    async def StreamWorkflow(  # noqa: N802
        self, request: workflow_pb2.StreamWorkflowRequest, context: object
    ) -> AsyncGenerator[workflow_pb2.StreamWorkflowResponse, None]:
        """Run one, and tell all that happens."""
        del context
        request.execute.with_events = True
        execution = await self._begin(request.execute)
        news = self._executions.stream(execution.execution_id, execution.owner)
        async with aclosing(news):
            async for progress in news:
                yield workflow_pb2.StreamWorkflowResponse(progress=progress)

    async def ResumeWorkflowRun(  # noqa: N802
        self, request: workflow_pb2.ResumeWorkflowRunRequest, context: object
    ) -> workflow_pb2.ResumeWorkflowRunResponse:
        """Go on with one that was lost."""
        wait_s = wait_of(request.wait if request.HasField("wait") else None, context)
        execution = await self._workflows.resume(await self._past(request.execution_id))
        progress = await self._progress(execution, wait_s, with_events=False)
        return workflow_pb2.ResumeWorkflowRunResponse(progress=progress)

    # What is known of runs

    async def GetWorkflowRun(  # noqa: N802
        self, request: workflow_pb2.GetWorkflowRunRequest, context: object
    ) -> workflow_pb2.GetWorkflowRunResponse:
        """What is known of one."""
        del context
        tenant, execution_id = current_context().tenant, request.execution_id
        active = self._workflows.active(tenant, execution_id)
        past = await self._past(execution_id)
        goes_on = active is not None or await self._is_elsewhere(past)
        return workflow_pb2.GetWorkflowRunResponse(
            run=run_message(past, active, goes_on=goes_on and past.end is None)
        )

    async def ListWorkflowRuns(  # noqa: N802
        self, request: workflow_pb2.ListWorkflowRunsRequest, context: object
    ) -> workflow_pb2.ListWorkflowRunsResponse:
        """A page of them, the newest first."""
        del context
        tenant, size = current_context().tenant, page_size(request.page_size)
        page, token = await self._workflows.shelf.page(
            tenant, RUNS_SCOPE, lambda _: ListedRun, size=size, token=request.page_token
        )
        answer = workflow_pb2.ListWorkflowRunsResponse(next_page_token=token)
        wanted = {read_status(status) for status in request.statuses}
        for found in page:
            run: ListedRun = found.record
            goes_on = self._workflows.active(tenant, run.execution_id) is not None
            if run.status is Status.RUNNING and not goes_on:
                goes_on = await self._may_be_elsewhere(tenant, run.execution_id)
            message = listed_message(run, goes_on=goes_on)
            fits = not wanted or read_status(message.status) in wanted
            if fits and request.name in ("", run.name):
                answer.runs.append(message)
        return answer

    async def CancelWorkflowRun(  # noqa: N802
        self, request: workflow_pb2.CancelWorkflowRunRequest, context: object
    ) -> workflow_pb2.CancelWorkflowRunResponse:
        """End one that goes on."""
        del context
        tenant, execution_id = current_context().tenant, _id(request.execution_id)
        if self._workflows.active(tenant, execution_id) is None:
            await self._past(execution_id)
        cancelled = await self._workflows.cancel(tenant, execution_id)
        return workflow_pb2.CancelWorkflowRunResponse(cancelled=cancelled)

    async def DeleteWorkflowRun(  # noqa: N802
        self, request: workflow_pb2.DeleteWorkflowRunRequest, context: object
    ) -> workflow_pb2.DeleteWorkflowRunResponse:
        """Erase what is kept of one."""
        del context
        tenant, execution_id = current_context().tenant, _id(request.execution_id)
        past = await read_past(self._workflows.shelf, tenant, execution_id)
        if past is None:
            return workflow_pb2.DeleteWorkflowRunResponse()
        is_here = self._workflows.active(tenant, execution_id) is not None
        if past.end is None and (is_here or await self._is_elsewhere(past)):
            raise ServiceError(
                Reason.WORKFLOW_NOT_RESUMABLE,
                f"The run {execution_id} goes on; cancel it first.",
                execution_id=execution_id,
            )
        key = listed_key(execution_id, past.record.start_ns)
        await self._workflows.shelf.write(tenant, [Entry(RUNS_SCOPE, key)])
        await self._workflows.shelf.clear(tenant, run_scope(execution_id))
        await self._workflows.leases.remove(tenant, execution_id)
        return workflow_pb2.DeleteWorkflowRunResponse(deleted=True)

    # Parts of these

    async def _begin(self, request: workflow_pb2.ExecuteWorkflowRequest) -> Execution:
        check_request_id(request.request_id)
        return await self._workflows.begin(
            await self._source(request),
            _inputs(request),
            session_id=request.session_id,
            executes_tools=request.caller_executes_tools,
            request_id=request.request_id,
            with_events=request.with_events,
        )

    async def _source(self, request: workflow_pb2.ExecuteWorkflowRequest) -> workflow_pb2.Workflow:
        if request.HasField("workflow"):
            return request.workflow
        if not request.name:
            raise required("workflow")
        record = await self._workflows.registered.get(current_context().tenant, request.name)
        return workflow_pb2.Workflow.FromString(record.workflow)

    async def _progress(self, execution: Execution, wait_s: float, *, with_events: bool) -> Any:
        return await self._executions.progress(
            execution.execution_id,
            execution.owner,
            wait_s=wait_s,
            with_events=with_events,
            ends_with_caller=True,
        )

    async def _past(self, execution_id: str) -> Past:
        tenant = current_context().tenant
        past = await read_past(self._workflows.shelf, tenant, _id(execution_id))
        if past is None:
            raise run_not_found(execution_id)
        return past

    async def _is_elsewhere(self, past: Past) -> bool:
        """Whether another process is at it."""
        holder = past.lease.holder
        leases = self._workflows.leases
        return holder != leases.runtime_id and await leases.is_alive(holder)

    async def _may_be_elsewhere(self, tenant: str, execution_id: str) -> bool:
        past = await read_past(self._workflows.shelf, tenant, execution_id)
        return past is not None and past.end is None and await self._is_elsewhere(past)


def _given(
    request: workflow_pb2.ValidateWorkflowRequest | workflow_pb2.CreateWorkflowRequest,
) -> workflow_pb2.Workflow:
    if not request.HasField("workflow"):
        raise required("workflow")
    return request.workflow


def _inputs(request: workflow_pb2.ExecuteWorkflowRequest) -> Mapping[str, Any]:
    return map_to_python(request.inputs.fields, "inputs")


def _id(execution_id: str) -> str:
    """An id that can be one; others are found nowhere.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not execution_id:
        raise required("execution_id")
    told = execution_id.replace("_", "").replace("-", "")
    is_id = told.isascii() and told.isalnum() and len(execution_id) <= _EXECUTION_ID_LENGTH_MAX
    if not is_id or execution_id[0] in "_-":
        raise field_invalid("execution_id", "is no id of an execution")
    return execution_id

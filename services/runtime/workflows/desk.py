"""Runs of workflows as a whole: begun, found again, gone on with, and ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from blake3 import blake3
from llmspell.v1 import execution_pb2, workflow_pb2

from services.common.context import CallContext, current_context
from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import TENANT_WORKFLOWS_AT_ONCE, WORKFLOW_BYTES_MAX
from services.runtime.execution import Caller, Execution, Owner
from services.runtime.executions import Executions
from services.runtime.workflows.directory import Directory
from services.runtime.workflows.inputs import check_inputs
from services.runtime.workflows.interpolate import size_of
from services.runtime.workflows.kept import RunJournal, take_over
from services.runtime.workflows.leases import Leases
from services.runtime.workflows.life import Active, Around, Life
from services.runtime.workflows.messages import output_message
from services.runtime.workflows.model import Workflow
from services.runtime.workflows.needs import needs_of, without_keys
from services.runtime.workflows.past import Past, read_past
from services.runtime.workflows.reading import read_workflow
from services.runtime.workflows.records import EndRecord, RunRecord
from services.runtime.workflows.registered import OfTenant, RegisteredWorkflows
from services.runtime.workflows.results import Failure, Status
from services.runtime.workflows.shelf import Shelf
from services.runtime.workflows.structure import Problem
from services.runtime.workflows.validate import invalid, problems_of

log = logging.getLogger(__name__)

EXECUTE = "llmspell.v1.WorkflowService/ExecuteWorkflow"


class Workflows:
    """Of all tenants."""

    def __init__(
        self, shelf: Shelf, leases: Leases, registered: RegisteredWorkflows, around: Around
    ) -> None:
        self.shelf = shelf
        self.leases = leases
        self.registered = registered
        self._around = around
        self._active: dict[tuple[str, str], Active] = {}
        self._closing = False

    # What is asked of it

    def active(self, tenant: str, execution_id: str) -> Active | None:
        """A run that is in this process."""
        return self._active.get((tenant, execution_id))

    def directory(self, context: CallContext) -> Directory:
        """What steps can name, as a caller sees it."""
        return Directory(
            context,
            toolbox=self._around.toolbox,
            agents=self._around.registered_agents,
            workflows=OfTenant(self.registered, context.tenant),
            own=self._around.handling.own,
            relay=self._around.handling.relay,
        )

    async def problems(
        self, workflow: Workflow, functions: frozenset[str] | None = None
    ) -> list[Problem]:
        """What is wrong with a workflow, as the caller of now sees it."""
        return await problems_of(workflow, self.directory(current_context()), functions=functions)

    async def begin(
        self,
        message: workflow_pb2.Workflow,
        inputs: Mapping[str, Any],
        *,
        session_id: str = "",
        executes_tools: bool = False,
        request_id: str = "",
        with_events: bool = False,
    ) -> Execution:
        """Begin a run for the call that is being served, or find the one it has begun before.

        Raises:
            ServiceError: WORKFLOW_INVALID, FIELD_INVALID, REQUEST_ID_REUSED,
                WORKFLOW_NOT_RESUMABLE where another process goes on with it.
        """
        context, owner = current_context(), self._around.callers.owner()
        workflow = read_workflow(message)
        execution_id = _execution_id(context, request_id)
        if request_id:
            known = await self._known(owner, execution_id, request_id, message, inputs)
            if known is not None:
                return known
        await self._check(workflow, inputs)
        await self._around.callers.check(session_id)
        kept, had_keys = without_keys(message)
        directory = self.directory(context)
        record = RunRecord(
            execution_id=execution_id,
            workflow=kept.SerializeToString(deterministic=True),
            inputs=dict(inputs),
            start_ns=self._around.clock.now_ns(),
            principal=context.principal,
            permissions=context.permissions,
            name=workflow.name,
            kind=workflow.kind_name,
            session_id=session_id,
            any_tenant=context.any_tenant,
            row_filter=context.row_filter,
            roles=context.roles,
            policy=context.policy,
            request_id=context.request_id,
            needs_caller=had_keys or executes_tools or await needs_of(workflow, directory),
            executes_tools=executes_tools,
        )
        execution = self._execute(owner, record, workflow, None, request_id=request_id)
        execution.keeps_events = execution.keeps_events or with_events
        return execution

    async def resume(
        self, past: Past, *, by_itself: bool = False, request_id: str = ""
    ) -> Execution:
        """Go on with a run that was lost, for the call that is being served.

        Raises:
            ServiceError: WORKFLOW_NOT_RESUMABLE where it has ended or goes on.
        """
        tenant, execution_id = current_context().tenant, past.record.execution_id
        if past.end is not None:
            raise _not_resumable(execution_id, "has ended")
        await self._check_left(past)
        if self.active(tenant, execution_id) is not None:
            raise _not_resumable(execution_id, "goes on")
        return self._go_on(past, by_itself=by_itself, request_id=request_id)

    async def _check_left(self, past: Past) -> None:
        """Refuse a run whose process lives."""
        holder = past.lease.holder
        if holder != self.leases.runtime_id and await self.leases.is_alive(holder):
            raise _not_resumable(past.record.execution_id, "goes on in another process")

    def _go_on(self, past: Past, *, request_id: str, by_itself: bool = False) -> Execution:
        workflow = read_workflow(workflow_pb2.Workflow.FromString(past.record.workflow))
        owner = self._around.callers.owner()
        return self._execute(
            owner, past.record, workflow, past, request_id=request_id, by_itself=by_itself
        )

    async def cancel(self, tenant: str, execution_id: str) -> bool:
        """End a run; whether it went on until now. One that was lost is ended too."""
        active = self.active(tenant, execution_id)
        if active is not None:
            active.is_cancelled = True
            if active.execution.task is not None:
                active.execution.task.cancel()
            with suppress(TimeoutError):
                await asyncio.wait_for(active.ended.wait(), 10)
            return True
        past = await read_past(self.shelf, tenant, execution_id)
        if past is None or past.end is not None or await self.leases.is_alive(past.lease.holder):
            return False
        await self._end_lost(tenant, past)
        return True

    async def close(self) -> None:
        """End what goes on; it will be gone on with by whoever comes next."""
        self._closing = True
        waiting = list(self._active.values())
        for active in waiting:
            if active.steps is not None:
                active.steps.leaves_open = True
            if active.execution.task is not None:
                active.execution.task.cancel()
        tasks = [one.execution.task for one in waiting if one.execution.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.leases.close()

    # How a run begins

    async def _known(
        self,
        owner: Owner,
        execution_id: str,
        request_id: str,
        message: workflow_pb2.Workflow,
        inputs: Mapping[str, Any],
    ) -> Execution | None:
        """The run that this request has begun before, in this process or another."""
        past = None
        if self.active(owner.tenant, execution_id) is None:
            past = await read_past(self.shelf, owner.tenant, execution_id)
            if past is not None and past.end is None:
                _check_same(past.record, message, inputs)
                await self._check_left(past)
        # Looked at last: the same request may have gone on with it while this one waited.
        active = self.active(owner.tenant, execution_id)
        if active is not None:
            _check_same(active.record, message, inputs)
            if active.execution.owner == owner:
                return active.execution
            return self._executions.begin(owner, lambda _: _output_of(active), stays=True)
        if past is None:
            return None
        _check_same(past.record, message, inputs)
        if past.end is None:
            return self._go_on(past, request_id=request_id)
        output = output_message(past.result(goes_on=False))
        return self._executions.begin(owner, lambda _: _at_once(output), request_id=request_id)

    @property
    def _executions(self) -> Executions:
        return self._around.handling.executions

    async def _check(self, workflow: Workflow, inputs: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything happens."""
        wrong = invalid(workflow, await self.problems(workflow))
        if wrong is not None:
            raise wrong
        if size_of(inputs, most=WORKFLOW_BYTES_MAX) > WORKFLOW_BYTES_MAX:
            raise field_invalid("inputs", f"must have at most {WORKFLOW_BYTES_MAX} bytes")
        check_inputs(workflow, inputs)

    def _execute(
        self,
        owner: Owner,
        record: RunRecord,
        workflow: Workflow,
        past: Past | None,
        *,
        request_id: str = "",
        by_itself: bool = False,
    ) -> Execution:
        async def body(_: Execution) -> execution_pb2.WorkflowOutput:
            async with self._around.callers.caller(
                session_id=record.session_id, executes_tools=record.executes_tools
            ) as caller:
                active = self._active[place]
                return await self._live(active, caller, past, by_itself=by_itself)

        place = (owner.tenant, record.execution_id)
        if place in self._active:  # the same request once more, at the same time
            return self._active[place].execution
        self._check_room(owner.tenant)
        execution = self._executions.begin(
            owner, body, request_id=request_id, execution_id=record.execution_id, stays=True
        )
        self._active[place] = active = Active(execution, record, workflow, current_context())
        assert execution.task is not None
        execution.task.add_done_callback(lambda _: self._gone(place, active))
        return execution

    def _check_room(self, tenant: str) -> None:
        count = sum(one == tenant for one, _ in self._active)
        if count >= TENANT_WORKFLOWS_AT_ONCE:
            raise ServiceError(
                Reason.TENANT_LIMIT_REACHED,
                f"The tenant has {count} workflows that go on; that is the limit.",
                field="workflows",
                got=count,
                limit=TENANT_WORKFLOWS_AT_ONCE,
            )

    def _gone(self, place: tuple[str, str], active: Active) -> None:
        if self._active.get(place) is active:
            del self._active[place]
        active.ended.set()

    # How it lives

    async def _live(
        self, active: Active, caller: Caller, past: Past | None, *, by_itself: bool
    ) -> execution_pb2.WorkflowOutput:
        life = Life(self, self._around, active, caller, past)
        active.output = output_message(await life.result(by_itself=by_itself))
        return active.output

    @property
    def is_closing(self) -> bool:
        """Whether the process ends."""
        return self._closing

    async def _end_lost(self, tenant: str, past: Past) -> None:
        lease = replace(past.lease, holder=self.leases.runtime_id)
        revision = await take_over(
            self.shelf, tenant, past.record.execution_id, lease, past.lease_revision
        )
        journal = RunJournal(self.shelf, tenant, past.record, lease_revision=revision)
        failure = Failure(Reason.Name(Reason.CANCELLED), "It was cancelled.")
        now_ns = self._around.clock.now_ns()
        await journal.end(EndRecord(Status.CANCELLED, now_ns, failure=failure))
        await self.leases.remove(tenant, past.record.execution_id)


def _execution_id(context: CallContext, request_id: str) -> str:
    """An id of its own, or always the same for a request of this key."""
    if not request_id:
        return f"wf_{secrets.token_hex(12)}"
    told = f"{context.tenant}\0{context.principal}\0{request_id}".encode()
    return f"wf_{blake3(told).hexdigest(length=12)}"


def _check_same(
    record: RunRecord, message: workflow_pb2.Workflow, inputs: Mapping[str, Any]
) -> None:
    kept, _ = without_keys(message)
    if kept.SerializeToString(deterministic=True) != record.workflow or inputs != record.inputs:
        raise ServiceError(
            Reason.REQUEST_ID_REUSED,
            "This request id has begun another workflow, or one with other inputs.",
            execution_id=record.execution_id,
        )


async def _output_of(active: Active) -> execution_pb2.WorkflowOutput:
    await active.ended.wait()
    if active.output is None:
        raise ServiceError(Reason.CANCELLED, "The run has ended without an output.")
    return active.output


async def _at_once(output: execution_pb2.WorkflowOutput) -> execution_pb2.WorkflowOutput:
    return output


def _not_resumable(execution_id: str, why: str) -> ServiceError:
    return ServiceError(
        Reason.WORKFLOW_NOT_RESUMABLE,
        f"The run {execution_id} {why}; there is nothing to resume.",
        execution_id=execution_id,
    )

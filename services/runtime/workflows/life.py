"""One run in this process, from its begin or from where it was lost to its end."""

from __future__ import annotations

import asyncio
import functools
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from llmspell.v1 import execution_pb2

from services.common.clock import Clock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.runtime.bridge import error_from
from services.runtime.callers import Callers
from services.runtime.execution import Caller, Execution
from services.runtime.handling import Handling
from services.runtime.hooks.model import RunInfo, refused
from services.runtime.runs import Call, Reply
from services.runtime.workflows.actions import AsksAgents, HostActions, NamesReceipts
from services.runtime.workflows.directory import KnowsAgents, KnowsTools
from services.runtime.workflows.engine import Engine
from services.runtime.workflows.kept import RunJournal, RunLostError, begin_run, take_over
from services.runtime.workflows.leases import Leases
from services.runtime.workflows.messages import as_tree
from services.runtime.workflows.model import Workflow
from services.runtime.workflows.past import Past
from services.runtime.workflows.records import LeaseRecord, RunRecord, end_of
from services.runtime.workflows.registered import OfTenant, RegisteredWorkflows
from services.runtime.workflows.results import Failure, Status, WorkflowResult
from services.runtime.workflows.shelf import Shelf
from services.runtime.workflows.stepping import Steps
from services.runtime.workflows.telling import Telling

log = logging.getLogger(__name__)

EXECUTE = "llmspell.v1.WorkflowService/ExecuteWorkflow"


@dataclass(frozen=True, slots=True)
class Around:
    """What workflows reach in this process."""

    handling: Handling
    callers: Callers
    agents: AsksAgents
    registered_agents: KnowsAgents
    toolbox: KnowsTools
    receipts: NamesReceipts
    clock: Clock


@dataclass(slots=True)
class Active:
    """A run that is in this process."""

    execution: Execution
    record: RunRecord
    workflow: Workflow
    context: CallContext
    resumed_count: int = 0
    steps: Steps | None = None
    is_cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    output: execution_pb2.WorkflowOutput | None = None


class Desk(Protocol):
    """Where runs are kept, and whether the process ends; `desk.Workflows` is it."""

    shelf: Shelf
    leases: Leases
    registered: RegisteredWorkflows

    @property
    def is_closing(self) -> bool:
        """Whether the process ends."""


class Life:
    """One run in this process, from its begin or from where it was lost."""

    def __init__(
        self, desk: Desk, around: Around, active: Active, caller: Caller, past: Past | None
    ) -> None:
        self._desk = desk
        self._around = around
        self._active = active
        self._caller = caller
        self._past = past
        self._tenant = caller.context.tenant
        record, workflow = active.record, active.workflow
        info = RunInfo(caller.context, workflow.name, record.session_id)
        self._telling = Telling(
            active.execution,
            around.handling.hosting,
            info,
            name=workflow.name,
            kind=workflow.kind_name,
        )
        self._journal: RunJournal | None = None
        self._engine: Engine | None = None
        self._result: WorkflowResult | None = None
        self._tree: object = None
        self._by_itself = False

    async def result(self, *, by_itself: bool) -> WorkflowResult:
        """What comes of it, through the hooks.

        Raises:
            ServiceError: where it cannot be kept, or another process has taken it.
        """
        self._by_itself = by_itself
        record = self._active.record
        told = {
            "name": record.name,
            "kind": record.kind,
            "execution_id": record.execution_id,
            "inputs": record.inputs,
            "resumed": self._past is not None,
        }
        try:
            reply = await self._caller.call.around(Call(EXECUTE, None, told), self._inner)
            result = self._after(reply)
        except asyncio.CancelledError:
            if self._desk.is_closing or self._journal is None:
                await self._stop()
                raise
            if self._is_let_go():
                await asyncio.shield(asyncio.create_task(self._leave()))
                raise
            result = self._cancelled()
        if self._journal is not None:
            await self._finish(result)
        return result

    async def _inner(self, call: Call) -> Reply:
        """The run itself, as the hooks have left it."""
        inputs = call.args.get("inputs")
        if self._past is None and isinstance(inputs, dict):
            self._active.record = replace(self._active.record, inputs=inputs)
        try:
            await self._begin()
            assert self._engine is not None
            result = await self._engine.run(self._active.workflow, self._active.record.inputs)
        except ServiceError as error:
            return refused(error)
        self._result = result
        is_well = result.failure is None
        reply = Reply(ok=True, tree=as_tree(result)) if is_well else refused(_error_of(result))
        self._tree = reply.tree
        return reply

    async def _begin(self) -> None:
        """Make it this process's own, and get ready."""
        desk, record = self._desk, self._active.record
        await self._around.toolbox.entries()  # or no tool would be known to be harmless
        holder, past = desk.leases.runtime_id, self._past
        if past is None:
            await desk.leases.add(self._tenant, record.execution_id)
            revision = await begin_run(desk.shelf, self._tenant, record, LeaseRecord(holder))
        else:
            lease = LeaseRecord(
                holder,
                resumed_count=past.lease.resumed_count + 1,
                by_itself_count=past.lease.by_itself_count + self._by_itself,
            )
            self._active.resumed_count = lease.resumed_count
            revision = await take_over(
                desk.shelf, self._tenant, record.execution_id, lease, past.lease_revision
            )
            await desk.leases.add(self._tenant, record.execution_id)
        self._journal = RunJournal(
            desk.shelf,
            self._tenant,
            record,
            lease_revision=revision,
            steps=past.steps if past else (),
            on_kept=self._telling.kept,
            on_needless=functools.partial(self._around.receipts.forget, self._tenant),
        )
        actions = HostActions(
            self._caller,
            self._active.execution,
            self._around.agents,
            self._around.handling,
            receipts=self._around.receipts,
            journal=self._journal,
            clock=self._around.clock,
            is_left=lambda: self._desk.is_closing or self._is_let_go(),
            max_cost_usd=self._active.workflow.max_cost_usd,
        )
        steps = Steps(
            actions,
            self._journal,
            self._telling,
            self._around.clock,
            max_cost_usd=self._active.workflow.max_cost_usd,
        )
        steps.leaves_open = desk.is_closing
        steps.is_let_go = self._is_let_go
        self._active.steps = steps
        workflows = OfTenant(desk.registered, self._tenant)
        self._engine = Engine(steps, workflows, record.execution_id)
        self._telling.started(resumed=past is not None)

    def _after(self, reply: Reply) -> WorkflowResult:
        """What came of it, as the hooks after it have left it."""
        result, tree = self._result, reply.tree
        if result is not None and tree is self._tree:
            return result
        if not reply.ok:
            error = error_from(tree)
            if result is None and self._journal is None:
                raise error  # it has not begun
            failed = result or self._cancelled()
            return replace(failed, status=Status.FAILED, failure=Failure.of(error))
        given: Any = tree
        whole = result or self._unmade()
        if not isinstance(given, dict) or "output" not in given:
            given = {"output": given}
        outputs = given.get("outputs", whole.outputs)
        return replace(
            whole,
            status=Status.COMPLETED,
            failure=None,
            output=given["output"],
            outputs=outputs if isinstance(outputs, dict) else {},
        )

    def _unmade(self) -> WorkflowResult:
        """Of a run in whose place a hook has answered."""
        record = self._active.record
        return WorkflowResult(record.execution_id, record.name, record.kind, Status.COMPLETED)

    def _cancelled(self) -> WorkflowResult:
        assert self._engine is not None
        failure = Failure(Reason.Name(Reason.CANCELLED), "It was cancelled.")
        return self._engine.cancelled(self._active.workflow, failure)

    async def _finish(self, result: WorkflowResult) -> None:
        """Keep how it ended, whoever goes away meanwhile."""
        await asyncio.shield(asyncio.create_task(self._kept(result)))

    async def _kept(self, result: WorkflowResult) -> None:
        assert self._journal is not None
        if self._journal.is_lost:
            raise RunLostError(self._active.record.execution_id)
        await self._journal.end(end_of(result, self._around.clock.now_ns()))
        self._telling.ended(result)
        try:
            await self._desk.leases.remove(self._tenant, self._active.record.execution_id)
        except ServiceError as error:  # whoever looks for lost ones finds that it has ended
            log.warning("a run that has ended is still listed", extra={"reason": error.message})

    def _is_let_go(self) -> bool:
        """Whether it is ended since its caller has gone, not since somebody wants its end."""
        return self._active.execution.is_let_go and not self._active.is_cancelled

    async def _leave(self) -> None:
        """It stays interrupted until its caller comes back; nobody else goes on with it."""
        await self._stop()
        with suppress(ServiceError):
            await self._desk.leases.remove(self._tenant, self._active.record.execution_id)

    async def _stop(self) -> None:
        """The process ends: what can be kept still is."""
        if self._journal is not None:
            await self._journal.close()
            with suppress(ServiceError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._journal.flush()


def _error_of(result: WorkflowResult) -> ServiceError:
    assert result.failure is not None
    return result.failure.error()

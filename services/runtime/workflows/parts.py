"""What serves workflows in this process, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from llmspell.v1 import workflow_pb2_grpc

from services.common.clock import Clock
from services.common.relay import Relay
from services.common.tenants import SystemItems
from services.runtime.agents.parts import AgentParts
from services.runtime.bridge import Handler, own_methods
from services.runtime.handling import Handling
from services.runtime.servicers.workflow import WorkflowServicer
from services.runtime.tools.toolbox import Toolbox
from services.runtime.workflows.desk import Workflows
from services.runtime.workflows.leases import Leases
from services.runtime.workflows.life import Around
from services.runtime.workflows.lost import Finder, KeptKeys
from services.runtime.workflows.records import RecordSeal
from services.runtime.workflows.registered import RegisteredWorkflows
from services.runtime.workflows.shelf import Shelf

WORKFLOW_SERVICE = "llmspell.v1.WorkflowService"


@dataclass(frozen=True, slots=True)
class WorkflowParts:
    """Made once."""

    workflows: Workflows
    handling: Handling
    finder: Finder

    @classmethod
    def build(
        cls,
        handling: Handling,
        relay: Relay,
        toolbox: Toolbox,
        agents: AgentParts,
        *,
        key: bytes,
        clock: Clock,
    ) -> WorkflowParts:
        """Make them; `key` seals what is kept of runs."""
        shelf, items = Shelf(relay, RecordSeal(key)), SystemItems(relay, principal="runtime")
        leases = Leases(items, clock)
        around = Around(
            handling,
            agents.callers,
            agents.agents,
            agents.registered,
            toolbox,
            toolbox.receipts,
            clock,
        )
        workflows = Workflows(shelf, leases, RegisteredWorkflows(shelf, clock), around)
        finder = Finder(workflows, leases, handling.tenants, KeptKeys(items, clock), clock)
        return cls(workflows, handling, finder)

    def register(self, server: grpc.aio.Server) -> Mapping[str, Handler]:
        """Serve them at the door, and go on with what was lost; gives what scripts may call."""
        servicer = WorkflowServicer(self.workflows, self.handling.executions)
        workflow_pb2_grpc.add_WorkflowServiceServicer_to_server(servicer, server)
        self.workflows.leases.start()
        self.finder.start()
        return own_methods(WORKFLOW_SERVICE, servicer)

    async def close(self) -> None:
        """End what goes on; it is gone on with by whoever comes next."""
        await self.finder.close()
        await self.workflows.close()

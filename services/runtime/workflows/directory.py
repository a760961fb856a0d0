"""What steps can name in this deployment, for one tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from google.protobuf import message_factory
from llmspell.v1 import agent_pb2, template_pb2

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay
from services.runtime import marshal
from services.runtime.agents.specs import check_spec
from services.runtime.bridge import Own
from services.runtime.tools.entry import Entry
from services.runtime.workflows.model import Workflow
from services.runtime.workflows.registered import OfTenant

PACKAGE = "llmspell.v1."
NO_STEPS = frozenset(
    {
        "AgentService/ExecuteAgent",
        "ExecutionService/CancelExecution",
        "ExecutionService/ContinueExecution",
        "WorkflowService/ExecuteWorkflow",
        "WorkflowService/ResumeWorkflowRun",
    }
)
"""Steps have kinds of their own for these: a cycle of workflows could not be seen otherwise."""
_LIST_TEMPLATES = f"/{PACKAGE}TemplateService/ListTemplates"


class KnowsTools(Protocol):
    """The tools of this deployment."""

    async def entries(self) -> dict[str, Entry]:
        """Every tool by name."""

    async def find(self, name: str) -> Entry:
        """One by name; TOOL_NOT_FOUND."""


class KnowsAgents(Protocol):
    """The agents that are registered; `agents.registered.Registered` knows them."""

    async def get(self, context: CallContext, name: str) -> Any:
        """One by name; AGENT_NOT_FOUND."""


class Directory:
    """Knows it all, as one caller sees it."""

    def __init__(
        self,
        context: CallContext,
        *,
        toolbox: KnowsTools,
        agents: KnowsAgents,
        workflows: OfTenant,
        own: Own,
        relay: Relay,
    ) -> None:
        """`own` and `relay`: what a step's call can reach."""
        self._context = context
        self._toolbox = toolbox
        self._agents = agents
        self._workflows = workflows
        self._own = own
        self._relay = relay

    async def tools(self) -> Sequence[str]:
        """Names of tools, old ones included."""
        entries = (await self._toolbox.entries()).values()
        return [name for entry in entries for name in (entry.name, *entry.old_names)]

    async def tool_problem(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, str] | None:
        """Argument and what is wrong with it."""
        try:
            (await self._toolbox.find(name)).rules.accept(arguments)
        except ServiceError as error:
            return error.metadata.get("field", ""), error.message
        return None

    def agent_problem(self, agent: agent_pb2.AgentRef) -> tuple[str, str] | None:
        """Field and what is wrong with an agent that is described."""
        try:
            check_spec(agent.spec, "spec")
        except ServiceError as error:
            return error.metadata.get("field", "spec"), error.message
        return None

    async def has_agent(self, name: str) -> bool:
        """Whether an agent of the name is registered."""
        try:
            await self._agents.get(self._context, name)
        except ServiceError as error:
            if error.reason in {Reason.AGENT_NOT_FOUND, Reason.FIELD_INVALID}:
                return False
            raise
        return True

    async def workflow(self, name: str) -> Workflow:
        """A registered workflow."""
        return await self._workflows.workflow(name)

    async def templates(self) -> Sequence[str] | None:
        """Ids of templates; None: there is nobody to ask."""
        handler = self._own.get(_LIST_TEMPLATES)
        if handler is None:
            return None
        answer: Any = await handler(template_pb2.ListTemplatesRequest(), None)
        return [template.id for template in answer.templates]

    def methods(self) -> Sequence[str]:
        """Methods that a step may call, without the package."""
        return [
            path.removeprefix(f"/{PACKAGE}")
            for path, method in METHODS.items()
            if not method.streams and (path in self._own or self._relay.routes(method))
            if path.removeprefix(f"/{PACKAGE}") not in NO_STEPS
        ]

    def request_problem(self, method: str, arguments: Mapping[str, Any]) -> tuple[str, str] | None:
        """Field and what is wrong with a method's arguments."""
        known = METHODS[f"/{PACKAGE}{method}"]
        request = message_factory.GetMessageClass(known.descriptor.input_type)()
        try:
            marshal.fill(request, dict(arguments))
        except ServiceError as error:
            return error.metadata.get("field", ""), error.message
        return None

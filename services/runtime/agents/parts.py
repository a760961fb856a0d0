"""What serves agents in this process, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from llmspell.v1 import agent_pb2_grpc, execution_pb2_grpc

from services.common.clock import SystemClock
from services.common.relay import Relay
from services.runtime.agents.agents import Agents
from services.runtime.agents.answering import Answering
from services.runtime.agents.conversation import Conversations
from services.runtime.agents.defaults import DefaultModels
from services.runtime.agents.kept import KeptItems
from services.runtime.agents.offers import KnowsTools
from services.runtime.agents.registered import Registered
from services.runtime.agents.tally import AsksModel
from services.runtime.bridge import Handler, own_methods
from services.runtime.callers import Callers, CheckSession
from services.runtime.handling import Handling
from services.runtime.providers.registry import Providers
from services.runtime.servicers.agent import AgentServicer
from services.runtime.servicers.direct_agent import HookedAgents
from services.runtime.servicers.execution import ExecutionServicer

AGENT_SERVICE = "llmspell.v1.AgentService"
EXECUTION_SERVICE = "llmspell.v1.ExecutionService"


@dataclass(frozen=True, slots=True)
class AgentParts:
    """Made once; workflows ask `agents` and `callers` too."""

    agents: Agents
    callers: Callers
    handling: Handling
    registered: Registered
    conversations: Conversations

    @classmethod
    def build(
        cls,
        handling: Handling,
        relay: Relay,
        toolbox: KnowsTools,
        *,
        asks: AsksModel,
        providers: Providers,
        check_session: CheckSession,
    ) -> AgentParts:
        """Make them.

        Args:
            handling: What answers their calls.
            relay: To state.
            toolbox: The tools that there are.
            asks: The way to models.
            providers: Know how much a model can be told.
            check_session: Refuses a session that is not open.
        """

        async def window_of(model: str) -> int:
            return (await providers.facts(model)).context_tokens

        items = KeptItems(relay, handling.tenants)
        registered, conversations = Registered(items), Conversations(items)
        answering = Answering(
            asks, toolbox, conversations, window_of=window_of, clock=SystemClock()
        )
        agents = Agents(registered, answering)
        callers = Callers(handling, check_session)
        return cls(agents, callers, handling, registered, conversations)

    def register(self, server: grpc.aio.Server) -> Mapping[str, Handler]:
        """Serve them at the door; gives what scripts may call."""
        executions = self.handling.executions
        agents = AgentServicer(
            self.agents,
            self.registered,
            self.conversations,
            executions=executions,
            callers=self.callers,
            models=DefaultModels(self.handling.tenants),
        )
        news = ExecutionServicer(executions, self.callers)
        hooked = HookedAgents(agents, self.handling)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(hooked, server)
        execution_pb2_grpc.add_ExecutionServiceServicer_to_server(news, server)
        return {**own_methods(AGENT_SERVICE, agents), **own_methods(EXECUTION_SERVICE, news)}

    async def close(self) -> None:
        """End what goes on."""
        await self.handling.executions.close()
        await self.registered.close()

"""Agents as callers of the door reach them: what makes and ends them goes through the host's hooks.

An execution passes the hooks itself, whoever has begun it (`agents.agents`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import Message
from llmspell.v1 import agent_pb2, agent_pb2_grpc

from services.runtime.handling import Handling
from services.runtime.servicers.agent import AgentServicer
from services.runtime.servicers.direct import through_hooks

M = TypeVar("M", bound=Message)


class HookedAgents(agent_pb2_grpc.AgentServiceServicer):
    """What scripts may call too, with the same hooks around it."""

    def __init__(self, agents: AgentServicer, handling: Handling) -> None:
        """`agents`: answers; `handling` knows it behind the hooks."""
        self._agents = agents
        self._handling = handling

    async def CreateAgent(  # noqa: N802  (the contract's name)
        self, request: agent_pb2.CreateAgentRequest, context: object
    ) -> agent_pb2.CreateAgentResponse:
        """Register one."""
        del context
        return await self._through("CreateAgent", request, agent_pb2.CreateAgentResponse())

    async def GetAgent(  # noqa: N802
        self, request: agent_pb2.GetAgentRequest, context: object
    ) -> agent_pb2.GetAgentResponse:
        """One that is registered."""
        return await self._agents.GetAgent(request, context)

    async def ListAgents(  # noqa: N802
        self, request: agent_pb2.ListAgentsRequest, context: object
    ) -> agent_pb2.ListAgentsResponse:
        """A page of them."""
        return await self._agents.ListAgents(request, context)

    async def TransitionAgent(  # noqa: N802
        self, request: agent_pb2.TransitionAgentRequest, context: object
    ) -> agent_pb2.TransitionAgentResponse:
        """Move one to another state."""
        return await self._agents.TransitionAgent(request, context)

    async def DeleteAgent(  # noqa: N802
        self, request: agent_pb2.DeleteAgentRequest, context: object
    ) -> agent_pb2.DeleteAgentResponse:
        """Remove one."""
        del context
        return await self._through("DeleteAgent", request, agent_pb2.DeleteAgentResponse())

    async def ExecuteAgent(  # noqa: N802
        self, request: agent_pb2.ExecuteAgentRequest, context: object
    ) -> agent_pb2.ExecuteAgentResponse:
        """Let one answer."""
        return await self._agents.ExecuteAgent(request, context)

    def StreamAgent(  # noqa: N802
        self, request: agent_pb2.StreamAgentRequest, context: object
    ) -> AsyncIterator[agent_pb2.StreamAgentResponse]:
        """Let one answer, and tell all that happens."""
        return self._agents.StreamAgent(request, context)

    async def GetConversation(  # noqa: N802
        self, request: agent_pb2.GetConversationRequest, context: object
    ) -> agent_pb2.GetConversationResponse:
        """What was said."""
        return await self._agents.GetConversation(request, context)

    async def DeleteConversation(  # noqa: N802
        self, request: agent_pb2.DeleteConversationRequest, context: object
    ) -> agent_pb2.DeleteConversationResponse:
        """Forget what was said."""
        return await self._agents.DeleteConversation(request, context)

    async def _through(self, name: str, request: Message, answer: M) -> M:
        method = f"llmspell.v1.AgentService/{name}"
        return await through_hooks(self._handling, method, request, answer)

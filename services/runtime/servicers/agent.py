"""AgentService: agents that are registered, and the executions of agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llmspell.v1 import agent_pb2, agent_pb2_grpc, execution_pb2

from services.common.context import current_context
from services.common.errors import field_invalid, required
from services.common.paging import page_size
from services.common.values import map_to_python
from services.runtime.agents.agents import Agents
from services.runtime.agents.conversation import Conversations, place_of
from services.runtime.agents.defaults import DefaultModels
from services.runtime.agents.kept import Place
from services.runtime.agents.registered import Registered
from services.runtime.agents.situation import Limits
from services.runtime.agents.specs import check_input, check_name, check_ref, check_spec
from services.runtime.callers import Callers, check_request_id, wait_of
from services.runtime.execution import Execution
from services.runtime.executions import Executions

_REASON_LENGTH_MAX = 500


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Answers callers of the door and scripts alike."""

    def __init__(
        self,
        agents: Agents,
        registered: Registered,
        conversations: Conversations,
        *,
        executions: Executions,
        callers: Callers,
        models: DefaultModels | None = None,
    ) -> None:
        """`models`: gives agents one that name none; None: there is no default."""
        self._models = models
        self._agents = agents
        self._registered = registered
        self._conversations = conversations
        self._executions = executions
        self._callers = callers

    async def CreateAgent(  # noqa: N802  (the contract's name)
        self, request: agent_pb2.CreateAgentRequest, context: object
    ) -> agent_pb2.CreateAgentResponse:
        """Register one."""
        del context
        if self._models is not None:
            await self._models.fill(request.spec)
        check_spec(request.spec, "spec")
        check_request_id(request.request_id)
        made = await self._registered.create(
            current_context(),
            request.spec,
            replace=request.replace,
            request_id=request.request_id,
        )
        return agent_pb2.CreateAgentResponse(agent=made)

    async def GetAgent(  # noqa: N802
        self, request: agent_pb2.GetAgentRequest, context: object
    ) -> agent_pb2.GetAgentResponse:
        """One that is registered."""
        del context
        check_name(request.name, "name")
        agent = await self._registered.get(current_context(), request.name)
        return agent_pb2.GetAgentResponse(agent=agent)

    async def ListAgents(  # noqa: N802
        self, request: agent_pb2.ListAgentsRequest, context: object
    ) -> agent_pb2.ListAgentsResponse:
        """A page of those that are registered."""
        del context
        size = page_size(request.page_size)
        agents, after = await self._registered.page(
            current_context(), size=size, token=request.page_token
        )
        return agent_pb2.ListAgentsResponse(agents=agents, next_page_token=after)

    async def TransitionAgent(  # noqa: N802
        self, request: agent_pb2.TransitionAgentRequest, context: object
    ) -> agent_pb2.TransitionAgentResponse:
        """Move one to another state."""
        del context
        check_name(request.name, "name")
        if not request.to:
            raise required("to")
        if request.to not in agent_pb2.AgentState.values():
            raise field_invalid("to", "must be a state of the contract")
        reason = request.reason[:_REASON_LENGTH_MAX]
        agent = await self._registered.transition(
            current_context(), request.name, request.to, reason
        )
        return agent_pb2.TransitionAgentResponse(agent=agent)

    async def DeleteAgent(  # noqa: N802
        self, request: agent_pb2.DeleteAgentRequest, context: object
    ) -> agent_pb2.DeleteAgentResponse:
        """Remove one."""
        del context
        check_name(request.name, "name")
        deleted = await self._registered.delete(current_context(), request.name)
        return agent_pb2.DeleteAgentResponse(deleted=deleted)

    async def ExecuteAgent(  # noqa: N802
        self, request: agent_pb2.ExecuteAgentRequest, context: object
    ) -> agent_pb2.ExecuteAgentResponse:
        """Let one answer, and wait for that as long as was asked."""
        wait_s = wait_of(request.wait if request.HasField("wait") else None, context)
        execution = await self._begin(request)
        progress = await self._executions.progress(
            execution.execution_id,
            execution.owner,
            wait_s=wait_s,
            with_events=request.with_events,
            ends_with_caller=True,
        )
        return agent_pb2.ExecuteAgentResponse(progress=progress)

    async def StreamAgent(  # noqa: N802
        self, request: agent_pb2.StreamAgentRequest, context: object
    ) -> AsyncGenerator[agent_pb2.StreamAgentResponse, None]:
        """Let one answer, and tell all that happens."""
        del context
        request.execute.with_events = True
        execution = await self._begin(request.execute)
        news = self._executions.stream(execution.execution_id, execution.owner)
        async with aclosing(news):
            async for progress in news:
                yield agent_pb2.StreamAgentResponse(progress=progress)

    async def GetConversation(  # noqa: N802
        self, request: agent_pb2.GetConversationRequest, context: object
    ) -> agent_pb2.GetConversationResponse:
        """What was said."""
        del context
        if request.limit < 0:
            raise field_invalid("limit", "must not be negative")
        kept = await self._conversations.read(current_context(), _place(request))
        if request.limit:
            del kept.messages[: -request.limit]
        return kept

    async def DeleteConversation(  # noqa: N802
        self, request: agent_pb2.DeleteConversationRequest, context: object
    ) -> agent_pb2.DeleteConversationResponse:
        """Forget what was said."""
        del context
        deleted = await self._conversations.delete(current_context(), _place(request))
        return agent_pb2.DeleteConversationResponse(deleted=deleted)

    async def _begin(self, request: agent_pb2.ExecuteAgentRequest) -> Execution:
        if self._models is not None:
            await self._models.fill(request.agent)
        check_ref(request.agent, "agent")
        check_input(request.input)
        Limits.of(agent_pb2.AgentLimits(), request.limits)
        place_of("agent", request.session_id, request.conversation_id)
        check_request_id(request.request_id)
        facts = map_to_python(request.context.fields, "context")
        await self._callers.check(request.session_id)

        async def body(execution: Execution) -> execution_pb2.AgentOutput:
            execution.keeps_events = execution.keeps_events or request.with_events
            async with self._callers.caller(
                session_id=request.session_id, executes_tools=request.caller_executes_tools
            ) as caller:
                return await self._agents.run(
                    request.agent,
                    request.input,
                    caller,
                    execution,
                    limits=request.limits,
                    context=facts,
                    conversation_id=request.conversation_id,
                )

        owner, request_id = self._callers.owner(), request.request_id
        return self._executions.begin(owner, body, request_id=request_id)


def _place(request: Any) -> Place:
    check_name(request.agent, "agent")
    place = place_of(request.agent, request.session_id, request.conversation_id)
    if place is None:
        raise required("conversation_id")
    return place

"""Agents of the asyncio client; `_blocking_agents` says more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from llmspell import _agents
from llmspell import types as t
from llmspell._awaiting_executions import AsyncExecutionCalls
from llmspell._executions import Progress


class AsyncAgentCalls(AsyncExecutionCalls):
    """A provider's models with instructions, tools and a conversation."""

    async def execute_agent(
        self,
        agent: str | t.AgentSpec,
        text: str,
        *,
        functions: Mapping[str, t.AgentFunction] | None = None,
        on_event: Callable[[t.ExecutionEvent], object] | None = None,
        parameters: Mapping[str, Any] | None = None,
        media: Iterable[t.Media] = (),
        session_id: str = "",
        conversation_id: str = "",
        context: Mapping[str, Any] | None = None,
        limits: t.AgentLimits | None = None,
        executes_tools: bool = False,
    ) -> t.AgentOutput:
        """Let an agent answer; functions may be coroutines, and run at once."""
        begun = _agents.execute(
            agent,
            text,
            parameters=parameters,
            media=media,
            functions=functions,
            session_id=session_id,
            conversation_id=conversation_id,
            context=context,
            limits=limits,
            executes_tools=executes_tools,
        )
        progress = await self._unary(begun.begin(with_events=on_event is not None))
        return await self._ended(progress, begun.functions, _agents.read_progress, on_event)

    async def stream_agent(
        self,
        agent: str | t.AgentSpec,
        text: str,
        *,
        functions: Mapping[str, t.AgentFunction] | None = None,
        parameters: Mapping[str, Any] | None = None,
        media: Iterable[t.Media] = (),
        session_id: str = "",
        conversation_id: str = "",
        context: Mapping[str, Any] | None = None,
        limits: t.AgentLimits | None = None,
        executes_tools: bool = False,
    ) -> AsyncGenerator[t.ExecutionEvent | t.AgentOutput, None]:
        """Let an agent answer; its events as they happen, `AgentOutput` last."""
        begun = _agents.execute(
            agent,
            text,
            parameters=parameters,
            media=media,
            functions=functions,
            session_id=session_id,
            conversation_id=conversation_id,
            context=context,
            limits=limits,
            executes_tools=executes_tools,
        )
        news: AsyncGenerator[Progress[t.AgentOutput], None]
        if begun.functions.by_name or executes_tools:
            first = await self._unary(begun.begin(with_events=True))
            news = self._followed(first, begun.functions, _agents.read_progress, with_events=True)
        else:
            news = self._stream(begun.stream())
        async with aclosing(news) as all_news:
            async for progress in all_news:
                for event in progress.events:
                    yield event
                if progress.output is not None:
                    yield progress.output

    async def create_agent(self, spec: t.AgentSpec, *, replace: bool = False) -> t.Agent:
        """Register an agent."""
        return await self._unary(_agents.create(spec, replace=replace))

    async def get_agent(self, name: str) -> t.Agent:
        """A registered agent."""
        return await self._unary(_agents.get(name))

    def list_agents(self) -> AsyncIterator[t.Agent]:
        """Registered agents in order of name; pages come as they are needed."""
        return self._entries(_agents.list_agents())

    async def transition_agent(self, name: str, to: t.AgentState, *, reason: str = "") -> t.Agent:
        """Move a registered agent to another state of its life."""
        return await self._unary(_agents.transition(name, to, reason))

    async def delete_agent(self, name: str) -> bool:
        """Remove a registered agent; whether it was there."""
        return await self._unary(_agents.delete(name))

    async def get_conversation(
        self, agent: str, *, session_id: str = "", conversation_id: str = "", limit: int = 0
    ) -> t.Conversation:
        """The messages of a conversation."""
        return await self._unary(_agents.conversation(agent, session_id, conversation_id, limit))

    async def delete_conversation(
        self, agent: str, *, session_id: str = "", conversation_id: str = ""
    ) -> bool:
        """Erase a conversation; whether it was there."""
        return await self._unary(_agents.delete_conversation(agent, session_id, conversation_id))

"""Agents of the blocking client."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from llmspell import _agents
from llmspell import types as t
from llmspell._blocking_executions import ExecutionCalls
from llmspell._executions import Progress


class AgentCalls(ExecutionCalls):
    """A provider's models with instructions, tools and a conversation."""

    def execute_agent(
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
        """Let an agent answer: its model and tools in turn until it is done or at a limit.

        Args:
            agent: Name of a registered one, or one that is described here.
            text: What it is asked.
            functions: What its model may call in this program, by name. One that the agent does
                not describe is described by its signature and the first line of its docstring.
                It is called with named arguments; what it raises is told to the model. Several
                that the model wants at once run in threads.
            on_event: Told of each event as it comes.
            parameters: More for it to know, by name.
            media: Images.
            session_id: Session that its conversation is kept in.
            conversation_id: Conversation that it goes on with; empty: that of the session.
            context: Facts that the model is told beside the input, by name.
            limits: For this time; those of the agent hold too.
            executes_tools: Whether tools are functions too, of the tool's name, so that this
                program executes them.

        Raises:
            NotFound: AGENT_NOT_FOUND, PROVIDER_NOT_FOUND, MODEL_NOT_FOUND, TOOL_NOT_FOUND.
            ResourceExhausted: BUDGET_EXHAUSTED, AGENT_TURN_LIMIT, AGENT_CALL_LIMIT,
                PROVIDER_RATE_LIMITED.
            DeadlineExceeded: AGENT_TIME_LIMIT, PROVIDER_TIME_LIMIT.
        """
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
        progress = self._unary(begun.begin(with_events=on_event is not None))
        return self._ended(progress, begun.functions, _agents.read_progress, on_event)

    def stream_agent(
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
    ) -> Generator[t.ExecutionEvent | t.AgentOutput, None, None]:
        """Let an agent answer; its events as they happen, `AgentOutput` last.

        It begins with the first event that is taken; leaving the loop early ends it. Arguments are
        those of `execute_agent`.
        """
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
        news: Iterator[Progress[t.AgentOutput]]
        if begun.functions.by_name or executes_tools:
            first = self._unary(begun.begin(with_events=True))
            news = self._followed(first, begun.functions, _agents.read_progress, with_events=True)
        else:
            news = self._stream(begun.stream())
        for progress in news:
            yield from progress.events
            if progress.output is not None:
                yield progress.output

    def create_agent(self, spec: t.AgentSpec, *, replace: bool = False) -> t.Agent:
        """Register an agent.

        Args:
            spec: What it is. Its key is not kept.
            replace: Whether one of the name is replaced.

        Raises:
            AlreadyExists: AGENT_EXISTS.
        """
        return self._unary(_agents.create(spec, replace=replace))

    def get_agent(self, name: str) -> t.Agent:
        """A registered agent; NotFound where there is none."""
        return self._unary(_agents.get(name))

    def list_agents(self) -> Iterator[t.Agent]:
        """Registered agents in order of name; pages come as they are needed."""
        return self._entries(_agents.list_agents())

    def transition_agent(self, name: str, to: t.AgentState, *, reason: str = "") -> t.Agent:
        """Move a registered agent to another state of its life.

        Raises:
            FailedPrecondition: AGENT_STATE where that is no legal move.
        """
        return self._unary(_agents.transition(name, to, reason))

    def delete_agent(self, name: str) -> bool:
        """Remove a registered agent; whether it was there."""
        return self._unary(_agents.delete(name))

    def get_conversation(
        self, agent: str, *, session_id: str = "", conversation_id: str = "", limit: int = 0
    ) -> t.Conversation:
        """The messages of a conversation; empty where there is none.

        Args:
            agent: Name of the agent.
            session_id: Session that it is kept in.
            conversation_id: Its id; empty: that of the session.
            limit: Only the newest so many; 0: all.
        """
        return self._unary(_agents.conversation(agent, session_id, conversation_id, limit))

    def delete_conversation(
        self, agent: str, *, session_id: str = "", conversation_id: str = ""
    ) -> bool:
        """Erase a conversation; whether it was there."""
        return self._unary(_agents.delete_conversation(agent, session_id, conversation_id))

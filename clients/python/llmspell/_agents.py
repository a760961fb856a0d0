"""AgentService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from llmspell import _executions
from llmspell._agent_forms import read_spec, to_limits, to_number, to_ref, to_spec, to_word
from llmspell._agent_types import (
    Agent,
    AgentFunction,
    AgentLimits,
    AgentOutput,
    AgentSpec,
    AgentState,
    AgentTransition,
    Citation,
    Conversation,
    ConversationMessage,
    Media,
)
from llmspell._contract import Call, Page
from llmspell._executions import Functions, Progress
from llmspell._values import (
    from_duration,
    from_fields,
    from_timestamp,
    from_value,
    int32,
    to_map,
)
from llmspell.v1 import agent_pb2 as pb
from llmspell.v1 import execution_pb2

_STATE = "AGENT_STATE_"


# Asking.


@dataclass(frozen=True, slots=True)
class Begun:
    """An agent that is to be executed."""

    request: pb.ExecuteAgentRequest
    functions: Functions

    def begin(self, *, with_events: bool) -> Call[Progress[AgentOutput]]:
        """Begin it, and wait for its news."""
        request = pb.ExecuteAgentRequest()
        request.CopyFrom(self.request)
        if with_events:
            request.wait.FromMilliseconds(1)
            request.with_events = True
        else:
            request.wait.CopyFrom(_executions.wait())
        return Call(
            request,
            lambda answer: read_progress(answer.progress),
            timeout_s=_executions.TIMEOUT_S,
        )

    def stream(self) -> Call[Progress[AgentOutput] | None]:
        """Begin it, and hear all of it."""
        return Call(
            pb.StreamAgentRequest(execute=self.request),
            lambda answer: read_progress(answer.progress),
        )


def execute(
    agent: str | AgentSpec,
    text: str,
    *,
    parameters: Mapping[str, Any] | None,
    media: Iterable[Media],
    functions: Mapping[str, AgentFunction] | None,
    session_id: str,
    conversation_id: str,
    context: Mapping[str, Any] | None,
    limits: AgentLimits | None,
    executes_tools: bool,
) -> Begun:
    """What is to be executed; functions that the spec does not describe are described by it."""
    offered = functions or {}
    request = pb.ExecuteAgentRequest(
        agent=to_ref(agent, offered),
        input=pb.AgentInput(
            text=text,
            media=[execution_pb2.Media(mime_type=each.mime_type, data=each.data) for each in media],
        ),
        session_id=session_id,
        conversation_id=conversation_id,
        caller_executes_tools=executes_tools,
    )
    if parameters is not None:
        request.input.parameters.CopyFrom(to_map(parameters, "parameters"))
    if context is not None:
        request.context.CopyFrom(to_map(context, "context"))
    if limits is not None:
        request.limits.CopyFrom(to_limits(limits))
    return Begun(request, Functions(offered, named_arguments=True))


# Care.


def create(spec: AgentSpec, *, replace: bool) -> Call[Agent]:
    """Register one."""
    request = pb.CreateAgentRequest(spec=to_spec(spec, {}), replace=replace)
    return Call(request, lambda answer: _agent(answer.agent))


def get(name: str) -> Call[Agent]:
    """A registered one."""
    return Call(pb.GetAgentRequest(name=name), lambda answer: _agent(answer.agent))


def list_agents() -> Call[Page[Agent]]:
    """A page of them."""
    return Call(
        pb.ListAgentsRequest(),
        lambda answer: Page([_agent(each) for each in answer.agents], answer.next_page_token),
    )


def transition(name: str, to: AgentState, reason: str) -> Call[Agent]:
    """Move one to another state."""
    request = pb.TransitionAgentRequest(
        name=name, to=to_number(pb.AgentState, _STATE, to, "to"), reason=reason
    )
    return Call(request, lambda answer: _agent(answer.agent))


def delete(name: str) -> Call[bool]:
    """Remove one; whether it was there."""
    return Call(pb.DeleteAgentRequest(name=name), lambda answer: answer.deleted)


def conversation(
    agent: str, session_id: str, conversation_id: str, limit: int
) -> Call[Conversation]:
    """A conversation."""
    request = pb.GetConversationRequest(
        agent=agent,
        session_id=session_id,
        conversation_id=conversation_id,
        limit=int32(limit, "limit"),
    )
    return Call(
        request,
        lambda answer: Conversation(
            tuple(_message(each) for each in answer.messages), answer.trimmed_count
        ),
    )


def delete_conversation(agent: str, session_id: str, conversation_id: str) -> Call[bool]:
    """Erase a conversation; whether it was there."""
    request = pb.DeleteConversationRequest(
        agent=agent, session_id=session_id, conversation_id=conversation_id
    )
    return Call(request, lambda answer: answer.deleted)


# Reading.


def read_progress(message: execution_pb2.ExecutionProgress) -> Progress[AgentOutput]:
    """The news of an agent."""
    return Progress(
        execution_id=message.execution_id,
        output=read_output(message.agent) if message.done else None,
        callbacks=[_executions.read_callback(each) for each in message.callbacks],
        events=_executions.read_events(message),
    )


def read_output(message: execution_pb2.AgentOutput) -> AgentOutput:
    """What came of an agent."""
    return AgentOutput(
        text=message.text,
        tool_calls=tuple(_executions.read_tool_call(each) for each in message.tool_calls),
        spent=_executions.read_spent(message.spent),
        model=message.model,
        finish_reason=message.finish_reason,
        turns=message.turns,
        elapsed_s=from_duration(message, "elapsed") or 0.0,
        conversation_id=message.conversation_id,
        citations=tuple(_citation(each) for each in message.citations),
        json=from_value(message.json),
        media=tuple(Media(each.mime_type, each.data) for each in message.media),
        metadata=from_fields(message.metadata.fields),
    )


def _citation(message: execution_pb2.Citation) -> Citation:
    return Citation(
        number=message.number,
        collection=message.collection,
        source_id=message.source_id,
        text=message.text,
        score=message.score,
        cited=message.cited,
        metadata=from_fields(message.metadata.fields),
    )


def _message(message: pb.ConversationMessage) -> ConversationMessage:
    return ConversationMessage(
        role=message.role,
        text=message.text,
        tool_calls=tuple(_executions.read_tool_call(each) for each in message.tool_calls),
        call_id=message.call_id,
        time=from_timestamp(message, "time"),
    )


def _agent(message: pb.Agent) -> Agent:
    return Agent(
        spec=read_spec(message.spec),
        state=_state(message.state),
        history=tuple(
            AgentTransition(
                _state(getattr(each, "from")),
                _state(each.to),
                from_timestamp(each, "time"),
                each.reason,
            )
            for each in message.history
        ),
        create_time=from_timestamp(message, "create_time"),
        update_time=from_timestamp(message, "update_time"),
        executions=message.executions,
        failures=message.failures,
        spent=_executions.read_spent(message.spent),
    )


def _state(number: int) -> AgentState:
    return cast("AgentState", to_word(pb.AgentState, _STATE, number))

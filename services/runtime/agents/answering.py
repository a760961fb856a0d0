"""Has one agent answer: what its model is told before, and what is made of what it said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmspell.v1 import agent_pb2, execution_pb2

from services.common.clock import Clock
from services.common.errors import ServiceError, reason_name
from services.common.limits import CONVERSATION_MESSAGES
from services.common.values import map_to_python, to_value
from services.runtime.agents.answers import instruction, invalid, read_answer, repair
from services.runtime.agents.composites import routing
from services.runtime.agents.conversation import Conversations, messages_of, place_of
from services.runtime.agents.kept import Place
from services.runtime.agents.loop import Loop, Said, finish_word, told_value
from services.runtime.agents.memory import Memory, mark_cited, told_passages
from services.runtime.agents.offers import KnowsTools, Offers
from services.runtime.agents.schemas import Schema
from services.runtime.agents.situation import Limits, Situation
from services.runtime.agents.tally import AsksModel
from services.runtime.agents.trimming import NO_LIMIT, trimmed
from services.runtime.money.tokens import estimate_tokens
from services.runtime.providers.model import Image, Message, Role

WindowOf = Callable[[str], Awaitable[int]]
"""Tokens that a model may be told and say together; 0: it is not known."""
AsksAgent = Callable[[agent_pb2.AgentRef, str, Situation], Awaitable[str]]
_MESSAGE_TOKENS = 8
_IMAGE_TOKENS = 1600
_WINDOW_SHARE = 0.75
"""Of a model's window for what it is told; the rest is for tools and the answer."""


@dataclass(slots=True)
class _Prepared:
    """What a model is told, and where what it says goes."""

    messages: list[Message]
    citations: list[execution_pb2.Citation]
    place: Place | None
    memory: Memory | None
    schema: Schema | None


class Answering:
    """Of agents that are no composites."""

    asks_agent: AsksAgent

    def __init__(
        self,
        asks: AsksModel,
        toolbox: KnowsTools,
        conversations: Conversations,
        *,
        window_of: WindowOf,
        clock: Clock,
    ) -> None:
        self._asks = asks
        self._clock = clock
        self._offers = Offers(toolbox, self._ask_agent)
        self._conversations = conversations
        self._window_of = window_of

    async def answer(
        self,
        spec: agent_pb2.AgentSpec,
        given: agent_pb2.AgentInput,
        situation: Situation,
        limits: Limits,
    ) -> execution_pb2.AgentOutput:
        """What the agent says, within its limits; its conversation and memory are kept.

        Raises:
            ServiceError: as `Loop.run`; PROVIDER_ANSWER_INVALID.
        """
        ready = await self._prepare(spec, given, situation)
        loop = Loop(
            self._asks,
            spec,
            situation,
            offers=await self._offers.of(spec, situation),
            limits=limits,
            shown=await self._shown(spec),
            answer_schema=ready.schema.tree if ready.schema else None,
        )
        said = await loop.run(ready.messages)
        output = _output(spec, said)
        if ready.schema is not None:
            await _fit(loop, ready, said, output)
        output.turns = loop.turns
        mark_cited(ready.citations, output.text)
        output.citations.extend(ready.citations)
        output.conversation_id = situation.conversation_id or (
            situation.caller.session_id if ready.place else ""
        )
        await self._keep(given, ready, said, output, situation, is_again=loop.is_known)
        return output

    async def choose(
        self, model: str, refs: Sequence[agent_pb2.AgentRef], asked: str, situation: Situation
    ) -> str:
        """Has a model choose one of several agents; gives what it says."""
        spec = agent_pb2.AgentSpec(name="router", model=model, temperature=0)
        limits = Limits(turns=1)
        loop = Loop(
            self._asks, spec, situation, offers={}, limits=limits, shown=lambda messages: messages
        )
        told = [
            Message(role=Role.SYSTEM, text=routing(refs)),
            Message(role=Role.USER, text=asked),
        ]
        return (await loop.ask(told)).text

    async def _ask_agent(self, ref: agent_pb2.AgentRef, text: str, situation: Situation) -> str:
        return await self.asks_agent(ref, text, situation)

    async def _prepare(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> _Prepared:
        context = situation.caller.context
        is_outermost = not situation.depth
        session_id = situation.caller.session_id if is_outermost else ""
        place = place_of(spec.name, session_id, situation.conversation_id)
        past = await self._conversations.read(context, place) if place else None
        memory = Memory(spec, situation, self._clock) if spec.HasField("memory") else None
        asked = given.text.strip()
        citations = await memory.recall(asked) if memory and asked else []
        text, field = spec.answer_schema, "agent.spec.answer_schema"
        schema = Schema(text, field) if text else None
        system = _system(spec, situation, citations, schema)
        messages = [
            *([Message(role=Role.SYSTEM, text=system)] if system else []),
            *(messages_of(past.messages) if past else []),
            _question(given),
        ]
        return _Prepared(messages, citations, place, memory, schema)

    async def _shown(self, spec: agent_pb2.AgentSpec) -> Callable[..., Sequence[Message]]:
        most = spec.max_conversation_length or CONVERSATION_MESSAGES
        most_tokens = spec.max_conversation_tokens
        if not most_tokens:
            most_tokens = int(await self._window_of(spec.model) * _WINDOW_SHARE) or NO_LIMIT
        tokens: dict[int, int] = {}

        def tokens_of(message: Message) -> int:
            known = tokens.get(id(message))
            if known is None:
                known = tokens[id(message)] = message_tokens(message)
            return known

        def shown(messages: Sequence[Message]) -> Sequence[Message]:
            return trimmed(messages, most=most, most_tokens=most_tokens, tokens_of=tokens_of)

        return shown

    async def _keep(
        self,
        given: agent_pb2.AgentInput,
        ready: _Prepared,
        said: Said,
        output: execution_pb2.AgentOutput,
        situation: Situation,
        *,
        is_again: bool,
    ) -> None:
        if ready.place is not None:
            question = Message(role=Role.USER, text=_asked(given))
            new = [question, *said.messages]
            try:
                context = situation.caller.context
                await self._conversations.add(context, ready.place, new, is_again=is_again)
            except ServiceError as error:  # the answer is paid for, and is not lost so
                told = f"{reason_name(error.reason)}: {error.message}"
                output.metadata.fields["conversation_failure"].string_value = told
        if ready.memory is not None and output.text:
            wrong = await ready.memory.store(given.text, output.text)
            if wrong:
                output.metadata.fields["memory_failure"].string_value = wrong


def message_tokens(message: Message) -> int:
    """About how many tokens a message has."""
    uses = sum(estimate_tokens(use.name + use.arguments) for use in message.tool_uses)
    images = len(message.images) * _IMAGE_TOKENS
    return _MESSAGE_TOKENS + estimate_tokens(message.text) + uses + images


async def _fit(loop: Loop, ready: _Prepared, said: Said, output: execution_pb2.AgentOutput) -> None:
    """Read the answer as its schema wants it; where it does not fit, ask for it once more."""
    assert ready.schema is not None
    value, fault = read_answer(output.text, ready.schema)
    if fault:
        wrong = Message(role=Role.ASSISTANT, text=output.text)
        asked = Message(role=Role.USER, text=repair(fault))
        told = [*ready.messages, *said.messages[:-1], wrong, asked]
        answer = await loop.ask(told, with_tools=False, answer_schema=ready.schema.tree)
        value, fault = read_answer(answer.text, ready.schema)
        if fault:
            raise invalid(fault, output.model)
        output.text = answer.text
        said.messages[-1] = Message(role=Role.ASSISTANT, text=answer.text)
    output.json.CopyFrom(_told(value, output.model))


def _told(value: Any, model: str) -> Any:
    try:
        return to_value(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"it cannot be told ({error})", model) from None


def _output(spec: agent_pb2.AgentSpec, said: Said) -> execution_pb2.AgentOutput:
    return execution_pb2.AgentOutput(
        text=said.answer.text,
        tool_calls=said.calls,
        finish_reason=finish_word(said.answer.finish),
        model=spec.model,
        turns=said.turns,
    )


def _system(
    spec: agent_pb2.AgentSpec,
    situation: Situation,
    citations: Sequence[execution_pb2.Citation],
    schema: Schema | None,
) -> str:
    parts = [
        spec.system_prompt,
        f"Context:\n{told_value(dict(situation.facts))}" if situation.facts else "",
        told_passages(citations) if citations else "",
        instruction(schema) if schema else "",
    ]
    return "\n\n".join(part for part in parts if part.strip())


def _question(given: agent_pb2.AgentInput) -> Message:
    images = [Image(mime_type=media.mime_type, data=media.data) for media in given.media]
    return Message(role=Role.USER, text=_asked(given), images=images)


def _asked(given: agent_pb2.AgentInput) -> str:
    parameters = map_to_python(given.parameters.fields, "input.parameters")
    return f"{given.text}\n\n{told_value(parameters)}" if parameters else given.text

"""Model and tools in turn, until the model is done or a limit is reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from llmspell.v1 import agent_pb2, execution_pb2

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import (
    AGENT_ANSWER_BYTES_MAX,
    AGENT_ARGUMENTS_BYTES_MAX,
    AGENT_TOOL_ANSWER_BYTES_MAX,
    AGENT_TOOL_USES_MAX,
    AGENT_TOOLS_AT_ONCE,
)
from services.common.tracing import span
from services.common.values import fill_map, to_value
from services.runtime.agents.offers import Offer
from services.runtime.agents.side_by_side import side_by_side
from services.runtime.agents.situation import Limits, Situation
from services.runtime.agents.tally import AsksModel
from services.runtime.execution import failure_of
from services.runtime.money.messages import spent_message
from services.runtime.money.model import Account, Spent
from services.runtime.providers.model import (
    ChatAnswer,
    ChatRequest,
    Finish,
    Message,
    Role,
    ToolUse,
)

FATAL = frozenset(
    {
        Reason.AGENT_DEPTH_LIMIT,
        Reason.BUDGET_EXHAUSTED,
        Reason.CANCELLED,
        Reason.EXECUTION_NOT_FOUND,
        Reason.WORKFLOW_STEP_UNKNOWN,
    }
)
"""Failures of a call that end the agent; of all others the model is told."""
_TEMPERATURE_OF_ORCHESTRATOR = 0.3

Shown = Callable[[Sequence[Message]], Sequence[Message]]
"""Of all messages of this execution, those that the model is shown."""


@dataclass(slots=True)
class Said:
    """What came of it."""

    answer: ChatAnswer
    """The last."""
    turns: int
    messages: list[Message]
    """All that the model and tools said, in order."""
    calls: list[execution_pb2.AgentToolCall]


@dataclass(slots=True)
class _Course:
    """How far it is."""

    messages: list[Message]
    said: list[Message] = field(default_factory=list)
    calls: list[execution_pb2.AgentToolCall] = field(default_factory=list)
    turns: int = 0


class Loop:
    """Of one agent in one execution."""

    def __init__(
        self,
        asks: AsksModel,
        spec: agent_pb2.AgentSpec,
        situation: Situation,
        *,
        offers: Mapping[str, Offer],
        limits: Limits,
        shown: Shown,
        answer_schema: Mapping[str, Any] | None = None,
    ) -> None:
        """`shown` chooses what the model is shown of everything that was said."""
        self._asks = asks
        self._spec = spec
        self._situation = situation
        self._offers = offers
        self._limits = limits
        self._shown = shown
        self._schema = answer_schema
        self._deadline = asyncio.get_running_loop().time() + limits.seconds
        self._account = Account(
            context=situation.caller.context,
            agent=spec.name,
            run_id=situation.run_id,
            limits=situation.tally.purses,
        )
        self.turns = 0
        self.is_known = False
        """Whether the last answer was given before the process was lost."""

    async def run(self, messages: Sequence[Message]) -> Said:
        """Answer the last of the messages.

        Raises:
            ServiceError: AGENT_TURN_LIMIT, AGENT_CALL_LIMIT, AGENT_DEPTH_LIMIT, BUDGET_EXHAUSTED,
                and what the provider raises.
        """
        told = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self._spec.name}
        with span("invoke_agent", told):
            return await self._run(messages)

    async def _run(self, messages: Sequence[Message]) -> Said:
        course = _Course(list(messages))
        choice = self._spec.tool_choice or "auto"
        while True:
            answer = await self.ask(course.messages, tool_choice=choice)
            course.turns += 1
            uses = _identified(answer.tool_uses, course.turns)
            course.said.append(Message(role=Role.ASSISTANT, text=answer.text, tool_uses=uses))
            course.messages.append(course.said[-1])
            if not uses:
                return Said(answer, course.turns, course.said, course.calls)
            await self._use(uses, course)
            # Or the model would be made to call a tool for ever.
            choice = "none" if choice == "none" else "auto"

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        tool_choice: str = "auto",
        with_tools: bool = True,
        answer_schema: Mapping[str, Any] | None = None,
    ) -> ChatAnswer:
        """Ask the model once."""
        situation, spec = self._situation, self._spec
        if self.turns >= self._limits.turns:
            raise _reached(Reason.AGENT_TURN_LIMIT, "asked its model", self._limits.turns, spec)
        self.turns += 1
        known = situation.memo.answer(self.turns)
        self.is_known = known is not None
        if known is not None:
            situation.tally.add_earlier_call(known[1])
            return known[0]
        schema = answer_schema or self._schema
        request = ChatRequest(
            model="",
            messages=tuple(self._shown(messages)),
            tools=tuple(offer.tool for offer in self._offers.values()) if with_tools else (),
            tool_choice=tool_choice if with_tools and self._offers else "auto",
            temperature=_temperature(spec),
            top_p=spec.top_p if spec.HasField("top_p") else None,
            max_tokens=self._limits.answer_tokens or None,
            stop=tuple(spec.stop),
            seed=spec.seed if spec.HasField("seed") else None,
            # Providers that constrain the text cannot offer tools beside it.
            answer_schema=None if with_tools and self._offers else schema,
            timeout_s=max(self._deadline - asyncio.get_running_loop().time(), 0.001),
        )
        answer, spent = await self._metered(request)
        situation.tally.add_model_call(spent)
        situation.tell(model_answered=spent_message(replace(spent, model_calls=1)))
        _check_size(answer)
        answer = _clean(answer)
        situation.memo.keep_answer(self.turns, answer, spent)
        return answer

    async def _metered(self, request: ChatRequest) -> tuple[ChatAnswer, Spent]:
        spec, situation = self._spec, self._situation
        try:
            return await self._asks.chat(
                self._account,
                spec.model,
                request,
                hears=_Hears(situation) if situation.execution.keeps_events else None,
                base_url=spec.base_url,
                api_key=spec.api_key,
            )
        except ServiceError as error:
            situation.tally.add_broken_call(error)
            raise

    async def _use(self, uses: Sequence[ToolUse], course: _Course) -> None:
        """Make the calls that the model asks for, all at the same time."""
        limit, count = self._limits.tool_calls, len(course.calls) + len(uses)
        if count > limit:
            raise _reached(Reason.AGENT_CALL_LIMIT, "called tools", limit, self._spec)
        self._situation.tally.add_tool_calls(len(uses))
        makes = [
            _bound(self._made, use, self._situation.at(f"{course.turns}.{number}"))
            for number, use in enumerate(uses)
        ]
        for message, call in await side_by_side(makes, most=AGENT_TOOLS_AT_ONCE):
            course.said.append(message)
            course.messages.append(message)
            course.calls.append(call)

    async def _made(
        self, use: ToolUse, here: Situation
    ) -> tuple[Message, execution_pb2.AgentToolCall]:
        """One call, and what the model is told of it."""
        if (known := here.memo.called()) is not None:
            return Message(role=Role.TOOL, text=known[0], call_id=use.call_id), known[1]
        call = execution_pb2.AgentToolCall(call_id=use.call_id, tool=use.name[:200])
        begin = time.perf_counter()
        try:
            text = await self._call(use, call, here)
        except ServiceError as error:
            if error.reason in FATAL:
                raise
            call.failure.CopyFrom(failure_of(error))
            told = {"reason": Reason.Name(error.reason), "message": error.message}
            text = msgspec.json.encode({"error": told}).decode()
        call.elapsed.FromMicroseconds(round((time.perf_counter() - begin) * 1e6))
        self._situation.tell(tool_ended=call)
        text = _cut(text)
        here.memo.keep_called(text, call)
        return Message(role=Role.TOOL, text=text, call_id=use.call_id), call

    async def _call(self, use: ToolUse, call: execution_pb2.AgentToolCall, here: Situation) -> str:
        offer = self._offers.get(use.name)
        if offer is None:
            raise self._unknown(use.name)
        arguments = _arguments(use.arguments)
        try:
            fill_map(call.arguments.fields, arguments)
        except (TypeError, ValueError):
            raise field_invalid("arguments", "must have numbers of at most 64 bits") from None
        offer.accept(arguments)
        self._situation.tell(tool_started=call)
        value = await offer.make(arguments, here)
        try:
            call.result.CopyFrom(to_value(value))
        except (TypeError, ValueError):
            raise ServiceError(
                Reason.TOOL_FAILED, "What it gave cannot be told.", tool=use.name
            ) from None
        return value if isinstance(value, str) else told_value(value)

    def _unknown(self, name: str) -> ServiceError:
        known = ", ".join(self._offers) or "none"
        return ServiceError(
            Reason.TOOL_NOT_FOUND,
            f"There is no tool {name[:100]!r} here; there are: {known[:2000]}.",
            tool=name[:100],
        )


class _Hears:
    """Passes a model's words on as they come."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation

    def text(self, piece: str, /) -> None:
        self._situation.tell(text=_whole(piece))

    def again(self, why: str, /) -> None:
        self._situation.tell(retried=_whole(why))


def told_value(value: Any) -> str:
    """A plain value as a model is told it."""
    return msgspec.json.encode(value, enc_hook=str, order="sorted").decode()


def _bound(
    make: Callable[[ToolUse, Situation], Any], use: ToolUse, here: Situation
) -> Callable[[], Any]:
    return lambda: make(use, here)


def _identified(uses: Sequence[ToolUse], turn: int) -> tuple[ToolUse, ...]:
    """With ids that differ, whatever the model has written."""
    seen: set[str] = set()
    found = []
    for number, use in enumerate(uses, start=1):
        call_id = use.call_id
        if not call_id or call_id in seen:
            call_id = f"call_{turn}_{number}"
        seen.add(call_id)
        found.append(replace(use, call_id=call_id))
    return tuple(found)


def _arguments(text: str) -> dict[str, Any]:
    """Arguments as the model wrote them.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    size = len(text.encode())
    if size > AGENT_ARGUMENTS_BYTES_MAX:
        raise limit_exceeded("arguments", size, AGENT_ARGUMENTS_BYTES_MAX, "bytes")
    try:
        return msgspec.json.decode(text.strip() or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        rule = f"must be an object in JSON: {str(error)[:200]}"
        raise field_invalid("arguments", rule) from None


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= AGENT_TOOL_ANSWER_BYTES_MAX:
        return text
    kept = data[:AGENT_TOOL_ANSWER_BYTES_MAX].decode(errors="ignore")
    return f"{kept}\n[cut: the first {AGENT_TOOL_ANSWER_BYTES_MAX} of {len(data)} bytes]"


def _whole(text: str) -> str:
    """Text that can be told: a model's may have halves of characters in its escapes."""
    return text.encode("utf-8", "replace").decode()


def _clean(answer: ChatAnswer) -> ChatAnswer:
    uses = [
        replace(
            use,
            call_id=_whole(use.call_id),
            name=_whole(use.name),
            arguments=_whole(use.arguments),
        )
        for use in answer.tool_uses
    ]
    return replace(answer, text=_whole(answer.text), tool_uses=uses)


def _check_size(answer: ChatAnswer) -> None:
    size = len(answer.text.encode("utf-8", "replace"))
    if size > AGENT_ANSWER_BYTES_MAX or len(answer.tool_uses) > AGENT_TOOL_USES_MAX:
        raise ServiceError(
            Reason.PROVIDER_ANSWER_LIMIT,
            f"The model has said {size} bytes and asked for {len(answer.tool_uses)} calls; the "
            f"limits are {AGENT_ANSWER_BYTES_MAX} and {AGENT_TOOL_USES_MAX}.",
            limit=AGENT_ANSWER_BYTES_MAX,
        )


def _temperature(spec: agent_pb2.AgentSpec) -> float | None:
    if spec.HasField("temperature"):
        return spec.temperature
    return _TEMPERATURE_OF_ORCHESTRATOR if spec.type == "tool-orchestrator" else None


def _reached(reason: Reason, what: str, limit: int, spec: agent_pb2.AgentSpec) -> ServiceError:
    text = f"The agent {spec.name} {what} {limit} times, as often as it may, and was not done."
    return ServiceError(reason, text, agent=spec.name, limit=limit)


def finish_word(finish: Finish) -> str:
    """Why it ended, as it is told."""
    return Finish.STOP.value if finish is Finish.TOOL_CALLS else finish.value

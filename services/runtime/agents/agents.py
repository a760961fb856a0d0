"""Has agents answer: whoever asks, for a client, a script, a workflow or another agent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blake3 import blake3
from llmspell.v1 import agent_pb2, execution_pb2

from services.common.errors import Reason, ServiceError
from services.common.limits import AGENT_CALLS_BYTES_MAX
from services.runtime import marshal
from services.runtime.agents.answering import Answering
from services.runtime.agents.composites import Composites
from services.runtime.agents.lifecycle import check_executable
from services.runtime.agents.memo import NO_MEMO, Memo
from services.runtime.agents.registered import Registered
from services.runtime.agents.situation import NO_FACTS, Limits, Situation
from services.runtime.agents.specs import check_input, check_ref, check_spec
from services.runtime.agents.tally import Tally
from services.runtime.bridge import error_from
from services.runtime.execution import Caller, Execution
from services.runtime.hooks.model import refused
from services.runtime.money.messages import spent_message
from services.runtime.money.model import NOBODY, Payer
from services.runtime.runs import Call, Reply

EXECUTE_AGENT = "llmspell.v1.AgentService/ExecuteAgent"


class Agents:
    """Of all tenants."""

    def __init__(self, registered: Registered, answering: Answering) -> None:
        """`answering`: has one agent answer that is no composite."""
        self._registered = registered
        self._answering = answering
        self._composites = Composites(self._member, answering.choose)
        answering.asks_agent = self._as_tool

    async def run(
        self,
        ref: agent_pb2.AgentRef,
        given: agent_pb2.AgentInput,
        caller: Caller,
        execution: Execution,
        *,
        path: str = "",
        depth: int = 0,
        limits: agent_pb2.AgentLimits | None = None,
        context: Mapping[str, Any] = NO_FACTS,
        conversation_id: str = "",
        payer: Payer = NOBODY,
        memo: Memo = NO_MEMO,
    ) -> execution_pb2.AgentOutput:
        """The answer of an agent.

        Args:
            ref: Which.
            given: What it is asked.
            caller: For whom.
            execution: In which; it is told what happens, and asked what the caller must do.
            path: Where the agent stands in it; empty: it is its name.
            depth: How many agents it is within.
            limits: Beside its own.
            context: Facts that it is told, by name.
            conversation_id: Conversation that it goes on with; empty: that of the session.
            payer: Who stands behind it and pays, such as a workflow.
            memo: What it has done already in a process that was lost.

        Raises:
            ServiceError: with `tokens` and `cost_usd` in its metadata: what was spent in vain.
        """
        check_ref(ref, "agent")
        check_input(given)
        situation = Situation(
            caller=caller,
            execution=execution,
            path=path or ref.name or ref.spec.name,
            depth=depth,
            tally=Tally(purses=(*payer.purses, *caller.purses)),
            run_id=payer.run_id or caller.run_id,
            limits=limits,
            facts=context,
            conversation_id=conversation_id,
            memo=memo,
        )
        return await self._run(ref, given, situation)

    async def _member(
        self, ref: agent_pb2.AgentRef, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        """Of a composite, or another agent that one calls."""
        return await self._run(ref, given, situation.within(ref.name or ref.spec.name))

    async def _as_tool(self, ref: agent_pb2.AgentRef, text: str, situation: Situation) -> str:
        given = agent_pb2.AgentInput(text=text)
        check_input(given)
        return (await self._member(ref, given, situation)).text

    async def _run(
        self, ref: agent_pb2.AgentRef, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        """Through the hooks."""
        passing = _Passing(self, ref, given, situation)
        call = Call(EXECUTE_AGENT, None, passing.told())
        reply = await situation.caller.call.around(call, passing.inner)
        return passing.output_of(reply)

    async def answer(
        self, ref: agent_pb2.AgentRef, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        """The answer of an agent, within what it may take, behind the hooks.

        Raises:
            ServiceError: AGENT_NOT_FOUND, AGENT_STATE, AGENT_TIME_LIMIT and all others.
        """
        begin = time.perf_counter()
        spec = await self._spec(ref, situation)
        situation.execution.has_begun = True
        limits = Limits.of(spec.limits, situation.limits)
        inner = replace(
            situation,
            tally=Tally(situation.tally, max_cost_usd=limits.cost_usd),
            depth_max=min(situation.depth_max, situation.depth + limits.depth),
        )
        with self._counted(ref, inner):
            try:
                async with asyncio.timeout(limits.seconds) as clock:
                    output = await self._said(spec, given, inner, limits)
            except TimeoutError:
                if not clock.expired():
                    raise
                raise inner.tally.told(_too_long(spec.name, limits.seconds)) from None
            except ServiceError as error:
                raise inner.tally.told(error) from None
        _leave_out(output)
        output.spent.CopyFrom(spent_message(inner.tally.spent))
        output.elapsed.FromMicroseconds(round((time.perf_counter() - begin) * 1e6))
        return output

    async def _said(
        self,
        spec: agent_pb2.AgentSpec,
        given: agent_pb2.AgentInput,
        situation: Situation,
        limits: Limits,
    ) -> execution_pb2.AgentOutput:
        if spec.HasField("composite"):
            return await self._composites.answer(spec, given, situation)
        if spec.type == "basic":
            situation.tell(text=given.text)
            return execution_pb2.AgentOutput(text=given.text, finish_reason="stop")
        return await self._answering.answer(spec, given, situation, limits)

    async def _spec(self, ref: agent_pb2.AgentRef, situation: Situation) -> agent_pb2.AgentSpec:
        if ref.HasField("spec"):
            return ref.spec
        agent = await self._registered.get(situation.caller.context, ref.name)
        check_executable(agent)
        check_spec(agent.spec)
        return agent.spec

    @contextlib.contextmanager
    def _counted(self, ref: agent_pb2.AgentRef, situation: Situation) -> Any:
        """A registered one's executions, and what they have spent."""
        context, failed = situation.caller.context, True
        if not ref.name:
            yield
            return
        self._registered.begin(context, ref.name)
        try:
            yield
            failed = False
        finally:
            self._registered.end(context, ref.name, situation.tally.spent, failed=failed)


class _Passing:
    """One agent on its way through the hooks: plain trees for them, messages for us."""

    def __init__(
        self,
        agents: Agents,
        ref: agent_pb2.AgentRef,
        given: agent_pb2.AgentInput,
        situation: Situation,
    ) -> None:
        self._agents = agents
        self._ref = ref
        self._given = given
        self._situation = situation
        self._output: execution_pb2.AgentOutput | None = None
        self._error: ServiceError | None = None
        self._tree: object = None

    def told(self) -> dict[str, Any]:
        """What hooks before it are told."""
        return {
            "agent": self._ref.name or self._ref.spec.name,
            "input": {
                "text": self._given.text,
                "parameters": marshal.read(self._given.parameters),
            },
            "path": self._situation.path,
            "session_id": self._situation.caller.session_id,
            "conversation_id": self._situation.conversation_id,
            # By which two of one name are told apart, where an answer is kept for later.
            "digest": blake3(self._ref.SerializeToString(deterministic=True)).hexdigest()[:32],
        }

    async def inner(self, call: Call) -> Reply:
        """The agent itself, as the hooks have left it."""
        try:
            ref, given = self._as_left(call.args)
            self._output = await self._agents.answer(ref, given, self._situation)
        except ServiceError as error:
            self._error = error
            reply = refused(error)
        else:
            reply = Reply(ok=True, tree=marshal.read(self._output))
        self._tree = reply.tree
        return reply

    def output_of(self, reply: Reply) -> execution_pb2.AgentOutput:
        """The answer, as the hooks after it have left it."""
        if not reply.ok:
            raise self._error if reply.tree is self._tree and self._error else _error_of(reply)
        if reply.tree is self._tree and self._output is not None:
            return self._output
        output = execution_pb2.AgentOutput()
        tree: Any = reply.tree
        marshal.fill(output, tree if isinstance(tree, Mapping) else {"text": str(tree)})
        return output

    def _as_left(self, args: Mapping[str, Any]) -> tuple[agent_pb2.AgentRef, agent_pb2.AgentInput]:
        was, ref, given = self.told(), self._ref, self._given
        if args.get("agent") != was["agent"]:
            ref = agent_pb2.AgentRef(name=str(args.get("agent", "")))
            check_ref(ref, "agent")
        if args.get("input") != was["input"]:
            given = agent_pb2.AgentInput(media=self._given.media)
            marshal.fill(given, args.get("input"), "input")
            check_input(given)
        return ref, given


def _leave_out(output: execution_pb2.AgentOutput) -> None:
    """Tell no more of calls of tools than an answer takes; the model was told it all the same."""
    left = AGENT_CALLS_BYTES_MAX
    for call in output.tool_calls:
        size = call.ByteSize()
        if size > left:
            call.arguments.Clear()
            call.result.string_value = f"[left out: {size} bytes]"
        left = max(left - call.ByteSize(), 0)


def _error_of(reply: Reply) -> ServiceError:
    return error_from(reply.tree)


def _too_long(name: str, limit_s: float) -> ServiceError:
    return ServiceError(
        Reason.AGENT_TIME_LIMIT,
        f"The agent {name} took longer than {limit_s:g} s and was ended.",
        agent=name,
        limit=f"{limit_s:g}",
    )


__all__: Sequence[str] = ("EXECUTE_AGENT", "Agents")

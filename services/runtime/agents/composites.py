"""Several agents that answer as one: in a row, side by side, by votes, or one that is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from llmspell.v1 import agent_pb2, execution_pb2

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import AGENT_MEMBERS_MAX
from services.common.values import fill_map, map_to_python
from services.runtime.agents.side_by_side import side_by_side
from services.runtime.agents.situation import Situation
from services.runtime.execution import FUNCTION

Asks = Callable[
    [agent_pb2.AgentRef, agent_pb2.AgentInput, Situation], Awaitable[execution_pb2.AgentOutput]
]
"""Has an agent answer."""
Chooses = Callable[[str, Sequence[agent_pb2.AgentRef], str, Situation], Awaitable[str]]
"""Has a model choose: model, agents, what was asked."""
Tasks = list[tuple[agent_pb2.AgentRef, execution_pb2.AgentOutput]]

_ENDS_ALL = frozenset({Reason.AGENT_DEPTH_LIMIT, Reason.BUDGET_EXHAUSTED, Reason.CANCELLED})
"""Failures after which another agent would only fail too."""


class Composites:
    """Answers as the strategy says."""

    def __init__(self, asks: Asks, chooses: Chooses) -> None:
        self._asks = asks
        self._chooses = chooses

    async def answer(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        """The answer of all as one.

        Raises:
            ServiceError: AGENTS_DISAGREE, AGENT_NOT_FOUND where the chosen one is none of them, and
                what an agent fails with whom none is to replace.
        """
        ways = {
            agent_pb2.COMPOSITE_STRATEGY_SEQUENTIAL: self._in_a_row,
            agent_pb2.COMPOSITE_STRATEGY_PARALLEL: self._all,
            agent_pb2.COMPOSITE_STRATEGY_VOTE: self._vote,
            agent_pb2.COMPOSITE_STRATEGY_ROUTED: self._route,
        }
        composite = spec.composite
        try:
            return await ways[composite.strategy](spec, given, situation)
        except ServiceError as error:
            if not composite.HasField("fallback") or error.reason in _ENDS_ALL:
                raise
            output = await self._ask(composite.fallback, given, situation.at("fallback"))
            told = {"reason": Reason.Name(error.reason), "message": error.message}
            fill_map(output.metadata.fields, {"fallback_for": told})
            return output

    async def _in_a_row(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        answers: Tasks = []
        text = given.text
        for number, ref in enumerate(spec.composite.agents):
            asked = agent_pb2.AgentInput()
            asked.CopyFrom(given)
            asked.text = text
            answers.append((ref, await self._ask(ref, asked, situation.at(str(number)))))
            text = answers[-1][1].text
        return _as_said(_together(answers), answers[-1][1])

    async def _all(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        answers = await self._side_by_side(spec, given, situation)
        output = _together(answers)
        output.text = "\n\n".join(f"{_name(ref)}:\n{answer.text}" for ref, answer in answers)
        return output

    async def _vote(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        answers = await self._side_by_side(spec, given, situation)
        votes: dict[str, list[execution_pb2.AgentOutput]] = {}
        for _, answer in answers:
            votes.setdefault(_ballot(answer), []).append(answer)
        chosen = max(votes, key=lambda ballot: len(votes[ballot]))
        share = len(votes[chosen]) / len(answers)
        threshold = spec.composite.threshold
        if (share < threshold - 1e-9) if threshold else (share <= 0.5):  # noqa: PLR2004  (half)
            counts = sorted((len(same) for same in votes.values()), reverse=True)
            raise ServiceError(
                Reason.AGENTS_DISAGREE,
                f"Of {len(answers)} agents at most {counts[0]} say the same.",
                votes=", ".join(map(str, counts)),
            )
        output = _as_said(_together(answers), votes[chosen][0])
        counted = {same[0].text[:200]: len(same) for same in votes.values()}
        fill_map(output.metadata.fields, {"votes": counted, "share": share})
        return output

    async def _route(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        members = {_name(ref): ref for ref in spec.composite.agents}
        chosen = await self._choice(spec, given, situation)
        ref = members.get(_matching(chosen, list(members)))
        if ref is None:
            raise ServiceError(
                Reason.AGENT_NOT_FOUND,
                f"{chosen[:100]!r} was chosen, and is none of {', '.join(members)}.",
                agent=chosen[:100],
            )
        answer = await self._ask(ref, given, situation.at("chosen"))
        output = _as_said(_together([(ref, answer)]), answer)
        fill_map(output.metadata.fields, {"chosen": _name(ref)})
        return output

    async def _choice(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> str:
        composite = spec.composite
        if not composite.router_function:
            model = composite.router_model or spec.model
            return await self._chooses(model, composite.agents, given.text, situation.at("choice"))
        told = {
            "text": given.text,
            "agents": [_name(ref) for ref in composite.agents],
            "parameters": map_to_python(given.parameters.fields, "input.parameters"),
        }
        name = composite.router_function
        chosen = await situation.execution.ask(FUNCTION, name, told, situation.path)
        if not isinstance(chosen, str):
            raise field_invalid(f"the result of {name}", "must be the name of an agent")
        return chosen

    async def _side_by_side(
        self, spec: agent_pb2.AgentSpec, given: agent_pb2.AgentInput, situation: Situation
    ) -> Tasks:
        def asking(number: int, ref: agent_pb2.AgentRef) -> Callable[[], Awaitable[Any]]:
            return lambda: self._ask(ref, given, situation.at(str(number)))

        refs = list(spec.composite.agents)
        makes = [asking(number, ref) for number, ref in enumerate(refs)]
        outputs = await side_by_side(makes, most=AGENT_MEMBERS_MAX)
        return list(zip(refs, outputs, strict=True))

    async def _ask(
        self, ref: agent_pb2.AgentRef, given: agent_pb2.AgentInput, situation: Situation
    ) -> execution_pb2.AgentOutput:
        return await self._asks(ref, given, situation)


def routing(refs: Sequence[agent_pb2.AgentRef]) -> str:
    """What a model is told that is to choose."""
    agents = "\n".join(
        f"- {_name(ref)}: {ref.spec.description or 'no description'}" for ref in refs
    )
    return f"Choose who is to answer. Say one of these names and nothing else.\n{agents}"


def _together(answers: Tasks) -> execution_pb2.AgentOutput:
    """What all answers have in common."""
    output = execution_pb2.AgentOutput(finish_reason="stop")
    for _, answer in answers:
        output.tool_calls.extend(answer.tool_calls)
        output.media.extend(answer.media)
        output.citations.extend(answer.citations)
        output.turns += answer.turns
    models = dict.fromkeys(answer.model for _, answer in answers if answer.model)
    output.model = ", ".join(models)
    told = [{"agent": _name(ref), "text": answer.text} for ref, answer in answers]
    fill_map(output.metadata.fields, {"answers": told})
    return output


def _as_said(
    output: execution_pb2.AgentOutput, answer: execution_pb2.AgentOutput
) -> execution_pb2.AgentOutput:
    """The answer of all, which is one of theirs."""
    output.text, output.finish_reason = answer.text, answer.finish_reason
    if answer.HasField("json"):
        output.json.CopyFrom(answer.json)
    return output


def _name(ref: agent_pb2.AgentRef) -> str:
    return ref.name or ref.spec.name


def _ballot(answer: execution_pb2.AgentOutput) -> str:
    """By what two answers are the same: their JSON, else their words."""
    if answer.HasField("json"):
        return msgspec.json.encode(answer.json.SerializeToString(deterministic=True)).decode()
    return " ".join(answer.text.casefold().split()).strip(" .!\"'`*")


def _matching(chosen: str, names: list[str]) -> str:
    """The name that a model has said, perhaps with a mark or a word around it; else empty."""
    said = chosen.strip().strip("`\"'*.:- ")
    by_fold = {name.casefold(): name for name in names}
    if said.casefold() in by_fold:
        return by_fold[said.casefold()]
    words = [word.strip("`\"'*.,:;()[]") for word in chosen.casefold().split()]
    named = {by_fold[word] for word in words if word in by_fold}
    if len(named) == 1:
        return named.pop()
    near = difflib.get_close_matches(said.casefold(), by_fold, n=1, cutoff=0.9)
    return by_fold[near[0]] if near else ""

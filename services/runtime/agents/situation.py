"""Where an agent stands: for whom it answers, how deep, and what it may still take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmspell.v1 import agent_pb2, execution_pb2

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import (
    AGENT_DEPTH_MAX,
    AGENT_SECONDS_MAX,
    AGENT_TOOL_CALLS_MAX,
    AGENT_TURNS_MAX,
)
from services.runtime.agents.memo import NO_MEMO, Memo
from services.runtime.agents.tally import Tally
from services.runtime.execution import Caller, Execution

NO_FACTS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an agent may take this time."""

    turns: int = AGENT_TURNS_MAX
    tool_calls: int = AGENT_TOOL_CALLS_MAX
    seconds: float = AGENT_SECONDS_MAX
    cost_usd: float = 0.0
    """0: no limit of its own."""
    depth: int = AGENT_DEPTH_MAX
    answer_tokens: int = 0
    """0: as many as the model may."""

    @classmethod
    def of(cls, agents: agent_pb2.AgentLimits, asked: agent_pb2.AgentLimits | None) -> Limits:
        """The narrower of an agent's own and those of a request.

        Raises:
            ServiceError: FIELD_INVALID where one is negative.
        """
        both = [(agents, "agent.spec.limits"), (asked or agent_pb2.AgentLimits(), "limits")]
        for one, place in both:
            _check(one, place)
        return cls(
            turns=_least(AGENT_TURNS_MAX, *(one.max_turns for one, _ in both)),
            tool_calls=_least(AGENT_TOOL_CALLS_MAX, *(one.max_tool_calls for one, _ in both)),
            seconds=_least(AGENT_SECONDS_MAX, *(_seconds(one) for one, _ in both)),
            cost_usd=_least(0.0, *(one.max_cost_usd for one, _ in both)),
            depth=min(
                _least(AGENT_DEPTH_MAX, *(one.max_depth for one, _ in both)), AGENT_DEPTH_MAX
            ),
            answer_tokens=_least(0, *(one.max_tokens for one, _ in both)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Of one agent in an execution."""

    caller: Caller
    execution: Execution
    path: str
    """Where it stands in the execution."""
    depth: int = 0
    """How many agents it is within."""
    depth_max: int = AGENT_DEPTH_MAX
    """As it and those around it say."""
    tally: Tally
    run_id: str = ""
    """Under which accounts have what it spends; empty: none."""
    limits: agent_pb2.AgentLimits | None = None
    """Of the request, beside the agent's own."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Told to the model beside the input."""
    conversation_id: str = ""
    memo: Memo = NO_MEMO
    """What was done here already."""

    def within(self, name: str, *, deeper: bool = True) -> Situation:
        """Of an agent that this one asks.

        Raises:
            ServiceError: AGENT_DEPTH_LIMIT.
        """
        depth = self.depth + deeper
        if depth > self.depth_max:
            raise ServiceError(
                Reason.AGENT_DEPTH_LIMIT,
                f"Agents call agents deeper than {self.depth_max} ({self.path[:200]}).",
                limit=self.depth_max,
            )
        path = f"{self.path}/{name}"
        return replace(self, path=path, depth=depth, limits=None, conversation_id="")

    def at(self, name: str) -> Situation:
        """The same, where something of this name is done once in it."""
        return replace(self, memo=self.memo.within(name))

    def tell(self, **what: Any) -> None:
        """Tell who listens what happens here: one field of ExecutionEvent."""
        if self.execution.keeps_events:
            self.execution.tell(execution_pb2.ExecutionEvent(path=self.path, **what))


def _least(default: Any, *given: Any) -> Any:
    """The least of those that are set."""
    return min((one for one in given if one), default=default)


def _seconds(limits: agent_pb2.AgentLimits) -> float:
    return float(limits.timeout.ToMicroseconds() / 1e6) if limits.HasField("timeout") else 0.0


def _check(limits: agent_pb2.AgentLimits, field: str) -> None:
    for name in ("max_turns", "max_tool_calls", "max_cost_usd", "max_depth", "max_tokens"):
        if not getattr(limits, name) >= 0:
            raise field_invalid(f"{field}.{name}", "must not be negative")
    if limits.HasField("timeout") and limits.timeout.ToMicroseconds() <= 0:
        raise field_invalid(f"{field}.timeout", "must be more than 0 seconds")

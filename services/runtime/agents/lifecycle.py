"""States of a registered agent's life, and which may follow which."""

from __future__ import annotations

from llmspell.v1 import agent_pb2

from services.common.errors import Reason, ServiceError
from services.common.limits import AGENT_RECOVERIES_MAX, AGENT_TRANSITIONS_KEPT

State = agent_pb2.AgentState
UNINITIALIZED = agent_pb2.AGENT_STATE_UNINITIALIZED
INITIALIZING = agent_pb2.AGENT_STATE_INITIALIZING
READY = agent_pb2.AGENT_STATE_READY
RUNNING = agent_pb2.AGENT_STATE_RUNNING
PAUSED = agent_pb2.AGENT_STATE_PAUSED
TERMINATING = agent_pb2.AGENT_STATE_TERMINATING
TERMINATED = agent_pb2.AGENT_STATE_TERMINATED
ERROR = agent_pb2.AGENT_STATE_ERROR
RECOVERING = agent_pb2.AGENT_STATE_RECOVERING

LEGAL: dict[int, frozenset[int]] = {
    UNINITIALIZED: frozenset({INITIALIZING, ERROR}),
    INITIALIZING: frozenset({READY, ERROR, TERMINATING}),
    READY: frozenset({RUNNING, PAUSED, TERMINATING, ERROR}),
    RUNNING: frozenset({READY, PAUSED, TERMINATING, ERROR}),
    PAUSED: frozenset({READY, RUNNING, TERMINATING, ERROR}),
    ERROR: frozenset({RECOVERING, TERMINATING, TERMINATED}),
    RECOVERING: frozenset({READY, ERROR, TERMINATING}),
    TERMINATING: frozenset({TERMINATED, ERROR}),
    TERMINATED: frozenset(),
}
EXECUTABLE = frozenset({READY, RUNNING})


def word(state: int) -> str:
    """A state as people read it."""
    return agent_pb2.AgentState.Name(state).removeprefix("AGENT_STATE_").lower()


def move(agent: agent_pb2.Agent, to: State, reason: str) -> None:
    """Move an agent to another state.

    Raises:
        ServiceError: AGENT_STATE where that is no legal move, or it was recovered too often.
    """
    if to not in LEGAL.get(agent.state, frozenset()):
        raise _refused(agent, to, f"cannot become {word(to)}")
    if to == RECOVERING and _recoveries(agent) >= AGENT_RECOVERIES_MAX:
        raise _refused(agent, to, f"was recovered {AGENT_RECOVERIES_MAX} times in vain")
    step = agent.history.add(to=to, reason=reason)
    setattr(step, "from", agent.state)
    step.time.GetCurrentTime()
    agent.state = to
    agent.update_time.CopyFrom(step.time)
    del agent.history[:-AGENT_TRANSITIONS_KEPT]


def check_executable(agent: agent_pb2.Agent) -> None:
    """Refuse to execute an agent that is paused, ended or broken.

    Raises:
        ServiceError: AGENT_STATE.
    """
    if agent.state not in EXECUTABLE:
        raise _refused(agent, RUNNING, "answers nobody")


def _recoveries(agent: agent_pb2.Agent) -> int:
    """How often it was recovered since it was ready."""
    count = 0
    for step in reversed(agent.history):
        if step.to == READY:
            break
        count += step.to == RECOVERING
    return count


def _refused(agent: agent_pb2.Agent, to: State, what: str) -> ServiceError:
    now = word(agent.state)
    return ServiceError(
        Reason.AGENT_STATE,
        f"The agent {agent.spec.name} is {now} and {what}.",
        agent=agent.spec.name,
        **{"from": now, "to": word(to)},
    )

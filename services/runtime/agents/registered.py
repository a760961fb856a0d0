"""Agents that a tenant has registered: items of state, their lives and what they have spent."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from llmspell.v1 import agent_pb2

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.runtime.agents.conversation import place_of
from services.runtime.agents.kept import KeptItems, Place
from services.runtime.agents.lifecycle import (
    INITIALIZING,
    READY,
    RUNNING,
    UNINITIALIZED,
    State,
    move,
)
from services.runtime.money.messages import read_spent, spent_message
from services.runtime.money.model import Spent

log = logging.getLogger(__name__)

SCOPE = "custom:agents"
"""Where all are, under their names, so that they are listed in order."""

_REQUESTS_REMEMBERED = 10_000


class Registered:
    """Of all tenants."""

    def __init__(self, items: KeptItems) -> None:
        self._items = items
        self._active: Counter[tuple[str, str]] = Counter()
        """Executions under way in this process, by tenant and name."""
        self._made: dict[tuple[str, str], str] = {}
        """By which request the last ones were registered."""
        self._noting: set[asyncio.Task[None]] = set()

    async def create(
        self,
        context: CallContext,
        spec: agent_pb2.AgentSpec,
        *,
        replace: bool = False,
        request_id: str = "",
    ) -> agent_pb2.Agent:
        """Register one, without its key for the provider; the same request again gives it again.

        Raises:
            ServiceError: AGENT_EXISTS.
        """
        kept = agent_pb2.AgentSpec()
        kept.CopyFrom(spec)
        kept.api_key = ""
        agent = agent_pb2.Agent(spec=kept, state=UNINITIALIZED)
        agent.create_time.GetCurrentTime()
        move(agent, INITIALIZING, "registered")
        move(agent, READY, "registered")

        def change(known: agent_pb2.Agent | None) -> agent_pb2.Agent:
            if known is not None and not replace:
                if request_id and self._made.get((context.tenant, kept.name)) == request_id:
                    return known
                raise ServiceError(
                    Reason.AGENT_EXISTS, f"There is an agent {kept.name}.", agent=kept.name
                )
            return agent

        made = await self._items.change(context, _place(kept.name), agent_pb2.Agent, change)
        assert made is not None
        self._made[context.tenant, kept.name] = request_id
        if len(self._made) > _REQUESTS_REMEMBERED:
            del self._made[next(iter(self._made))]
        return made

    async def get(self, context: CallContext, name: str) -> agent_pb2.Agent:
        """One; RUNNING where it is executed now.

        Raises:
            ServiceError: AGENT_NOT_FOUND.
        """
        agent, _ = await self._items.read(context, _place(name), agent_pb2.Agent)
        if agent is None:
            raise not_found(name)
        return self._as_now(context, agent)

    async def page(
        self, context: CallContext, *, size: int, token: str
    ) -> tuple[Sequence[agent_pb2.Agent], str]:
        """Some in order of name, and where the next page begins."""
        agents, after = await self._items.page(
            context, SCOPE, agent_pb2.Agent, size=size, token=token
        )
        return [self._as_now(context, agent) for agent in agents], after

    async def transition(
        self, context: CallContext, name: str, to: State, reason: str
    ) -> agent_pb2.Agent:
        """Move one to another state.

        Raises:
            ServiceError: AGENT_NOT_FOUND, AGENT_STATE.
        """

        def change(known: agent_pb2.Agent | None) -> agent_pb2.Agent:
            if known is None:
                raise not_found(name)
            move(known, to, reason)
            return known

        moved = await self._items.change(context, _place(name), agent_pb2.Agent, change)
        assert moved is not None
        return moved

    async def delete(self, context: CallContext, name: str) -> bool:
        """Remove one and its conversations outside of sessions; whether it was there."""
        was_there = await self._items.delete(context, _place(name))
        place = place_of(name, "", "x")
        assert place is not None
        await self._items.clear(context, place.scope, place.key.removesuffix("x"))
        return was_there

    def begin(self, context: CallContext, name: str) -> None:
        """It is executed."""
        self._active[context.tenant, name] += 1

    def end(self, context: CallContext, name: str, spent: Spent, *, failed: bool) -> None:
        """It was; counted in the background, for nobody waits for that."""
        key = (context.tenant, name)
        self._active[key] -= 1
        if not self._active[key]:
            del self._active[key]
        noting = asyncio.create_task(self._note(context, name, spent, failed=failed))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def close(self) -> None:
        """Wait for what is still to be counted."""
        if self._noting:
            await asyncio.wait(self._noting, timeout=2.0)

    async def _note(self, context: CallContext, name: str, spent: Spent, *, failed: bool) -> None:
        def change(known: agent_pb2.Agent | None) -> agent_pb2.Agent | None:
            if known is not None:
                known.executions += 1
                known.failures += failed
                known.spent.CopyFrom(spent_message(read_spent(known.spent) + spent))
            return known

        try:
            await self._items.change(context, _place(name), agent_pb2.Agent, change)
        except ServiceError as error:
            log.warning("an agent's execution was not counted: %s", error.message)

    def _as_now(self, context: CallContext, agent: agent_pb2.Agent) -> agent_pb2.Agent:
        if agent.state == READY and self._active[context.tenant, agent.spec.name]:
            agent.state = RUNNING
        return agent


def not_found(name: str) -> ServiceError:
    """There is no such agent."""
    return ServiceError(
        Reason.AGENT_NOT_FOUND, f"There is no agent {name[:100]!r}.", agent=name[:100]
    )


def _place(name: str) -> Place:
    return Place(SCOPE, name)

"""Clients of a real state process that keep a ledger, and what must be found after it was killed.

Each client has one call in flight and knows what it has in each area: after an answer for sure,
after a call whose outcome it does not know one of two things, whole. It does what `ledgers` has:
items, sessions, artifacts, events and journals. Beside that all clients of a tenant count on one
item, and followers see their changes and events.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from tests.crash.ledgers.artifacts import ArtifactLedger
from tests.crash.ledgers.events import EventLedger
from tests.crash.ledgers.items import Counter, ItemLedger
from tests.crash.ledgers.journals import JournalLedger
from tests.crash.ledgers.ledger import TENANTS, Ledger, Stubs, UnknownError, caller
from tests.crash.ledgers.sessions import SessionLedger

__all__ = ["TENANTS", "Client", "Counter", "caller", "check_counter", "until_gone"]


@dataclass
class Client:
    """One of them."""

    number: int
    rng: random.Random
    counter: Counter
    ledgers: list[Ledger] = field(default_factory=list)
    acknowledged: int = 0
    reads: bool = True
    """Whether it reads beside its writes, and would see there what a kill has to show."""

    def __post_init__(self) -> None:
        """Begin with nothing."""
        parts = self.number, self.tenant, self.rng
        self.items = ItemLedger(*parts, counter=self.counter)
        self.events = EventLedger(*parts)
        self.ledgers = [self.items, self.events, SessionLedger(*parts), ArtifactLedger(*parts)]
        self.ledgers.append(JournalLedger(*parts))

    @property
    def tenant(self) -> str:
        """Two tenants share the process."""
        return TENANTS[self.number % 2]

    async def run(self, stubs: Stubs) -> None:
        """Call until the process is gone."""
        for ledger in self.ledgers:
            ledger.reads = self.reads
        weights = [ledger.weight for ledger in self.ledgers]
        while True:
            (ledger,) = self.rng.choices(self.ledgers, weights)
            try:
                await self.rng.choice(ledger.works())(stubs)
            except UnknownError:
                return
            self.acknowledged += 1

    async def check(self, stubs: Stubs) -> None:
        """What is there after the restart; from here on that is what is known."""
        for ledger in self.ledgers:
            await ledger.check(stubs)


async def check_counter(stubs: Stubs, tenant: str, counter: Counter) -> None:
    """The item that many added to has what was answered, and at most what was not besides."""
    request = stubs.state_pb2.IncrementStateRequest(scope="global", key="n", int_delta=0)
    answer = await stubs.state.IncrementState(request, metadata=caller(tenant))
    most = counter.acknowledged + counter.unknown
    assert counter.acknowledged <= answer.int_value <= most, (tenant, counter, answer.int_value)
    counter.acknowledged, counter.unknown = answer.int_value, 0


async def until_gone(clients: list[Client], stubs: Stubs, *others: Awaitable[Any]) -> None:
    """All clients at once, and what else there is, until the process is killed."""
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run(stubs))
        for other in others:
            tasks.create_task(other)

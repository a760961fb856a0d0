"""Clients of a real state process that keep a ledger, and what must be found after it was killed.

Each client has one call in flight, in scopes of its own, and knows what they hold: after an answer
for sure, after a call whose outcome it does not know one of two things, whole. Beside that all
clients of a tenant count on one item, and write items that end soon.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.context import CallContext
from tests.servers import sealed

TENANTS = ("acme", "globex")
KEYS = [f"k{n}" for n in range(12)]
SIZES = (0, 10, 200, 3000, 20_000)
TTLS_S = (0.05, 0.2, 1, 5)
LIFETIME_S = 10**9
"""Of a sealed context: the test's own clock does not matter then."""

Contents = dict[str, str]


class UnknownError(Exception):
    """The process was gone before it answered."""


@dataclass
class Counter:
    """What all clients of a tenant have added to one item."""

    acknowledged: int = 0
    unknown: int = 0


@dataclass
class Ending:
    """When an item that ends was asked for, and answered, in seconds since the epoch."""

    ttl_s: float
    sent: float
    answered: float | None = None


@dataclass
class Client:
    """One of them."""

    number: int
    rng: random.Random
    counter: Counter
    contents: Contents = field(default_factory=dict)
    maybe: Contents | None = None
    """What the call whose outcome is not known would leave."""
    endings: dict[str, Ending] = field(default_factory=dict)
    acknowledged: int = 0
    reads: bool = True
    """Whether it reads beside its writes, and would see there what a kill has to show."""

    def __post_init__(self) -> None:
        """Seal the tenant's calls once."""
        self._metadata = caller(self.tenant)

    @property
    def tenant(self) -> str:
        """Two tenants share the process."""
        return TENANTS[self.number % 2]

    @property
    def scope(self) -> str:
        """Where nobody else writes."""
        return f"session:w{self.number}"

    @property
    def ending_scope(self) -> str:
        """The same for what ends."""
        return f"custom:ends{self.number}"

    async def run(self, channel: Any) -> None:
        """Call until the process is gone."""
        stub = state_pb2_grpc.StateServiceStub(channel)
        works: list[Callable[[Any], Awaitable[None]]] = [self.set, self.batch, self.delete]
        works += [self.increment, self.count, self.end, self.batch, self.refused]
        works += [self.read] if self.reads else []
        while True:
            try:
                await self.rng.choice(works)(stub)
            except UnknownError:
                return
            self.acknowledged += 1

    async def _ask(self, call: Any, request: Any, after: Contents | None = None) -> Any:
        """Ask; what the client's scope holds is `after` once this is answered."""
        self.maybe = after
        try:
            answer = await call(request, metadata=self._metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            raise UnknownError from error
        if after is not None:
            self.contents = after
        self.maybe = None
        return answer

    def _text(self) -> str:
        return f"{self.number} {self.acknowledged} " + "x" * self.rng.choice(SIZES)

    async def set(self, stub: Any) -> None:
        """One item."""
        key, text = self.rng.choice(KEYS), self._text()
        request = state_pb2.SetStateRequest(
            scope=self.scope, key=key, value=state_pb2.Payload(text=text)
        )
        await self._ask(stub.SetState, request, self.contents | {key: text})

    async def batch(self, stub: Any) -> None:
        """Several, of which some go."""
        after, request = dict(self.contents), state_pb2.BatchStateRequest()
        for key in self.rng.sample(KEYS, self.rng.randint(2, 6)):
            write = request.writes.add(scope=self.scope, key=key)
            if self.rng.random() < 0.3:
                write.delete = True
                after.pop(key, None)
            else:
                after[key] = write.set.text = self._text()
        await self._ask(stub.BatchState, request, after)

    async def delete(self, stub: Any) -> None:
        """One that may not be there."""
        key = self.rng.choice(KEYS)
        after = {name: text for name, text in self.contents.items() if name != key}
        request = state_pb2.DeleteStateRequest(scope=self.scope, key=key)
        answer = await self._ask(stub.DeleteState, request, after)
        assert answer.deleted_count in {0, 1}

    async def increment(self, stub: Any) -> None:
        """A number of its own."""
        number = int(self.contents.get("n", "0")) + 1
        request = state_pb2.IncrementStateRequest(scope=self.scope, key="n", int_delta=1)
        answer = await self._ask(stub.IncrementState, request, self.contents | {"n": str(number)})
        assert answer.int_value == number

    async def count(self, stub: Any) -> None:
        """A number that many add to."""
        request = state_pb2.IncrementStateRequest(scope="global", key="n", int_delta=1)
        self.counter.unknown += 1
        await self._ask(stub.IncrementState, request)
        self.counter.unknown -= 1
        self.counter.acknowledged += 1

    async def end(self, stub: Any) -> None:
        """An item that ends soon; each has a name of its own."""
        key, ttl_s = f"e{len(self.endings)}", self.rng.choice(TTLS_S)
        request = state_pb2.SetStateRequest(
            scope=self.ending_scope, key=key, value=state_pb2.Payload(text=key)
        )
        request.ttl.FromNanoseconds(int(ttl_s * 1e9))
        self.endings[key] = ending = Ending(ttl_s, time.time())
        await self._ask(stub.SetState, request)
        ending.answered = time.time()

    async def refused(self, stub: Any) -> None:
        """A batch whose check does not hold changes nothing."""
        request = state_pb2.BatchStateRequest()
        for key in self.rng.sample(KEYS, 3):
            request.writes.add(scope=self.scope, key=key).set.text = "never"
        check = request.checks.add(scope=self.scope, key=self.rng.choice(KEYS))
        check.precondition.revision = 2**60
        try:
            await self._ask(stub.BatchState, request)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ABORTED  # noqa: PT017
        else:
            raise AssertionError("it was not refused")

    async def read(self, stub: Any) -> None:
        """All that it has, while others write."""
        found = await self._found(stub, self.scope)
        assert found == self.contents, f"client {self.number} reads something else"

    async def check(self, stub: Any) -> None:
        """What is there after the restart; from here on that is what is known."""
        allowed = [self.contents, self.contents if self.maybe is None else self.maybe]
        found = await self._found(stub, self.scope)
        assert found in allowed, _difference(self, found)
        self.contents, self.maybe = found, None
        await self._check_endings(stub)

    async def _check_endings(self, stub: Any) -> None:
        before = time.time()
        found = await self._found(stub, self.ending_scope)
        after = time.time()
        assert found.keys() <= self.endings.keys(), "an item that nobody wrote"
        for key, ending in self.endings.items():
            if ending.answered is None:
                continue
            if key in found:
                assert before <= ending.answered + ending.ttl_s, f"{key} came back"
            else:
                assert after >= ending.sent + ending.ttl_s, f"{key} ended early"

    async def _found(self, stub: Any, scope: str) -> Contents:
        found: Contents = {}
        request = state_pb2.ListStateRequest(scope=scope, page_size=1000)
        while True:
            page = await self._ask(stub.ListState, request)
            found |= {item.key: item.value.text or item.value.json for item in page.items}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


def caller(tenant: str) -> Any:
    """What a call of a tenant carries."""
    return sealed(CallContext(tenant=tenant, principal="k", permissions=("*",)), LIFETIME_S)


def _difference(client: Client, found: Contents) -> str:
    wanted = client.contents
    keys = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    seen = {key: (wanted.get(key, "")[:20], found.get(key, "")[:20]) for key in keys}
    return f"client {client.number} after {client.acknowledged} answers: {seen}"


async def check_counter(stub: Any, tenant: str, counter: Counter) -> None:
    """The item that many added to has what was answered, and at most what was not besides."""
    request = state_pb2.IncrementStateRequest(scope="global", key="n", int_delta=0)
    answer = await stub.IncrementState(request, metadata=caller(tenant))
    most = counter.acknowledged + counter.unknown
    assert counter.acknowledged <= answer.int_value <= most, (tenant, counter, answer.int_value)
    counter.acknowledged, counter.unknown = answer.int_value, 0


async def until_gone(clients: list[Client], channel: Any, kill: Awaitable[None]) -> None:
    """All clients at once, until the process is killed."""
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run(channel))
        tasks.create_task(kill)

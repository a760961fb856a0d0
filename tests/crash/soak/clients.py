"""Ledgers of the state process's crash tests, as clients of the gateway that repeat what failed."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from llmspell import LLMSpellError
from llmspell.aio import AsyncClient
from llmspell.v1 import session_pb2, state_pb2

from tests.crash.ledgers.artifacts import ArtifactLedger
from tests.crash.ledgers.events import EventLedger
from tests.crash.ledgers.items import ItemLedger, listed
from tests.crash.ledgers.ledger import TENANTS, Ledger, Stubs, UnknownError, Work
from tests.crash.ledgers.sessions import SessionLedger
from tests.crash.soak.witness import RETRYABLE

AGAIN_S = 0.2


class Repeating(Ledger):
    """Gives most of its calls a request id, and repeats those until they are answered.

    The answer that it gets at last must be that of a call which has happened once. A call without
    an id is not repeated: what it left is looked up, and is all of it or nothing.
    """

    repeated = 0
    share = 0.7
    """Of calls that get an id."""
    gives_up = False
    """Whether it stops repeating, so that the last call may have happened or not."""

    async def ask(self, call: Any, request: Any, after: Any = None) -> Any:
        """See Ledger."""
        if hasattr(request, "request_id") and self.rng.random() < self.share:
            name = f"{type(self).__name__}-{self.number}-{self.answers}-{self.rng.getrandbits(32)}"
            request.request_id = request.request_id or name
        while True:
            try:
                return await super().ask(call, request, after)
            except UnknownError:
                if self.gives_up or not getattr(request, "request_id", ""):
                    raise
            self.repeated += 1
            await asyncio.sleep(AGAIN_S)


class Items(Repeating, ItemLedger):
    """Items whose texts hold the tenant's secret."""

    secret = ""

    def text(self) -> str:
        """See ItemLedger."""
        return f"{super().text()} {self.secret}"


class Sessions(Repeating, SessionLedger):
    """Sessions."""


class Artifacts(Repeating, ArtifactLedger):
    """Artifacts."""


class Events(Repeating, EventLedger):
    """Events: each has an id, since only its subscriber could tell what became of it otherwise."""

    share = 1.0


class Library(Ledger[int]):
    """Counts through the Python client, which repeats by itself what it may."""

    def __init__(self, *parts: Any, client: AsyncClient) -> None:
        """`client`: of the tenant."""
        super().__init__(*parts, 0)
        self.client, self.scope = client, f"custom:library{self.number}"

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.count]

    async def count(self, stubs: Stubs) -> None:
        """One more."""
        del stubs
        self.maybe = self.known + 1
        try:
            total = await self.client.increment_state("n", scope=self.scope)
        except LLMSpellError as error:
            assert error.reason in RETRYABLE, error  # noqa: PT017
            raise UnknownError from error
        assert total == self.maybe, f"{total} where {self.maybe} was to be"
        self.known, self.maybe = self.maybe, None
        self.answers += 1

    async def check(self, stubs: Stubs) -> None:
        """See Ledger."""
        found = await listed(stubs, self.metadata, self.scope)
        self.settle(int(found.get("n", "0")), "counted by the library")


class Prying(Ledger[None]):
    """Asks for what the other tenant has, by its names, and must find nothing."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, None)

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.scopes, self.sessions]

    async def scopes(self, stubs: Stubs) -> None:
        """Items of the other's clients."""
        number = 2 * self.rng.randrange(4) + 1 - self.number % 2
        for scope in (f"session:w{number}", f"custom:w{number}", f"custom:flows{number}"):
            page = await stubs.state.ListState(state_pb2.ListStateRequest(scope=scope))
            assert not page.items, f"{self.tenant} sees items in {scope}"
        self.answers += 1

    async def sessions(self, stubs: Stubs) -> None:
        """Sessions of the other's clients."""
        number = 2 * self.rng.randrange(4) + 1 - self.number % 2
        request = session_pb2.GetSessionRequest(session_id=f"c{number}-{self.rng.randrange(1, 9)}")
        try:
            await stubs.sessions.GetSession(request)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017
        else:
            raise AssertionError(f"{self.tenant} sees {request.session_id}")
        self.answers += 1

    async def check(self, stubs: Stubs) -> None:
        """Nothing is known."""


assert TENANTS == ("acme", "globex"), "their numbers are even and odd"

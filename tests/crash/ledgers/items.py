"""Items: writes, batches, increments, copies, moves, and items that end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
from llmspell.v1 import state_pb2

from tests.crash.ledgers.ledger import Ledger, Stubs, Work, answered

KEYS = [f"k{n}" for n in range(12)]
SIZES = (0, 10, 200, 3000, 20_000)
TTLS_S = (0.05, 0.2, 1, 5)

Contents = dict[tuple[str, str], str]
"""What each scope and key holds."""


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


class ItemLedger(Ledger[Contents]):
    """Two scopes of one client, an item that all count on, and items that end."""

    weight = 6

    def __init__(self, *parts: Any, counter: Counter) -> None:
        """`counter`: of the tenant."""
        super().__init__(*parts, {})
        self.counter = counter
        self.endings: dict[str, Ending] = {}
        self.revisions: set[int] = set()
        """Of each change that was answered, for who watches."""
        self.scope, self.other = f"session:w{self.number}", f"custom:w{self.number}"
        self.ending_scope = f"custom:ends{self.number}"

    def works(self) -> list[Work]:
        """See Ledger."""
        works: list[Work] = [self.set, self.batch, self.delete, self.increment, self.count]
        works += [self.end, self.batch, self.refused, self.count_once, self.transfer, self.clear]
        works += [self.transfer_scope]
        return works + ([self.read] if self.reads else [])

    async def change(self, call: Any, request: Any, after: Contents | None = None) -> Any:
        """Ask, and note at which revision it happened."""
        answer = await self.ask(call, request, after)
        self.revisions.add(answer.revision)
        return answer

    def text(self) -> str:
        """Another one for each call."""
        return f"{self.number} {self.answers} " + "x" * self.rng.choice(SIZES)

    async def set(self, stubs: Stubs) -> None:
        """One item."""
        key, text = self.rng.choice(KEYS), self.text()
        request = state_pb2.SetStateRequest(
            scope=self.scope, key=key, value=state_pb2.Payload(text=text)
        )
        after = self.known | {(self.scope, key): text}
        await self.change(stubs.state.SetState, request, after)

    async def batch(self, stubs: Stubs) -> None:
        """Several, of which some go."""
        after, request = dict(self.known), state_pb2.BatchStateRequest()
        for number, key in enumerate(self.rng.sample(KEYS, self.rng.randint(2, 6))):
            write = request.writes.add(scope=self.scope, key=key)
            if number and self.rng.random() < 0.3:
                write.delete = True
                after.pop((self.scope, key), None)
            else:
                after[self.scope, key] = write.set.text = self.text()
        await self.change(stubs.state.BatchState, request, after)

    async def delete(self, stubs: Stubs) -> None:
        """One that may not be there."""
        key = self.rng.choice(KEYS)
        after = {place: text for place, text in self.known.items() if place != (self.scope, key)}
        request = state_pb2.DeleteStateRequest(scope=self.scope, key=key)
        answer = await self.ask(stubs.state.DeleteState, request, after)
        assert answer.deleted_count in {0, 1}

    async def increment(self, stubs: Stubs) -> None:
        """A number of its own."""
        number, place = self._number("n")
        request = state_pb2.IncrementStateRequest(scope=self.scope, key="n", int_delta=1)
        after = self.known | {place: str(number)}
        answer = await self.change(stubs.state.IncrementState, request, after)
        assert answer.int_value == number

    async def count(self, stubs: Stubs) -> None:
        """A number that many add to."""
        request = state_pb2.IncrementStateRequest(scope="global", key="n", int_delta=1)
        self.counter.unknown += 1
        await self.change(stubs.state.IncrementState, request)
        self.counter.unknown -= 1
        self.counter.acknowledged += 1

    async def count_once(self, stubs: Stubs) -> None:
        """A number that is repeated under its id where the process went before it answered."""
        number, place = self._number("once")
        request = state_pb2.IncrementStateRequest(
            scope=self.scope,
            key="once",
            int_delta=1,
            request_id=f"{self.number}-{number}-{self.answers}",
        )
        after = self.known | {place: str(number)}
        answer = await self.change(stubs.state.IncrementState, request, after)
        assert answer.int_value == number

    def _number(self, key: str) -> tuple[int, tuple[str, str]]:
        place = self.scope, key
        return int(self.known.get(place, "0")) + 1, place

    async def transfer(self, stubs: Stubs) -> None:
        """One item is copied or moved into the other scope."""
        keys = [key for scope, key in self.known if scope == self.scope and key in KEYS]
        if not keys:
            return await self.set(stubs)
        key, target = self.rng.choice(keys), self.rng.choice(KEYS)
        places = {"source_scope": self.scope, "source_key": key, "scope": self.other, "key": target}
        after = self.known | {(self.other, target): self.known[self.scope, key]}
        if self.rng.random() < 0.5:
            request: Any = state_pb2.CopyStateRequest(**places)
            return await self.change(stubs.state.CopyState, request, after)
        del after[self.scope, key]
        request = state_pb2.MoveStateRequest(**places)
        return await self.change(stubs.state.MoveState, request, after)

    async def transfer_scope(self, stubs: Stubs) -> None:
        """All items with a prefix are copied or moved back."""
        moved = {
            key: text
            for (scope, key), text in self.known.items()
            if scope == self.other and key.startswith("k1")
        }
        if not moved:
            return await self.transfer(stubs)
        places = {"source_scope": self.other, "scope": self.scope, "prefix": "k1"}
        after = self.known | {(self.scope, key): text for key, text in moved.items()}
        if self.rng.random() < 0.5:
            request: Any = state_pb2.CopyStateScopeRequest(**places)
            return await self.change(stubs.state.CopyStateScope, request, after)
        for key in moved:
            del after[self.other, key]
        request = state_pb2.MoveStateScopeRequest(**places)
        return await self.change(stubs.state.MoveStateScope, request, after)

    async def clear(self, stubs: Stubs) -> None:
        """All of the other scope goes."""
        after = {place: text for place, text in self.known.items() if place[0] != self.other}
        request = state_pb2.ClearStateRequest(scope=self.other)
        answer = await self.ask(stubs.state.ClearState, request, after)
        if answer.deleted_count:
            self.revisions.add(answer.revision)

    async def end(self, stubs: Stubs) -> None:
        """An item that ends soon; each has a name of its own."""
        key, ttl_s = f"e{len(self.endings)}", self.rng.choice(TTLS_S)
        request = state_pb2.SetStateRequest(
            scope=self.ending_scope, key=key, value=state_pb2.Payload(text=key)
        )
        request.ttl.FromNanoseconds(int(ttl_s * 1e9))
        self.endings[key] = ending = Ending(ttl_s, time.time())
        await self.change(stubs.state.SetState, request)
        ending.answered = time.time()

    async def refused(self, stubs: Stubs) -> None:
        """A batch whose check does not hold changes nothing."""
        request = state_pb2.BatchStateRequest()
        for key in self.rng.sample(KEYS, 3):
            request.writes.add(scope=self.scope, key=key).set.text = "never"
        check = request.checks.add(scope=self.scope, key=self.rng.choice(KEYS))
        check.precondition.revision = 2**60
        try:
            await self.ask(stubs.state.BatchState, request)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ABORTED  # noqa: PT017
        else:
            raise AssertionError("it was not refused")

    async def read(self, stubs: Stubs) -> None:
        """All that it has, while others write."""
        found = await self.found(stubs)
        assert found == self.known, f"client {self.number} reads something else"

    async def found(self, stubs: Stubs) -> Contents:
        """What its scopes hold."""
        contents: Contents = {}
        for scope in (self.scope, self.other):
            there = await listed(stubs, self.metadata, scope)
            contents |= {(scope, key): text for key, text in there.items()}
        return contents

    async def check(self, stubs: Stubs) -> None:
        """See Ledger; what was asked for under an id is asked for again, and counts once."""
        await self.ask_again("IncrementState", stubs.state)
        self.settle(await self.found(stubs), "items")
        await self._check_endings(stubs)

    async def _check_endings(self, stubs: Stubs) -> None:
        before = time.time()
        found = await listed(stubs, self.metadata, self.ending_scope)
        after = time.time()
        assert found.keys() <= self.endings.keys(), "an item that nobody wrote"
        for key, ending in self.endings.items():
            if ending.answered is None:
                continue
            if key in found:
                assert before <= ending.answered + ending.ttl_s, f"{key} came back"
            else:
                assert after >= ending.sent + ending.ttl_s, f"{key} ended early"


async def listed(stubs: Stubs, metadata: Any, scope: str) -> dict[str, str]:
    """What a scope holds."""
    found: dict[str, str] = {}
    request = state_pb2.ListStateRequest(scope=scope, page_size=1000)
    while True:
        page = await answered(stubs.state.ListState(request, metadata=metadata, timeout=20))
        found |= {item.key: item.value.text or item.value.json for item in page.items}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token

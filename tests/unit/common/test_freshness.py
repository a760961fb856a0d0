"""What is remembered longer since its changes are told, and what ends that."""

import asyncio

import pytest
from llmspell.v1 import state_pb2

from services.common import freshness as freshness_module
from services.common import tenants as tenants_module
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.freshness import HOLDS_S, Freshness
from services.common.tenants import CACHE_S, Remembered

SCOPE = "custom:tenants"


class WatchedState:
    """Items with a watch, in place of the relay."""

    def __init__(self):
        self.values = {"acme": 1}
        self.reads = 0
        self.changes = asyncio.Queue()
        self.is_away = False

    async def stream(self, method, request, context, *, timeout_s):
        """The watch."""
        del method, request, context, timeout_s
        yield state_pb2.WatchStateResponse().SerializeToString()
        while True:
            key = await self.changes.get()
            if key is None:
                raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")
            change = state_pb2.StateChange(scope=SCOPE, key=key)
            yield state_pb2.WatchStateResponse(changes=[change]).SerializeToString()

    async def call(self, method, request, context, *, timeout_s):
        """The question whether it is alive."""
        del method, request, context, timeout_s
        reason = Reason.SERVICE_UNAVAILABLE if self.is_away else Reason.ITEM_NOT_FOUND
        raise ServiceError(reason, "No.")

    async def read(self, key="acme"):
        """One item."""
        self.reads += 1
        await asyncio.sleep(0)
        return self.values.get(key)


class World:
    """A memory, and what it follows."""

    def __init__(self):
        self.clock, self.state = FakeClock(), WatchedState()
        self.freshness = Freshness(self.state, self.clock, principal="gateway")
        self.remembered = Remembered(self.clock, covers=self.freshness.covers)
        self.freshness.tell(SCOPE, self.remembered.forget)

    async def get(self, key="acme"):
        """As it is remembered, or read."""
        return await self.remembered.get(key, lambda: self.state.read(key))

    async def pass_time(self, seconds):
        """In steps in which the watch is asked after."""
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
            await asyncio.sleep(0.002)


@pytest.fixture
async def world(monkeypatch):
    """One whose watch is alive."""
    monkeypatch.setattr(freshness_module, "_ASK_S", 0.001)
    monkeypatch.setattr(freshness_module, "_AGAIN_S", 0.001)
    made = World()
    following = asyncio.create_task(made.freshness.run())
    await asyncio.sleep(0.01)
    made.clock.advance(0.1)
    yield made
    following.cancel()


async def test_what_does_not_change_is_not_read_again(world):
    """An hour, one read."""
    assert await world.get() == 1
    await world.pass_time(20)
    assert await world.get() == 1
    assert world.state.reads == 1


async def test_a_change_is_seen_when_it_is_told(world):
    """At once, and for its key alone."""
    await world.get()
    await world.get("other")
    world.state.values["acme"] = 2
    world.state.changes.put_nowait("acme")
    await asyncio.sleep(0.01)
    assert await world.get() == 2
    await world.pass_time(5)
    await world.get("other")
    assert world.state.reads == 3


async def test_a_watch_that_is_silent_is_not_trusted(world):
    """A cut that nobody tells of: after a second each look-up is read as without a watch."""
    await world.get()
    world.state.is_away = True
    await world.pass_time(HOLDS_S + 0.2)
    world.state.values["acme"] = 2
    assert await world.get() == 2
    await world.pass_time(CACHE_S + 0.1)
    await world.get()
    assert world.state.reads == 3


async def test_what_was_read_before_a_watch_began_anew_is_read_again(world):
    """Changes in the gap were told to nobody."""
    await world.get()
    world.state.changes.put_nowait(None)
    await asyncio.sleep(0.02)
    await world.pass_time(CACHE_S + 0.1)
    world.state.values["acme"] = 2
    assert await world.get() == 2


async def test_a_change_while_it_is_read_is_not_lost(world):
    """An old value that is on its way when its change is told is not kept as if it were new."""
    reading = asyncio.create_task(world.get())
    for _ in range(3):  # its turn comes, and it reads
        await asyncio.sleep(0)
    world.remembered.forget("acme")
    assert await reading == 1
    world.state.values["acme"] = 2
    await world.pass_time(CACHE_S + 0.1)
    assert await world.get() == 2


async def test_many_who_ask_at_once_read_once(world):
    """No stampede when an entry ends; whoever goes away takes nobody along."""
    tasks = [asyncio.create_task(world.get()) for _ in range(100)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told[1:] == [1] * 99
    assert world.state.reads == 1


async def test_the_oldest_goes_first(world, monkeypatch):
    """A full memory forgets one, not all."""
    monkeypatch.setattr(tenants_module, "CACHE_ENTRIES_MAX", 3)
    for key in ("a", "b", "c", "d"):
        await world.get(key)
    for key in ("b", "c", "d"):
        await world.get(key)
    assert world.state.reads == 4
    await world.get("a")
    assert world.state.reads == 5

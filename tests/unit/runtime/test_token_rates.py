"""Tokens a minute: never more than there are, never stuck below."""

import asyncio
import random

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.runtime.money.rates import TokenRates


class World:
    """Rates with a clock and limits of the test's own."""

    def __init__(self, limit):
        self.clock = FakeClock()
        self.limits = {"acme": limit}
        self.rates = TokenRates(self.limit_of, monotonic=self.clock.monotonic)
        self.is_away = False

    async def limit_of(self, tenant):
        """A tenant's limit."""
        if self.is_away:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")
        return self.limits.get(tenant, 0)

    async def take(self, most, spent, *, wait_s=0.0, tenant="acme"):
        """One call; None, or why not."""
        try:
            async with self.rates.hold(tenant, most, wait_s=wait_s) as held:
                await asyncio.sleep(0)
                held.spent = spent
        except ServiceError as error:
            return error
        return None


async def test_what_was_not_taken_is_free_again():
    """Ten calls that may take 100 and take 10 fit into 190 one after another, the next not."""
    world = World(190)
    assert [await world.take(100, 10) for _ in range(10)] == [None] * 10
    error = await world.take(100, 10)
    assert error.reason == Reason.QUOTA_EXCEEDED
    assert error.metadata["quota"] == "tokens_per_minute"
    assert error.metadata["limit"] == "190"


async def test_the_time_it_tells_is_right():
    """Waiting so long is enough; the other tenant never waits."""
    world = World(600)
    assert await world.take(600, 600) is None
    error = await world.take(100, 100)
    assert float(error.metadata["retry_after_s"]) == pytest.approx(10.0)
    assert await world.take(10_000, 10_000, tenant="globex") is None
    world.clock.advance(9.0)
    assert await world.take(100, 100) is not None
    world.clock.advance(1.0)
    assert await world.take(100, 100) is None


async def test_64_calls_at_once_take_no_more_than_there_is():
    """Each waits for the others to end; together they take the limit and not a token more."""
    world = World(1000)
    told = await asyncio.gather(*(world.take(100, 50, wait_s=5.0) for _ in range(64)))
    assert told.count(None) == 19  # then 950 are spent, and none may take 100 more
    assert await world.take(50, 50) is None
    assert await world.take(1, 1) is not None


async def test_one_call_may_take_more_than_a_minute():
    """It passes alone, and what it took is paid off before the next."""
    world = World(100)
    assert await world.take(5000, 300) is None
    assert await world.take(1, 1) is not None
    world.clock.advance(121)
    assert await world.take(1, 1) is None


async def test_a_call_that_was_cut_off_counts_whole():
    """Nobody knows what it took."""
    world = World(100)
    with pytest.raises(asyncio.CancelledError):
        async with world.rates.hold("acme", 80, wait_s=0.0):
            raise asyncio.CancelledError
    assert await world.take(30, 0) is not None
    assert await world.take(20, 0) is None


async def test_without_state_the_last_limit_holds():
    """Neither none, nor no call at all."""
    world = World(100)
    await world.take(90, 90)
    world.is_away = True
    assert await world.take(50, 50) is not None
    assert await world.take(10, 10) is None


@pytest.mark.parametrize("seed", range(10))
async def test_nobody_is_stuck(seed):
    """Calls that fail, are cancelled and are refused give back what they held."""
    chance, world = random.Random(seed), World(500)
    tasks = [
        asyncio.create_task(world.take(chance.randint(1, 700), chance.randint(0, 90), wait_s=9))
        for _ in range(50)
    ]
    for task in chance.sample(tasks, 15):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    world.clock.advance(600)
    assert await world.take(500, 0) is None
    (account,) = world.rates._accounts.values()
    assert (account.held, account.waiting) == (0, set())

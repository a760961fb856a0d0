"""Turns at a process behind the gateway."""

import asyncio
import random
from collections import Counter

import pytest

from services.common.errors import Reason, ServiceError
from services.gateway.fairness import FairQueue


async def settle():
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Calls:
    """Calls of tenants at one process, that end when they are told to."""

    def __init__(self, **limits):
        at_once = limits.pop("at_once", 4)
        self.queue = FairQueue("vector", at_once=lambda: at_once, **({"wait_s": 60.0} | limits))
        self.begun = []
        self.refused = []
        self.tasks = []

    async def _call(self, tenant, weight, end, deadline_s):
        try:
            await self.queue.enter(tenant, weight, deadline_s)
        except ServiceError as error:
            self.refused.append(error)
            return
        self.begun.append((tenant, end))
        try:
            await end.wait()
        finally:
            self.queue.leave(tenant)

    def begin(self, tenant, count=1, *, weight=1.0, deadline_s=None):
        """So many calls arrive."""
        made = [
            asyncio.create_task(self._call(tenant, weight, asyncio.Event(), deadline_s))
            for _ in range(count)
        ]
        self.tasks += made
        return made

    async def end_one(self):
        """The call that began first ends."""
        self.begun.pop(0)[1].set()
        await settle()

    async def drain(self):
        """In which order the calls of tenants begin, from now on; all end."""
        order = []
        await settle()
        while self.begun:
            order.append(self.begun[0][0])
            await self.end_one()
        return order


async def test_a_quiet_tenant_is_next():
    """Behind a hundred calls of another tenant it waits for none: its place was left free."""
    calls = Calls()
    calls.begin("loud", 100)
    await settle()
    calls.begin("quiet")
    await settle()
    assert [tenant for tenant, _ in calls.begun] == ["loud", "loud", "quiet"]
    await calls.drain()


async def test_a_tenant_alone_has_half():
    """The rest is for whoever comes."""
    calls = Calls(at_once=8)
    calls.begin("loud", 20)
    await settle()
    assert (calls.queue.running, calls.queue.waiting) == (4, 16)
    assert len(await calls.drain()) == 20
    assert (calls.queue.running, calls.queue.waiting, calls.queue._lines) == (0, 0, {})


async def test_turns_go_round():
    """Three tenants that wait are served alike, whatever they have waiting."""
    calls = Calls(at_once=1)
    calls.begin("a", 50)
    calls.begin("b", 10)
    calls.begin("c", 10)
    order = await calls.drain()
    assert Counter(order[:30]) == {"a": 10, "b": 10, "c": 10}


async def test_weights_hold():
    """Twice the weight, twice the turns."""
    calls = Calls(at_once=1)
    calls.begin("a", 60, weight=2.0)
    calls.begin("b", 60)
    share = Counter((await calls.drain())[:60])
    assert 38 <= share["a"] <= 42


async def test_what_cannot_be_in_time_is_refused_at_once():
    """Once the pace is known: the caller hears within no time, and when to try again."""
    now = 0.0
    calls = Calls(at_once=1, wait_s=5.0, monotonic=lambda: now)
    calls.begin("a", 10)
    await settle()
    for _ in range(4):
        now += 1.0
        await calls.end_one()
    calls.begin("a", deadline_s=now + 2.0)
    await settle()
    (error,) = calls.refused
    assert error.reason == Reason.OVERLOADED
    assert float(error.metadata["retry_after_s"]) > 2.0
    calls.begin("b", deadline_s=now + 2.0)
    await settle()
    assert len(calls.refused) == 1
    await calls.drain()


async def test_who_waits_too_long_is_refused():
    """At the bound, and leaves nothing behind."""
    calls = Calls(at_once=1, wait_s=0.05)
    calls.begin("a", 3)
    await asyncio.sleep(0.15)
    assert [error.reason for error in calls.refused] == [Reason.OVERLOADED] * 2
    calls.begin("b")
    await settle()
    assert await calls.drain() == ["a", "b"]
    assert calls.queue._lines == {}
    assert calls.queue._order == []


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_whoever_leaves(seed):
    """Callers come, go away while they wait or run; places come back, nobody is stuck."""
    chance = random.Random(seed)
    calls = Calls(at_once=chance.randint(1, 6))
    for _ in range(200):
        match chance.randrange(4):
            case 0 | 1:
                calls.begin(chance.choice("abcd"), chance.randint(1, 3))
            case 2 if calls.tasks:
                chance.choice(calls.tasks).cancel()
            case _ if calls.begun:
                calls.begun.pop(chance.randrange(len(calls.begun)))[1].set()
        if chance.random() < 0.5:
            await settle()
            free = calls.queue._at_once() - calls.queue.running
            assert free >= 0
            assert not (calls.queue.running == 0 and calls.queue.waiting), seed
    await calls.drain()
    await asyncio.gather(*calls.tasks, return_exceptions=True)
    assert (calls.queue.running, calls.queue.waiting, calls.queue._lines) == (0, 0, {})

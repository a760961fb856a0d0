"""Whose run is next: turns between tenants, bounded lines, and callers who go away."""

import asyncio
import collections
import contextlib
import random

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.turns import AHEAD_AT_ONCE, TurnLimits, Turns


class Story:
    """Runs that hold their place until they are told to end, and the order in which they began."""

    def __init__(self, places_of=lambda _: 0, **most):
        self.turns = Turns(TurnLimits(**most), places_of=places_of)
        self.began = []
        self._ends = {}
        self.tasks = {}

    async def ask(self, tenant, number=0):
        """A run that asks for a place now."""
        name = (tenant, number)
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name))
        await settle()
        return self.tasks[name]

    async def _run(self, name):
        async with self.turns.place(name[0]):
            self.began.append(name)
            await self._ends[name].wait()

    async def end(self, tenant, number=0):
        """Let a run end."""
        self._ends[tenant, number].set()
        await self.tasks[tenant, number]
        await settle()


async def settle():
    """Let all that is ready go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_has_the_places_that_its_operator_gives():
    """Fewer or more than others; a change counts from the next run that begins or ends."""
    places = {"few": 1, "many": 3}
    story = Story(lambda tenant: places.get(tenant, 0), at_once=10, tenant_at_once=2)
    for tenant in ("few", "many", "other"):
        for number in range(4):
            await story.ask(tenant, number)
    running = collections.Counter(tenant for tenant, _ in story.began)
    assert running == {"few": 1, "many": 3, "other": 2}
    places["few"] = 2
    await story.end("few")
    assert collections.Counter(tenant for tenant, _ in story.began)["few"] == 3
    await story.ask("few", 9)
    await story.end("few", 1)
    assert story.turns.in_hand("few") == 3
    await _cancel_all(story)


async def test_tenants_take_turns_not_runs():
    """Behind a hundred runs of one tenant, another's first run is the next but one at most."""
    story = Story(at_once=1, tenant_at_once=1)
    await story.ask("greedy")
    for number in range(1, 50):
        await story.ask("greedy", number)
    await story.ask("modest")
    await story.ask("third")
    await story.end("greedy")
    await story.end(*story.began[-1])
    await story.end(*story.began[-1])
    assert story.began[:4] == [("greedy", 0), ("modest", 0), ("third", 0), ("greedy", 1)]
    await _cancel_all(story)


async def test_a_tenant_holds_no_more_than_its_most():
    """Free places stay free rather than go to a tenant that has its share."""
    story = Story(at_once=4, tenant_at_once=2)
    for number in range(4):
        await story.ask("greedy", number)
    assert (story.turns.running, story.turns.waiting) == (2, 2)
    await story.ask("modest")
    assert story.began[-1] == ("modest", 0)
    await story.end("greedy", 0)
    assert story.began[-1] == ("greedy", 2)
    await _cancel_all(story)


async def test_who_is_ahead_holds_fewer_places():
    """While it is: the places are its own again with the next end of a run."""
    ahead = {"greedy"}
    story = Story(at_once=8, tenant_at_once=4)
    story.turns._is_ahead = ahead.__contains__
    for number in range(6):
        await story.ask("greedy", number)
    assert story.turns.in_hand("greedy") == 6
    assert story.turns.running == AHEAD_AT_ONCE == 2
    await story.end("greedy", 0)
    assert story.turns.running == 2
    ahead.clear()
    await story.end("greedy", 1)
    assert (story.turns.running, story.turns.waiting) == (4, 0)
    await _cancel_all(story)


async def test_who_gets_ahead_while_it_waits_does_not_take_the_place():
    """Its turn had come in its time, not now."""
    ahead = set()
    story = Story(at_once=3, tenant_at_once=4)
    story.turns._is_ahead = ahead.__contains__
    for tenant, number in (("greedy", 0), ("greedy", 1), ("other", 0), ("greedy", 2)):
        await story.ask(tenant, number)
    ahead.add("greedy")
    await story.end("other", 0)
    assert story.turns.running == 2
    ahead.clear()
    await story.end("greedy", 0)
    assert story.began[-1] == ("greedy", 2)
    await _cancel_all(story)


async def test_a_full_line_refuses_at_once():
    """One tenant's line is full; it is told how full and when to come again, others are let in."""
    story = Story(at_once=2, tenant_at_once=1, tenant_waiting=3)
    for number in range(4):
        await story.ask("greedy", number)
    refused = await story.ask("greedy", 4)
    with pytest.raises(ServiceError) as caught:
        await refused
    assert caught.value.reason == Reason.RUN_QUEUE_FULL
    assert caught.value.metadata["limit"] == "3"
    assert 0.1 <= float(caught.value.metadata["retry_after_s"]) <= 60
    await story.ask("modest")
    assert story.began[-1] == ("modest", 0)
    await _cancel_all(story)


async def test_the_hint_grows_with_how_long_runs_take():
    """After runs of ten seconds a caller is sent away for longer than after quick ones."""
    now = [0.0]
    turns = Turns(TurnLimits(at_once=1, tenant_waiting=0), monotonic=lambda: now[0])
    hints = []
    for step in (0.0, 10.0, 10.0):
        async with turns.place("a"):
            now[0] += step
            with pytest.raises(ServiceError) as caught:
                await turns.place("a").__aenter__()
        hints.append(float(caught.value.metadata["retry_after_s"]))
    assert hints[0] <= hints[1] < hints[2]


async def test_a_caller_who_goes_away_leaves_the_line():
    """The one behind it moves up, and what it would have held stays free."""
    story = Story(at_once=1, tenant_at_once=1, tenant_waiting=2)
    await story.ask("a", 0)
    gone = await story.ask("a", 1)
    await story.ask("a", 2)
    gone.cancel()
    await settle()
    await story.ask("a", 3)  # there is room in the line again
    await story.end("a", 0)
    assert story.began[-1] == ("a", 2)
    await _cancel_all(story)


async def test_going_away_in_the_moment_of_the_turn_frees_the_place():
    """A place that was given to somebody who is just being cancelled goes to the next."""
    story = Story(at_once=1, tenant_at_once=1)
    await story.ask("a", 0)
    await story.ask("b", 0)
    await story.ask("c", 0)
    story._ends["a", 0].set()
    await story.tasks["a", 0]
    story.tasks["b", 0].cancel()
    await settle()
    assert story.began[-1] == ("c", 0)
    await _cancel_all(story)


async def test_an_empty_line_with_no_room_to_wait_leaves_nothing():
    """A tenant that was refused is not remembered."""
    turns = Turns(TurnLimits(at_once=1, tenant_waiting=0))
    async with turns.place("a"):
        with pytest.raises(ServiceError):
            await turns.place("b").__aenter__()
        assert set(turns._lines) == {"a"}
    assert not turns._lines


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_ever_lost(seed):
    """Whatever begins, ends and is cancelled, limits hold and everything is free in the end."""
    chance = random.Random(seed)
    story = Story(at_once=3, tenant_at_once=2, tenant_waiting=4)
    for number in range(200):
        tenant = chance.choice("abc")
        await story.ask(tenant, number)
        if chance.random() < 0.4:
            chance.choice(list(story.tasks.values())).cancel()
        if chance.random() < 0.6:
            story._ends[chance.choice(list(story._ends))].set()
        if chance.random() < 0.5:
            await settle()
        assert story.turns.running <= 3
        assert all(line.running <= 2 for line in story.turns._lines.values())
        assert all(len(line.waiting) <= 4 for line in story.turns._lines.values())
        if story.turns.waiting and story.turns.running < 3:
            await settle()
            waiting = [line for line in story.turns._lines.values() if line.waiting]
            assert story.turns.running == 3 or all(line.running == 2 for line in waiting)
    for event in story._ends.values():
        event.set()
    await _cancel_all(story, cancel=False)
    assert (story.turns.running, story.turns.waiting) == (0, 0)
    assert not story.turns._lines
    assert not story.turns._order


async def _cancel_all(story, *, cancel=True):
    for task in story.tasks.values():
        if cancel:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ServiceError):
            await task

"""A workflow that lost its process at any moment goes on, and does nothing twice."""

import asyncio
import contextlib
import itertools
from types import SimpleNamespace

import pytest

from services.common.clock import FakeClock, SystemClock
from services.common.errors import Reason, ServiceError
from services.runtime.workflows.actions import HostActions
from services.runtime.workflows.engine import Engine
from services.runtime.workflows.model import AgentAction, FunctionAction, TemplateAction
from services.runtime.workflows.stepping import Acted, Repeat, Steps
from tests.unit.runtime.workflow_parts import (
    Heard,
    Kept,
    NoneRegistered,
    Told,
    call,
    nested,
    row,
    workflow,
)

TREE = row(
    call("a", "put", key="a", save_as="first"),
    nested("each", {"loop": {"body": [call("b", "put", key="b{{loop_value}}")],
                             "collection": [1, 2, 3]}}),
    nested("choose", {"conditional": {"branches": [
        {"name": "x", "condition": {"function": "odd"}, "steps": [call("c", "put", key="cx")]},
        {"name": "y", "condition": {"constant": True}, "steps": [call("c", "put", key="cy")]},
    ]}}),
    nested("both", {"parallel": {"branches": [
        {"name": "l", "steps": [call("d", "put", key="d1")]},
        {"name": "r", "steps": [call("d", "put", key="d2"), call("e", "put", key="e")]},
    ]}}),
    call("last", "put", key="{{shared.first}}z"),
)  # fmt: skip
ALL = ["a", "b1", "b2", "b3", "d1", "d2", "e", "az"]


@pytest.mark.parametrize(
    ("action", "repeat"),
    [
        (FunctionAction("f", {}), Repeat.ALWAYS),
        (AgentAction(None, "clerk", "", {}), Repeat.ALWAYS),
        (TemplateAction("code-review", {}), Repeat.NEVER),
    ],
)
def test_what_had_begun_is_asked_again_where_the_caller_knows(action, repeat):
    """Who offers a function knows what it has done; what else may have happened is not repeated."""
    actions = HostActions(None, None, None, None)
    assert actions.repeat(SimpleNamespace(step=SimpleNamespace(action=action))) is repeat


class Killed(BaseException):
    """Nothing of the process is left."""


class World:
    """Where effects go: one with a request id is known there for a while."""

    def __init__(self, *, knows_ids):
        self.puts = []
        self.answered = {}
        self.knows_ids = knows_ids
        self.kill_at = None
        self.kept = None
        self.left = None
        self.count = 0
        self.odd_asked = 0

    def tick(self):
        self.count += 1
        if self.left is None and self.count == self.kill_at:
            self.left = self.kept.lost()
        if self.left is not None:
            raise Killed

    async def put(self, path, key):
        self.tick()
        if not (self.knows_ids and path in self.answered):
            self.puts.append(key)
        self.answered[path] = key
        await asyncio.sleep(0)
        self.tick()
        return key

    def odd(self, shared):
        self.odd_asked += 1
        return self.odd_asked % 2 == 1


class InWorld(Told):
    def __init__(self, world, repeat):
        super().__init__(odd=world.odd)
        self.world = world
        self.repeated_as = repeat

    async def act(self, order):
        return Acted(await self.world.put(order.path, order.arguments["key"]))

    def repeat(self, order):
        return self.repeated_as


async def once(world, kept, repeat, clock=None, actions=InWorld):
    """One life of a process; the result, or None where it was killed."""
    steps = Steps(actions(world, repeat), kept, Heard(), clock or SystemClock())
    world.kept, world.left = kept, None
    steps.leaves_open = True
    with contextlib.suppress(Killed):
        return await Engine(steps, NoneRegistered(), "e").run(workflow(TREE), {})
    return None


@pytest.mark.parametrize("moment", range(1, 24))
async def test_whatever_the_moment_each_effect_is_there_once(moment):
    """Whoever is asked knows request ids, so what had begun is asked for again."""
    world, kept = World(knows_ids=True), Kept()
    world.kill_at = moment
    result = await once(world, kept, Repeat.BY_ID)
    lives = 1
    while result is None:
        kept, lives = world.left, lives + 1
        result = await once(world, kept, Repeat.BY_ID)
    assert lives <= 2
    assert result.success, result.failure
    chosen = "cx" if "cx" in world.puts else "cy"
    assert sorted(world.puts) == sorted([*ALL, chosen])
    assert result.shared_data == {"first": "a"}


@pytest.mark.parametrize("moment", range(1, 24))
async def test_what_cannot_be_repeated_is_not_done_twice(moment):
    """Either all is there once, or one step says that nobody knows; nothing is there twice."""
    world, kept = World(knows_ids=False), Kept()
    world.kill_at = moment
    result = await once(world, kept, Repeat.NEVER)
    while result is None:
        kept = world.left
        result = await once(world, kept, Repeat.NEVER)
    assert len(set(world.puts)) == len(world.puts)
    if not result.success:
        assert result.failure.metadata["step_reason"] == "WORKFLOW_STEP_UNKNOWN"


class WithReceipts(InWorld):
    """What was begun under a receipt is done once by it; what is new has another."""

    def new_receipt(self, order):
        return f"m.{next(self.world.names)}"

    async def act(self, order):
        assert order.begun_ns is not None or order.receipt not in self.world.begun
        self.world.begun.add(order.receipt)
        return Acted(await self.world.put(order.receipt, order.arguments["key"]))


@pytest.mark.parametrize("moment", range(1, 24))
async def test_what_leaves_a_receipt_is_asked_for_by_it(moment):
    """Whatever the moment, the same receipt stands for the same try, and no other does."""
    world, kept = World(knows_ids=True), Kept()
    world.kill_at, world.begun, world.names = moment, set(), itertools.count()
    result = None
    while result is None:
        result = await once(world, kept, Repeat.BY_RECEIPT, actions=WithReceipts)
        kept = world.left
    assert result.success, result.failure
    chosen = "cx" if "cx" in world.puts else "cy"
    assert sorted(world.puts) == sorted([*ALL, chosen])


async def test_each_try_has_a_receipt_of_its_own():
    """One that failed says nothing of the next; one that was lost is gone on with, and counts."""
    told, orders = Told(), []

    async def act(order):
        orders.append((order.receipt, order.begun_ns is not None, order.attempt))
        if len(orders) < 3:
            raise ServiceError(Reason.TOOL_FAILED, "no")
        return Acted("yes")

    told.act, told.repeats["echo"] = act, Repeat.BY_RECEIPT
    kept = Kept()
    kept.were_begun["a"], kept.receipts["a"] = SystemClock().now_ns(), "m.lost"
    steps = Steps(told, kept, Heard(), SystemClock())
    step = call("a", retry={"max_attempts": 3, "delay": 0})
    result = await Engine(steps, NoneRegistered(), "e").run(workflow(row(step)), {})
    assert result.success
    assert orders == [("m.lost", True, 1), ("m.1", False, 2), ("m.2", False, 3)]


async def test_what_was_begun_without_a_receipt_is_not_known():
    """As another version began it, or one that could keep none."""
    told, kept = Told(), Kept()
    told.repeats["echo"] = Repeat.BY_RECEIPT
    kept.were_begun["a"] = SystemClock().now_ns()
    steps = Steps(told, kept, Heard(), SystemClock())
    result = await Engine(steps, NoneRegistered(), "e").run(workflow(row(call("a"))), {})
    assert result.failure.metadata["step_reason"] == "WORKFLOW_STEP_UNKNOWN"


async def test_an_id_that_may_be_forgotten_is_not_relied_on():
    """Ten minutes later nobody knows it any more."""
    clock = FakeClock(SystemClock().now_ns())
    for passed_s, wanted in ((500, True), (900, False)):
        world, kept = World(knows_ids=True), Kept()
        world.kill_at = 2
        assert await once(world, kept, Repeat.BY_ID) is None
        later = FakeClock(clock.now_ns())
        later.advance(passed_s)
        result = await once(world, world.left, Repeat.BY_ID, later)
        assert result.success is wanted


async def test_who_allows_a_retry_has_it_done_again():
    """The step's author has said that it may be."""
    told = Told()
    told.repeats["echo"] = Repeat.NEVER
    for step, wanted in ((call("a"), False), (call("a", retry={"max_attempts": 1}), True)):
        kept = Kept()
        kept.were_begun["a"] = SystemClock().now_ns()
        steps = Steps(told, kept, Heard(), SystemClock())
        result = await Engine(steps, NoneRegistered(), "e").run(workflow(row(step)), {})
        assert result.success is wanted


async def test_a_step_of_a_workflow_that_is_tried_again_is_not():
    """What had succeeded within is not done again by the second try; what failed is."""
    tried = []

    def once_bad(**given):
        tried.append(given)
        if len(tried) == 1:
            raise ServiceError(Reason.TOOL_FAILED, "no")
        return "yes"

    told, kept = Told(once_bad=once_bad), Kept()
    inner = row(call("good"), call("bad", "once_bad"))
    tree = row(nested("n", inner, retry={"max_attempts": 2, "delay": 0}))
    steps = Steps(told, kept, Heard(), SystemClock())
    result = await Engine(steps, NoneRegistered(), "e").run(workflow(tree), {})
    assert result.success
    assert told.paths == ["n/good", "n/bad", "n/bad"]


async def test_what_was_undone_is_done_again_by_the_next_try():
    """A workflow within that undid its steps begins anew, under other request ids."""
    tried = []

    def second_time(**given):
        tried.append(given)
        if len(tried) == 1:
            raise ServiceError(Reason.TOOL_FAILED, "no")
        return "yes"

    told, kept = Told(second_time=second_time), Kept()
    good = call("good", compensation=call("u", undo=True))
    inner = row(good, call("bad", "second_time"), rollback=True)
    tree = row(nested("n", inner, retry={"max_attempts": 2, "delay": 0}))
    for _ in range(2):  # and once more with all that is kept
        steps = Steps(told, kept, Heard(), SystemClock())
        result = await Engine(steps, NoneRegistered(), "e").run(workflow(tree), {})
        assert result.success
        assert told.paths == ["n/good", "n/bad", "n/good~undo", "n~2/good", "n~2/bad"]
        kept.unsafe.clear()
        kept = kept.lost()

"""An agent at work in a workflow loses its process: it goes on, and calls no tool twice."""

import itertools

import pytest

from services.common.clock import FakeClock, SystemClock
from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_MEMO_BYTES_MAX
from services.runtime.agents.conversation import place_of
from services.runtime.claims import Memory
from services.runtime.hooks.model import refused
from services.runtime.providers.model import Role
from services.runtime.runs import Reply
from services.runtime.workflows.memos import StepMemo, Surroundings
from services.runtime.workflows.messages import output_message
from services.runtime.workflows.results import MEMO, Status, StepResult, WorkflowResult
from tests.agent_world import EXECUTE_TOOL, World, calls, context, says
from tests.unit.runtime.agents.test_loop import failure
from tests.unit.runtime.workflow_parts import Kept

TEXT = {"type": "string"}


class Killed(BaseException):
    """Nothing of the process is left."""


class Scene:
    """What outlives processes: effects, receipts, what was kept, and how often a model answered."""

    def __init__(self, *answers, memory=Memory.RECEIPT, agent=None):
        self.answers = answers
        self.memory = memory
        self.agent = agent or {"tools": ["put"]}
        self.effects, self.noted, self.asked = [], {}, []
        self.kept, self.left = Kept(), None
        self.names = itertools.count(1)
        self.count, self.kill_at = 0, 0
        self.clock = SystemClock()
        self.may_repeat = False
        self.world = World(self.answer)
        self.world.tools.add("put", lambda key: key, key=TEXT)
        self.world.calls = Tools(self)

    def tick(self):
        """A moment at which the process may be killed; what is not on disk then is lost."""
        self.count += 1
        if self.left is None and self.count == self.kill_at:
            self.left = self.kept.lost()
        if self.left is not None:
            raise Killed

    async def life(self, **more):
        """One process; the agent's output."""
        around = Surroundings(
            journal=self.kept,
            clock=self.clock,
            memory_of=lambda call: self.memory,
            new_receipt=lambda: f"m.{next(self.names)}",
            request_id=lambda path: f"id-{path}",
            is_left=lambda: False,
            step="s",
            may_repeat=self.may_repeat,
        )
        try:
            return await self.world.ask(self.agent, memo=StepMemo(around, "s!1"), **more)
        except BaseExceptionGroup:
            assert self.left is not None
            raise Killed from None

    def answer(self, request):
        """By how much was said already."""
        self.tick()
        said = [message for message in request.messages if message.role is Role.ASSISTANT]
        self.asked.append(len(said))
        return self.answers[len(said)]

    async def all_lives(self):
        """As many as it takes."""
        while True:
            try:
                return await self.life()
            except Killed:
                self.kept, self.left, self.kill_at = self.left, None, 0


class Tools:
    """The caller's calls: a tool of which its process notes what it did."""

    def __init__(self, scene):
        self.scene = scene

    async def __call__(self, call):
        """ExecuteTool."""
        assert call.method == EXECUTE_TOOL
        scene, claim, key = self.scene, call.claim, call.args["arguments"]["key"]
        known = claim.receipt or claim.request_id
        scene.tick()
        if known not in scene.noted:
            assert scene.memory is Memory.REQUEST_IDS or claim.begun_ns or known
            scene.effects.append(key)
            scene.noted[known] = key
        scene.tick()
        told = scene.noted[known]
        return Reply(ok=True, tree={"success": True, "result": told, "message": ""})

    async def around(self, call, inner):
        """As without hooks."""
        try:
            return await inner(call)
        except ServiceError as error:
            return refused(error)


STORY = (
    calls(("put", {"key": "a"}), ("put", {"key": "b"})),
    calls(("put", {"key": "c"})),
    says("Done."),
)


@pytest.mark.parametrize("memory", [Memory.RECEIPT, Memory.REQUEST_IDS])
@pytest.mark.parametrize("moment", range(1, 10))
async def test_whatever_the_moment_each_tool_is_executed_once(moment, memory):
    """Answers that were kept are not asked for again; what was spent on them counts."""
    scene = Scene(*STORY, memory=memory)
    scene.kill_at = moment
    output = await scene.all_lives()
    assert sorted(scene.effects) == ["a", "b", "c"]
    assert (output.text, output.turns, len(output.tool_calls)) == ("Done.", 3, 3)
    assert sorted(set(scene.asked)) == [0, 1, 2]
    assert len(scene.asked) <= 4  # at most the last, whose answer was on its way to the disk
    assert output.spent.model_calls == 3
    assert output.spent.cost_usd == pytest.approx(0.003)


@pytest.mark.parametrize("moment", range(1, 8))
async def test_agents_of_one_name_side_by_side_have_memos_of_their_own(moment):
    """And one that is a tool of another."""
    member = {"spec": {"name": "twin", "model": "scripted/m", "tools": ["put"]}}
    team = {"name": "team", "model": "", "composite": {"strategy": 2, "agents": [member, member]}}
    scene = Scene(calls(("put", {"key": "x"})), says("ok"), agent=team)
    scene.kill_at = moment
    await scene.all_lives()
    assert scene.effects == ["x", "x"]


@pytest.mark.parametrize("moment", range(1, 5))
async def test_a_tool_of_which_nobody_knows_ends_the_step(moment):
    """The model is not told so and asked to go on; its step's author may have it done again."""
    for may_repeat in (False, True):
        scene = Scene(calls(("put", {"key": "x"})), says("ok"), memory=Memory.NONE)
        scene.kill_at, scene.may_repeat = moment, may_repeat
        if moment in (2, 3, 4) and not may_repeat:  # at 4 its result is on its way to the disk
            error = await failure(scene.all_lives())
            assert error.reason == Reason.WORKFLOW_STEP_UNKNOWN
            assert error.metadata["step"] == "s"
            assert len(scene.effects) == (moment > 2)
        else:
            await scene.all_lives()
            assert len(scene.effects) in ((1, 2) if may_repeat else (1,))


async def test_an_id_that_may_be_forgotten_is_not_relied_on():
    """Ten minutes later nobody knows it any more."""
    scene = Scene(*STORY, memory=Memory.REQUEST_IDS)
    clock = scene.clock = FakeClock(SystemClock().now_ns())
    scene.kill_at = 3
    with pytest.raises(Killed):
        await scene.life()
    clock.advance(900)
    scene.kept, scene.left, scene.kill_at = scene.left, None, 0
    assert (await failure(scene.life())).reason == Reason.WORKFLOW_STEP_UNKNOWN


async def test_a_tool_that_changes_nothing_costs_no_write():
    """It is called again where it was at work."""
    scene = Scene(*STORY, memory=Memory.NEEDLESS)

    async def call(self, call):
        assert call.claim is None
        return Reply(ok=True, tree={"success": True, "result": 1, "message": ""})

    was, Tools.__call__ = Tools.__call__, call
    try:
        await scene.life()
    finally:
        Tools.__call__ = was
    assert [kind for kind, _ in scene.kept.order if kind == "begin"] == []


async def test_an_answer_that_is_too_large_to_be_kept_is_not_gone_on_from():
    """Where it asked for tools nobody knows which; one that asked for none is asked for again."""
    much = "x" * (WORKFLOW_MEMO_BYTES_MAX + 1)
    scene = Scene(calls(("put", {"key": "a"}), text=much), says(much))
    scene.kill_at = 4
    with pytest.raises(Killed):
        await scene.life()
    scene.kept, scene.left, scene.kill_at = scene.left, None, 0
    assert (await failure(scene.life())).reason == Reason.WORKFLOW_STEP_UNKNOWN
    whole = Scene(calls(("put", {"key": "a"})), says(much))
    assert (await whole.life()).text == much
    whole.kept = whole.kept.lost()
    assert (await whole.life()).text == much
    assert whole.effects == ["a"]


def test_what_is_kept_of_an_agent_is_no_step():
    """Whoever looks at a run sees its steps."""
    steps = (
        StepResult("s", "s", "agent", Status.COMPLETED),
        StepResult("s!1?1", "", MEMO, Status.COMPLETED),
    )
    told = output_message(WorkflowResult("e", "w", "sequential", Status.COMPLETED, steps=steps))
    assert [step.path for step in told.steps] == ["s"]


async def test_what_was_said_is_kept_once():
    """The process was lost after the conversation was kept, and before the step's end was."""
    scene = Scene(says("Hello."))
    for _ in range(2):
        assert (await scene.life(session_id="s1")).text == "Hello."
        scene.kept.unsafe.clear()
        scene.kept = scene.kept.lost()
    assert scene.asked == [0]
    kept = await scene.world.conversations.read(context(), place_of("clerk", "s1", ""))
    assert [message.text for message in kept.messages] == ["hello", "Hello."]

"""Hooks of the host around agents and the tools within them, as they are around any call."""

import pytest

from services.common.errors import Reason, ServiceError
from services.common.settings import EventsSettings
from services.common.telemetry import Counts, HookCount
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.chain import Hooked
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.model import RunInfo
from services.runtime.hooks.results import (
    Cache,
    Cancel,
    Continue,
    Modified,
    Redirect,
    Replace,
    Retry,
)
from services.runtime.providers.model import Role
from tests.agent_world import World, calls, context, says, spec
from tests.unit.runtime.agents.test_loop import failure

NUMBER = {"type": "number"}
POINTS = (
    "BeforeAgentExecution", "AfterAgentExecution", "AgentError", "ToolValidation",
    "BeforeToolExecution", "AfterToolExecution", "ToolError",
)  # fmt: skip


class Watched(World):
    """A world whose calls pass one hook of the host, which is a function of what it is told."""

    def __init__(self, *answers, result=None):
        super().__init__(*answers)
        self.asked, self.told = [], []
        self.result = result or (lambda _: Continue())

        async def ask(hooked):
            self.asked.append(hooked)
            return self.result(hooked)

        async def publish(tenant, events):
            self.told.extend((tenant, event.type) for event in events)

        hook = AtPoints(POINTS, ask, kept=KeptAnswers())
        guarded = Guarded("h", hook, HookCount("h"), tell=lambda *_: None, timeout_s=5.0)
        self.announcer = Announcer(publish, EventsSettings(), Counts())
        self.bare = self.calls
        self.calls = Hooked([guarded], self.bare, RunInfo(context()), self.announcer)

    def points(self):
        """Which were passed, and by what."""
        return [(one.point, one.name) for one in self.asked]


def adder(*answers, **more):
    world = Watched(*answers, **more)
    world.tools.add("add", lambda a, b: a + b, a=NUMBER, b=NUMBER)
    return world


async def test_agents_and_tools_pass_their_points_in_order():
    """The agent's around all, each tool's around it; each is announced once."""
    world = adder(calls(("add", {"a": 1, "b": 2})), says("3"))
    await world.ask({"tools": ["add"]})
    assert world.points() == [
        ("BeforeAgentExecution", "clerk"), ("ToolValidation", "add"),
        ("BeforeToolExecution", "add"), ("AfterToolExecution", "add"),
        ("AfterAgentExecution", "clerk"),
    ]  # fmt: skip
    told = world.asked[0].data
    assert told["input"]["text"] == "hello"
    assert world.asked[-1].data["text"] == "3"
    await world.announcer.flush()
    assert world.told == [("acme", "tool.executed"), ("acme", "agent.executed")]


async def test_a_failure_passes_the_point_of_errors():
    """With reason and what was spent; the event says that it failed."""
    world = adder(calls(("fly", {})))
    error = await failure(world.ask({"limits": {"max_turns": 1}}))
    assert error.reason == Reason.AGENT_TURN_LIMIT
    assert world.points()[-1] == ("AgentError", "clerk")
    assert world.asked[-1].data["reason"] == "AGENT_TURN_LIMIT"
    assert world.asked[-1].data["metadata"]["tokens"] == "15"
    await world.announcer.flush()
    assert ("acme", "agent.failed") in world.told


def at(point, result):
    """Gives a result at one point."""
    return lambda hooked: result if hooked.point == point else Continue()


@pytest.mark.parametrize(
    ("point", "result", "expected", "asked"),
    [
        ("BeforeAgentExecution", Modified({"agent": "clerk", "input": {"text": "b"}}), "B", 1),
        ("BeforeAgentExecution", Replace({"text": "instead"}), "instead", 0),
        ("BeforeAgentExecution", Redirect("echo"), "hello", 0),
        ("AfterAgentExecution", Replace({"text": "after"}), "after", 1),
        ("AfterAgentExecution", Modified({"text": "changed"}), "changed", 1),
        ("AfterAgentExecution", Redirect("echo"), "hello", 1),
    ],
)
async def test_what_a_hook_makes_of_an_agent(point, result, expected, asked):
    """Its input, target and answer may be other ones; the model is asked as often as that needs."""
    world = Watched(lambda r: says(r.messages[-1].text.upper()), result=at(point, result))
    await world.registered.create(context(), spec(name="echo", type="basic", model=""))
    output = await world.ask()
    assert (output.text, len(world.model.requests)) == (expected, asked)


async def test_a_hook_may_stop_an_agent():
    """With its own words, before anything is spent."""
    world = Watched(says("never"), result=at("BeforeAgentExecution", Cancel("not on Sundays")))
    error = await failure(world.ask())
    assert (error.reason, error.message) == (Reason.HOOK_CANCELLED, "not on Sundays")
    assert world.model.requests == []


async def test_a_hook_may_try_an_agent_again():
    """After a failure, as often as it says."""
    gone = ServiceError(Reason.PROVIDER_UNAVAILABLE, "Gone.")
    world = Watched(gone, gone, says("ok"), result=at("AgentError", Retry(0.0, 3)))
    assert (await world.ask()).text == "ok"
    assert len(world.model.requests) == 3


async def test_a_hook_may_keep_an_answer():
    """The same caller is given it again, and the model is not asked."""
    world = Watched(says("one"), says("two"), result=at("BeforeAgentExecution", Cache("k", 60.0)))
    assert [(await world.ask()).text for _ in range(2)] == ["one", "one"]
    assert len(world.model.requests) == 1


async def test_agents_of_one_name_are_told_apart():
    """By a digest of what they are, so that no kept answer of one is given for the other."""
    world = Watched(says("ok"))
    for prompt in ("a", "a", "b"):
        await world.ask({"system_prompt": prompt})
    before = [one.data for one in world.asked if one.point == "BeforeAgentExecution"]
    assert before[0] == before[1] != before[2]


async def test_a_hook_of_a_tool_is_heard_within_an_agent():
    """What it refuses is told to the model."""
    world = adder(
        calls(("add", {"a": 1, "b": 2})),
        says("no"),
        result=at("BeforeToolExecution", Cancel("no sums today")),
    )
    output = await world.ask({"tools": ["add"]})
    assert (output.text, world.tools.made) == ("no", [])
    told = [message.text for message in world.last.messages if message.role is Role.TOOL]
    assert "no sums today" in told[0]

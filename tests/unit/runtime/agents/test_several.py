"""Agents that ask agents, answer as one, are registered, pass hooks, and answer with JSON."""

import asyncio
import json

import pytest
from llmspell.v1 import agent_pb2

from services.common.errors import Reason, ServiceError
from services.common.values import map_to_python, to_python
from services.runtime.agents.lifecycle import LEGAL, State, word
from services.runtime.providers.model import Role
from services.runtime.runs import Reply
from tests.agent_world import World, calls, context, says, spec
from tests.unit.runtime.agents.test_loop import failure

NUMBER = {"type": "number"}
SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def basic(name):
    return {"spec": {"name": name, "type": "basic"}}


def model(name, **more):
    return {"spec": {"name": name, "model": f"scripted/{name}"} | more}


class Many(World):
    """A world whose models answer by their names."""

    def __init__(self, **answers):
        super().__init__(None)
        self.model.chat, chat = self._chat, self.model.chat
        self._answers, self._inner = answers, chat

    async def _chat(self, account, model, request, **more):
        self.model.answers = [self._answers[model.removeprefix("scripted/")]]
        return await self._inner(account, model, request, **more)


def composite(strategy, *agents, **more):
    strategy = getattr(agent_pb2, f"COMPOSITE_STRATEGY_{strategy}")
    fields = {"name": "team", "model": "", "composite": {"strategy": strategy, "agents": agents}}
    fields["composite"] |= more
    return spec(**fields)


async def test_a_basic_agent_repeats():
    """No model, no cost."""
    world = World(says("never"))
    output = await world.ask(spec(type="basic", model=""), "echo")
    assert (output.text, output.spent.cost_usd, world.model.requests) == ("echo", 0, [])


async def test_an_agent_is_a_tool_and_its_cost_is_its_callers():
    """The inner agent's answer is the tool's; what it spent counts outside too."""
    world = World(calls(("helper_tool", {"input": "2+2"})), says("4"), says("four"))
    output = await world.ask({"agents": [{"agent": model("helper", description="Adds.")}]})
    offer = world.model.requests[0].tools[0]
    assert (offer.name, offer.description) == ("helper_tool", "Adds.")
    assert (output.text, output.spent.model_calls) == ("four", 3)
    assert output.spent.cost_usd == pytest.approx(0.003)
    assert world.calls.passed == ["clerk", "clerk/helper"]


async def test_agents_that_call_themselves_end():
    """At the depth, once: no agent on the way tries again."""
    world = World(calls(("again", {"input": "x"})))
    again = {"tool_name": "again", "agent": {"name": "loop"}}
    await world.registered.create(context(), spec(name="loop", agents=[again]))
    error = await failure(world.ask("loop"))
    assert (error.reason, error.metadata["limit"]) == (Reason.AGENT_DEPTH_LIMIT, "10")
    assert error.metadata["tokens"] == str(15 * 11)
    world.model.requests.clear()
    limits = agent_pb2.AgentLimits(max_depth=2)
    error = await failure(world.ask("loop", limits=limits))
    assert (error.metadata["limit"], len(world.model.requests)) == ("2", 3)
    world.model.requests.clear()
    own = spec(name="loop", agents=[again], limits={"max_depth": 1})
    await world.registered.create(context(), own, replace=True)
    error = await failure(world.ask("loop"))
    assert (error.metadata["limit"], len(world.model.requests)) == ("1", 2)


async def test_the_purses_of_all_around_pay():
    """A call of an inner agent is held to the limits of those that it is within."""
    inner = {"agent": model("inner", limits={"max_cost_usd": 0.1})}
    world = World(calls(("inner_tool", {"input": "x"})), says("a"), says("b"))
    await world.ask({"agents": [inner], "limits": {"max_cost_usd": 0.5}})
    purses = [[purse.limit_nano for purse in one.limits] for one in world.model.accounts]
    assert purses == [[500_000_000], [100_000_000, 500_000_000], [500_000_000]]


async def test_in_a_row_each_is_given_what_the_one_before_said():
    """The last one's answer is the answer."""
    world = Many(
        a=lambda r: says(r.messages[-1].text + "a"), b=lambda r: says(r.messages[-1].text + "b")
    )
    output = await world.ask(composite("SEQUENTIAL", model("a"), model("b"), model("a")), "x")
    assert output.text == "xaba"
    answers = map_to_python(output.metadata.fields, "")["answers"]
    assert [answer["text"] for answer in answers] == ["xa", "xab", "xaba"]
    assert output.spent.model_calls == 3


async def test_side_by_side_all_answer_at_the_same_time():
    """Three that wait for each other; one that fails ends the others."""
    there = asyncio.Barrier(3)

    def meets(text):
        async def answer():
            await there.wait()
            return says(text)

        return lambda _: answer()

    world = Many(
        a=meets("A"), b=meets("B"), c=meets("C"), d=ServiceError(Reason.PROVIDER_REFUSED, "no")
    )
    team = [model("a"), model("b"), model("c")]
    output = await asyncio.wait_for(world.ask(composite("PARALLEL", *team)), 5)
    assert output.text == "a:\nA\n\nb:\nB\n\nc:\nC"
    error = await failure(world.ask(composite("PARALLEL", *team[:2], model("d"))))
    assert error.reason == Reason.PROVIDER_REFUSED
    assert world.model.closed == 2


@pytest.mark.parametrize(
    ("answers", "threshold", "expected"),
    [
        (("Yes.", "yes", "no"), 0, "Yes."),
        (("yes", "no"), 0, None),
        (("yes", "no"), 0.5, "yes"),
        (("yes", "yes", "no"), 0.7, None),
        (("yes", "yes", "yes"), 1, "yes"),
    ],
)
async def test_a_vote_needs_its_share(answers, threshold, expected):
    """The same words, whatever their case and marks; more than half where nothing is said."""
    world = Many(**{f"m{n}": says(text) for n, text in enumerate(answers)})
    team = composite("VOTE", *(model(f"m{n}") for n in range(len(answers))), threshold=threshold)
    if expected is not None:
        output = await world.ask(team)
        assert output.text == expected
        return
    error = await failure(world.ask(team))
    assert error.reason == Reason.AGENTS_DISAGREE
    assert error.metadata["votes"] == ("2, 1" if len(answers) > 2 else "1, 1")


async def test_a_fallback_answers_where_the_others_do_not():
    """Where votes are not enough, and where the chosen one fails; why is told."""
    world = Many(yes=says("yes"), no=says("no"), judge=says("maybe"))
    team = composite("VOTE", model("yes"), model("no"), fallback=model("judge"))
    output = await world.ask(team)
    assert output.text == "maybe"
    told = map_to_python(output.metadata.fields, "")["fallback_for"]
    assert told["reason"] == "AGENTS_DISAGREE"


@pytest.mark.parametrize("said", ["writer", "`Writer`.", "I would choose writer.", "**writer**"])
async def test_a_model_routes(said):
    """It is told who there is, and its word is understood with a little around it."""
    world = Many(router=says(said), writer=says("prose"), coder=says("code"))
    team = composite(
        "ROUTED", model("writer", description="Writes."), model("coder"),
        router_model="scripted/router",
    )  # fmt: skip
    output = await world.ask(team, "a poem")
    assert output.text == "prose"
    assert output.metadata.fields["chosen"].string_value == "writer"
    system = world.model.requests[0].messages[0]
    assert (system.role, "- writer: Writes." in system.text) == (Role.SYSTEM, True)
    assert output.spent.model_calls == 2


async def test_the_json_of_the_one_that_is_taken_is_the_answers():
    """Of the chosen one, of the last one, of those who agree; without a schema there is none."""
    world = Many(router=says("a"), a=says('{"n": 4}'), b=says('{"n": 4}'))
    both = [model(name, answer_schema=SCHEMA) for name in "ab"]
    routed = composite("ROUTED", *both, router_model="scripted/router")
    for team in (routed, composite("SEQUENTIAL", *both), composite("VOTE", *both)):
        output = await world.ask(team)
        assert to_python(output.json, "") == {"n": 4}
    assert not (await world.ask(composite("SEQUENTIAL", model("a")))).HasField("json")


async def test_a_choice_of_nobody_is_an_error_or_the_fallbacks():
    """A router that says nonsense."""
    world = Many(router=says("the moon"), writer=says("prose"), last=says("saved"))
    more = {"router_model": "scripted/router"}
    error = await failure(world.ask(composite("ROUTED", model("writer"), **more)))
    assert (error.reason, error.metadata["agent"]) == (Reason.AGENT_NOT_FOUND, "the moon")
    output = await world.ask(composite("ROUTED", model("writer"), fallback=model("last"), **more))
    assert output.text == "saved"


async def test_a_function_of_the_caller_routes():
    """It is given the words and the names, and gives a name."""
    world = Many(writer=says("prose"), coder=says("code"))
    team = composite("ROUTED", model("writer"), model("coder"), router_function="pick")
    running = asyncio.create_task(world.ask(team, "a poem"))
    progress = await world.execution.news(wait_s=5, with_events=False)
    (callback,) = progress.callbacks
    assert callback.name == "pick"
    told = map_to_python(callback.arguments.fields, "")
    assert (told["text"], told["agents"]) == ("a poem", ["writer", "coder"])
    world.execution._callbacks[callback.callback_id].answer.set_result("coder")
    assert (await running).text == "code"


async def test_registered_agents_live_for_their_tenant():
    """One is made once, is found by its tenant only, and keeps no key."""
    world = World(says("ok"))
    made = spec(name="clerk", api_key="sk-secret")
    agent = await world.registered.create(context(), made)
    assert (agent.state, agent.spec.api_key) == (agent_pb2.AGENT_STATE_READY, "")
    assert [step.to for step in agent.history] == [2, 3]
    assert (await world.ask("clerk")).text == "ok"
    await world.registered.close()
    agent = await world.registered.get(context(), "clerk")
    assert (agent.executions, agent.failures, agent.spent.input_tokens) == (1, 0, 10)
    with pytest.raises(ServiceError) as raised:
        await world.registered.create(context(), made)
    assert raised.value.reason == Reason.AGENT_EXISTS
    error = await failure(world.ask("clerk", tenant="rival"))
    assert (error.reason, error.metadata["agent"]) == (Reason.AGENT_NOT_FOUND, "clerk")


async def test_the_same_request_registers_once():
    """A client that repeats its call is given what the first has made."""
    world = World(says("ok"))
    for _ in range(2):
        await world.registered.create(context(), spec(), request_id="r1")
    error = await failure(world.registered.create(context(), spec(), request_id="r2"))
    assert error.reason == Reason.AGENT_EXISTS
    await world.registered.create(context(), spec(description="new"), replace=True)
    assert (await world.registered.get(context(), "clerk")).spec.description == "new"


def test_every_move_of_the_specification_is_legal_and_no_other():
    """The table of states, written down once more as the specification has it."""
    table = (
        "uninitialized→initializing,error; initializing→ready,error,terminating; "
        "ready→running,paused,terminating,error; running→ready,paused,terminating,error; "
        "paused→ready,running,terminating,error; error→recovering,terminating,terminated; "
        "recovering→ready,error,terminating; terminating→terminated,error; terminated→"
    )
    for row in table.split("; "):
        state, _, targets = row.partition("→")
        named = {word(to) for to in LEGAL[State.Value(f"AGENT_STATE_{state.upper()}")]}
        assert named == set(filter(None, targets.split(",")))


@pytest.mark.parametrize("state", ["PAUSED", "ERROR"])
async def test_an_agent_that_is_not_ready_answers_nobody(state):
    """It says in which state it is; nothing is spent."""
    world = World(says("ok"))
    await world.registered.create(context(), spec())
    to = getattr(agent_pb2, f"AGENT_STATE_{state}")
    moved = await world.registered.transition(context(), "clerk", to, "holidays")
    assert moved.history[-1].reason == "holidays"
    error = await failure(world.ask("clerk"))
    assert (error.reason, error.metadata["from"]) == (Reason.AGENT_STATE, state.lower())
    assert world.model.requests == []


async def test_an_illegal_move_is_refused_and_a_third_recovery_is_the_last():
    """A paused agent cannot recover; one that is never ready is not recovered for ever."""
    world = World(says("ok"))
    await world.registered.create(context(), spec())

    def move(name):
        to = getattr(agent_pb2, f"AGENT_STATE_{name}")
        return world.registered.transition(context(), "clerk", to, "")

    error = await failure(move("RECOVERING"))
    assert (error.metadata["from"], error.metadata["to"]) == ("ready", "recovering")
    for name in ("ERROR", "RECOVERING", "READY", *("ERROR", "RECOVERING") * 3, "ERROR"):
        await move(name)
    assert (await failure(move("RECOVERING"))).reason == Reason.AGENT_STATE
    await move("TERMINATED")
    assert (await failure(move("READY"))).reason == Reason.AGENT_STATE


async def test_an_agent_that_is_executed_is_running():
    """For who looks at it meanwhile."""
    seen = []

    async def look():
        seen.append((await world.registered.get(context(), "clerk")).state)
        return says("ok")

    world = World(lambda _: look())
    await world.registered.create(context(), spec())
    await world.ask("clerk")
    seen.append((await world.registered.get(context(), "clerk")).state)
    assert seen == [agent_pb2.AGENT_STATE_RUNNING, agent_pb2.AGENT_STATE_READY]


async def test_hooks_may_change_what_is_asked_and_what_is_answered():
    """Input, target and output, as they may with a tool."""
    world = World(lambda request: says(request.messages[-1].text.upper()))

    async def hook(call, inner):
        reply = await inner(
            type(call)(call.method, None, call.args | {"input": {"text": "changed"}})
        )
        return Reply(ok=True, tree=reply.tree | {"text": reply.tree["text"] + "!"})

    world.calls.hook = hook
    output = await world.ask()
    assert (output.text, output.spent.model_calls) == ("CHANGED!", 1)


async def test_a_hook_may_send_it_to_another_agent():
    """One that is registered, by its name."""
    world = World(says("never"))
    await world.registered.create(context(), spec(name="echo", type="basic", model=""))
    world.calls.hook = lambda call, inner: inner(
        type(call)(call.method, None, call.args | {"agent": "echo"})
    )
    assert (await world.ask(None, "hello")).text == "hello"


async def test_json_is_read_checked_and_asked_for_once_more():
    """The schema goes to the provider; an answer that does not fit is told why."""
    world = World(says('{"n": "x"}'), says('```json\n{"n": 4}\n```'))
    output = await world.ask({"answer_schema": SCHEMA})
    assert to_python(output.json, "") == {"n": 4}
    assert world.model.requests[0].answer_schema == json.loads(SCHEMA)
    assert "n: " in world.last.messages[-1].text
    assert (output.turns, output.spent.model_calls) == (2, 2)


async def test_a_conversation_keeps_the_answer_that_fits():
    """Not the one that had to be repaired."""
    world = World(says("four"), says('{"n": 4}'), says('{"n": 5}'))
    for _ in range(2):
        await world.ask({"answer_schema": SCHEMA}, session_id="s1")
    assert [message.text for message in world.last.messages[1:]] == ["hello", '{"n": 4}', "hello"]


@pytest.mark.parametrize("said", ["no json at all", "[1, 2]", '{"n": 1e999}', "[" * 100_000])
async def test_json_that_never_fits_is_an_error(said):
    """After one repair; with what both cost."""
    world = World(says(said))
    error = await failure(world.ask({"answer_schema": SCHEMA}))
    assert error.reason == Reason.PROVIDER_ANSWER_INVALID
    assert (error.metadata["provider"], error.metadata["tokens"]) == ("scripted", "30")
    assert len(world.model.requests) == 2


async def test_json_and_tools_go_together():
    """While tools are offered the schema is told in words, for providers cannot do both at once."""
    world = World(calls(("add", {"a": 1, "b": 1})), says("two"), says('{"n": 2}'))
    world.tools.add("add", lambda a, b: a + b, a=NUMBER, b=NUMBER)
    output = await world.ask({"answer_schema": SCHEMA, "tools": ["add"]})
    assert to_python(output.json, "") == {"n": 2}
    first, _, repair = world.model.requests
    assert (first.answer_schema, len(first.tools)) == (None, 1)
    assert "JSON Schema" in first.messages[0].text
    assert (repair.answer_schema is not None, len(repair.tools)) == (True, 0)

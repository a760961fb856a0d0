"""Model and tools in turn: what the model is told, what ends it, and what that has cost."""

import asyncio
import json

import pytest
from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import agent_pb2

from services.common.errors import Reason, ServiceError
from services.common.values import map_to_python, to_python
from services.runtime.providers.model import ChatAnswer, Finish, Role, ToolUse
from tests.agent_world import World, calls, says, spec

NUMBER = {"type": "number"}


def with_adder(*answers, **more):
    """A world with a tool that adds."""
    world = World(*answers, **more)
    world.tools.add("add", lambda a, b: a + b, a=NUMBER, b=NUMBER)
    return world


async def failure(awaitable):
    """The error that something ends with."""
    with pytest.raises(ServiceError) as raised:
        await awaitable
    return raised.value


async def test_a_tool_is_called_and_its_result_told():
    """The model asks, the tool answers, the model is told under the call's id, and answers."""
    world = with_adder(calls(("add", {"a": 2, "b": 3})), says("It is 5."))
    output = await world.ask({"tools": ["add"], "system_prompt": "Be exact."})
    assert (output.text, output.turns, output.finish_reason) == ("It is 5.", 2, "stop")
    roles = [(message.role, message.text) for message in world.last.messages]
    assert roles == [
        (Role.SYSTEM, "Be exact."), (Role.USER, "hello"), (Role.ASSISTANT, ""), (Role.TOOL, "5"),
    ]  # fmt: skip
    assert world.last.messages[3].call_id == world.last.messages[2].tool_uses[0].call_id
    (call,) = output.tool_calls
    assert (call.tool, to_python(call.result, ""), call.HasField("failure")) == ("add", 5, False)
    assert map_to_python(call.arguments.fields, "") == {"a": 2, "b": 3}
    assert (output.spent.input_tokens, output.spent.model_calls) == (20, 2)
    assert output.spent.cost_usd == pytest.approx(0.002)


async def test_the_model_is_told_the_same_of_equal_results():
    """By name in order, for a map has none: what a provider keeps in its cache stays of use."""
    world = World(calls(("make", {})), says("done"))
    world.tools.add("make", lambda: {"b": 1, "a": {"d": 2, "c": 3}})
    await world.ask({"tools": ["make"]})
    assert world.last.messages[-1].text == '{"a":{"c":3,"d":2},"b":1}'


async def test_calls_of_one_answer_are_made_at_the_same_time():
    """Three that wait for each other all end, and are told in the order of the model's asking."""
    world = World(calls(("meet", {"who": "a"}), ("meet", {"who": "b"}), ("meet", {"who": "c"})),
                  says("done"))  # fmt: skip
    there = asyncio.Barrier(3)

    async def meet(who):
        await there.wait()
        return who

    world.tools.add("meet", meet, who={"type": "string"})
    await asyncio.wait_for(world.ask({"tools": ["meet"]}), 5)
    assert [message.text for message in world.last.messages[-3:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"a": 1}', "FIELD_REQUIRED"),
        ('{"a": 1, "b": "x"}', "FIELD_INVALID"),
        ('{"a": 1, "b": 2, "c": 3}', "FIELD_INVALID"),
        ("{not json", "FIELD_INVALID"),
        ("[1, 2]", "FIELD_INVALID"),
        ('{"a": 1e999, "b": 2}', "FIELD_INVALID"),
        ('{"a": 123456789012345678901234567890, "b": 2}', "FIELD_INVALID"),
        ('{"a": "' + "x" * 300_000 + '"}', "LIMIT_EXCEEDED"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(arguments, told):
    """Nothing is called; the model may do better, and here it does."""
    world = with_adder(
        calls(("add", arguments)), calls(("add", {"a": 1, "b": 2})), says("3 at last")
    )
    output = await world.ask({"tools": ["add"]})
    assert world.tools.made == [("add", {"a": 1, "b": 2})]
    assert output.tool_calls[0].failure.reason == told
    answer = json.loads(world.model.requests[1].messages[-1].text)
    assert answer["error"]["reason"] == told
    assert output.text == "3 at last"


async def test_a_tool_that_fails_is_told_to_the_model():
    """With reason and message; it is no failure of the agent."""
    world = World(calls(("break", {})), says("I could not."))

    def body():
        raise ServiceError(Reason.FILE_NOT_FOUND, "There is no such file.", path="x")

    world.tools.add("break", body)
    output = await world.ask({"tools": ["break"]})
    told = json.loads(world.last.messages[-1].text)
    assert told == {"error": {"reason": "FILE_NOT_FOUND", "message": "There is no such file."}}
    assert output.tool_calls[0].failure.metadata == {"path": "x"}
    assert output.text == "I could not."


async def test_an_unknown_tool_for_ever_ends_at_the_limit():
    """The model is told what there is; one that never listens ends with what it has cost."""
    world = with_adder(calls(("fly", {})))
    error = await failure(world.ask({"tools": ["add"], "limits": {"max_turns": 4}}))
    assert error.reason == Reason.AGENT_TURN_LIMIT
    assert error.metadata == {
        "agent": "clerk", "limit": "4", "tokens": "60", "cost_usd": "0.004",
    }  # fmt: skip
    told = json.loads(world.last.messages[-1].text)
    assert told["error"]["reason"] == "TOOL_NOT_FOUND"
    assert "add" in told["error"]["message"]
    assert len(world.model.requests) == 4


async def test_the_limit_of_calls_is_kept():
    """The call that would be one too many is not made."""
    world = with_adder(calls(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2})))
    error = await failure(world.ask({"tools": ["add"], "limits": {"max_tool_calls": 3}}))
    assert error.reason == Reason.AGENT_CALL_LIMIT
    assert (error.metadata["limit"], error.metadata["tokens"]) == ("3", "30")
    assert len(world.tools.made) == 2


async def test_the_limit_of_time_ends_model_and_tool():
    """What the agent waits for is cancelled, and it says what it had spent."""
    world = World(calls(("sleep", {})), says("never"))
    ended = []

    async def body():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    world.tools.add("sleep", body)
    limits = {"timeout": Duration(nanos=100_000_000)}
    error = await failure(world.ask({"tools": ["sleep"], "limits": limits}))
    assert error.reason == Reason.AGENT_TIME_LIMIT
    assert (error.metadata["limit"], error.metadata["tokens"]) == ("0.1", "15")
    assert ended


async def test_a_narrower_limit_of_the_request_holds():
    """The agent's own and the request's hold together."""
    world = with_adder(calls(("add", {"a": 1, "b": 1})))
    limits = agent_pb2.AgentLimits(max_turns=2)
    agent = {"tools": ["add"], "limits": {"max_turns": 9}}
    error = await failure(world.ask(agent, limits=limits))
    assert (error.reason, error.metadata["limit"]) == (Reason.AGENT_TURN_LIMIT, "2")


async def test_the_limit_of_money_reaches_whoever_reserves():
    """The purse of the agent goes with each call; what is refused ends the agent."""
    refusal = ServiceError(Reason.BUDGET_EXHAUSTED, "No.", budget="agent", limit="0.01")
    world = with_adder(calls(("add", {"a": 1, "b": 1})), refusal)
    error = await failure(world.ask({"tools": ["add"], "limits": {"max_cost_usd": 0.01}}))
    assert error.reason == Reason.BUDGET_EXHAUSTED
    assert (error.metadata["budget"], error.metadata["tokens"]) == ("agent", "15")
    (purse,) = world.model.accounts[0].limits
    assert (purse.name, purse.limit_nano) == ("agent", 10_000_000)


async def test_what_a_broken_call_took_is_counted():
    """A provider's failure that cost something is in what the agent tells."""
    broken = ServiceError(Reason.PROVIDER_UNAVAILABLE, "Gone.", tokens="7", cost_usd="0.5")
    world = with_adder(calls(("add", {"a": 1, "b": 1})), broken)
    error = await failure(world.ask({"tools": ["add"]}))
    assert error.reason == Reason.PROVIDER_UNAVAILABLE
    assert (error.metadata["tokens"], error.metadata["cost_usd"]) == ("22", "0.501")


@pytest.mark.parametrize(
    "answer",
    [
        says("x" * 10_000_000),
        calls(*[("add", {"a": 1, "b": 1})] * 100),
    ],
    ids=["text", "calls"],
)
async def test_an_answer_that_is_too_much_ends_it(answer):
    """Ten megabytes, or a hundred calls at once: nothing of it is done or kept."""
    world = with_adder(answer)
    error = await failure(world.ask({"tools": ["add"]}))
    assert error.reason == Reason.PROVIDER_ANSWER_LIMIT
    assert error.metadata["tokens"] == "15"
    assert world.tools.made == []


async def test_nonsense_is_told_as_text():
    """Halves of characters, ids that are empty or the same: nothing of it breaks anything."""
    uses = [ToolUse(call_id=i, name="a\ud800dd", arguments="\udfff") for i in ("", "x", "x")]
    nonsense = ChatAnswer(text="\ud83d", tool_uses=uses, finish=Finish.STOP)
    world = with_adder(nonsense, says("\ud83d ok"))
    output = await world.ask({"tools": ["add"]})
    assert output.text == "? ok"
    ids = [message.call_id for message in world.last.messages if message.role is Role.TOOL]
    assert len(set(ids)) == 3
    assert all(call.failure.reason == "TOOL_NOT_FOUND" for call in output.tool_calls)


async def test_a_long_result_is_cut_for_the_model():
    """The caller has all of it, the model its beginning and how much there was."""
    world = World(calls(("read", {})), says("long"))
    world.tools.add("read", lambda: "ä" * 100_000)
    output = await world.ask({"tools": ["read"]})
    told = world.last.messages[-1].text
    assert len(told.encode()) < 66_000
    assert told.endswith("[cut: the first 65536 of 200000 bytes]")
    assert len(output.tool_calls[0].result.string_value) == 100_000


async def test_an_output_tells_so_much_of_its_calls_and_no_more():
    """What would not fit into an answer is left out by its size; the rest stays."""
    world = World(calls(("read", {}), ("read", {}), ("read", {})), says("long"))
    world.tools.add("read", lambda: "x" * 300_000)
    output = await world.ask({"tools": ["read"]})
    told = [call.result.string_value[:14] for call in output.tool_calls]
    assert told == ["x" * 14, "[left out: 300", "[left out: 300"]
    assert output.ByteSize() < 400_000


async def test_every_tool_means_those_that_the_caller_may():
    """`*` leaves out what needs a permission that the key has not."""
    world = World(says("ok"))
    world.tools.add("safe", lambda: 1)
    world.tools.add("strong", lambda: 1, level="privileged")
    await world.ask({"tools": ["*"]}, permissions=("agent.execute", "tool.execute"))
    assert [tool.name for tool in world.last.tools] == ["safe"]
    await world.ask({"type": "tool-orchestrator"})
    assert [tool.name for tool in world.last.tools] == ["safe", "strong"]
    assert world.last.temperature == pytest.approx(0.3)


async def test_a_tool_that_is_not_there_is_named_before_anything_is_spent():
    """The description is wrong, not the model."""
    world = World(says("ok"))
    error = await failure(world.ask({"tools": ["nowhere"]}))
    assert error.reason == Reason.TOOL_NOT_FOUND
    assert world.model.requests == []


async def test_a_tool_that_must_be_called_is_asked_for_once():
    """`required` holds for the first answer, or the model could never end."""
    world = with_adder(calls(("add", {"a": 1, "b": 1})), says("2"))
    await world.ask({"tools": ["add"], "tool_choice": "required"})
    assert [request.tool_choice for request in world.model.requests] == ["required", "auto"]


async def test_what_happens_is_told_as_it_happens():
    """Text in pieces, a tool's beginning and end, what each answer took."""
    world = with_adder(calls(("add", {"a": 1, "b": 1}), text="let me"), says("it is 2"))
    await world.ask({"tools": ["add"]})
    kinds = [(event.WhichOneof("event"), event.text) for event in world.events()]
    assert kinds == [
        ("text", "letme"), ("model_answered", ""), ("tool_started", ""), ("tool_ended", ""),
        ("text", "itis2"), ("model_answered", ""),
    ]  # fmt: skip


async def test_settings_of_the_agent_reach_the_model():
    """Each as it was given; what was not given is left to the provider."""
    world = World(says("ok"))
    await world.ask(
        {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"], "limits": {"max_tokens": 99}}
    )
    asked = world.last
    assert (asked.temperature, asked.top_p, asked.seed) == (0.5, 0.9, 7)
    assert (list(asked.stop), asked.max_tokens) == (["END"], 99)
    await world.ask()
    assert (world.last.temperature, world.last.seed, world.last.max_tokens) == (None, None, None)


async def test_facts_parameters_and_images_are_told():
    """Facts beside the instructions, parameters beside the words, images as they are."""
    world = World(says("ok"))
    given = agent_pb2.AgentInput()
    given.parameters.fields["city"].string_value = "Ulm"
    media = [{"mime_type": "image/png", "data": b"\x89PNG"}]
    await world.ask(
        None,
        "look",
        context={"user": "Ann"},
        input={"parameters": given.parameters, "media": media},
    )
    system, question = world.last.messages
    assert system.text == 'Context:\n{"user":"Ann"}'
    assert question.text == 'look\n\n{"city":"Ulm"}'
    assert (question.images[0].mime_type, question.images[0].data) == ("image/png", b"\x89PNG")


async def test_a_caller_that_executes_tools_itself_is_asked_to():
    """Its answer is the model's, whether it is a tool's whole answer or a plain value."""
    world = with_adder(
        calls(("add", {"a": 1, "b": 1})), calls(("add", {"a": 2, "b": 2})), says("x")
    )
    running = asyncio.create_task(world.ask({"tools": ["add"]}, executes_tools=True))
    for value in ({"success": True, "result": 2}, 4):
        progress = await world.execution.news(wait_s=5, with_events=False)
        (callback,) = progress.callbacks
        assert callback.name == "add"
        world.execution._callbacks[callback.callback_id].answer.set_result(value)
    output = await running
    assert world.tools.made == []
    assert [to_python(call.result, "") for call in output.tool_calls] == [2, 4]


async def test_a_function_of_the_caller_is_checked_like_a_tool():
    """Against the schema that came with it; then the caller is asked."""
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})
    function = {"name": "double", "description": "Doubles.", "parameters_schema": schema}
    world = World(calls(("double", {"n": "x"})), calls(("double", {"n": 4})), says("8"))
    running = asyncio.create_task(world.ask({"functions": [function]}))
    progress = await world.execution.news(wait_s=5, with_events=False)
    (callback,) = progress.callbacks
    assert map_to_python(callback.arguments.fields, "") == {"n": 4}
    world.execution._callbacks[callback.callback_id].answer.set_result(8)
    output = await running
    assert output.tool_calls[0].failure.reason == "FIELD_INVALID"
    assert world.last.messages[-1].text == "8"


async def test_who_ends_an_agent_ends_the_call_of_its_model():
    """Cancelling reaches what asks the model, and that closes its connection."""

    async def endless():
        await asyncio.sleep(60)

    world = World(lambda _: endless())
    running = asyncio.create_task(world.ask())
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert world.model.closed == 1


async def test_two_things_of_one_name_are_refused():
    """The model could not tell them apart."""
    world = with_adder(says("ok"))
    error = await failure(world.ask({"tools": ["add"], "functions": [{"name": "add"}]}))
    assert error.reason == Reason.FIELD_INVALID


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "agent.spec.name"),
        ({"name": "no spaces"}, "agent.spec.name"),
        ({"model": ""}, "agent.spec.model"),
        ({"type": "wizard"}, "agent.spec.type"),
        ({"temperature": 3}, "agent.spec.temperature"),
        ({"temperature": float("nan")}, "agent.spec.temperature"),
        ({"top_p": 0}, "agent.spec.top_p"),
        ({"limits": {"max_turns": -1}}, "agent.spec.limits.max_turns"),
        ({"limits": {"max_cost_usd": float("nan")}}, "agent.spec.limits.max_cost_usd"),
        ({"answer_schema": "{"}, "agent.spec.answer_schema"),
        ({"answer_schema": '{"$ref": "http://x.test/a"}'}, "agent.spec.answer_schema"),
        ({"functions": [{"name": "no good"}]}, "agent.spec.functions[1].name"),
        ({"functions": [{"name": "f", "parameters_schema": "[]"}]},
         "agent.spec.functions[1].parameters_schema"),
        ({"agents": [{}]}, "agent.spec.agents[1].agent"),
        ({"composite": {}}, "agent.spec.composite.strategy"),
        ({"system_prompt": "x" * 300_000}, "agent.spec"),
    ],
)  # fmt: skip
async def test_what_cannot_be_an_agent_is_refused_by_field(fields, field):
    """Before anything is asked of anybody."""
    world = World(says("ok"))
    error = await failure(world.ask(spec(**fields)))
    assert (error.metadata.get("field"), world.model.requests) == (field, [])


@pytest.mark.parametrize(
    ("text", "more", "field"),
    [
        ("  ", {}, "input.text"),
        ("x" * 1_100_000, {}, "input"),
        ("x", {"media": [{"mime_type": "text/html", "data": b"x"}]}, "input.media[1]"),
        ("x", {"media": [{"mime_type": "image/png"}]}, "input.media[1]"),
    ],
)
async def test_an_input_that_asks_nothing_is_refused(text, more, field):
    """Likewise."""
    world = World(says("ok"))
    error = await failure(world.ask(None, text, input=more))
    assert (error.metadata["field"], world.model.requests) == (field, [])

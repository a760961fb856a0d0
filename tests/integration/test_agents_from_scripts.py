"""Agents that scripts and programs build: three tools each, over a real and a played model.

The real model is small; what it says is nobody's claim. That it is heard, that its calls reach the
tools, and that what these give is right and is told, is.
"""

import json
import time

import pytest
from llmspell import Client
from llmspell.types import (
    AgentLimits,
    AgentOutput,
    AgentSpec,
    OfferedFunction,
    RunOutput,
    RunResult,
)

from tests.integration.test_replay import clients, replay, run

LOCAL = "llamacpp/smollm2-135m-instruct"
HELLO = {"operation": "encode", "input": "hello"}
PLAYED = {
    "replies": [
        {
            "tools": [
                {"name": "base64-encoder", "arguments": HELLO},
                {"name": "calculator", "arguments": {"input": "6 * 7"}},
                {"name": "order_state", "arguments": {"number": "17"}},
            ]
        },
        {"text": "The order is {{result}}."},
    ]
}
PLAYED_URL = f"data:application/json,{json.dumps(PLAYED)}"
ORDER_SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "string", "maxLength": 8}},
    "required": ["number"],
}
LUA = """
local given = JSON.parse(ARGS.agent)
given.tools = {"base64-encoder", "calculator", {
  name = "order_state", description = "Tells the state of an order by its number.",
  parameters = JSON.parse(ARGS.schema),
  fn = function(arguments)
    State.save("custom:orders", arguments.number, true)
    return ARGS.owner .. ":" .. arguments.number
  end,
}}
local agent = Agent.create(given)
local heard = {}
local done = agent:invokeStream(ARGS.text, function(chunk) heard[#heard + 1] = chunk.type end)
return {text = done.text, calls = done.output.tool_calls, usage = done.output.usage, heard = heard,
  model = done.output.model}
"""


@pytest.fixture(scope="module")
def pair(deployment):
    """Clients of two tenants."""
    with clients(deployment, "asks-one", "asks-two") as found:
        yield dict(zip(("asks-one", "asks-two"), found, strict=True))


def from_lua(client, owner, text, **agent):
    """What a script's agent did."""
    named = {"agent": json.dumps(agent), "owner": owner, "text": text}
    named["schema"] = json.dumps(ORDER_SCHEMA)
    *_, result = client.run(LUA, named=named)
    assert isinstance(result, RunResult)
    return result.value


def from_python(client, owner, text, **agent):
    """What a program's agent did, in the same form."""
    order = OfferedFunction(
        name="order_state",
        description="Tells the state of an order by its number.",
        parameters=ORDER_SCHEMA,
    )

    def order_state(number):
        return f"{owner}:{number}"

    limits = AgentLimits(max_tokens=agent.pop("max_tokens", 0))
    tools = ("base64-encoder", "calculator")
    spec = AgentSpec(tools=tools, functions=(order,), limits=limits, **agent)
    functions = {"order_state": order_state}
    *events, output = client.stream_agent(spec, text, functions=functions)
    assert isinstance(output, AgentOutput)
    calls = [
        {
            "tool": each.tool,
            "arguments": dict(each.arguments),
            "result": each.result,
            "success": each.failure is None,
        }
        for each in output.tool_calls
    ]
    spent = output.spent
    return {
        "text": output.text,
        "calls": calls,
        "usage": {"model_calls": spent.model_calls, "total_tokens": spent.output_tokens},
        "heard": [each.kind for each in events],
        "model": output.model,
    }


def check_calls(client, owner, calls):
    """Each result is what the tool gives for those arguments, whoever calls it."""
    for call in calls:
        if not call["success"]:
            continue
        if call["tool"] == "order_state":
            assert call["result"] == f"{owner}:{call['arguments']['number']}"
        else:
            direct = client.execute_tool(call["tool"], call["arguments"])
            assert plain(call["result"]) == plain(direct.result)


def plain(result):
    """Without what was measured."""
    kept = dict(result)
    kept.pop("resource_usage", None)
    return kept


@pytest.mark.parametrize("make", [from_lua, from_python])
def test_three_tools_of_a_played_model(pair, make):
    """All three are called, two of the system and one of the caller, for each tenant its own."""
    for owner, client in pair.items():
        done = make(
            client,
            owner,
            "Encode hello, calculate 6 * 7, and how is order 17?",
            name="clerk",
            model="scripted/inline",
            base_url=PLAYED_URL,
        )
        assert [call["tool"] for call in done["calls"]] == [
            "base64-encoder", "calculator", "order_state",
        ]  # fmt: skip
        assert [call["success"] for call in done["calls"]] == [True] * 3
        assert done["calls"][0]["result"]["output"] == "aGVsbG8="
        assert done["calls"][1]["result"]["result"] == 42
        assert done["text"] == f"The order is {owner}:17."
        assert done["usage"]["model_calls"] == 2
        assert done["heard"].count("tool_started") == done["heard"].count("tool_ended") == 3
        check_calls(client, owner, done["calls"])


@pytest.mark.parametrize(("make", "owner"), [(from_lua, "real-one"), (from_python, "real-two")])
def test_three_tools_of_a_real_model(local_deployment, make, owner):
    """It is made to call one; what it calls is called rightly, and it speaks afterwards."""
    tenant = local_deployment.tenant(owner)
    with Client(local_deployment.address, local_deployment.keys[tenant]) as client:
        done = make(
            client,
            owner,
            "Tell the state of order number 17.",
            name="clerk",
            model=LOCAL,
            temperature=0.0,
            tool_choice="required",
            max_tokens=64,
        )
        assert done["calls"], done
        assert done["model"] == LOCAL
        assert done["usage"]["model_calls"] >= 2
        assert done["usage"]["total_tokens"] > 0
        assert {"tool_started", "tool_ended", "text"} <= set(done["heard"])
        assert done["text"].strip()
        check_calls(client, owner, done["calls"])


def test_what_the_script_s_function_does_is_its_tenant_s(pair):
    """A function of one tenant's script writes to that tenant's state only."""
    one, two = pair.values()
    from_lua(one, "x", "go", name="w", model="scripted/inline", base_url=PLAYED_URL)
    assert [each.key for each in one.list_state(scope="custom:orders")] == ["17"]
    one.delete_state("17", scope="custom:orders")
    from_lua(two, "x", "go", name="w", model="scripted/inline", base_url=PLAYED_URL)
    assert list(one.list_state(scope="custom:orders")) == []


AGAIN = """
local url = ARGS.url
local agent = Agent.create{model = "scripted/inline", base_url = url, tools = {"base64-encoder",
  "calculator", {name = "order_state", parameters = {number = "string"},
    fn = function(given) return math.random(1000000) .. given.number end}}}
print(agent.name)
local done = agent:invokeStream("go", function(chunk) print(chunk.type, chunk.tool, chunk.text) end)
print(done.text, JSON.stringify(done.output.tool_calls), JSON.stringify(agent:get_metrics()))
for _, move in ipairs(agent:get_state_history()) do print(move.from, move.to, move.timestamp) end
print(JSON.stringify(agent:get_conversation()))
return done.text
"""


def test_a_run_with_agents_comes_out_the_same(pair):
    """Names, chance, times, chunks, metrics: byte for byte, and nobody is asked again."""
    (one, _) = pair.values()
    run_id, printed, value = run(one, AGAIN, named={"url": PLAYED_URL}, journal=True)
    assert isinstance(value, str), value
    assert printed.count(b"tool_ended") == 3
    again, report = replay(one, run_id)
    assert again == printed
    assert (report.identical, report.asked_count) == (True, 0)
    name = printed.split()[0].decode()
    (kept,) = one.list_state(scope=f"agent:{name}")
    assert kept.key == f"conversation/run:{run_id}"
    assert kept.expire_time is not None


GOES_ON = """
local said = Agent.get("counted"):execute("first").text
print(said)
local from = os.clock()
while os.clock() - from < 2 do end
return said .. Agent.get("counted"):execute("second").text
"""


def counted(client, least):
    """Executions of the agent, which are counted in the background: once there are that many."""
    deadline = time.monotonic() + 30
    while (found := client.get_agent("counted").executions) < least:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_resumed_run_asks_no_model_twice(pair):
    """What was answered before the caller went away is not asked again; each tenant has its own."""
    for client in pair.values():
        client.create_agent(AgentSpec(name="counted", model="scripted/echo"), replace=True)
    one, two = pair.values()
    events = one.run(GOES_ON, journal=True)
    run_id = next(events).run_id
    assert next(events).data == b"first\n"
    events.close()
    deadline = time.monotonic() + 60
    while one.get_run(run_id).status == "running":
        assert time.monotonic() < deadline
    assert counted(one, 1) == 1
    *printed, result = one.resume_run(run_id)
    assert b"".join(each.data for each in printed if isinstance(each, RunOutput)) == b"first\n"
    assert result.value == "firstsecond"
    assert counted(one, 2) == 2
    assert two.get_agent("counted").executions == 0

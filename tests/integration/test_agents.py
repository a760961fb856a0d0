"""Agents through the gateway, over real sockets: what they do, what ends them, whose they are."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from llmspell import Client, DeadlineExceeded
from llmspell.types import RunLimits
from llmspell.v1 import agent_pb2, execution_pb2

from tests.integration.agent_calls import RefusedError, asking, plain, ref, seconds
from tests.models import openai_wire as wire
from tests.models.openai_wire import Call, call, say
from tests.models.scripted import Forever, Pause, Reply, Until, events

CALCULATOR = Call("calculator", {"operation": "evaluate", "input": "6*7"})


@pytest.fixture(scope="module")
def tenants(wired):
    """Two that must never meet."""
    for name in ("agents-a", "agents-b"):
        wired.up.tenant(name)
    keys = {"a": wired.up.keys["agents-a"], "b": wired.up.keys["agents-b"]}
    with asking(wired.up.address, **keys) as found:
        yield found


@pytest.fixture
def a(tenants):
    return tenants["a"]


@pytest.fixture
def b(tenants):
    return tenants["b"]


def messages(request):
    """What a model was told: role and text."""
    return [(one["role"], one.get("content") or "") for one in request.json["messages"]]


def refusal(make, *given, **more):
    with pytest.raises(RefusedError) as raised:
        make(*given, **more)
    return raised.value


def test_a_model_calls_tools_until_it_is_done(wired, a):
    """Two tools at once, one of them wrongly: the model is told all of it, and answers."""
    wrong = Call("calculator", {"operation": "evaluate"}, "call_2")
    model = wired.models.add("worker", call(CALCULATOR, wrong), say("It is 42."))
    output = a.answer({"model": model, "tools": ["calculator"], "system_prompt": "Calculate."})
    assert (output.text, output.turns, output.model) == ("It is 42.", 2, model)
    good, bad = output.tool_calls
    assert (good.tool, good.HasField("failure")) == ("calculator", False)
    assert (bad.failure.reason, bad.failure.metadata["field"]) == ("FIELD_INVALID", "input")
    told = messages(wired.models.asked("worker")[1])
    assert [role for role, _ in told] == ["system", "user", "assistant", "tool", "tool"]
    assert "42" in told[3][1]
    assert json.loads(told[4][1])["error"]["reason"] == "FIELD_INVALID"
    assert (output.spent.input_tokens, output.spent.output_tokens) == (20, 10)
    assert (output.spent.model_calls, output.spent.tool_calls) == (2, 2)


def test_what_happens_is_streamed(wired, a):
    """Text in pieces as it comes, tools as they begin and end, the output last."""
    model = wired.models.add("streamer", call(CALCULATOR), say("It is forty two."))
    news = list(a.stream({"model": model, "tools": ["calculator"]}))
    seen = [event for one in news for event in one.progress.events]
    kinds = [event.WhichOneof("event") for event in seen]
    assert [kind for kind in kinds if kind != "text"] == [
        "model_answered", "tool_started", "tool_ended", "model_answered",
    ]  # fmt: skip
    assert "".join(event.text for event in seen) == "It is forty two."
    assert [event.number for event in seen] == list(range(1, len(seen) + 1))
    assert news[-1].progress.agent.text == "It is forty two."
    assert [one.progress.done for one in news][-1]


def endless():
    """A model that never stops."""
    piece = wire.event(wire.chunk({"content": "and on "}))
    return events(wire.event(wire.opening()), Forever(piece, 0.02))


def late(_request):
    """A model that never begins."""
    return Reply(before=Pause(60))


@pytest.mark.parametrize("how", ["stream", "unary"])
def test_a_client_that_goes_ends_the_providers_call(wired, a, how):
    """Within a second of the cancelled call the provider's connection is closed."""
    name = f"endless-{how}"
    model = wired.models.behave(name, lambda _: endless() if how == "stream" else late)
    agent = {"model": model}
    if how == "stream":
        running = a.stream(agent)
        next(running)
    else:
        request = agent_pb2.ExecuteAgentRequest(agent=ref(agent), input={"text": "hello"})
        running = a.agents.ExecuteAgent.future(request, metadata=a.metadata, timeout=60)
    assert wired.server.until(lambda: wired.models.asked(name))
    running.cancel()
    (asked,) = wired.models.asked(name)
    assert wired.server.until(lambda: asked.client_left is not None, 5)


def test_cancel_execution_ends_it_for_its_owner_only(wired, a, b):
    """Another tenant's cancel does nothing; the owner's closes the connection."""
    model = wired.models.behave("cancelled", lambda _: late)
    progress = a.execute({"model": model}, wait=seconds(0.1))
    assert not progress.done
    assert wired.server.until(lambda: wired.models.asked("cancelled"))
    which = execution_pb2.CancelExecutionRequest(execution_id=progress.execution_id)
    assert not b.call(b.executions.CancelExecution, which).cancelled
    assert refusal(b.go_on, progress.execution_id).reason == "EXECUTION_NOT_FOUND"
    assert a.call(a.executions.CancelExecution, which).cancelled
    (asked,) = wired.models.asked("cancelled")
    assert wired.server.until(lambda: asked.client_left is not None, 5)
    assert refusal(a.go_on, progress.execution_id).reason == "CANCELLED"


def test_a_run_that_ends_takes_its_agents_with_it(wired, a):
    """A script that is killed by its limit leaves no call of a provider behind."""
    model = wired.models.behave("of-a-run", lambda _: late)
    source = f'return Agent.builder():name("x"):model("{model}"):build():execute({{text="hi"}})'
    key = wired.up.keys["agents-a"]
    with Client(wired.up.address, key) as client, pytest.raises(DeadlineExceeded) as raised:
        list(client.run(source, limits=RunLimits(wall_s=1.5)))
    assert raised.value.reason == "RUN_TIME_LIMIT"
    (asked,) = wired.models.asked("of-a-run")
    assert wired.server.until(lambda: asked.client_left is not None, 5)


def test_functions_of_the_caller_come_back_as_callbacks(wired, a, b):
    """The caller does them and goes on; nobody else can; a failure is told to the model."""
    use = [Call("weather", {"city": "Ulm"}, "c1"), Call("weather", {"city": "Bonn"}, "c2")]
    model = wired.models.add("asks-back", call(*use), say("Sun in Ulm."))
    function = {"name": "weather", "description": "Tells the weather."}
    progress = a.execute({"model": model, "functions": [function]}, wait=seconds(5))
    assert not progress.done
    asked = {plain(one.arguments)["city"]: one.callback_id for one in progress.callbacks}
    assert refusal(b.go_on, progress.execution_id, {asked["Ulm"]: "x"}).reason == (
        "EXECUTION_NOT_FOUND"
    )
    wrong = refusal(a.go_on, progress.execution_id, {"c99": 1})
    assert (wrong.reason, wrong.metadata) == ("CALLBACK_NOT_FOUND", {"callback_id": "c99"})
    failure = execution_pb2.ExecutionFailure(message="no such town")
    results = {asked["Ulm"]: {"sky": "sun"}, asked["Bonn"]: failure}
    progress = a.go_on(progress.execution_id, results)
    assert progress.agent.text == "Sun in Ulm."
    told = dict(
        zip(["Ulm", "Bonn"], messages(wired.models.asked("asks-back")[1])[-2:], strict=True)
    )
    assert json.loads(told["Ulm"][1]) == {"sky": "sun"}
    assert json.loads(told["Bonn"][1])["error"]["message"] == "no such town"


def test_a_stream_asks_back_too(wired, a):
    """Callbacks come in the stream; they are answered by calls beside it, and it goes on."""
    model = wired.models.add("asks-in-stream", call(Call("weather", {})), say("Sun."))
    running = a.stream({"model": model, "functions": [{"name": "weather"}]})
    news = []
    for one in running:
        news.append(one.progress)
        for callback in one.progress.callbacks:
            a.go_on(one.progress.execution_id, {callback.callback_id: "sun"}, wait=seconds(0))
    assert news[-1].agent.text == "Sun."
    assert sum(len(one.callbacks) for one in news) == 1


def test_a_client_may_execute_the_tools_itself(wired, a):
    """They come back as callbacks of their own kind, with the arguments already checked."""
    model = wired.models.add("hands-out", call(CALCULATOR), say("done"))
    agent = {"model": model, "tools": ["calculator"]}
    progress = a.execute(agent, wait=seconds(5), caller_executes_tools=True)
    (callback,) = progress.callbacks
    assert (callback.kind, callback.name) == (execution_pb2.CALLBACK_KIND_TOOL, "calculator")
    progress = a.go_on(progress.execution_id, {callback.callback_id: {"result": 42}})
    assert progress.agent.text == "done"
    assert plain(progress.agent.tool_calls[0].arguments) == CALCULATOR.arguments


def test_repeating_a_request_is_the_same_execution(wired, a, b):
    """The model is asked once, whoever repeats; another tenant's same id is another execution."""
    model = wired.models.add("once", say("first"), say("second"))
    first = a.execute({"model": model}, request_id="same")
    again = a.execute({"model": model}, request_id="same")
    assert (first.execution_id, first.agent.text) == (again.execution_id, again.agent.text)
    assert b.execute({"model": model}, request_id="same").agent.text == "second"
    assert len(wired.models.asked("once")) == 2


def test_a_request_id_is_bounded(a, b):
    """Where an agent is registered as where it is executed: it is kept in the process's memory."""
    spec = agent_pb2.AgentSpec(name="bounded", model="scripted/echo")
    for who in (a, b):
        long = agent_pb2.CreateAgentRequest(spec=spec, request_id="x" * 65)
        for refused in (
            refusal(who.call, who.agents.CreateAgent, long),
            refusal(who.execute, {"model": "scripted/echo"}, request_id="x" * 65),
        ):
            assert (refused.reason, refused.metadata["field"]) == ("LIMIT_EXCEEDED", "request_id")
    assert refusal(a.answer, "bounded").reason == "AGENT_NOT_FOUND"


def test_conversations_go_on_in_sessions(wired, a, b):
    """The model is shown what was said in this session, in no other, and of no other tenant."""
    model = wired.models.add("talker", say("noted"))
    mine, other = a.session(), a.session()
    a.answer({"model": model}, "I am Ann.", session_id=mine)
    for who, session in ((a, other), (b, b.session())):
        who.answer({"model": model}, "Who am I?", session_id=session)
        assert messages(wired.models.asked("talker")[-1]) == [("user", "Who am I?")]
    output = a.answer({"model": model}, "Who am I?", session_id=mine)
    assert output.conversation_id == mine
    assert [text for _, text in messages(wired.models.asked("talker")[-1])] == [
        "I am Ann.", "noted", "Who am I?",
    ]  # fmt: skip
    which = {"agent": "clerk", "session_id": mine}
    kept = a.call(a.agents.GetConversation, agent_pb2.GetConversationRequest(**which))
    assert [one.role for one in kept.messages] == ["user", "assistant"] * 2
    theirs = b.call(b.agents.GetConversation, agent_pb2.GetConversationRequest(**which))
    assert not theirs.messages
    gone = agent_pb2.DeleteConversationRequest(**which)
    assert not b.call(b.agents.DeleteConversation, gone).deleted
    assert a.call(a.agents.DeleteConversation, gone).deleted
    assert refusal(b.answer, {"model": model}, session_id=mine).reason == "SESSION_NOT_FOUND"


def test_agents_are_apart(wired, a, b):
    """Both tenants register one of the same name; each has its own, in its own state."""
    for who, said in ((a, "I am a's"), (b, "I am b's")):
        model = wired.models.add(f"of-{said[-3]}", say(said))
        spec = agent_pb2.AgentSpec(name="twin", model=model)
        who.call(who.agents.CreateAgent, agent_pb2.CreateAgentRequest(spec=spec))
    a.call(
        a.agents.TransitionAgent,
        agent_pb2.TransitionAgentRequest(name="twin", to=agent_pb2.AGENT_STATE_PAUSED),
    )
    paused = refusal(a.answer, "twin")
    assert (paused.reason, paused.metadata["from"]) == ("AGENT_STATE", "paused")
    assert b.answer("twin").text == "I am b's"
    listed = a.call(a.agents.ListAgents, agent_pb2.ListAgentsRequest())
    assert [agent.spec.name for agent in listed.agents] == ["twin"]
    a.call(a.agents.DeleteAgent, agent_pb2.DeleteAgentRequest(name="twin"))
    assert refusal(a.answer, "twin").reason == "AGENT_NOT_FOUND"
    assert b.answer("twin").text == "I am b's"


NEVER = {"max_turns": 3}


@pytest.mark.parametrize(
    ("answer", "fields", "expected"),
    [
        (call(Call("fly", {})), {"limits": NEVER}, ("AGENT_TURN_LIMIT", 45)),
        (call(CALCULATOR), {"limits": {"max_tool_calls": 2}}, ("AGENT_CALL_LIMIT", 45)),
        (lambda _: late, {"limits": {"timeout": seconds(0.3)}}, ("AGENT_TIME_LIMIT", 0)),
        (say("x" * 10_000_000), {}, ("PROVIDER_ANSWER_LIMIT", None)),
        (lambda _: endless(), {"limits": {"timeout": seconds(0.5)}}, ("AGENT_TIME_LIMIT", None)),
        (say("certainly!"), {"answer_schema": "{}"}, ("PROVIDER_ANSWER_INVALID", 30)),
        (lambda _: wire.rate_limited("90"), {"limits": {"timeout": seconds(20)}},
         ("PROVIDER_RATE_LIMITED", 0)),
        (lambda _: wire.quota_gone(), {}, ("PROVIDER_OUT_OF_CREDIT", 0)),
        (lambda _: wire.wrong_key(), {}, ("PROVIDER_KEY_REFUSED", 0)),
        (lambda _: wire.too_long(), {}, ("PROVIDER_REFUSED", 0)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_one_clear_error_with_what_was_spent(wired, a, answer, fields, expected):
    """Whatever the model does: its own reason, and tokens and cost beside it."""
    reason, tokens = expected
    model = wired.models.behave(f"bad-{reason}-{tokens}", lambda _: answer)
    error = refusal(a.answer, {"model": model, "tools": ["calculator"]} | fields)
    assert error.reason == reason, error.message
    assert float(error.metadata["cost_usd"]) >= 0
    assert tokens is None or int(error.metadata["tokens"]) == tokens


@pytest.mark.parametrize(
    ("agent", "reason", "named"),
    [
        ("nobody", "AGENT_NOT_FOUND", ("agent", "nobody")),
        ({"model": "nowhere/m"}, "PROVIDER_NOT_FOUND", ("provider", "nowhere")),
        ({"model": "wire/none"}, "MODEL_NOT_FOUND", ("model", "none")),
        ({"model": "down/m"}, "PROVIDER_UNAVAILABLE", ("provider", "down")),
        ({"tools": ["hammer"]}, "TOOL_NOT_FOUND", ("tool", "hammer")),
        ({"model": ""}, "FIELD_REQUIRED", ("field", "agent.spec.model")),
        ({"agents": [{"agent": {"name": "nobody"}}], "model": "wire/asks"},
         "AGENT_TURN_LIMIT", ("limit", "2")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(wired, a, agent, reason, named):
    """Provider, model, agent, tool; an unknown agent as a tool is the model's to be told."""
    wired.models.add("asks", call(Call("nobody_tool", {"input": "x"})))
    if isinstance(agent, dict):
        agent = {"limits": {"max_turns": 2}} | agent
    error = refusal(a.answer, agent)
    assert (error.reason, error.metadata.get(named[0])) == (reason, named[1])


def test_a_key_without_the_permission_of_a_tool(wired, a):
    """An agent may no more than its caller: the refusal is told to the model."""
    with Client(wired.up.address, wired.up.operator_key) as operator:
        key = operator.create_key("agents-a", roles=["reader"]).key
    with asking(wired.up.address, reader=key) as found:
        error = refusal(found["reader"].answer, {})
    assert (error.code, error.metadata["permission"]) == ("PERMISSION_DENIED", "agent.execute")


def test_each_agent_is_announced(wired, a):
    """Once, as well as each tool within."""
    model = wired.models.add("announced", call(CALCULATOR), say("42"))
    a.answer({"name": "loud", "model": model, "tools": ["calculator"]})
    a.answer({"name": "loud", "type": "basic"}, "x")
    with Client(wired.up.address, wired.up.keys["agents-a"]) as client:

        def heard():
            return [
                event.type
                for event in client.list_events("*")
                if event.type.startswith(("agent.", "tool."))
                and (event.data or {}).get("agent", "loud") == "loud"
            ]

        assert wired.server.until(lambda: heard().count("agent.executed") == 2)
        assert heard().count("tool.executed") >= 1


def test_many_wait_at_once(wired, a):
    """Twenty agents wait for one model, each on a connection of its own, and all end."""
    there = threading.Event()

    def behaviour(_):
        if len(wired.models.asked("many")) == 20:
            there.set()
        return after_all

    def after_all(request):
        return replace(say("ok")(request), before=Until(there))

    model = wired.models.behave("many", behaviour)
    request = agent_pb2.ExecuteAgentRequest(agent=ref({"model": model}), input={"text": "x"})
    futures = [
        a.agents.ExecuteAgent.future(request, metadata=a.metadata, timeout=60) for _ in range(20)
    ]
    assert {future.result().progress.agent.text for future in futures} == {"ok"}

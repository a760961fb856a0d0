"""Agents over a real model on a real socket: claims of the protocol, never of what is said."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.runtime.providers.local_model import MODEL
from tests.integration.agent_calls import RefusedError, asking, plain, seconds

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tenants(local_deployment):
    for name in ("local-a", "local-b"):
        local_deployment.tenant(name)
    keys = {"a": local_deployment.keys["local-a"], "b": local_deployment.keys["local-b"]}
    with asking(local_deployment.address, **keys) as found:
        yield found


def agent(**more):
    fixed = {"model": f"llamacpp/{MODEL}", "temperature": 0, "seed": 1}
    return fixed | {"limits": {"max_tokens": 12}} | more


def test_an_answer_comes_in_pieces_with_what_it_took(tenants):
    """The pieces are the text; tokens are the server's own count; a local model costs nothing."""
    news = list(tenants["a"].stream(agent(), "Name three colours."))
    events = [event for one in news for event in one.progress.events]
    pieces = [event.text for event in events if event.WhichOneof("event") == "text"]
    output = news[-1].progress.agent
    assert "".join(pieces) == output.text
    assert output.text.strip()
    assert output.finish_reason in {"length", "stop"}
    assert 0 < output.spent.output_tokens <= 12
    assert (output.spent.input_tokens > 3, output.spent.cost_usd) == (True, 0)


def test_a_conversation_of_each_tenant_goes_on(tenants):
    """The second question is read with the first exchange: it takes more tokens than it alone."""
    for who in tenants.values():
        session = who.session()
        who.answer(agent(), "I am Ann and I live in Ulm, where I mend boats.", session_id=session)
        with_past = who.answer(agent(), "Where do I live?", session_id=session)
        alone = who.answer(agent(), "Where do I live?")
        assert with_past.spent.input_tokens > alone.spent.input_tokens + 10


def test_a_tool_is_called_for_real(tenants):
    """A model that must call a tool calls it as its schema says, and is told the result."""
    add = {
        "type": "object",
        "properties": {
            name: {"type": "integer", "minimum": -1000, "maximum": 1000} for name in "ab"
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    function = {"name": "add", "description": "Adds.", "parameters_schema": json.dumps(add)}
    spec = agent(functions=[function], tool_choice="required", limits={"max_tokens": 60})
    progress = tenants["a"].execute(spec, "Add 2 and 3.", wait=seconds(50))
    assert progress.callbacks, progress
    for _ in range(5):
        results = {
            one.callback_id: plain(one.arguments)["a"] + plain(one.arguments)["b"]
            for one in progress.callbacks
        }
        progress = tenants["a"].go_on(progress.execution_id, results)
        if progress.done:
            break
    assert progress.done
    assert progress.agent.tool_calls[0].tool == "add"
    assert not progress.agent.tool_calls[0].HasField("failure")


def test_json_of_a_schema(tenants):
    """The answer is held to the schema, and read."""
    spec = agent(answer_schema=json.dumps(PERSON), limits={"max_tokens": 80})
    output = tenants["a"].answer(spec, "Invent a person.")
    person = plain(output.json.map_value)
    assert set(person) == {"name", "age"}
    assert 0 <= person["age"] <= 120


def test_who_goes_frees_the_model(tenants, local_model):
    """A cancelled stream ends the server's work on it."""
    running = tenants["a"].stream(agent(limits={"max_tokens": 2000}), "Count up for ever: 1, 2, 3,")
    next(running)
    running.cancel()
    assert local_model.until_idle(10)


def test_who_goes_frees_the_model_unheard(tenants, local_model):
    """So does a call that hears nothing before its end, when its time is over."""
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 300}
    schema = {"type": "object", "properties": {"numbers": numbers}, "required": ["numbers"]}
    limits = {"max_tokens": 3000, "timeout": seconds(2)}
    spec = agent(limits=limits, answer_schema=json.dumps(schema))
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(tenants["a"].execute, spec, "Count from 1 to 300.")
        while not local_model.busy():
            assert not asked.done()
        with pytest.raises(RefusedError) as refused:
            asked.result()
    assert refused.value.reason == "AGENT_TIME_LIMIT"
    assert local_model.until_idle(1)

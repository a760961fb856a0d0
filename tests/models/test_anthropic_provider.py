"""Does the Anthropic provider say and understand the Messages protocol?"""

import asyncio
import json

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.providers import registry
from services.runtime.providers.model import (
    ChatRequest,
    Finish,
    Image,
    Message,
    Role,
    ToolOffer,
    ToolUse,
)
from services.runtime.providers.presets import Place
from services.runtime.providers.registry import Providers
from tests.models import anthropic_wire
from tests.models.scripted import Cut, Forever, ScriptedServer, events, in_pieces

HELLO = [Message(role=Role.USER, text="hello")]
ADD = ToolOffer(name="add.up", description="Adds.", parameters={})
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}


class Heard:
    """What a caller hears."""

    def __init__(self):
        self.pieces, self.restarts = [], 0

    def text(self, piece):
        self.pieces.append(piece)

    def again(self, why):
        assert why
        self.restarts += 1
        self.pieces.clear()


@pytest.fixture
async def ask():
    """Ask a scripted server something, through a registry."""
    opened = []

    async def asked(server, *, hears=None, messages=HELLO, **more):
        place = Place(name="there", kind="anthropic", base_url=server.origin, key="sk-ant-1")
        opened.append(Providers({"there": place}))
        provider = await opened[-1].get("there", "acme")
        request = ChatRequest(model="m", messages=messages, timeout_s=20, **more)
        return await provider.chat(request, hears=hears)

    yield asked
    for one in opened:
        await one.close()


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_is_read(ask, streamed):
    """Text, end, model and usage come out, whole and in pieces; tokens from the cache are told."""
    usage = anthropic_wire.Usage(prompt=8, completion=7, cached=4)
    heard = Heard() if streamed else None
    with ScriptedServer(
        [anthropic_wire.say("Grüße 😀!", stop="max_tokens", usage=usage)]
    ) as server:
        answer = await ask(server, hears=heard, temperature=0.5, stop=["x"])
        sent = server.requests[0]
    assert (answer.text, answer.finish) == ("Grüße 😀!", Finish.LENGTH)
    assert answer.model == anthropic_wire.MODEL
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 7)
    assert answer.usage.cached_tokens == 4
    assert not answer.usage.estimated
    if heard:
        assert "".join(heard.pieces) == answer.text
        assert len(heard.pieces) > 1
    assert (sent.path, sent.headers["x-api-key"]) == ("/v1/messages", "sk-ant-1")
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in sent.headers
    expected = {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "temperature": 0.5,
        "stop_sequences": ["x"],
    }
    assert sent.json == expected | ({"stream": True} if streamed else {})


@pytest.mark.parametrize("streamed", [True, False])
async def test_calls_of_tools_are_read(ask, streamed):
    """Calls after some words come out with their arguments, under the names that were offered."""
    uses = [anthropic_wire.ToolUse("add_up", {"a": [1, 2]}, "t1")]
    uses.append(anthropic_wire.ToolUse("add_up", {}, "t2"))
    with ScriptedServer([anthropic_wire.call(*uses, text="Let me see.")]) as server:
        heard = Heard() if streamed else None
        answer = await ask(server, hears=heard, tools=[ADD], tool_choice="required")
    assert (answer.text, answer.finish) == ("Let me see.", Finish.TOOL_CALLS)
    assert [(use.call_id, use.name) for use in answer.tool_uses] == [
        ("t1", "add.up"),
        ("t2", "add.up"),
    ]
    assert [json.loads(use.arguments) for use in answer.tool_uses] == [{"a": [1, 2]}, {}]
    sent = server.requests[0].json
    assert sent["tool_choice"] == {"type": "any"}
    assert sent["tools"][0]["name"] == "add_up"
    assert sent["tools"][0]["input_schema"]["type"] == "object"


async def test_a_conversation_goes_over_the_wire(ask):
    """Turns alternate, tools' answers share one, images are sent, and nothing empty is."""
    messages = [
        Message(role=Role.SYSTEM, text="Be brief."),
        Message(role=Role.USER, text=" ", images=[Image(mime_type="image/png", data=b"\x89P")]),
        Message(
            role=Role.ASSISTANT,
            tool_uses=[
                ToolUse(call_id="t1", name="add.up", arguments='{"a":1}'),
                ToolUse(call_id="t2", name="add.up", arguments="nonsense"),
            ],
        ),
        Message(role=Role.TOOL, text="3", call_id="t1"),
        Message(role=Role.TOOL, text="", call_id="t2"),
    ]
    with ScriptedServer([anthropic_wire.say("Fine.")]) as server:
        await ask(server, messages=messages, tools=[ADD])
    sent = server.requests[0].json
    assert sent["system"] == "Be brief."
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    image = {"type": "base64", "media_type": "image/png", "data": "iVA="}
    assert sent["messages"][0]["content"] == [{"type": "image", "source": image}]
    assert [block["input"] for block in sent["messages"][1]["content"]] == [{"a": 1}, {}]
    assert [block["tool_use_id"] for block in sent["messages"][2]["content"]] == ["t1", "t2"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_is_held_to_a_schema(ask, streamed):
    """The arguments of a tool that must be called are the answer's text, also while it comes."""
    use = anthropic_wire.ToolUse("answer", {"age": 41})
    heard = Heard() if streamed else None
    with ScriptedServer([anthropic_wire.call(use)]) as server:
        answer = await ask(server, hears=heard, answer_schema=SCHEMA)
    assert json.loads(answer.text) == {"age": 41}
    assert (answer.tool_uses, answer.finish) == ((), Finish.STOP)
    if heard:
        assert "".join(heard.pieces) == answer.text
    sent = server.requests[0].json
    assert sent["tool_choice"] == {"type": "tool", "name": "answer"}
    assert sent["tools"][0]["input_schema"] == SCHEMA


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (anthropic_wire.wrong_key(), Reason.PROVIDER_KEY_REFUSED),
        (anthropic_wire.credit_gone(), Reason.PROVIDER_OUT_OF_CREDIT),
        (anthropic_wire.error(404, "not_found_error", "model: m"), Reason.MODEL_NOT_FOUND),
        (anthropic_wire.error(400, "invalid_request_error", "Too long."), Reason.PROVIDER_REFUSED),
    ],
)
async def test_what_does_not_get_better_is_told_at_once(ask, reply, reason):
    """A refusal is one request and one reason."""
    with ScriptedServer([reply]) as server:
        with pytest.raises(ServiceError) as failed:
            await ask(server)
        assert len(server.requests) == 1
    assert failed.value.reason == reason


@pytest.mark.parametrize(
    "reply",
    [
        anthropic_wire.overloaded(),
        anthropic_wire.rate_limited("0.2"),
        anthropic_wire.error_in_stream("Half"),
        events(anthropic_wire.opening(), anthropic_wire.PING, Cut()),
    ],
)
async def test_what_may_get_better_is_asked_again(ask, reply):
    """After a transient failure the second answer counts."""
    heard = Heard()
    body = b"".join(anthropic_wire.streamed([anthropic_wire.text_block("Hello.")]).parts)
    with ScriptedServer([reply, events(*in_pieces(body, 11))]) as server:
        answer = await ask(server, hears=heard)
    assert (answer.text, answer.attempts) == ("Hello.", 2)
    assert ("".join(heard.pieces), heard.restarts) == ("Hello.", 1)


async def test_cancelling_closes_the_connection(ask):
    """The server sees its connection close within a second after the task is cancelled."""
    again = anthropic_wire.block_events(0, anthropic_wire.text_block("word "))[1]
    reply = events(anthropic_wire.opening(), Forever(again, every_s=0.02))
    with ScriptedServer([reply]) as server:
        heard = Heard()
        task = asyncio.create_task(ask(server, hears=heard))
        assert await asyncio.to_thread(server.until, lambda: heard.pieces)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.until_left, within_s=1)


async def test_models_are_listed():
    """The provider's models come out by name."""
    with ScriptedServer(models=["b", "a"]) as server:
        place = Place(name="there", kind="anthropic", base_url=server.base_url, key="k")
        providers = Providers({"there": place})
        provider = await providers.get("there", "acme")
        assert [model.name for model in await provider.models()] == ["a", "b"]
        await providers.close()


async def test_without_its_package_it_is_off_and_says_so(monkeypatch):
    """Where the package is missing the provider is there, disabled with a reason, and refused."""
    monkeypatch.setattr(registry, "_has_package", lambda _: False)
    place = Place(name="there", kind="anthropic", base_url="http://h", key="k")
    providers = Providers({"there": place})
    assert providers.why_not(place, "acme") == "the package anthropic is not installed"
    for base_url in ("", "http://own"):
        with pytest.raises(ServiceError) as failed:
            await providers.get("there", "acme", base_url=base_url)
        assert failed.value.reason == Reason.NOT_IMPLEMENTED

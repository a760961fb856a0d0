"""The OpenAI provider over a real model: llama.cpp's server on a real socket."""

import asyncio
import json

import jsonschema_rs
import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.providers.model import (
    Capabilities,
    ChatRequest,
    Finish,
    Message,
    Role,
    ToolOffer,
)
from services.runtime.providers.presets import Place
from services.runtime.providers.registry import Providers

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = ToolOffer(
    name="get_weather",
    description="Weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


LOCAL = Capabilities(local=True)


class Heard:
    """What a caller hears."""

    def __init__(self):
        self.pieces = []

    def text(self, piece):
        self.pieces.append(piece)

    def again(self, why):
        raise AssertionError(why)


@pytest.fixture
async def ask(local_model):
    """Ask the real model."""
    providers = Providers(
        {
            "local": Place(
                name="local", base_url=local_model.base_url, needs_key=False, capabilities=LOCAL
            )
        }
    )

    async def asked(text, *, hears=None, model=local_model.model, **more):
        provider = await providers.get("local", "acme")
        messages = [Message(role=Role.USER, text=text)]
        fixed = {"temperature": 0, "seed": 1, "timeout_s": 60}
        request = ChatRequest(model=model, messages=messages, **{**fixed, **more})
        return await provider.chat(request, hears=hears)

    asked.providers = providers
    yield asked
    await providers.close()


async def test_streams_say_what_whole_answers_say(ask):
    """The same question, streamed and not, gives the same text and the same usage, not guessed."""
    heard = Heard()
    whole = await ask("Name three colours.", max_tokens=20)
    streamed = await ask("Name three colours.", max_tokens=20, hears=heard)
    assert streamed.text == whole.text == "".join(heard.pieces)
    assert len(heard.pieces) > 5
    assert streamed.usage.output_tokens == whole.usage.output_tokens <= 20
    assert whole.usage.input_tokens == streamed.usage.input_tokens > 5
    assert not streamed.usage.estimated


async def test_it_stops_where_it_is_told(ask):
    """A stop word ends the answer, and a limit of tokens does."""
    answer = await ask("Count from 1 to 9.", max_tokens=60, stop=["3"])
    assert "3" not in answer.text
    assert (await ask("Write a story.", max_tokens=3)).finish is Finish.LENGTH


@pytest.mark.parametrize("streamed", [True, False])
async def test_answers_keep_to_a_schema(ask, streamed):
    """What comes is valid under the schema."""
    hears = Heard() if streamed else None
    answer = await ask("Invent a person.", max_tokens=120, answer_schema=PERSON, hears=hears)
    jsonschema_rs.validate(PERSON, json.loads(answer.text))


@pytest.mark.parametrize("streamed", [True, False])
async def test_it_calls_a_tool(ask, streamed):
    """A tool is called by name with arguments of its schema."""
    hears = Heard() if streamed else None
    answer = await ask("What is the weather in Paris?", tools=[WEATHER], max_tokens=80, hears=hears)
    (use,) = answer.tool_uses
    assert answer.finish is Finish.TOOL_CALLS
    assert (use.name, json.loads(use.arguments)) == ("get_weather", {"city": "Paris"})


async def test_cancelling_frees_the_model(ask, local_model):
    """Cancelled in mid stream, the model stops: its slot is free soon after."""
    heard = Heard()
    task = asyncio.create_task(ask("Write a very long story.", max_tokens=3000, hears=heard))
    while len(heard.pieces) < 3:  # noqa: ASYNC110 - what is heard is no event
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(local_model.until_idle, 10)


async def test_a_conversation_too_long_is_refused(ask):
    """A prompt over the model's context is PROVIDER_REFUSED at once, in the server's words."""
    with pytest.raises(ServiceError) as failed:
        await ask("word " * 6000, max_tokens=3)
    assert failed.value.reason == Reason.PROVIDER_REFUSED
    assert "context" in failed.value.message
    assert failed.value.metadata["attempts"] == "1"


async def test_its_model_is_told_of(ask, local_model):
    """The model is listed with its size and its context."""
    facts = await ask.providers.facts(f"local/{local_model.model}")
    provider = await ask.providers.get("local", "acme")
    (model,) = await provider.models()
    assert (model.name, model.format, model.available) == (local_model.model, "gguf", True)
    assert (model.context_tokens, model.quantization) == (4096, "Q4_1")
    assert model.parameter_count.endswith("M")
    assert model.size_bytes > 50_000_000
    assert facts == model

"""What llama.cpp's server with the small model keeps of the protocol, by OpenAI's own client."""

import json
import subprocess
import sys
import threading

import jsonschema_rs
import openai
import pytest

from services.runtime.providers import local_model as module
from tests.house import tree
from tests.models.local import serving

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
SUM = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": -1000, "maximum": 1000},
        "b": {"type": "integer", "minimum": -1000, "maximum": 1000},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
SCHEMAS = {"get_weather": CITY, "add": SUM}


def tool(name, description):
    function = {"name": name, "description": description, "parameters": SCHEMAS[name]}
    return {"type": "function", "function": function}


TOOLS = [tool("get_weather", "Weather of a city"), tool("add", "Add two numbers")]


@pytest.fixture
def client(local_model):
    with openai.OpenAI(base_url=local_model.base_url, api_key="none", max_retries=0) as one:
        yield one


def ask(client, text, **more):
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    fixed = {"model": module.MODEL, "temperature": 0, "seed": 1}
    return client.chat.completions.create(**{**fixed, "messages": messages, **more})


def test_an_answer_has_words_a_reason_and_usage(client):
    """A whole answer has content, why it ended, and tokens that add up."""
    answer = ask(client, "Say hello.", max_tokens=6)
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == module.MODEL
    assert answer.usage.completion_tokens == 6
    assert answer.usage.prompt_tokens > 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_a_stream_says_what_the_whole_answer_says(client):
    """The deltas of a stream are the text of the whole answer, and usage comes when asked for."""
    whole = ask(client, "Name three colours.", max_tokens=24)
    chunks = list(
        ask(
            client,
            "Name three colours.",
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = [chunk for chunk in chunks if chunk.choices]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in said)
    assert text == whole.choices[0].message.content
    assert len(said) > 10
    assert said[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_stream_has_no_usage_unasked(client):
    """Without `include_usage` no chunk has usage, and each has a choice."""
    chunks = list(ask(client, "Hi", max_tokens=3, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert all(chunk.choices for chunk in chunks)


def test_it_stops_before_a_stop_word(client):
    """The answer ends before the word that stops it, with the reason `stop`."""
    answer = ask(client, "Count from 1 to 9.", max_tokens=60, stop=["3"])
    assert answer.choices[0].finish_reason == "stop"
    assert "2" in answer.choices[0].message.content
    assert "3" not in answer.choices[0].message.content


def test_an_answer_keeps_to_a_schema(client):
    """With a JSON schema the answer is valid under it, whatever the model would have said."""
    schema = {"name": "person", "strict": True, "schema": PERSON}
    answer = ask(
        client,
        "Invent a person.",
        max_tokens=120,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(PERSON, json.loads(answer.choices[0].message.content))


def test_json_mode_gives_json(client):
    """With `json_object` a finished answer is JSON."""
    answer = ask(
        client,
        "Answer with a JSON object: the colour of snow.",
        max_tokens=400,
        response_format={"type": "json_object"},
    )
    if answer.choices[0].finish_reason == "stop":
        json.loads(answer.choices[0].message.content)
    else:  # grammar cannot make so small a model end; what there is begins an object
        assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize(
    ("question", "name", "arguments"),
    [
        ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
        ("Add 17 and 25.", "add", {"a": 17, "b": 25}),
    ],
)
def test_it_calls_a_tool(client, question, name, arguments):
    """Given tools and a plain question it calls the right one, with arguments of the schema."""
    answer = ask(client, question, tools=TOOLS, max_tokens=80)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.id
    assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)


def test_whatever_it_calls_exists_and_fits(client):
    """Names and arguments of calls are held to the tools given, also where it guesses."""
    for question in ("Who are you?", "Is it cold?", "Tell me more."):
        answer = ask(client, question, tools=TOOLS, tool_choice="required", max_tokens=120)
        for call in answer.choices[0].message.tool_calls or []:
            jsonschema_rs.validate(SCHEMAS[call.function.name], json.loads(call.function.arguments))


def test_a_streamed_call_comes_in_pieces(client):
    """A streamed call has its name and id in its first piece, and arguments in several."""
    chunks = list(ask(client, "Add 17 and 25.", tools=TOOLS, max_tokens=80, stream=True))
    pieces = [piece for chunk in chunks for piece in (chunk.choices[0].delta.tool_calls or [])]
    assert pieces[0].id
    assert pieces[0].function.name == "add"
    assert not any(piece.id or piece.function.name for piece in pieces[1:])
    arguments = [piece.function.arguments for piece in pieces]
    assert len([text for text in arguments if text]) > 1
    assert json.loads("".join(arguments)) == {"a": 17, "b": 25}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_it_answers_with_a_tool_s_result(client):
    """After a tool's answer it speaks, rather than calling again."""
    call = {"id": "a", "type": "function"}
    call["function"] = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": '{"sky": "clear"}'},
    ]
    answer = ask(client, messages, tools=TOOLS, max_tokens=60)
    assert "clear" in answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_a_stream_that_is_closed_frees_its_slot(client, local_model):
    """When the client closes a stream in the middle, the model stops and the slot is free."""
    stream = ask(client, "Write a very long story.", max_tokens=3000, stream=True)
    for _ in zip(range(3), stream, strict=False):
        pass
    assert local_model.busy() == 1
    stream.close()
    assert local_model.until_idle(within_s=10)


def test_two_are_answered_at_once_and_the_third_waits(client, local_model):
    """The model has two slots; more callers wait for one and are all answered."""
    done = []
    callers = [
        threading.Thread(target=lambda: done.append(ask(client, "Hello.", max_tokens=40)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    most = 0
    while any(caller.is_alive() for caller in callers):
        most = max(most, local_model.busy())
    assert [answer.usage.completion_tokens > 0 for answer in done] == [True] * 4
    assert most <= 2


def test_a_conversation_too_long_is_refused_with_its_size(client):
    """A prompt over the context is a 400 that says how long it was and what is held."""
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "word " * 6000, max_tokens=3)
    assert refused.value.body["type"] == "exceed_context_size_error"
    assert refused.value.body["n_ctx"] == module.CONTEXT_TOKENS
    assert refused.value.body["n_prompt_tokens"] > 6000


def test_models_are_listed(client):
    """`/v1/models` has the one model, by the name that requests use."""
    assert [model.id for model in client.models.list()] == [module.MODEL]


def test_a_key_is_asked_for_where_one_is_set():
    """With `--api-key` another key is refused as unauthenticated."""
    if module.missing():
        pytest.skip(module.missing())
    with serving("--api-key", "right") as model:
        with openai.OpenAI(base_url=model.base_url, api_key="right") as client:
            assert ask(client, "Hi", max_tokens=1).usage.completion_tokens == 1
        with (
            openai.OpenAI(base_url=model.base_url, api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            ask(client, "Hi", max_tokens=1)


def test_a_taken_port_is_told(local_model):
    """Starting on a port that is taken ends with status 1 and a sentence that names it."""
    port = local_model.base_url.rsplit(":", 1)[1].removesuffix("/v1")
    command = [sys.executable, "-m", "services.runtime.providers.local_model", "--port", port]
    done = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the local model cannot be served on port {port}" in done.stderr


def test_what_is_missing_is_said(monkeypatch):
    """Without its packages the model is not served, and the sentence says what to do."""
    monkeypatch.setattr(module, "WEIGHTS_PACKAGE", "no_such_package")
    assert module.missing() == (
        "the local model is not installed (no_such_package): make local-model"
    )
    assert module.main([]) == 1

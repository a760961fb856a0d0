"""Does the OpenAI provider say and understand the protocol, whatever servers do with it?"""

import asyncio
import itertools
import json
import time
from email.utils import formatdate

import pytest

from services.common.errors import Reason, ServiceError
from services.common.limits import PROVIDER_ANSWER_BYTES_MAX
from services.runtime.providers import retry
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
from tests.models import openai_wire
from tests.models.openai_wire import Call
from tests.models.scripted import (
    Cut,
    Forever,
    Pause,
    Reply,
    ScriptedServer,
    events,
    html_error,
    in_pieces,
    refusing,
    whole,
)

KEY = "sk-the-secret-of-this-test-0123456789"
HELLO = [Message(role=Role.USER, text="hello")]
ADD = ToolOffer(name="add", description="Adds.", parameters={"type": "object", "properties": {}})


class Heard:
    """What a caller hears."""

    def __init__(self):
        self.pieces, self.restarts = [], []

    def text(self, piece):
        self.pieces.append(piece)

    def again(self, why):
        self.restarts.append((why, "".join(self.pieces)))
        self.pieces.clear()


@pytest.fixture
def pauses(monkeypatch):
    """Pauses between attempts, which take no time."""
    found = []

    async def pause(seconds):
        found.append(seconds)

    original = retry.Tries

    def tries(*words, **more):
        return original(*words, **more, pause=pause)

    monkeypatch.setattr("services.runtime.providers.speaking.Tries", tries)
    return found


@pytest.fixture
async def ask():
    """Ask a scripted server something, through a registry."""
    opened = []

    async def asked(server, *, hears=None, messages=HELLO, lacks=(), **more):
        address = server if isinstance(server, str) else server.base_url
        place = Place(name="here", base_url=address, key=KEY, lacks=lacks)
        opened.append(Providers({"here": place}))
        provider = await opened[-1].get("here", "acme")
        request = ChatRequest(model="m", messages=messages, **more)
        return await provider.chat(request, hears=hears)

    yield asked
    for one in opened:
        await one.close()


async def test_an_answer_is_read_whole(ask):
    """Text, why it ended, model and usage come out; what is asked goes in, and nothing of ours."""
    usage = openai_wire.Usage(12, 7, cached=3)
    with ScriptedServer([openai_wire.say("Hello there.", usage=usage)]) as server:
        answer = await ask(server, temperature=0.5, max_tokens=9, stop=["x"], seed=1, top_p=0.9)
        sent = server.requests[0]
    assert (answer.text, answer.finish, answer.model) == (
        "Hello there.",
        Finish.STOP,
        openai_wire.MODEL,
    )
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (
        12,
        7,
        3,
    )
    assert not answer.usage.estimated
    assert sent.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 1,
        "stop": ["x"],
        "max_tokens": 9,
    }
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert not [name for name in sent.headers if "stainless" in name]


async def test_a_stream_is_heard_as_it_comes(ask):
    """The pieces heard are the text; characters cut by the network come whole; usage is told."""
    body = openai_wire.stream(openai_wire.said(["Grüße ", "aus 北京 😀"]))
    heard = Heard()
    with ScriptedServer([events(*in_pieces(body, 7))]) as server:
        answer = await ask(server, hears=heard)
    assert heard.pieces == ["Grüße ", "aus 北京 😀"]
    assert answer.text == "Grüße aus 北京 😀"
    assert answer.usage.output_tokens == openai_wire.USAGE.completion
    assert server.requests[0].json["stream_options"] == {"include_usage": True}


async def test_halves_of_an_escaped_character_are_put_together(ask):
    """A character whose escaped halves come in two events is heard once, whole."""
    halves = [json.dumps(openai_wire.chunk({"content": half})) for half in ("a\ud83d", "\ude00b")]
    parts = [f"data: {half}\n\n".encode() for half in halves]
    heard = Heard()
    end = openai_wire.event(openai_wire.chunk({}, finish="stop"))
    with ScriptedServer([events(*parts, end, openai_wire.DONE)]) as server:
        answer = await ask(server, hears=heard)
    assert heard.pieces == ["a", "😀b"]
    assert answer.text == "a😀b"


@pytest.mark.parametrize("streamed", [True, False])
async def test_calls_of_tools_come_in_pieces_and_in_turns(ask, streamed):
    """Two calls whose pieces take turns come out in order, with names as they were offered."""
    calls = [Call("do_it", {"a": 17}, "c1"), Call("add", '{"b": [1, 2', "c2")]
    offers = [ADD, ToolOffer(name="do.it", description="", parameters={})]
    if streamed:
        reply = openai_wire.streamed(openai_wire.called(calls, interleaved=True))
    else:
        reply = openai_wire.call(*calls)
    with ScriptedServer([reply]) as server:
        answer = await ask(server, hears=Heard() if streamed else None, tools=offers)
    assert answer.finish is Finish.TOOL_CALLS
    assert [(use.call_id, use.name, use.arguments) for use in answer.tool_uses] == [
        ("c1", "do.it", '{"a": 17}'),
        ("c2", "add", '{"b": [1, 2'),
    ]
    offered = [tool["function"]["name"] for tool in server.requests[0].json["tools"]]
    assert offered == ["add", "do_it"]


async def test_calls_without_numbers_and_ids_are_told_apart(ask):
    """Calls that are all number 0, or have no number, or no id, are still two calls each."""

    def piece(**call):
        return openai_wire.event(openai_wire.chunk({"tool_calls": [call]}))

    same = [
        piece(index=0, id="a", function={"name": "add", "arguments": "{}"}),
        piece(index=0, id="b", function={"name": "add", "arguments": '{"x":1}'}),
    ]
    none = [
        piece(function={"name": "add", "arguments": {"y": 2}}),
        piece(function={"name": "add", "arguments": '{"z"'}),
        piece(function={"arguments": ":3}"}),
    ]
    for parts, expected in ((same, ["{}", '{"x":1}']), (none, ['{"y": 2}', '{"z":3}'])):
        with ScriptedServer([events(*parts, openai_wire.DONE)]) as server:
            answer = await ask(server, hears=Heard(), tools=[ADD])
        assert [use.arguments for use in answer.tool_uses] == expected
        assert len({use.call_id for use in answer.tool_uses}) == len(expected)
        assert answer.finish is Finish.TOOL_CALLS


async def test_a_conversation_goes_over_the_wire(ask):
    """Images, tool uses and tool answers are written as the protocol wants them."""
    messages = [
        Message(role=Role.SYSTEM, text="Be brief."),
        Message(role=Role.USER, text="Look.", images=[Image(mime_type="image/png", data=b"\x89P")]),
        Message(
            role=Role.ASSISTANT,
            tool_uses=[
                ToolUse(call_id="c1", name="add", arguments='{"a":1}'),
                ToolUse(call_id="c2", name="add", arguments="nonsense"),
            ],
        ),
        Message(role=Role.TOOL, text="3", call_id="c1"),
    ]
    with ScriptedServer([openai_wire.say("Fine.")]) as server:
        await ask(server, messages=messages, tools=[ADD], tool_choice="add")
    sent = server.requests[0].json
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert sent["messages"][1]["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVA="}},
    ]
    assert sent["messages"][2]["content"] is None
    assert [use["function"]["arguments"] for use in sent["messages"][2]["tool_calls"]] == [
        '{"a":1}',
        "{}",
    ]
    assert sent["messages"][3] == {"role": "tool", "content": "3", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("chunks", "done", "finish"),
    [
        (openai_wire.said(["Hi."]), False, Finish.STOP),
        (openai_wire.said(["Hi."])[:-1], True, Finish.STOP),
        (
            [*openai_wire.said(["Hi."])[:-1], openai_wire.chunk({}, finish="length")],
            True,
            Finish.LENGTH,
        ),
    ],
)
async def test_ends_that_are_left_out(ask, chunks, done, finish):
    """A stream without `[DONE]`, or without a reason, ends well; usage that lacks is a guess."""
    body = openai_wire.stream(chunks, usage=None, done=done, between=openai_wire.COMMENT)
    with ScriptedServer([events(body)]) as server:
        answer = await ask(server, hears=Heard())
    assert (answer.text, answer.finish, answer.attempts) == ("Hi.", finish, 1)
    assert answer.usage.estimated
    assert answer.usage.input_tokens > 0


async def test_content_that_is_null_or_parts(ask):
    """`content` may be null or a list of parts, and a refusal is a filtered answer."""
    parts = {"role": "assistant", "content": [{"type": "text", "text": "Hi"}, {"type": "x"}]}
    replies = [
        openai_wire.completion({"role": "assistant", "content": None}),
        openai_wire.completion(parts),
    ]
    with ScriptedServer([*replies, openai_wire.refuse("I will not.")]) as server:
        answers = [await ask(server) for _ in range(3)]
    assert [answer.text for answer in answers] == ["", "Hi", "I will not."]
    assert answers[2].finish is Finish.CONTENT_FILTER


async def test_a_stream_that_is_answered_whole(ask):
    """A server that does not stream although asked to is heard all the same."""
    heard = Heard()
    with ScriptedServer([openai_wire.completion(openai_wire.message("All at once."))]) as server:
        answer = await ask(server, hears=heard)
    assert answer.text == "".join(heard.pieces) == "All at once."


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (openai_wire.wrong_key(), Reason.PROVIDER_KEY_REFUSED),
        (openai_wire.no_such_model(), Reason.MODEL_NOT_FOUND),
        (openai_wire.quota_gone(), Reason.PROVIDER_OUT_OF_CREDIT),
        (openai_wire.error(402, "Pay."), Reason.PROVIDER_OUT_OF_CREDIT),
        (openai_wire.too_long(), Reason.PROVIDER_REFUSED),
        (whole(404, b"<html>", content_type="text/html"), Reason.PROVIDER_REFUSED),
        (whole(302, b"", location="http://127.0.0.1:1/"), Reason.PROVIDER_REFUSED),
        (
            whole(200, b"<html>nginx</html>", content_type="text/html"),
            Reason.PROVIDER_ANSWER_INVALID,
        ),
        (openai_wire.completed([]), Reason.PROVIDER_ANSWER_INVALID),
        (whole(200, b'{"choices": [{"mess'), Reason.PROVIDER_ANSWER_INVALID),
        (whole(200, b"[" * 100_000), Reason.PROVIDER_ANSWER_INVALID),
    ],
)
async def test_what_does_not_get_better_is_told_at_once(ask, reply, reason):
    """A refusal is one request and one reason, and nothing told has the key."""
    with ScriptedServer([reply]) as server:
        with pytest.raises(ServiceError) as failed:
            await ask(server)
        assert len(server.requests) == 1
    assert failed.value.reason == reason
    assert KEY not in repr(failed.value)
    assert failed.value.metadata["provider"] == "here"


async def test_a_key_that_a_provider_quotes_is_taken_out():
    """What a provider says is told without the key that it may quote, whatever its form."""
    key = "plain-words-as-a-key"
    with ScriptedServer([openai_wire.error(400, f"Strange {key}, and Bearer {KEY}")]) as server:
        providers = Providers({"here": Place(name="here", base_url=server.base_url, key=key)})
        provider = await providers.get("here", "acme")
        with pytest.raises(ServiceError) as failed:
            await provider.chat(ChatRequest(model="m", messages=HELLO))
        await providers.close()
    assert "Strange" in failed.value.message
    assert key not in repr(failed.value)
    assert KEY not in repr(failed.value)


@pytest.mark.parametrize(
    "reply",
    [
        openai_wire.server_error(500),
        openai_wire.server_error(503),
        openai_wire.server_error(529),
        openai_wire.error(408, "Slow."),
        openai_wire.error(409, "Busy."),
        openai_wire.rate_limited(),
        html_error(),
        openai_wire.cut_stream(),
        openai_wire.cut_stream("Hal", "f", reset=True),
        openai_wire.error_in_stream("Half"),
        events(Cut()),
    ],
)
async def test_what_may_get_better_is_asked_again(ask, pauses, reply):
    """After a transient failure the second answer counts, and its text alone is heard last."""
    heard = Heard()
    with ScriptedServer([reply, openai_wire.say("Hello.")]) as server:
        answer = await ask(server, hears=heard)
    assert (answer.text, answer.attempts) == ("Hello.", 2)
    assert "".join(heard.pieces) == "Hello."
    assert len(heard.restarts) == 1
    assert len(pauses) == 1
    assert 0.1 < pauses[0] < 0.3
    assert answer.usage.input_tokens == openai_wire.USAGE.prompt


async def test_an_end_that_is_none_is_no_end(ask, pauses):
    """A body that ends with its connection, without a reason or `[DONE]`, has broken off."""
    half = openai_wire.stream(openai_wire.said(["Half an "])[:-1], usage=None, done=False)
    cut = Reply([half], 200, {"content-type": "text/event-stream"}, closing=True)
    heard = Heard()
    with ScriptedServer([cut, openai_wire.say("A whole answer.")]) as server:
        answer = await ask(server, hears=heard)
    assert (answer.text, answer.attempts, len(pauses)) == ("A whole answer.", 2, 1)
    assert heard.restarts[0][1] == "Half an "


async def test_attempts_end(ask, pauses):
    """Failing for ever is five requests, pauses that grow, and the reason of the last."""
    with ScriptedServer(lambda _: openai_wire.server_error()) as server:
        with pytest.raises(ServiceError) as failed:
            await ask(server)
        assert len(server.requests) == 5
    assert failed.value.reason == Reason.PROVIDER_UNAVAILABLE
    assert failed.value.metadata["attempts"] == "5"
    assert all(later > earlier * 0.99 for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] > 0.9


async def test_what_broken_answers_took_is_told(ask, pauses):
    """Where every stream breaks off, the error has the tokens of all of them."""
    with ScriptedServer(lambda _: openai_wire.cut_stream("one two three four ")) as server:
        with pytest.raises(ServiceError) as failed:
            await ask(server, hears=Heard())
        assert len(server.requests) == 5
    assert failed.value.reason == Reason.PROVIDER_UNAVAILABLE
    assert 5 * 8 <= int(failed.value.metadata["tokens"]) <= 5 * 20


async def test_a_provider_that_is_down_is_unavailable(ask, pauses):
    """No connection is tried again, and told as PROVIDER_UNAVAILABLE."""
    with refusing() as address, pytest.raises(ServiceError) as failed:
        await ask(address)
    assert failed.value.reason == Reason.PROVIDER_UNAVAILABLE
    assert len(pauses) == 4


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_kept_to(ask, pauses, as_date):
    """`Retry-After` in seconds or as a date is how long the pause is."""
    told = formatdate(time.time() + 8, usegmt=True) if as_date else "7"
    with ScriptedServer([openai_wire.rate_limited(told), openai_wire.say("Hi.")]) as server:
        await ask(server)
    assert 5 < pauses[0] <= 8


@pytest.mark.parametrize(("told", "timeout_s"), [("3600", 300), ("30", 5)])
async def test_a_pause_too_long_is_not_waited_for(ask, pauses, told, timeout_s):
    """Beyond a minute, or beyond the call's own time, the caller is told how long instead."""
    with (
        ScriptedServer([openai_wire.rate_limited(told)]) as server,
        pytest.raises(ServiceError) as failed,
    ):
        await ask(server, timeout_s=timeout_s)
    assert failed.value.reason == Reason.PROVIDER_RATE_LIMITED
    assert failed.value.metadata["retry_after_s"] == told
    assert pauses == []


async def test_time_is_for_all_of_it(ask):
    """A provider that says nothing is PROVIDER_TIME_LIMIT when the time is over, and is left."""
    with ScriptedServer([events(Pause(30))]) as server:
        began = time.monotonic()
        with pytest.raises(ServiceError) as failed:
            await ask(server, timeout_s=0.3)
        assert time.monotonic() - began < 20
        assert server.until_left(within_s=20)
    assert failed.value.reason == Reason.PROVIDER_TIME_LIMIT
    assert failed.value.metadata["limit"] == "0.3"


@pytest.mark.parametrize("streamed", [True, False])
async def test_cancelling_closes_the_connection(ask, streamed):
    """The server sees its connection close within a second after the task is cancelled."""
    chunk = openai_wire.event(openai_wire.chunk({"content": "word "}))
    reply = events(Forever(chunk, every_s=0.02)) if streamed else events(Pause(30))
    with ScriptedServer([reply]) as server:
        heard = Heard()
        task = asyncio.create_task(ask(server, hears=heard if streamed else None))
        began = (lambda: heard.pieces) if streamed else (lambda: server.requests)
        assert await asyncio.to_thread(server.until, began)
        task.cancel()
        cancelled = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.until_left, within_s=3)
        assert server.requests[0].client_left - cancelled < 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_has_a_limit(ask, streamed):
    """An answer that never ends is broken off with what it took, and its connection closed."""
    piece = openai_wire.event(openai_wire.chunk({"content": "x" * 100_000}))
    reply = events(Forever(piece)) if streamed else events(b"{", Forever(b" " * 100_000))
    if not streamed:
        reply.headers["content-type"] = "application/json"
    with ScriptedServer([reply]) as server:
        with pytest.raises(ServiceError) as failed:
            await ask(server, hears=Heard() if streamed else None)
        assert await asyncio.to_thread(server.until_left, within_s=3)
    assert failed.value.reason == Reason.PROVIDER_ANSWER_LIMIT
    assert failed.value.metadata["limit"] == str(PROVIDER_ANSWER_BYTES_MAX)
    if streamed:
        assert int(failed.value.metadata["tokens"]) > 1_000_000


SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}


async def test_an_answer_is_held_to_a_schema(ask):
    """A schema goes as `json_schema`, strict where it keeps OpenAI's rules; else `json_object`."""
    with ScriptedServer([openai_wire.say("{}")] * 3) as server:
        await ask(server, answer_schema=SCHEMA)
        await ask(server, answer_schema={**SCHEMA, "required": []})
        await ask(server, answer_schema={})
    strict, loose, any_object = (request.json["response_format"] for request in server.requests)
    assert strict == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert loose["json_schema"]["strict"] is False
    assert any_object == {"type": "json_object"}


async def test_what_a_server_does_not_take_is_left_out(ask):
    """Refused fields are replaced one after the other, within one attempt."""
    replies = [
        openai_wire.error(400, "Unknown field: stream_options"),
        openai_wire.error(400, "response_format.type json_schema is not supported"),
        openai_wire.error(422, "response_format: not supported"),
        openai_wire.error(400, "Use 'max_completion_tokens' instead of max_tokens."),
        openai_wire.say('{"age": 1}'),
    ]
    with ScriptedServer(replies) as server:
        answer = await ask(server, hears=Heard(), answer_schema=SCHEMA, max_tokens=5)
    assert (answer.text, answer.attempts) == ('{"age": 1}', 1)
    last = server.requests[-1].json
    assert {"stream_options", "response_format", "max_tokens"}.isdisjoint(last)
    assert last["max_completion_tokens"] == 5
    assert json.dumps(SCHEMA) in last["messages"][0]["content"]


async def test_connections_are_used_again():
    """Calls one after the other, streamed or not, share one connection."""
    with ScriptedServer([openai_wire.say("Hi.")] * 4) as server:
        place = Place(name="here", base_url=server.base_url, needs_key=False)
        providers = Providers({"here": place})
        for hears in (None, Heard(), Heard(), None):
            provider = await providers.get("here", "acme")
            await provider.chat(ChatRequest(model="m", messages=HELLO), hears=hears)
        await providers.close()
    assert server.connections == 1


async def test_nothing_of_the_environment_goes_out(ask, monkeypatch):
    """Proxies, keys and headers that the environment has for the package are not used."""
    for name, value in {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "OPENAI_ORG_ID": "org-leaked",
        "OPENAI_PROJECT_ID": "proj-leaked",
        "OPENAI_CUSTOM_HEADERS": "x-leaked: yes\nauthorization: Bearer leaked",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }.items():
        monkeypatch.setenv(name, value)
    with ScriptedServer([openai_wire.say("Hi.")]) as server:
        await ask(server)
        sent = server.requests[0].headers
    assert "leaked" not in json.dumps(sent)
    assert sent["authorization"] == f"Bearer {KEY}"


async def test_an_answer_that_is_packed_is_refused(ask):
    """A server that packs its answer although asked not to could send a bomb: it is not read."""
    packed = whole(200, b"\x1f\x8b\x08", content_encoding="gzip")
    with ScriptedServer([packed]) as server, pytest.raises(ServiceError) as failed:
        await ask(server)
    assert failed.value.reason == Reason.PROVIDER_ANSWER_INVALID

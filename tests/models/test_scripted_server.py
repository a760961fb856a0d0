"""Are the bytes on the wire those that were written down, and do real clients understand them?"""

import email.utils
import json
import socket
import threading
import time

import anthropic
import openai
import pytest

from tests.models import anthropic_wire, openai_wire
from tests.models.openai_wire import Call
from tests.models.scripted import (
    Cut,
    Forever,
    Pause,
    Reply,
    ScriptedServer,
    Until,
    events,
    html_error,
    http_date,
    in_pieces,
    refusing,
    split_at,
    whole,
)

HELLO = [{"role": "user", "content": "hello"}]
ADD = Call("add", {"a": 17, "b": 25}, "call_a")
FIND = Call("find", {"query": "tax"}, "call_b")


@pytest.fixture
def serve():
    """Start a scripted server, with both real clients of it, until the test ends."""
    opened = []

    def start(*replies):
        server = ScriptedServer(replies)
        opened.append(server.__enter__())
        return server

    yield start
    for server in opened:
        server.__exit__(None)


def by_openai(server, **more):
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=HELLO, **more)
        return list(answer) if more.get("stream") else answer


def by_anthropic(server, **more):
    with anthropic.Anthropic(base_url=server.origin, api_key="any", max_retries=0) as client:
        fixed = {"model": "m", "max_tokens": 9, "messages": HELLO}
        answer = client.messages.create(**fixed, **more)
        return list(answer) if more.get("stream") else answer


def exchanged(server, end=b"0\r\n\r\n"):
    """What a bare socket gets for a request, read by read, until this end or the connection's."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
        reads = []
        while not b"".join(reads).endswith(end) and (data := line.recv(65536)):
            reads.append(data)
        return reads


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# ---- the bytes


def test_a_whole_reply_is_written_as_it_stands(serve):
    """Status line, headers and body of a whole reply are on the wire, and nothing else."""
    server = serve(whole(429, b'{"no":1}', retry_after="2"))
    assert b"".join(exchanged(server, b"}")) == (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
        b'content-length: 8\r\n\r\n{"no":1}'
    )


def test_a_status_without_a_name_is_written(serve):
    """Anthropic's 529 has no name in the standard and is written all the same."""
    server = serve(anthropic_wire.overloaded())
    assert exchanged(server, b"}")[0].startswith(b"HTTP/1.1 529 Unknown\r\n")


def test_each_part_is_a_write_of_its_own(serve):
    """A split character reaches the reader in two reads, at the place that was asked for."""
    body = "data: é\n\n".encode()
    place = body.index(b"\xc3") + 1
    server = serve(events(*split_at(body, place)))
    reads = exchanged(server)
    assert b"".join(reads).endswith(b"7\r\ndata: \xc3\r\n3\r\n\xa9\n\n\r\n0\r\n\r\n")
    assert any(read.endswith(b"\xc3\r\n") for read in reads)


def test_several_events_may_come_in_one_write(serve):
    """A part with two events is one chunk on the wire."""
    server = serve(events(b"data: 1\n\ndata: 2\n\n"))
    assert b"12\r\ndata: 1\n\ndata: 2\n\n\r\n0\r\n\r\n" in b"".join(exchanged(server))


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_ends_the_connection_without_an_end_of_the_body(serve, reset):
    """After a cut nothing follows: no last chunk; by RST the reader gets an error instead."""
    server = serve(events(b"data: 1\n\n", Pause(0.05), Cut(reset=reset)))
    if reset:
        with pytest.raises(ConnectionResetError):
            exchanged(server)
    else:
        assert b"".join(exchanged(server)).endswith(b"data: 1\n\n\r\n")


def test_a_closing_reply_ends_with_its_connection(serve):
    """A body without length or chunks is all that comes before the connection's end."""
    server = serve(Reply([b"all of it"], closing=True))
    said = b"".join(exchanged(server))
    assert said == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it"


def test_lines_may_end_as_in_http():
    """`line_end` changes the end of every line of a stream; `done=False` leaves out the mark."""
    body = openai_wire.stream([openai_wire.chunk({"content": "x"})], usage=None, line_end=b"\r\n")
    assert body.count(b"\r\n\r\n") == 2
    assert b"\n" not in body.replace(b"\r\n", b"")
    assert body.endswith(b"data: [DONE]\r\n\r\n")
    assert b"DONE" not in openai_wire.stream([], done=False)


# ---- what happens on connections


def test_requests_are_kept_as_they_came(serve):
    """A request's path, headers and JSON are there to look at."""
    server = serve(openai_wire.say("Hi."))
    by_openai(server)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer any"
    assert request.json["messages"] == HELLO
    assert server.until(lambda: request.answered is not None)
    assert request.answered >= request.came
    assert request.client_left is None


def test_a_connection_is_used_again(serve):
    """Two requests of one client come on one connection, in their order."""
    server = serve(openai_wire.say("One."), openai_wire.say("Two."))
    with openai.OpenAI(base_url=server.base_url, api_key="any") as client:
        for _ in range(2):
            client.chat.completions.create(model="m", messages=HELLO)
    assert server.connections == 1
    assert [request.connection for request in server.requests] == [1, 1]


def test_a_client_that_leaves_is_seen(serve):
    """Closing a stream in the middle is noted with its time, and ends what never ends."""
    endless = openai_wire.event(openai_wire.chunk({"content": "on "}))
    server = serve(events(Forever(endless, every_s=0.002)))
    with openai.OpenAI(base_url=server.base_url, api_key="any") as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        next(iter(stream))
        assert server.requests[0].client_left is None
        closed = time.monotonic()
        stream.close()
        assert server.until_left()
        assert server.requests[0].client_left >= closed
    assert server.until(lambda: not server.open_connections)


def test_a_slow_answer_waits_for_the_test(serve):
    """A reply stands still at `Until` and goes on when the event is set."""
    going_on = threading.Event()
    server = serve(events(b": first\n\n", Until(going_on), b"data: [DONE]\n\n"))
    answers = []
    asking = threading.Thread(target=lambda: answers.extend(exchanged(server)))
    asking.start()
    assert server.until(lambda: server.requests and server.requests[0].parts_sent == 1)
    time.sleep(0.05)
    assert server.requests[0].parts_sent == 1
    going_on.set()
    asking.join()
    assert b"DONE" in b"".join(answers)


def test_the_first_byte_may_be_late_or_never_come(serve):
    """A reply may wait before its head, or end the connection without one."""
    late = Reply([b"{}"], chunked=False, before=Pause(0.1))
    never = Reply(before=Cut())
    server = serve(late, never)
    started = time.monotonic()
    assert exchanged(server, b"{}")[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert time.monotonic() - started >= 0.1
    assert exchanged(server) == []


def test_a_date_to_ask_again_is_written_as_http_writes_it():
    """`http_date` is in GMT, in whole seconds, and as far away as was said."""
    date = email.utils.parsedate_to_datetime(http_date(60))
    assert http_date(60).endswith(" GMT")
    assert 58 <= date.timestamp() - time.time() <= 60


def test_ten_megabytes_are_all_written(serve):
    """A large answer arrives whole, however slowly it is read."""
    server = serve(openai_wire.say("x" * 10_000_000))
    assert len(by_openai(server).choices[0].message.content) == 10_000_000


def test_a_port_that_refuses():
    """`refusing` names a port where nobody listens."""
    with (
        refusing() as base_url,
        openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="m", messages=HELLO)


def test_a_request_without_a_reply_fails_the_test():
    """When the script is at its end the caller gets a 500, and the block fails."""
    with (
        pytest.raises(AssertionError, match="1 requests"),
        ScriptedServer() as server,
        pytest.raises(openai.InternalServerError),
    ):
        by_openai(server)


def test_a_function_that_fails_fails_the_test():
    """What a behaviour raises comes out at the end of the block."""

    def broken(_):
        raise KeyError("mine")

    with (
        pytest.raises(KeyError, match="mine"),
        ScriptedServer(broken) as server,
        pytest.raises(openai.InternalServerError),
    ):
        by_openai(server)


def test_models_are_listed_to_either_client(serve):
    """`/v1/models` is understood by both clients and is no request of the script."""
    server = serve()
    with openai.OpenAI(base_url=server.base_url, api_key="any") as client:
        assert [model.id for model in client.models.list()] == ["scripted-model"]
    with anthropic.Anthropic(base_url=server.origin, api_key="any") as client:
        assert [model.id for model in client.models.list()] == ["scripted-model"]
    assert len(server.listings) == 2
    assert server.requests == []


# ---- OpenAI's protocol


def test_openai_understands_words(serve):
    """An answer and a stream of it say the same, with usage where it is asked for."""
    server = serve(*[openai_wire.say("Grüße, Welt!")] * 3)
    answer = by_openai(server)
    assert answer.choices[0].message.content == "Grüße, Welt!"
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (10, 15)
    chunks = by_openai(server, stream=True)
    assert text_of(chunks) == "Grüße, Welt!"
    assert chunks[-1].usage is None
    chunks = by_openai(server, stream=True, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5


def test_openai_understands_any_cut_of_a_stream(serve):
    """A stream in writes of one byte, with comments and CRLF, is the same to the client."""
    chunks = openai_wire.said(["Grüße", " ✓"])
    body = openai_wire.stream(chunks, line_end=b"\r\n", between=openai_wire.COMMENT)
    server = serve(events(*in_pieces(body, 1, pause_s=0)))
    assert text_of(by_openai(server, stream=True)) == "Grüße ✓"


def test_openai_understands_calls(serve):
    """Calls have the same names and arguments whole, in pieces, and in pieces interleaved."""
    server = serve(
        openai_wire.call(ADD, FIND), openai_wire.streamed(openai_wire.called([ADD, FIND], piece=3)),
        openai_wire.streamed(openai_wire.called([ADD, FIND], piece=2, interleaved=True)),
    )  # fmt: skip
    answer = by_openai(server)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in answer.choices[0].message.tool_calls
    ] == [("call_a", "add", {"a": 17, "b": 25}), ("call_b", "find", {"query": "tax"})]
    for _ in range(2):
        pieces = [
            piece
            for chunk in by_openai(server, stream=True)
            if chunk.choices
            for piece in chunk.choices[0].delta.tool_calls or []
        ]
        for index, call in enumerate((ADD, FIND)):
            mine = [piece for piece in pieces if piece.index == index]
            assert [piece.id for piece in mine] == [call.call_id] + [None] * (len(mine) - 1)
            assert "".join(piece.function.arguments for piece in mine) == call.text
        orders = [piece.index for piece in pieces]
    assert orders != sorted(orders)


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (openai_wire.rate_limited("1"), openai.RateLimitError, "rate_limit_exceeded"),
        (openai_wire.quota_gone(), openai.RateLimitError, "insufficient_quota"),
        (openai_wire.wrong_key(), openai.AuthenticationError, "invalid_api_key"),
        (openai_wire.no_such_model(), openai.NotFoundError, "model_not_found"),
        (openai_wire.too_long(), openai.BadRequestError, "context_length_exceeded"),
        (openai_wire.error(402, "Pay."), openai.APIStatusError, None),
        (openai_wire.error(403, "No."), openai.PermissionDeniedError, None),
        (openai_wire.server_error(503), openai.InternalServerError, None),
        (html_error(), openai.InternalServerError, None),
    ],
)
def test_openai_understands_errors(serve, reply, kind, code):
    """Each error is the client's error for it, with its code."""
    with pytest.raises(kind) as raised:
        by_openai(serve(reply))
    assert raised.value.status_code == reply.status
    assert raised.value.code == code


def test_openai_sees_an_error_within_a_stream(serve):
    """An error object after some chunks, with status 200, is an error to the client."""
    with pytest.raises(openai.APIError, match="had an error"):
        by_openai(serve(openai_wire.error_in_stream("Once")), stream=True)


def test_openai_sees_a_cut_stream(serve):
    """A stream that is cut off is an error of the connection."""
    with pytest.raises(openai.APIConnectionError):
        by_openai(serve(openai_wire.cut_stream("Once", " upon")), stream=True)


def test_openai_sees_a_refusal(serve):
    """A refusal has no content, whole and streamed."""
    server = serve(openai_wire.refuse("I cannot."), openai_wire.refuse("I cannot."))
    told = by_openai(server).choices[0].message
    assert (told.content, told.refusal) == (None, "I cannot.")
    deltas = [chunk.choices[0].delta for chunk in by_openai(server, stream=True)]
    assert "".join(delta.refusal or "" for delta in deltas) == "I cannot."


def test_a_behaviour_answers_by_what_it_was_told(serve):
    """An agent's two turns: the model calls a tool, then speaks of what the tool answered."""

    def behave(request):
        last = request.json["messages"][-1]
        if last["role"] == "tool":
            return openai_wire.say(f"It is {last['content']}.")(request)
        return openai_wire.call(ADD)(request)

    with (
        ScriptedServer(behave) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any") as client,
    ):
        first = client.chat.completions.create(model="m", messages=HELLO).choices[0].message
        call = first.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "42"}
        turns = [*HELLO, first.model_dump(exclude_none=True), result]
        second = client.chat.completions.create(model="m", messages=turns)
        assert second.choices[0].message.content == "It is 42."


# ---- Anthropic's protocol


def test_anthropic_understands_words(serve):
    """An answer and a stream of it say the same, with the same usage."""
    server = serve(anthropic_wire.say("Grüße, Welt!"), anthropic_wire.say("Grüße, Welt!"))
    answer = by_anthropic(server)
    assert (answer.content[0].text, answer.stop_reason) == ("Grüße, Welt!", "end_turn")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 5)
    with (
        anthropic.Anthropic(base_url=server.origin, api_key="any") as client,
        client.messages.stream(model="m", max_tokens=9, messages=HELLO) as stream,
    ):
        streamed = stream.get_final_message()
    assert [block.text for block in streamed.content] == ["Grüße, Welt!"]
    assert (streamed.stop_reason, streamed.usage) == (answer.stop_reason, answer.usage)


def test_anthropic_understands_calls(serve):
    """A call of a tool is the same whole and in pieces of JSON."""
    use = anthropic_wire.ToolUse("add", {"a": 17, "b": 25})
    server = serve(anthropic_wire.call(use, text="Let me add."), anthropic_wire.call(use))
    said, called = by_anthropic(server).content
    assert (said.text, called.name, called.input) == ("Let me add.", "add", {"a": 17, "b": 25})
    with (
        anthropic.Anthropic(base_url=server.origin, api_key="any") as client,
        client.messages.stream(model="m", max_tokens=9, messages=HELLO) as stream,
    ):
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert (final.content[0].id, final.content[0].input) == ("toolu_1", {"a": 17, "b": 25})


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (anthropic_wire.overloaded(), anthropic.InternalServerError),
        (anthropic_wire.rate_limited("1"), anthropic.RateLimitError),
        (anthropic_wire.wrong_key(), anthropic.AuthenticationError),
        (anthropic_wire.credit_gone(), anthropic.BadRequestError),
    ],
)
def test_anthropic_understands_errors(serve, reply, kind):
    """Each error is the client's error for it."""
    with pytest.raises(kind) as raised:
        by_anthropic(serve(reply))
    assert raised.value.status_code == reply.status


def test_anthropic_sees_an_error_within_a_stream(serve):
    """An error event with status 200 is an error to the client."""
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        by_anthropic(serve(anthropic_wire.error_in_stream("Once")), stream=True)

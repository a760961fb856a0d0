"""Replies of OpenAI's chat completions, byte for byte, for `ScriptedServer`.

`say`, `call` and `refuse` answer whole or by a stream, as the request asks. The rest write the
bytes of a stream down for tests of oddities: `stream` joins events, `scripted.in_pieces` and
`scripted.split_at` choose where writes end.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.models.scripted import Answering, Cut, Part, Reply, Request, compact, events, whole

MODEL = "scripted-model"
CREATED = 1700000000
DONE = b"data: [DONE]\n\n"
COMMENT = b": keepalive\n\n"


@dataclass(frozen=True)
class Call:
    """A call of a tool that the model asks for."""

    name: str
    arguments: dict[str, Any] | str
    """As an object, or as the text that the model wrote, JSON or not."""
    call_id: str = "call_1"

    @property
    def text(self) -> str:
        """The arguments as the model wrote them."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)

    def whole(self) -> dict[str, Any]:
        """As it stands in a message."""
        function = {"name": self.name, "arguments": self.text}
        return {"id": self.call_id, "type": "function", "function": function}


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer says it took."""

    prompt: int = 10
    completion: int = 5
    cached: int = 0
    reasoning: int = 0

    def told(self) -> dict[str, Any]:
        """As the service writes it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }


USAGE = Usage()


# ---- whole answers


def completion(
    message: dict[str, Any], *, finish: str = "stop", usage: Usage | None = USAGE
) -> Reply:
    """A whole answer with this message."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return completed([choice], usage=usage)


def completed(choices: Sequence[dict[str, Any]], *, usage: Usage | None = USAGE) -> Reply:
    """A whole answer with these choices, of which there may be none."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": list(choices),
        **({"usage": usage.told()} if usage else {}),
        "system_fingerprint": "fp_1",
    }
    return whole(200, compact(answer), x_request_id="req_1")


def message(
    content: str | None, calls: Sequence[Call] = (), refusal: str | None = None
) -> dict[str, Any]:
    """An assistant's message."""
    called = {"tool_calls": [call.whole() for call in calls]} if calls else {}
    return {"role": "assistant", "content": content, "refusal": refusal, **called}


# ---- streams


def event(value: object, line_end: bytes = b"\n") -> bytes:
    """One server-sent event with this as its data."""
    return b"data: " + compact(value) + line_end * 2


def chunk(
    delta: dict[str, Any] | None, *, finish: str | None = None, usage: Usage | None = None
) -> dict[str, Any]:
    """One chunk of a stream; without a delta it has no choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "system_fingerprint": "fp_1",
        "choices": [] if delta is None else [choice],
        **({"usage": usage.told()} if usage else {}),
    }


def opening() -> dict[str, Any]:
    """The first chunk of a stream: who speaks, and nothing said."""
    return chunk({"role": "assistant", "content": "", "refusal": None})


def said(texts: Sequence[str], *, finish: str = "stop") -> list[dict[str, Any]]:
    """Chunks that say these texts one by one."""
    deltas = [chunk({"content": text}) for text in texts]
    return [opening(), *deltas, chunk({}, finish=finish)]


def called(calls: Sequence[Call], *, piece: int = 4, interleaved: bool = False) -> list[Any]:
    """Chunks that call these tools.

    Id and name come in a call's first piece alone; arguments in pieces of that many characters.
    """
    streams = [list(_call_deltas(index, call, piece)) for index, call in enumerate(calls)]
    if interleaved:
        turns = itertools.zip_longest(*streams)
        deltas = [delta for turn in turns for delta in turn if delta is not None]
    else:
        deltas = [delta for stream in streams for delta in stream]
    first = chunk({"role": "assistant", "content": None})
    chunks = [chunk({"tool_calls": [delta]}) for delta in deltas]
    return [first, *chunks, chunk({}, finish="tool_calls")]


def _call_deltas(index: int, call: Call, piece: int) -> Iterator[dict[str, Any]]:
    function = {"name": call.name, "arguments": ""}
    yield {"index": index, "id": call.call_id, "type": "function", "function": function}
    for start in range(0, len(call.text), piece):
        yield {"index": index, "function": {"arguments": call.text[start : start + piece]}}


def stream(
    chunks: Sequence[dict[str, Any]],
    *,
    usage: Usage | None = USAGE,
    done: bool = True,
    line_end: bytes = b"\n",
    between: bytes = b"",
) -> bytes:
    """The whole body of a stream: the chunks, usage in a last one without choices, the end mark."""
    last = [chunk(None, usage=usage)] if usage else []
    body = between.join(event(one, line_end) for one in [*chunks, *last])
    return body + (b"data: [DONE]" + line_end * 2 if done else b"")


def streamed(chunks: Sequence[dict[str, Any]], *, usage: Usage | None = USAGE) -> Reply:
    """A stream of these chunks, each event a write of its own."""
    last = [chunk(None, usage=usage)] if usage else []
    return events(*(event(one) for one in [*chunks, *last]), DONE)


def cut_stream(*texts: str, reset: bool = False) -> Reply:
    """A stream that says these texts and then is cut off."""
    parts: list[Part] = [event(opening()), *(event(chunk({"content": text})) for text in texts)]
    return events(*parts, Cut(reset=reset))


# ---- as the request asks


def wants_stream(request: Request) -> bool:
    """Whether this request is for a stream."""
    return bool(request.json.get("stream"))


def wants_usage(request: Request) -> bool:
    """Whether a stream shall end with its usage."""
    return bool((request.json.get("stream_options") or {}).get("include_usage"))


def say(text: str, *, finish: str = "stop", usage: Usage | None = USAGE) -> Answering:
    """Say this, word by word where a stream is asked for."""

    def answer(request: Request) -> Reply:
        if not wants_stream(request):
            return completion(message(text), finish=finish, usage=usage)
        words = text.replace(" ", "\0 ").split("\0")
        return streamed(said(words, finish=finish), usage=usage if wants_usage(request) else None)

    return answer


def call(*calls: Call, usage: Usage | None = USAGE) -> Answering:
    """Ask for these calls of tools."""

    def answer(request: Request) -> Reply:
        if not wants_stream(request):
            return completion(message(None, calls), finish="tool_calls", usage=usage)
        return streamed(called(calls), usage=usage if wants_usage(request) else None)

    return answer


def refuse(why: str) -> Answering:
    """Refuse to answer: no content, and a refusal."""

    def answer(request: Request) -> Reply:
        if not wants_stream(request):
            return completion(message(None, refusal=why))
        chunks = [opening(), chunk({"refusal": why}), chunk({}, finish="stop")]
        return streamed(chunks, usage=USAGE if wants_usage(request) else None)

    return answer


# ---- errors


def error(
    status: int,
    text: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    **headers: str,
) -> Reply:
    """An error as the service words it; `retry_after` is the header `retry-after`."""
    told = {"error": {"message": text, "type": kind, "param": None, "code": code}}
    return whole(status, compact(told), **headers)


def rate_limited(retry_after: str | None = None) -> Reply:
    """429: too many requests; `retry_after` in seconds, or a date as HTTP writes it."""
    headers = {"retry_after": retry_after} if retry_after is not None else {}
    text = "Rate limit reached for scripted-model on requests per min (RPM): Limit 3, Used 3."
    return error(429, text, kind="requests", code="rate_limit_exceeded", **headers)


def quota_gone() -> Reply:
    """429 too, but asking again does not help: there is no credit."""
    text = "You exceeded your current quota, please check your plan and billing details."
    return error(429, text, kind="insufficient_quota", code="insufficient_quota")


def wrong_key() -> Reply:
    """401."""
    return error(401, "Incorrect API key provided: any.", code="invalid_api_key")


def no_such_model(name: str = MODEL) -> Reply:
    """404."""
    text = f"The model `{name}` does not exist or you do not have access to it."
    return error(404, text, code="model_not_found")


def too_long() -> Reply:
    """400: the conversation is longer than the model's context."""
    text = "This model's maximum context length is 8192 tokens."
    return error(400, text, code="context_length_exceeded")


def server_error(status: int = 500) -> Reply:
    """500, 502, 503 or 529, in the service's words."""
    return error(status, "The server had an error.", kind="server_error")


def error_in_stream(*texts: str) -> Reply:
    """A stream with status 200 that says these texts and then an error instead of a chunk."""
    broken = {
        "error": {"message": "The server had an error.", "type": "server_error", "code": None}
    }
    chunks = [opening(), *(chunk({"content": text}) for text in texts), broken]
    return events(*(event(one) for one in chunks))

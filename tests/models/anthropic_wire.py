"""Replies of Anthropic's Messages, byte for byte, for `ScriptedServer`.

`say` and `call` answer whole or by a stream, as the request asks; the rest is for oddities.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.models.openai_wire import wants_stream
from tests.models.scripted import Answering, Reply, Request, compact, events, whole

MODEL = "scripted-model"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


@dataclass(frozen=True)
class ToolUse:
    """A call of a tool that the model asks for."""

    name: str
    arguments: dict[str, Any]
    call_id: str = "toolu_1"

    def block(self) -> dict[str, Any]:
        """As it stands in a message."""
        return {
            "type": "tool_use",
            "id": self.call_id,
            "name": self.name,
            "input": self.arguments,
        }


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer says it took."""

    prompt: int = 10
    completion: int = 5
    cached: int = 0

    def told(self, completion: int | None = None) -> dict[str, Any]:
        """As the service writes it."""
        return {
            "input_tokens": self.prompt,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.completion if completion is None else completion,
        }


USAGE = Usage()


def text_block(text: str) -> dict[str, Any]:
    """A piece of a message that says this."""
    return {"type": "text", "text": text}


def message(
    blocks: Sequence[dict[str, Any]], *, stop: str | None = "end_turn", usage: Usage = USAGE
) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(blocks),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage.told(),
    }


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event, named by its type."""
    return b"event: " + value["type"].encode() + b"\ndata: " + compact(value) + b"\n\n"


def opening(usage: Usage = USAGE) -> bytes:
    """The start of a streamed message, with the tokens of the prompt."""
    started = message([], stop=None) | {"usage": usage.told(completion=1)}
    return event({"type": "message_start", "message": started})


def closing(stop: str, usage: Usage = USAGE) -> list[bytes]:
    """The end of a streamed message, with the tokens of the answer."""
    delta = {"stop_reason": stop, "stop_sequence": None}
    spent = {"output_tokens": usage.completion}
    return [
        event({"type": "message_delta", "delta": delta, "usage": spent}),
        event({"type": "message_stop"}),
    ]


def block_events(index: int, block: dict[str, Any], piece: int = 6) -> list[bytes]:
    """A block in a stream: its start, its text or arguments in pieces, its stop."""
    if block["type"] == "text":
        empty, whole_text = {"type": "text", "text": ""}, block["text"]
        kind, name = "text_delta", "text"
    else:
        empty, whole_text = {**block, "input": {}}, json.dumps(block["input"])
        kind, name = "input_json_delta", "partial_json"
    starts = range(0, len(whole_text), piece)
    pieces = [whole_text[start : start + piece] for start in starts]
    if kind == "input_json_delta":
        pieces = ["", *pieces]
    deltas = [
        {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text}}
        for text in pieces
    ]
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    stop = {"type": "content_block_stop", "index": index}
    return [event(one) for one in [start, *deltas, stop]]


def streamed(
    blocks: Sequence[dict[str, Any]], *, stop: str = "end_turn", usage: Usage = USAGE
) -> Reply:
    """A streamed message of these blocks, each event a write of its own."""
    written = [one for index, block in enumerate(blocks) for one in block_events(index, block)]
    return events(opening(usage), PING, *written, *closing(stop, usage))


def answer(
    blocks: Sequence[dict[str, Any]], *, stop: str = "end_turn", usage: Usage = USAGE
) -> Answering:
    """These blocks, whole or by a stream, as the request asks."""

    def reply(request: Request) -> Reply:
        if wants_stream(request):
            return streamed(blocks, stop=stop, usage=usage)
        told = compact(message(blocks, stop=stop, usage=usage))
        return whole(200, told, request_id="req_1")

    return reply


def say(text: str, *, stop: str = "end_turn", usage: Usage = USAGE) -> Answering:
    """Say this."""
    return answer([text_block(text)], stop=stop, usage=usage)


def call(*uses: ToolUse, text: str = "", usage: Usage = USAGE) -> Answering:
    """Ask for these calls of tools, after some words if there are any."""
    blocks = [text_block(text)] if text else []
    return answer([*blocks, *(use.block() for use in uses)], stop="tool_use", usage=usage)


def error(status: int, kind: str, text: str, **headers: str) -> Reply:
    """An error as the service words it; `retry_after` is the header `retry-after`."""
    return whole(status, error_body(kind, text), request_id="req_1", **headers)


def error_body(kind: str, text: str) -> bytes:
    """The body of an error."""
    return compact({"type": "error", "error": {"type": kind, "message": text}})


def overloaded() -> Reply:
    """529: the service has too much to do."""
    return error(529, "overloaded_error", "Overloaded")


def rate_limited(retry_after: str | None = None) -> Reply:
    """429: too many requests."""
    headers = {"retry_after": retry_after} if retry_after is not None else {}
    return error(429, "rate_limit_error", "This request would exceed your rate limit.", **headers)


def wrong_key() -> Reply:
    """401."""
    return error(401, "authentication_error", "invalid x-api-key")


def credit_gone() -> Reply:
    """400 here: there is no credit."""
    text = "Your credit balance is too low to access the Anthropic API."
    return error(400, "invalid_request_error", text)


def error_in_stream(text: str, kind: str = "overloaded_error") -> Reply:
    """A stream with status 200 that says this text and then an error."""
    broken = {"type": "error", "error": {"type": kind, "message": "Overloaded"}}
    told = block_events(0, text_block(text))[:-1]
    return events(opening(), *told, event(broken))

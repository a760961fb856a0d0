"""How many tokens a text has, without a model's own table: nothing is downloaded.

Two figures: what it likely is, which is told and marked as an estimate, and what it is at most,
which is reserved. A token of every known tokenizer is at least a byte, and of letters at least two.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable

import msgspec

from services.runtime.providers.model import ChatRequest, Message

_Counts = Callable[[str], int]
_WORDS = (string.ascii_letters + " ").encode()
_MESSAGE_TOKENS = 8
"""Of a message's own marks."""
_TOOL_TOKENS = 16
"""Likewise of a tool."""
_IMAGE_TOKENS = 1_600
"""Of a picture; providers cut larger ones down."""


def estimate_tokens(text: str) -> int:
    """How many tokens a text likely has: four letters each, or two bytes of other scripts."""
    data = text.encode("utf-8", "surrogatepass")
    others = 0 if text.isascii() else sum(byte > 127 for byte in data)  # noqa: PLR2004
    return math.ceil((len(data) - others) / 4 + others / 2)


def most_tokens(text: str) -> int:
    """How many tokens a text has at most: two letters or one other byte each."""
    data = text.encode("utf-8", "surrogatepass")
    others = len(data.translate(None, _WORDS))
    return others + (len(data) - others + 1) // 2


def estimate_request(request: ChatRequest) -> int:
    """How many tokens a model likely reads for a request."""
    return _request(request, estimate_tokens)


def most_of_request(request: ChatRequest) -> int:
    """How many tokens a model reads for a request at most."""
    return _request(request, most_tokens)


def _request(request: ChatRequest, count: _Counts) -> int:
    tokens = sum(_message(message, count) for message in request.messages)
    for tool in request.tools:
        schema = msgspec.json.encode(tool.parameters).decode()
        tokens += _TOOL_TOKENS + count(tool.name) + count(tool.description) + count(schema)
    if request.answer_schema is not None:
        tokens += _TOOL_TOKENS + count(msgspec.json.encode(request.answer_schema).decode())
    return tokens


def _message(message: Message, count: _Counts) -> int:
    uses = sum(
        _MESSAGE_TOKENS + count(use.name) + count(use.arguments) for use in message.tool_uses
    )
    return _MESSAGE_TOKENS + count(message.text) + len(message.images) * _IMAGE_TOKENS + uses

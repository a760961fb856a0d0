"""Anthropic's Messages, by the anthropic package, which is an optional extra.

What the protocol cannot is done in its place: `seed` is not sent; an answer is held to a schema by
a tool that must be called, or, where the request has tools of its own, by an instruction.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx2
from anthropic import (
    AnthropicError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncAnthropic,
    AsyncStream,
)

from services.runtime.providers.asking import Lack, ToolNames, instructed
from services.runtime.providers.failures import AttemptError
from services.runtime.providers.messages_answer import ANSWER_TOOL, MessagesAnswer
from services.runtime.providers.model import Capabilities, ChatRequest, Message, Role
from services.runtime.providers.speaking import Sdk, Speaker
from services.runtime.providers.transport import Transport

VERSION: Final = "2023-06-01"
"""Of the protocol; every request names it."""
MAX_TOKENS: Final = 4096
"""Of an answer, where a request does not say: every model may write as many."""

_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class MessagesDialect:
    """Anthropic's Messages."""

    path = "/v1/messages"
    models_path = "/v1/models?limit=1000"

    def body(
        self, request: ChatRequest, names: ToolNames, *, streams: bool, lacks: Iterable[Lack]
    ) -> dict[str, Any]:
        """The JSON of a request."""
        del lacks
        return messages_body(request, names, streams=streams)

    def coming(self, request: ChatRequest, names: ToolNames) -> MessagesAnswer:
        """What reads its answer."""
        is_held = request.answer_schema is not None and not request.tools
        return MessagesAnswer(names, is_held=is_held)

    def is_end(self, data: str) -> bool:
        """`message_stop`."""
        return '"message_stop"' in data[:60]

    def lack(self, body: Mapping[str, Any], failure: AttemptError) -> frozenset[Lack]:
        """There is one server, and it takes all."""
        del body, failure
        return frozenset()

    def is_for_good(self, failure: AttemptError) -> bool:
        """See `lack`."""
        del failure
        return False


class AnthropicProvider(Speaker):
    """Anthropic, with one key."""

    def __init__(
        self,
        name: str,
        base_url: str,
        transport: Transport,
        *,
        key: str = "",
        capabilities: Capabilities | None = None,
    ) -> None:
        """Connect to nothing yet; see `Speaker`."""
        sdk = Sdk(
            AsyncAnthropic(
                api_key="none",  # the transport puts it on
                base_url=base_url.removesuffix("/v1"),
                max_retries=0,
                http_client=httpx2.AsyncClient(transport=transport, trust_env=False),
            ),
            AsyncStream,
            APIStatusError,
            APITimeoutError,
            APIConnectionError,
            AnthropicError,
        )
        super().__init__(name, sdk, MessagesDialect(), key=key, capabilities=capabilities)


def messages_body(request: ChatRequest, names: ToolNames, *, streams: bool) -> dict[str, Any]:
    """The JSON of a request."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens or MAX_TOKENS,
        "messages": _messages(request.messages, names),
    }
    system = _system(request)
    if system:
        body["system"] = system
    options = {"temperature": request.temperature, "top_p": request.top_p}
    body |= {name: value for name, value in options.items() if value is not None}
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body |= _tools(request, names)
    if streams:
        body["stream"] = True
    return body


def _system(request: ChatRequest) -> str:
    system = "\n\n".join(one.text for one in request.messages if one.role is Role.SYSTEM)
    if request.answer_schema is None or not request.tools:
        return system
    asked = instructed([{"role": "system", "content": system}], request.answer_schema)
    return str(asked[0]["content"]).strip()


def _tools(request: ChatRequest, names: ToolNames) -> dict[str, Any]:
    if request.tools:
        offers = [
            {
                "name": names.sent(offer.name),
                "description": offer.description,
                "input_schema": dict(offer.parameters) or {"type": "object", "properties": {}},
            }
            for offer in request.tools
        ]
        return {"tools": offers, "tool_choice": _choice(request.tool_choice, names)}
    if request.answer_schema is None:
        return {}
    schema = dict(request.answer_schema) or {"type": "object"}
    offer = {"name": ANSWER_TOOL, "description": "Give the answer.", "input_schema": schema}
    return {"tools": [offer], "tool_choice": {"type": "tool", "name": ANSWER_TOOL}}


def _choice(choice: str, names: ToolNames) -> dict[str, Any]:
    if choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    return {"type": "tool", "name": names.sent(choice)}


def _messages(messages: Iterable[Message], names: ToolNames) -> list[dict[str, Any]]:
    """Turns of user and assistant; what tools answered is said by the user, in one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message, names)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, names: ToolNames) -> list[dict[str, Any]]:
    """An empty text is refused, and so is left out."""
    if message.role is Role.TOOL:
        content = message.text or "(nothing)"
        return [{"type": "tool_result", "tool_use_id": message.call_id, "content": content}]
    blocks: list[dict[str, Any]] = []
    if message.text.strip():
        blocks.append({"type": "text", "text": message.text})
    for image in message.images:
        data = base64.b64encode(image.data).decode()
        source = {"type": "base64", "media_type": image.mime_type, "data": data}
        blocks.append({"type": "image", "source": source})
    for use in message.tool_uses:
        told = {"id": use.call_id, "name": names.sent(use.name), "input": _object(use.arguments)}
        blocks.append({"type": "tool_use", **told})
    return blocks


def _object(arguments: str) -> Any:
    """What a model wrote as arguments; what is no object must not stop the conversation."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

"""A request in OpenAI's chat protocol."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.runtime.providers.model import ChatRequest, Message, Role, ToolUse

_NOT_OF_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH_MAX = 64
_CHOICES = frozenset({"auto", "none", "required"})


class Lack(StrEnum):
    """What some servers do not take; they are asked without it from then on."""

    STREAM_OPTIONS = "stream_options"
    JSON_SCHEMA = "json_schema"
    """Then `json_object` and an instruction."""
    JSON_OBJECT = "json_object"
    """Then the instruction alone."""
    MAX_TOKENS = "max_tokens"
    """Then `max_completion_tokens`."""
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


@dataclass(slots=True)
class ToolNames:
    """Names of tools as the wire allows them, and back."""

    _sent: dict[str, str] = field(default_factory=dict)
    _meant: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: ChatRequest) -> ToolNames:
        """Of all tools that a request offers or speaks of."""
        names = cls()
        for offer in request.tools:
            names._add(offer.name)
        for message in request.messages:
            for use in message.tool_uses:
                names._add(use.name)
        return names

    def sent(self, name: str) -> str:
        """As it goes over the wire."""
        return self._sent.get(name, name)

    def meant(self, name: str) -> str:
        """What the model means by a name that it wrote."""
        return self._meant.get(name, name)

    def _add(self, name: str) -> None:
        if name in self._sent:
            return
        plain = _NOT_OF_A_NAME.sub("_", name)[:_NAME_LENGTH_MAX] or "_"
        sent, number = plain, 1
        while sent in self._meant:
            number += 1
            sent = f"{plain[: _NAME_LENGTH_MAX - len(str(number)) - 1]}_{number}"
        self._sent[name], self._meant[sent] = sent, name


def chat_body(
    request: ChatRequest, names: ToolNames, *, streams: bool, lacks: Iterable[Lack] = ()
) -> dict[str, Any]:
    """The JSON of a request."""
    lacking = frozenset(lacks)
    body: dict[str, Any] = {"model": request.model}
    body["messages"] = [_message(message, names) for message in request.messages]
    _add_options(body, request, lacking)
    if request.tools:
        body["tools"] = [_offer(offer, names) for offer in request.tools]
        body["tool_choice"] = _choice(request.tool_choice, names)
    if request.answer_schema is not None:
        _hold(body, request.answer_schema, lacking)
    if streams:
        body["stream"] = True
        if Lack.STREAM_OPTIONS not in lacking:
            body["stream_options"] = {"include_usage": True}
    return body


def _add_options(body: dict[str, Any], request: ChatRequest, lacking: frozenset[Lack]) -> None:
    options = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}
    body |= {name: value for name, value in options.items() if value is not None}
    if request.stop:
        body["stop"] = list(request.stop)
    if request.max_tokens is not None:
        name = "max_completion_tokens" if Lack.MAX_TOKENS in lacking else "max_tokens"
        body[name] = request.max_tokens


def _message(message: Message, names: ToolNames) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role.value, "content": message.text}
    if message.role is Role.TOOL:
        told["tool_call_id"] = message.call_id
    elif message.role is Role.ASSISTANT and message.tool_uses:
        told["tool_calls"] = [_use(use, names) for use in message.tool_uses]
        told["content"] = message.text or None
    elif message.images:
        text = [{"type": "text", "text": message.text}] if message.text else []
        told["content"] = [*text, *(_image(one.mime_type, one.data) for one in message.images)]
    return told


def _image(mime_type: str, data: bytes) -> dict[str, Any]:
    url = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _use(use: ToolUse, names: ToolNames) -> dict[str, Any]:
    # Servers parse what a model wrote: what is no JSON of a model's must not stop the conversation.
    arguments = use.arguments if _is_object(use.arguments) else "{}"
    function = {"name": names.sent(use.name), "arguments": arguments}
    return {"id": use.call_id, "type": "function", "function": function}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _offer(offer: Any, names: ToolNames) -> dict[str, Any]:
    parameters = dict(offer.parameters) or {"type": "object", "properties": {}}
    function = {"description": offer.description, "parameters": parameters}
    return {"type": "function", "function": {"name": names.sent(offer.name), **function}}


def _choice(choice: str, names: ToolNames) -> Any:
    if choice in _CHOICES:
        return choice
    return {"type": "function", "function": {"name": names.sent(choice)}}


def _hold(body: dict[str, Any], schema: Mapping[str, Any], lacking: frozenset[Lack]) -> None:
    """Hold the answer's text to a schema, as far as the server can."""
    if schema and Lack.JSON_SCHEMA not in lacking:
        named = {"name": "answer", "schema": dict(schema), "strict": is_strict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
        return
    if Lack.JSON_OBJECT not in lacking:
        body["response_format"] = {"type": "json_object"}
    # OpenAI's `json_object` wants the word JSON somewhere in the messages.
    body["messages"] = instructed(body["messages"], schema)


def instructed(messages: list[dict[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages, of which the first asks for JSON."""
    words = "Answer with one JSON object and nothing else."
    if schema:
        words += f" It must be valid under this JSON Schema: {json.dumps(schema)}"
    if messages and messages[0]["role"] == Role.SYSTEM:
        first = {"role": "system", "content": f"{messages[0]['content']}\n\n{words}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def is_strict(schema: Any) -> bool:
    """Whether a schema keeps the rules under which OpenAI holds an answer to it exactly."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        required = schema.get("required", [])
        named = set(properties or {}) == set(required if isinstance(required, list) else [])
        if schema.get("additionalProperties") is not False or not named:
            return False
    return all(map(is_strict, schema.values()))

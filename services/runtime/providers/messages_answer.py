"""Answers in Anthropic's Messages protocol, whole and in pieces."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.limits import PROVIDER_TOOL_USES_MAX
from services.runtime.providers.answering import estimated_usage
from services.runtime.providers.asking import ToolNames
from services.runtime.providers.model import ChatAnswer, ChatRequest, Finish, ToolUse, Usage

ANSWER_TOOL = "answer"
"""The tool whose arguments are an answer that is held to a schema."""

_FINISH = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "pause_turn": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.CONTENT_FILTER,
}


@dataclass(slots=True)
class _Use:
    """A tool use as it comes."""

    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class MessagesAnswer:
    """An answer that comes."""

    names: ToolNames
    is_held: bool = False
    """Whether the tool `answer` is the answer's text."""
    finish: str = ""
    model: str = ""
    is_one: bool = False
    _text: list[str] = field(default_factory=list)
    _uses: list[_Use] = field(default_factory=list)
    _at: dict[Any, _Use] = field(default_factory=dict)
    _asked: int | None = None
    _cached: int = 0
    _said: int = 0

    @property
    def began(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._text or self._uses)

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Take an event of a stream, or a whole message; the text that is new."""
        kind = chunk.get("type")
        if kind == "message":
            return self._take_message(chunk)
        if kind == "message_start":
            return self._take_message(_mapping(chunk.get("message")))
        if kind == "content_block_start":
            return self._take_block(chunk.get("index"), _mapping(chunk.get("content_block")))
        if kind == "content_block_delta":
            return self._take_delta(chunk.get("index"), _mapping(chunk.get("delta")))
        if kind == "message_delta":
            self._take_end(_mapping(chunk.get("delta")), _mapping(chunk.get("usage")))
        return ""

    def tokens(self, request: ChatRequest) -> int:
        """What it has taken so far."""
        usage = self._usage(request)
        return usage.input_tokens + usage.output_tokens

    def answer(self, request: ChatRequest, *, attempts: int) -> ChatAnswer:
        """All of it."""
        uses = () if self.is_held else tuple(map(self._told, self._uses))
        finish = _FINISH.get(self.finish, Finish.STOP)
        if finish in (Finish.STOP, Finish.TOOL_CALLS):
            finish = Finish.TOOL_CALLS if uses else Finish.STOP
        return ChatAnswer(
            text="".join(self._text),
            tool_uses=uses,
            finish=finish,
            usage=self._usage(request),
            model=self.model or request.model,
            attempts=attempts,
        )

    def _take_message(self, message: Mapping[str, Any]) -> str:
        self.is_one = isinstance(message.get("content"), list)
        self.model = _text_of(message.get("model"))
        self._take_end(message, _mapping(message.get("usage")))
        content = message["content"] if self.is_one else []
        return "".join(
            self._take_block(index, block)
            for index, block in enumerate(content)
            if isinstance(block, Mapping)
        )

    def _take_block(self, index: Any, block: Mapping[str, Any]) -> str:
        if block.get("type") == "text":
            return self._take_text(_text_of(block.get("text")))
        if block.get("type") != "tool_use" or len(self._uses) >= PROVIDER_TOOL_USES_MAX:
            return ""
        use = _Use(_text_of(block.get("id")), _text_of(block.get("name")))
        self._uses.append(use)
        self._at[index] = use
        given = block.get("input")
        return self._take_arguments(use, json.dumps(given)) if given else ""

    def _take_delta(self, index: Any, delta: Mapping[str, Any]) -> str:
        if delta.get("type") == "text_delta":
            return self._take_text(_text_of(delta.get("text")))
        use = self._at.get(index)
        if delta.get("type") == "input_json_delta" and use is not None:
            return self._take_arguments(use, _text_of(delta.get("partial_json")))
        return ""

    def _take_arguments(self, use: _Use, piece: str) -> str:
        use.arguments.append(piece)
        return self._take_text(piece) if self.is_held and use.name == ANSWER_TOOL else ""

    def _take_text(self, text: str) -> str:
        if text:
            self._text.append(text)
        return text

    def _take_end(self, told: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
        self.finish = _text_of(told.get("stop_reason")) or self.finish
        if "input_tokens" in usage:
            cached = _count(usage.get("cache_read_input_tokens"))
            made = _count(usage.get("cache_creation_input_tokens"))
            self._asked, self._cached = _count(usage["input_tokens"]) + cached + made, cached
        self._said = _count(usage.get("output_tokens")) or self._said

    def _usage(self, request: ChatRequest) -> Usage:
        said = "".join([*self._text, *("".join(use.arguments) for use in self._uses)])
        guess = estimated_usage(request, said)
        if self._asked is None:
            return guess
        is_whole = bool(self.finish and self._said)
        return Usage(
            input_tokens=self._asked,
            output_tokens=self._said if is_whole else guess.output_tokens,
            cached_tokens=self._cached,
            estimated=not is_whole,
        )

    def _told(self, use: _Use) -> ToolUse:
        return ToolUse(
            call_id=use.call_id or f"toolu_{secrets.token_hex(8)}",
            name=self.names.meant(use.name),
            arguments="".join(use.arguments) or "{}",
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 2**53 else 0

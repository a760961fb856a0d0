"""Answers in OpenAI's chat protocol, whole and in pieces, with what servers do wrong in them.

Known to happen: no usage; no `[DONE]`; no reason why it ended; no choices; `content` null, or a
list of parts; a call's arguments in pieces, calls that take turns, calls without a number or an id,
arguments as an object; half of a character at the end of a piece.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.limits import PROVIDER_TOOL_USES_MAX
from services.runtime.providers.asking import ToolNames
from services.runtime.providers.model import ChatAnswer, ChatRequest, Finish, ToolUse, Usage

_FINISH = {
    "stop": Finish.STOP,
    "end_turn": Finish.STOP,
    "eos": Finish.STOP,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "safety": Finish.CONTENT_FILTER,
}
_BYTES_A_TOKEN = 4
_TOKENS_A_MESSAGE = 4
_TOKENS_AN_IMAGE = 1000


@dataclass(slots=True)
class _Use:
    """A tool use as it comes."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """An answer that comes."""

    names: ToolNames
    finish: str = ""
    """As the server says it; empty: it has not."""
    model: str = ""
    is_one: bool = False
    _text: list[str] = field(default_factory=list)
    _half: str = ""
    """The first half of a character whose second has not come."""
    _uses: list[_Use] = field(default_factory=list)
    _at: dict[Any, _Use] = field(default_factory=dict)
    _usage: Usage | None = None
    _refused: bool = False

    @property
    def began(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._text or self._uses)

    @property
    def text(self) -> str:
        """What has come of it."""
        return "".join(self._text) + _whole(self._half)

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Take a piece, or all of it.

        Returns:
            The text that is new, of whole characters.
        """
        self._take_frame(chunk)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            return ""
        self.is_one = True
        choice = choices[0]
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish = reason.lower()
        said = choice.get("delta") or choice.get("message") or {}
        if not isinstance(said, Mapping):
            return ""
        for use in _list(said.get("tool_calls")):
            self._take_use(use)
        if isinstance(said.get("function_call"), Mapping):
            self._take_use({"index": 0, "function": said["function_call"]})
        return self._take_text(_content(said.get("content")) or self._refusal(said))

    def answer(self, request: ChatRequest, *, attempts: int) -> ChatAnswer:
        """All of it. What attempts that broke off had taken is not in its usage.

        Args:
            request: What was asked.
            attempts: How often.
        """
        uses = tuple(self._told(use) for use in self._uses if use.name or use.arguments)
        finish = _FINISH.get(self.finish, Finish.STOP)
        if self._refused:
            finish = Finish.CONTENT_FILTER
        elif uses and finish is Finish.STOP:
            finish = Finish.TOOL_CALLS
        elif not uses and finish is Finish.TOOL_CALLS:
            finish = Finish.STOP
        return ChatAnswer(
            text=self.text,
            tool_uses=uses,
            finish=finish,
            usage=self.usage(request),
            model=self.model or request.model,
            attempts=attempts,
        )

    def usage(self, request: ChatRequest) -> Usage:
        """What the server says that it took, or a guess."""
        if self._usage is not None:
            return self._usage
        said = "".join((self.text, *("".join((use.name, *use.arguments)) for use in self._uses)))
        return estimated_usage(request, said)

    def tokens(self, request: ChatRequest) -> int:
        """What it has taken so far."""
        usage = self.usage(request)
        return usage.input_tokens + usage.output_tokens

    def _take_frame(self, chunk: Mapping[str, Any]) -> None:
        if isinstance(chunk.get("model"), str):
            self.model = chunk["model"]
        usage = chunk.get("usage") or _mapping(chunk.get("x_groq")).get("usage")
        if isinstance(usage, Mapping):
            self._usage = _usage(usage) or self._usage

    def _take_text(self, text: str) -> str:
        whole = self._half + text
        self._half = ""
        if whole and "\ud800" <= whole[-1] <= "\udbff":
            whole, self._half = whole[:-1], whole[-1]
        whole = _whole(whole)
        if whole:
            self._text.append(whole)
        return whole

    def _refusal(self, said: Mapping[str, Any]) -> str:
        refusal = said.get("refusal")
        if not isinstance(refusal, str) or not refusal:
            return ""
        self._refused = True
        return refusal

    def _take_use(self, piece: Any) -> None:
        if not isinstance(piece, Mapping):
            return
        function = _mapping(piece.get("function"))
        call_id, name = _text_of(piece.get("id")), _text_of(function.get("name"))
        use = self._use_at(piece.get("index"), call_id, name)
        use.call_id = use.call_id or call_id
        use.name = use.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = json.dumps(arguments)
        if isinstance(arguments, str) and arguments:
            use.arguments.append(arguments)

    def _use_at(self, index: Any, call_id: str, name: str) -> _Use:
        """The use that a piece belongs to: by its number, else its id, else the last one."""
        known = self._at.get(index) if isinstance(index, int) else None
        if known is None and not isinstance(index, int):
            known = self._at.get(call_id) if call_id else None
            if known is None and not call_id and not name and self._uses:
                known = self._uses[-1]
        # Some servers number every call of an answer 0.
        if known is not None and call_id and known.call_id and call_id != known.call_id and name:
            known = None
        if known is None:
            known = _Use()
            if len(self._uses) < PROVIDER_TOOL_USES_MAX:
                self._uses.append(known)
        self._at[index if isinstance(index, int) else call_id] = known
        return known

    def _told(self, use: _Use) -> ToolUse:
        return ToolUse(
            call_id=use.call_id or f"call_{secrets.token_hex(8)}",
            name=self.names.meant(use.name),
            arguments=_whole("".join(use.arguments)) or "{}",
        )


def estimated_usage(request: ChatRequest, said: str) -> Usage:
    """A guess by length: a token is some four bytes."""
    asked = 0
    for message in request.messages:
        uses = "".join(use.name + use.arguments for use in message.tool_uses)
        asked += _tokens(message.text + uses) + _TOKENS_A_MESSAGE
        asked += _TOKENS_AN_IMAGE * len(message.images)
    for offer in request.tools:
        asked += _tokens(offer.name + offer.description + json.dumps(dict(offer.parameters)))
    return Usage(input_tokens=asked, output_tokens=_tokens(said), estimated=True)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def _usage(told: Mapping[str, Any]) -> Usage | None:
    asked, said = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if not asked and not said:
        return None
    cached = _count(_mapping(told.get("prompt_tokens_details")).get("cached_tokens"))
    return Usage(input_tokens=asked, output_tokens=said, cached_tokens=min(cached, asked))


def _count(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return max(int(value), 0) if is_number and abs(value) < 2**53 else 0


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    # Mistral's parts; those that are a model's thoughts are no answer.
    parts = (part for part in _list(content) if isinstance(part, Mapping))
    return "".join(_text_of(part.get("text")) for part in parts if part.get("type") == "text")


def _whole(text: str) -> str:
    """Text in which halves of characters that JSON escaped are put together, or replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""

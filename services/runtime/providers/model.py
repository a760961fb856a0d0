"""What a provider of chat models is asked and answers, whatever its own protocol says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

NO_SCHEMA: Mapping[str, Any] = {}


class Role(StrEnum):
    """Who says something."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture for the model to see."""

    mime_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A tool that the model wants called."""

    call_id: str
    """Id by which its answer is told."""
    name: str
    """As the model wrote it; there may be no such tool."""
    arguments: str
    """JSON as the model wrote it; it may be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Role
    text: str = ""
    images: Sequence[Image] = ()
    """Of the user only."""
    tool_uses: Sequence[ToolUse] = ()
    """Of the assistant only."""
    call_id: str = ""
    """Of a tool only: which use it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """A tool that the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a model is asked."""

    model: str
    """Its name at the provider, without the provider's."""
    messages: Sequence[Message]
    """The oldest first; a system message only as the first."""
    tools: Sequence[ToolOffer] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    """Of the answer; None: as many as the model may."""
    stop: Sequence[str] = ()
    seed: int | None = None
    answer_schema: Mapping[str, Any] | None = None
    """JSON Schema that the answer's text is held to; empty: any JSON object."""
    timeout_s: float = 300.0
    """For all of it, tries and pauses included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of `input_tokens`, those that the provider had in its cache."""
    estimated: bool = False
    """Whether the provider did not say and this is a guess by length."""


class Finish(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """What a model answered."""

    text: str
    tool_uses: Sequence[ToolUse] = ()
    finish: Finish = Finish.STOP
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    """As the provider says it."""
    attempts: int = 1
    """How often it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model; 0, None and empty mean that it is not known."""

    name: str
    """At its provider."""
    context_tokens: int = 0
    output_tokens: int = 0
    input_usd_per_million: float | None = None
    output_usd_per_million: float | None = None
    cached_usd_per_million: float | None = None
    multimodal: bool = False
    tools: bool = False
    size_bytes: int = 0
    quantization: str = ""
    parameter_count: str = ""
    format: str = ""
    modified_time_s: float = 0.0
    loaded: bool = False
    available: bool = False
    """Whether the provider itself told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can."""

    streaming: bool = True
    multimodal: bool = True
    tools: bool = True
    json_schema: bool = True
    local: bool = False


class Hears(Protocol):
    """Is told of an answer while it comes."""

    def text(self, piece: str, /) -> None:
        """A piece of the text, of whole characters."""

    def again(self, why: str, /) -> None:
        """The call broke off and is made again: what came before does not count."""


class ChatProvider(Protocol):
    """A service of chat models."""

    name: str
    capabilities: Capabilities

    async def chat(self, request: ChatRequest, *, hears: Hears | None = None) -> ChatAnswer:
        """Ask a model.

        Cancelling it closes the connection, so that the provider stops. With `hears` the answer is
        streamed. What is transient (no connection, 408, 409, 429, 5xx, a stream that breaks off) is
        tried again with growing pauses, as `Retry-After` says where it is there, within
        `timeout_s`.

        Raises:
            ServiceError: MODEL_NOT_FOUND, PROVIDER_UNAVAILABLE, PROVIDER_RATE_LIMITED,
                PROVIDER_OUT_OF_CREDIT, PROVIDER_KEY_REFUSED, PROVIDER_REFUSED,
                PROVIDER_TIME_LIMIT, PROVIDER_ANSWER_LIMIT, PROVIDER_ANSWER_INVALID. Metadata never
                has a key. `tokens` in it tells what a broken answer had taken already, where that
                is known.
        """
        ...

    async def models(self) -> Sequence[ModelFacts]:
        """Models that the provider tells of.

        Raises:
            ServiceError: As `chat`; NOT_IMPLEMENTED where it tells of none.
        """
        ...

    async def close(self) -> None:
        """Let connections go."""


OpensProvider = Callable[[], ChatProvider]
"""Makes a provider when it is first needed: its package may take long to import."""

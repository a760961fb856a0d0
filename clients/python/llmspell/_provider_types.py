"""Providers and models, as users see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Provider:
    """A service of chat models."""

    name: str
    """As before the slash of a model."""
    kind: str
    """The protocol that it speaks: `openai`, `anthropic`, or `scripted`, which speaks none."""
    enabled: bool
    """Whether it can be used: it has a key or needs none."""
    disabled_reason: str = ""
    """Why it cannot; empty where it can."""
    base_url: str = ""
    """Its address."""
    local: bool = False
    """Whether it runs on the operator's own machines."""
    streaming: bool = True
    """Whether answers come in pieces."""
    multimodal: bool = False
    """Whether models see images."""
    tools: bool = False
    """Whether models call tools."""
    json_schema: bool = False
    """Whether answers can be held to a JSON Schema."""
    max_context_tokens: int = 0
    """The largest window of its models; 0: not known."""
    available_models: Sequence[str] = ()
    """Its models, as far as they are known without asking it."""


@dataclass(frozen=True, slots=True)
class ProviderTest:
    """What a provider did when it was asked."""

    ok: bool
    """Whether it answered."""
    elapsed_s: float
    """How long that took."""
    reason: str = ""
    """Reason where it did not answer."""
    message: str = ""
    """One sentence, likewise."""
    model_count: int = 0
    """How many models it told of."""
    text: str = ""
    """What the model said."""
    version: str = ""
    """Version that it tells of itself; mostly empty."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model. 0, None and empty mean that it is not known."""

    name: str
    """As `provider/model`."""
    provider: str
    """Its provider."""
    context_tokens: int = 0
    """Tokens that it can read and write together."""
    output_tokens: int = 0
    """Tokens that it can write."""
    input_usd_per_million: float | None = None
    """US dollars a million tokens read."""
    output_usd_per_million: float | None = None
    """US dollars a million tokens written."""
    cached_usd_per_million: float | None = None
    """US dollars a million tokens read from its cache; None: as others."""
    multimodal: bool = False
    """Whether it sees images."""
    tools: bool = False
    """Whether it calls tools."""
    size_bytes: int = 0
    """What its weights take."""
    quantization: str = ""
    """How they are packed, such as `Q4_1`."""
    parameter_count: str = ""
    """How many there are, such as `135M`."""
    format: str = ""
    """Their file's format, such as `gguf`."""
    modified_time: datetime | None = None
    """When they were changed."""
    loaded: bool = False
    """Whether it is in memory."""
    available: bool = False
    """Whether the provider itself tells of it now."""


@dataclass(frozen=True, slots=True)
class Models:
    """Models, and who did not tell of any."""

    models: Sequence[Model]
    """In order of name."""
    silent_providers: Mapping[str, str] = field(default_factory=dict)
    """Providers that were asked and did not answer, with a reason each."""


@dataclass(frozen=True, slots=True)
class ModelPull:
    """How far a model has been fetched."""

    status: str
    """As the provider says it, such as `success`."""
    downloaded_bytes: int = 0
    """Bytes that are there."""
    total_bytes: int = 0
    """Bytes in all; 0: not known."""
    error: str = ""
    """What went wrong; empty: nothing."""

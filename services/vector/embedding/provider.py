"""What turns texts into vectors: the Protocol, its settings and what all providers share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.common.errors import Reason, ServiceError, field_invalid, required
from services.common.limits import DIMENSION_MAX
from services.vector.model import EmbeddingIdentity

Span = tuple[int, int]
"""Start and end of a piece of a text, in characters; the end is not part of it."""

Vectors = NDArray[np.float32]

LOCAL_THREADS_MAX = 64
OPENAI_TEXTS_MAX = 2048


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer of `embed`."""

    vectors: Vectors
    """float32 (n, dimension), one row a text in the order asked; rows have length 1 (L2)."""
    token_count: int
    """Tokens that the model read for this call; what came from a cache is not counted."""
    cached_count: int = 0
    """How many of the texts were answered by a cache."""


class EmbeddingProvider(Protocol):
    """A source of embeddings. Calls may run at the same time; each has its own order."""

    @property
    def identity(self) -> EmbeddingIdentity:
        """What its vectors are known by; known before anything is loaded."""

    async def load(self) -> None:
        """Do now what the first `embed` would have to wait for. Not needed before it.

        Raises:
            ServiceError: PROVIDER_UNAVAILABLE where it cannot work at all.
        """

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts. No texts give no rows; a text has the same vector alone and among others.

        What a model cannot read to the end is cut there, silently, as the model's makers do:
        choose chunks that fit.

        Raises:
            ServiceError: FIELD_REQUIRED where a text is blank, PROVIDER_UNAVAILABLE where the
                provider gives no usable answer or is closed, DIMENSION_MISMATCH where its vectors
                have another length than the identity says.
        """

    def token_spans(self, text: str) -> Iterator[Span]:
        """Where the model's tokens lie in a text, in order, made as they are asked for.

        Neighbours may share a character where the model splits one. Blocks the thread: for long
        texts call it off the event loop.
        """

    async def close(self) -> None:
        """Release what it holds; calls in flight may fail. Safe to call twice."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Settings of the provider `local`."""

    threads: int = 2
    """Texts embedded at once; each takes one core."""

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= LOCAL_THREADS_MAX:
            raise field_invalid("embedding.local.threads", f"must be 1 to {LOCAL_THREADS_MAX}")


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Settings of the provider `openai`; any server that speaks its embeddings API will do."""

    base_url: str = ""
    """Address of the API; empty means OpenAI's own."""
    api_key: str = field(default="", repr=False)
    """The key itself, not the name of a file."""
    model: str = "text-embedding-3-small"
    """Must accept the parameter `dimensions`."""
    dimension: int = 384
    """Asked of the server, and checked."""
    timeout_s: float = 30.0
    """How long one attempt may take to connect, and then to answer."""
    batch: int = 100
    """Texts in a request at most."""
    max_retries: int = 3
    """Attempts after the first, for 408, 409, 429, 5xx and lost connections."""

    @property
    def configured(self) -> bool:
        """True where a key or an address is set; otherwise the provider is not offered."""
        return bool(self.api_key or self.base_url)

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= OPENAI_TEXTS_MAX:
            raise field_invalid("embedding.openai.batch", f"must be 1 to {OPENAI_TEXTS_MAX}")
        if not 1 <= self.dimension <= DIMENSION_MAX:
            raise field_invalid("embedding.openai.dimension", f"must be 1 to {DIMENSION_MAX}")
        if self.timeout_s <= 0:
            raise field_invalid("embedding.openai.timeout_s", "must be positive")
        if self.max_retries < 0:
            raise field_invalid("embedding.openai.max_retries", "must not be negative")


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """Settings of all providers."""

    default_provider: str = "local"
    local: LocalSettings = LocalSettings()
    openai: OpenAISettings = OpenAISettings()


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers of a deployment, by name."""

    default: str
    """Name of the one used where none is named."""
    by_name: Mapping[str, EmbeddingProvider]
    """All of them, in order of name."""

    def choose(self, name: str = "") -> EmbeddingProvider:
        """The provider of this name; the empty name means the default.

        Raises:
            ServiceError: FIELD_INVALID where there is none; the message lists those there are.
        """
        provider = self.by_name.get(name or self.default)
        if provider is None:
            raise unknown_provider("provider", self.by_name)
        return provider

    async def load(self) -> None:
        """Load the default provider, so that the first caller need not wait."""
        await self.by_name[self.default].load()

    async def close(self) -> None:
        """Close them all."""
        await asyncio.gather(*(provider.close() for provider in self.by_name.values()))


def refuse_blank(texts: Sequence[str]) -> None:
    """Raise FIELD_REQUIRED for the first text of nothing but white space."""
    for position, text in enumerate(texts):
        if not text or text.isspace():
            raise required(f"texts[{position}]")


def unavailable(provider: str, message: str, /, **metadata: object) -> ServiceError:
    """The error of a provider that gives no usable answer."""
    return ServiceError(Reason.PROVIDER_UNAVAILABLE, message, **{"provider": provider, **metadata})


def unknown_provider(field_name: str, known: Mapping[str, EmbeddingProvider]) -> ServiceError:
    """The error of a name that is not among the providers."""
    return field_invalid(field_name, f"must be one of {', '.join(known)}")

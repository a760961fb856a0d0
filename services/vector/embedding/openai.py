"""The provider `openai`: any server that speaks OpenAI's embeddings API.

The openai package does the talking: connection pool, retries with growing pauses, vectors as
base64. What a server says when it fails is not passed on, since it may quote the key or the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from openai import APIStatusError, APITimeoutError, AsyncOpenAI, OpenAIError
from openai.types import CreateEmbeddingResponse

from services.common.errors import Reason, ServiceError
from services.vector.embedding.provider import (
    Embedded,
    OpenAISettings,
    Span,
    Vectors,
    refuse_blank,
    unavailable,
)
from services.vector.model import EmbeddingIdentity

NAME: Final = "openai"
BASE_URL: Final = "https://api.openai.com/v1"

REQUEST_BYTES_MAX: Final = 300_000
"""UTF-8 bytes of text in a request. OpenAI takes 300 000 tokens, and no token is under a byte."""

_TOKEN = re.compile(r"[0-9A-Za-z_\u00c0-\u024f]{1,4}|\S")


class OpenAIProvider:
    """Embeddings of a server with OpenAI's API.

    Its identity has no hash of weights: a server that changes its model under the same name is not
    noticed.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        """Make the client; nothing is sent yet."""
        self._settings = settings
        self._identity = EmbeddingIdentity(NAME, settings.model, settings.dimension, "")
        self._client = AsyncOpenAI(
            api_key=settings.api_key or "none",  # a server of one's own may want none
            base_url=settings.base_url or BASE_URL,
            timeout=settings.timeout_s,
            max_retries=settings.max_retries,
        )

    @property
    def identity(self) -> EmbeddingIdentity:
        """What its vectors are known by."""
        return self._identity

    async def load(self) -> None:
        """Nothing to do."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts in as many requests as needed, one after the other.

        Raises:
            ServiceError: FIELD_REQUIRED where a text is blank; PROVIDER_UNAVAILABLE where the
                server cannot be reached, refuses, or answers nonsense, with `status` where there
                is one; DIMENSION_MISMATCH where its vectors have another length.
        """
        refuse_blank(texts)
        if self._client.is_closed():
            raise unavailable(NAME, "The connection to the embedding provider openai is closed.")
        vectors: Vectors = np.empty((len(texts), self._identity.dimension), np.float32)
        tokens = start = 0
        for batch in _batches(texts, self._settings.batch):
            end = start + len(batch)
            vectors[start:end], count = await self._embed_batch(batch)
            tokens, start = tokens + count, end
        return Embedded(vectors, tokens)

    def token_spans(self, text: str) -> Iterator[Span]:
        """An approximation, since each server has its own tokenizer: it errs towards more tokens.

        Four Latin letters or digits that stand together make a token, and so does every other
        character. English has about 1.3 tokens a word; this gives some 1.6.
        """
        return (match.span() for match in _TOKEN.finditer(text))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _embed_batch(self, batch: Sequence[str]) -> tuple[Vectors, int]:
        """The rows of one request, and how many tokens the server says it read."""
        try:
            answer = await self._client.embeddings.create(
                input=list(batch), model=self._settings.model, dimensions=self._settings.dimension
            )
            return self._rows(answer, len(batch)), answer.usage.prompt_tokens if answer.usage else 0
        except APITimeoutError:
            raise unavailable(
                NAME,
                f"The embedding provider openai did not answer within {self._settings.timeout_s} s "
                f"in {self._settings.max_retries + 1} attempts.",
            ) from None
        except APIStatusError as error:
            raise _refused(error.status_code) from None
        except (OpenAIError, ValueError, TypeError, AttributeError):
            # The package does not check what it reads, so nonsense shows as a plain error.
            raise unavailable(
                NAME, "The embedding provider openai cannot be reached or does not answer properly."
            ) from None

    def _rows(self, answer: CreateEmbeddingResponse, count: int) -> Vectors:
        """The vectors of an answer, float32 (count, dimension), checked and of length 1."""
        entries = sorted(answer.data, key=lambda entry: entry.index)
        if [entry.index for entry in entries] != list(range(count)):
            raise unavailable(
                NAME, "The embedding provider openai answered with another number of vectors."
            )
        for entry in entries:
            if len(entry.embedding) != self._identity.dimension:
                raise self._wrong_dimension(len(entry.embedding))
        rows = np.array([entry.embedding for entry in entries], np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths) & (lengths > 0)):
            raise unavailable(
                NAME, "The embedding provider openai answered with a vector that has no direction."
            )
        normal: Vectors = rows / lengths
        return normal

    def _wrong_dimension(self, got: int) -> ServiceError:
        wanted = self._identity.dimension
        return ServiceError(
            Reason.DIMENSION_MISMATCH,
            f"The embedding provider openai answered with vectors of {got} dimensions, not the "
            f"{wanted} asked for; choose a model that accepts `dimensions`, or set "
            f"embedding.openai.dimension to {got}.",
            provider=NAME,
            expected=wanted,
            got=got,
        )


def _refused(status: int) -> ServiceError:
    words = {
        401: "does not accept the API key",
        403: "does not allow this with the API key given",
        404: "does not know this model or address",
        429: "has no more room for us, or the quota is used up",
    }
    why = words.get(status, "refused the request or failed")
    return unavailable(
        NAME, f"The embedding provider openai {why} (HTTP status {status}).", status=status
    )


def _batches(texts: Sequence[str], texts_max: int) -> Iterator[Sequence[str]]:
    """Cut texts into requests, none over the limits unless a single text is."""
    start = total = 0
    for position, text in enumerate(texts):
        size = len(text.encode())
        if position > start and (position - start == texts_max or total + size > REQUEST_BYTES_MAX):
            yield texts[start:position]
            start, total = position, 0
        total += size
    if texts:
        yield texts[start:]

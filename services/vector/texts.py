"""Texts without a collection: cut them, embed them, and store nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.common.errors import limit_exceeded, required
from services.common.limits import DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, QUERY_TEXT_BYTES_MAX
from services.vector.chunking import Chunk, Chunking, chunk_text
from services.vector.embedding.cache import CachedProvider, EmbeddingCache
from services.vector.embedding.provider import Embedded, Providers
from services.vector.model import EmbeddingIdentity

_THREAD_FROM_CHARACTERS = 20_000


class Texts:
    """What ingestion does to a text, for those who want no more than that."""

    def __init__(self, providers: Providers, cache: EmbeddingCache) -> None:
        self._providers = providers
        self._cache = cache

    async def chunk(self, text: str, chunking: Chunking, *, provider: str = "") -> list[Chunk]:
        """Cut a text; one of white space alone gives no chunks.

        Raises:
            ServiceError: FIELD_REQUIRED for an empty text, LIMIT_EXCEEDED, and what
                `Providers.choose` raises.
        """
        if not text:
            raise required("text")
        size = len(text.encode())
        if size > DOCUMENT_BYTES_MAX:
            raise limit_exceeded("text", size, DOCUMENT_BYTES_MAX, "bytes")
        spans = self._providers.choose(provider).token_spans
        if len(text) < _THREAD_FROM_CHARACTERS:
            return chunk_text(text, chunking, token_spans=spans)
        return await asyncio.to_thread(chunk_text, text, chunking, token_spans=spans)

    async def embed(
        self, tenant: str, texts: Sequence[str], *, provider: str = ""
    ) -> tuple[Embedded, EmbeddingIdentity]:
        """A vector for each text, in their order, and what made them.

        Raises:
            ServiceError: FIELD_REQUIRED (none, or a blank one), LIMIT_EXCEEDED,
                PROVIDER_UNAVAILABLE, and what `Providers.choose` raises.
        """
        if not texts:
            raise required("texts")
        if len(texts) > DOCUMENTS_MAX:
            raise limit_exceeded("texts", len(texts), DOCUMENTS_MAX)
        for position, text in enumerate(texts):
            size = len(text.encode())
            if not text or text.isspace():
                raise required(f"texts[{position}]")
            if size > QUERY_TEXT_BYTES_MAX:
                raise limit_exceeded(f"texts[{position}]", size, QUERY_TEXT_BYTES_MAX, "bytes")
        embedder = CachedProvider(self._providers.choose(provider), self._cache, tenant=tenant)
        return await embedder.embed(texts), embedder.identity

"""Embeddings kept by what they were made of, so that the same text is embedded once.

An entry belongs to one tenant. Were it shared, the time that a text takes, and the count of cached
texts in the answer, would tell a tenant what others have ingested.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from blake3 import blake3

from services.common.errors import ServiceError, field_invalid
from services.vector.embedding.provider import (
    Embedded,
    EmbeddingProvider,
    Span,
    Vectors,
    refuse_blank,
)
from services.vector.model import EmbeddingIdentity

ENTRIES_DEFAULT = 10_000
"""At 384 dimensions some 18 MB."""


STEP_TEXTS = 100
"""New texts are embedded and kept in steps of so many.

A call that is cut off by its deadline has then not worked in vain: the next one goes on from there.
"""


class EmbeddingCache(Protocol):
    """Keeps vectors as bytes (float32, little-endian) under keys that begin with a tenant's mark.

    It may forget anything at any time, and may fail with a ServiceError: a call then goes on
    without it.
    """

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values in the order of the keys, None for each that is not kept."""

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these; the last of several under one key stays."""

    async def forget(self, tenant: str) -> int:
        """Remove all of a tenant; how many there were."""


class MemoryCache:
    """The most recently used entries, in this process."""

    def __init__(self, entries_max: int = ENTRIES_DEFAULT) -> None:
        """Hold up to `entries_max` vectors, all tenants together."""
        if entries_max < 1:
            raise field_invalid("embedding.cache.entries_max", "must be positive")
        self._entries_max = entries_max
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys; found entries count as used."""
        for key in keys:
            if key in self._entries:
                self._entries.move_to_end(key)
        return [self._entries.get(key) for key in keys]

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these and drop the entries longest unused."""
        for key, value in pairs:
            self._entries[key] = value
            self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    async def forget(self, tenant: str) -> int:
        """Remove all of a tenant."""
        mark = tenant_mark(tenant)
        doomed = [key for key in self._entries if key.startswith(mark)]
        for key in doomed:
            del self._entries[key]
        return len(doomed)


class CachedProvider:
    """A provider seen through one tenant's part of a cache; same shape as what it wraps.

    Light: make one for each call. Two calls at the same time may both embed a new text.
    """

    def __init__(self, provider: EmbeddingProvider, cache: EmbeddingCache, *, tenant: str) -> None:
        """Look into `cache` for `tenant` before asking `provider`."""
        self._provider = provider
        self._cache = cache
        self._tenant = tenant

    @property
    def identity(self) -> EmbeddingIdentity:
        """What the provider's vectors are known by."""
        return self._provider.identity

    async def load(self) -> None:
        """Load the provider."""
        await self._provider.load()

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed what is not kept, each different text once.

        Raises:
            ServiceError: what the provider raises; never what the cache does.
        """
        refuse_blank(texts)
        different = list(dict.fromkeys(texts))
        keys = dict(zip(different, self._keys(different), strict=True))
        found = await self._find(keys)
        missing = [text for text in different if text not in found]
        cached_count = sum(text in found for text in texts)
        tokens = 0
        for start in range(0, len(missing), STEP_TEXTS):
            step = missing[start : start + STEP_TEXTS]
            fresh = await self._provider.embed(step)
            tokens += fresh.token_count
            found |= zip(step, fresh.vectors, strict=True)
            await self._keep([(keys[text], found[text]) for text in step])
        vectors: Vectors = np.empty((len(texts), self.identity.dimension), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = found[text]
        return Embedded(vectors, tokens, cached_count)

    def token_spans(self, text: str) -> Iterator[Span]:
        """As the provider's."""
        return self._provider.token_spans(text)

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        return [cache_key(self._tenant, self.identity, text) for text in texts]

    async def _find(self, keys: Mapping[str, bytes]) -> dict[str, Vectors]:
        """The vectors that are kept, by text; an entry of another length counts as not kept."""
        try:
            values = await self._cache.get_many(list(keys.values()))
        except ServiceError:
            return {}
        size = 4 * self.identity.dimension
        return {
            text: np.frombuffer(value, "<f4")
            for text, value in zip(keys, values, strict=True)
            if value is not None and len(value) == size
        }

    async def _keep(self, rows: Sequence[tuple[bytes, Vectors]]) -> None:
        # A full disk, say, must not stop what only reads.
        with contextlib.suppress(ServiceError):
            await self._cache.put_many([(key, row.astype("<f4").tobytes()) for key, row in rows])


def cache_key(tenant: str, identity: EmbeddingIdentity, text: str) -> bytes:
    """The tenant's mark, and blake3 (32 bytes) over identity and text; only that may hold NUL."""
    parts = (tenant, identity.provider, identity.model, str(identity.dimension))
    head = "\0".join((*parts, identity.weights_hash, ""))
    return tenant_mark(tenant) + blake3(head.encode()).update(text.encode()).digest()


def tenant_mark(tenant: str) -> bytes:
    """What the keys of a tenant begin with: 16 bytes that do not name it."""
    return blake3(tenant.encode(), derive_key_context="llmspell 2026 embeddings").digest(16)

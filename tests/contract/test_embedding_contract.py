"""Every embedding provider passes the suite, alone and behind a cache."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager

import pytest

from services.vector.embedding import open_providers
from services.vector.embedding.cache import CachedProvider, MemoryCache
from services.vector.embedding.provider import (
    EmbeddingProvider,
    EmbeddingSettings,
    OpenAISettings,
)
from tests.contract.embedding_suite import SUITE, a_text_has_one_vector
from tests.embedding_server import serve_embeddings


@contextmanager
def local():
    """The real model."""
    yield open_providers(EmbeddingSettings()).choose("local")


@contextmanager
def openai():
    """The real client against a server on loopback."""
    with serve_embeddings() as server:
        settings = OpenAISettings(base_url=server.base_url, api_key="k", dimension=96, batch=2)
        yield open_providers(EmbeddingSettings(openai=settings)).choose("openai")


@contextmanager
def cached(inner):
    """A provider behind a cache that is empty at first."""
    with inner as provider:
        yield CachedProvider(provider, MemoryCache(), tenant="acme")


@contextmanager
def forgetful(inner):
    """A provider behind a cache that holds one entry."""
    with inner as provider:
        yield CachedProvider(provider, MemoryCache(entries_max=1), tenant="acme")


PROVIDERS = {
    "local": local,
    "openai": openai,
    "cached-local": lambda: cached(local()),
    "cached-openai": lambda: cached(openai()),
    "forgetful-openai": lambda: forgetful(openai()),
}


async def run(claim, made: AbstractContextManager[EmbeddingProvider]) -> None:
    """Hold a claim against a new provider."""
    with made as provider:
        try:
            await claim(provider)
        finally:
            await provider.close()


@pytest.mark.parametrize("make", PROVIDERS.values(), ids=PROVIDERS)
@pytest.mark.parametrize("claim", SUITE, ids=lambda claim: claim.__name__)
async def test_provider_keeps_the_contract(claim, make):
    """The provider does what the Protocol says."""
    await run(claim, make())


async def test_the_suite_notices_a_provider_that_breaks_it():
    """A provider whose vectors depend on the call fails the suite."""

    class Drifting:
        def __init__(self, inner):
            self.inner, self.calls, self.identity = inner, 0, inner.identity

        async def embed(self, texts):
            self.calls += 1
            embedded = await self.inner.embed(texts)
            embedded.vectors[:] += self.calls * 1e-6
            return embedded

        async def close(self):
            await self.inner.close()

    @contextmanager
    def drifting():
        with openai() as provider:
            yield Drifting(provider)

    with pytest.raises(AssertionError):
        await run(a_text_has_one_vector, drifting())

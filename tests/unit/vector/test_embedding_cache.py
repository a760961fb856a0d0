"""Claims about services.vector.embedding.cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.embedding.cache import CachedProvider, MemoryCache, cache_key
from services.vector.embedding.provider import Embedded, EmbeddingIdentity

IDENTITY = EmbeddingIdentity("counting", "model", 2, "hash")


class Counting:
    """A provider that remembers what it was asked."""

    def __init__(self, identity=IDENTITY):
        """Start with nothing asked."""
        self.identity = identity
        self.calls = []
        self.loads = self.closes = 0

    async def load(self):
        """Count."""
        self.loads += 1

    async def embed(self, texts):
        """Embed a text as a direction that its length gives; one token each."""
        self.calls.append(list(texts))
        angles = np.array([len(text) for text in texts], np.float32)
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return Embedded(rows, len(texts))

    def token_spans(self, text):
        """One token."""
        yield 0, len(text)

    async def close(self):
        """Count."""
        self.closes += 1


class Broken:
    """A cache whose disk has failed."""

    async def get_many(self, keys):
        """Fail."""
        raise ServiceError(Reason.RECORD_CORRUPT, "damaged")

    async def put_many(self, pairs):
        """Fail."""
        raise ServiceError(Reason.STORAGE_FULL, "full")


def behind(cache, provider=None, tenant="acme"):
    """A tenant's view of a provider."""
    return CachedProvider(provider or Counting(), cache, tenant=tenant)


async def test_only_what_is_not_kept_is_embedded():
    """A second call asks the provider for the new texts alone, and rows keep their order."""
    provider = Counting()
    cached = behind(MemoryCache(), provider)
    first = await cached.embed(["a", "bb"])
    second = await cached.embed(["ccc", "bb", "a"])
    assert provider.calls == [["a", "bb"], ["ccc"]]
    assert (first.cached_count, first.token_count) == (0, 2)
    assert (second.cached_count, second.token_count) == (2, 1)
    assert np.array_equal(second.vectors, (await Counting().embed(["ccc", "bb", "a"])).vectors)
    assert second.vectors.dtype == np.float32


async def test_equal_texts_in_a_call_are_embedded_once():
    """A text that comes twice is sent once; only what was kept before counts as cached."""
    provider = Counting()
    cached = behind(MemoryCache(), provider)
    answer = await cached.embed(["a", "bb", "a"])
    assert provider.calls == [["a", "bb"]]
    assert answer.cached_count == 0
    assert np.array_equal(answer.vectors[0], answer.vectors[2])
    assert (await cached.embed(["a", "a"])).cached_count == 2


async def test_what_is_kept_needs_no_provider():
    """Where every text is kept the provider is not called at all."""
    provider = Counting()
    cached = behind(MemoryCache(), provider)
    await cached.embed(["a"])
    await cached.embed(["a"])
    await cached.embed([])
    assert provider.calls == [["a"]]


async def test_a_tenant_cannot_tell_what_another_embedded():
    """A text that one tenant embedded is new for another: same counts, and embedded again."""
    cache, provider = MemoryCache(), Counting()
    acme = await behind(cache, provider, "acme").embed(["a"])
    globex = await behind(cache, provider, "globex").embed(["a"])
    assert (globex.cached_count, globex.token_count) == (acme.cached_count, acme.token_count)
    assert provider.calls == [["a"], ["a"]]


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, provider="other"),
        replace(IDENTITY, model="other"),
        replace(IDENTITY, weights_hash="other"),
        replace(IDENTITY, dimension=3),
    ],
)
async def test_another_embedding_is_another_entry(other):
    """Vectors of one identity are never given for another's."""
    assert cache_key("acme", IDENTITY, "a") != cache_key("acme", other, "a")


def test_keys_do_not_run_together():
    """Moving a letter from one part of a key to the next gives another key."""
    one = replace(IDENTITY, provider="ab", model="c")
    other = replace(IDENTITY, provider="a", model="bc")
    assert cache_key("t", one, "x") != cache_key("t", other, "x")
    assert cache_key("t", replace(IDENTITY, weights_hash=""), "hashx") != cache_key(
        "t", replace(IDENTITY, weights_hash="hash"), "x"
    )
    assert len(cache_key("t", one, "x")) == 48


async def test_a_call_that_was_cut_off_has_not_worked_in_vain():
    """What was embedded before a failure is kept, so that a second try goes on from there."""

    class Failing(Counting):
        async def embed(self, texts):
            if len(self.calls) == 2:
                raise ServiceError(Reason.PROVIDER_UNAVAILABLE, "gone")
            return await super().embed(texts)

    cache, provider = MemoryCache(), Failing()
    texts = [f"{number}" for number in range(250)]
    with pytest.raises(ServiceError, match="gone"):
        await behind(cache, provider).embed(texts)
    again = await behind(cache).embed(texts)
    assert (again.cached_count, again.token_count) == (200, 50)
    assert np.array_equal(again.vectors, (await Counting().embed(texts)).vectors)


async def test_a_failing_cache_does_not_fail_the_call():
    """With a cache that can neither read nor write, embedding goes on as without it."""
    answer = await behind(Broken()).embed(["a", "bb"])
    assert np.array_equal(answer.vectors, (await Counting().embed(["a", "bb"])).vectors)
    assert answer.cached_count == 0


async def test_an_entry_of_another_length_is_not_used():
    """A value that is no vector of this dimension counts as not kept, and is replaced."""
    cache, provider = MemoryCache(), Counting()
    await cache.put_many([(cache_key("acme", IDENTITY, "a"), b"short")])
    assert (await behind(cache, provider).embed(["a"])).cached_count == 0
    assert (await behind(cache, provider).embed(["a"])).cached_count == 1


async def test_blank_texts_are_named_by_their_place_in_the_call():
    """The position in the error counts all texts of the call, the kept ones too."""
    provider = Counting()
    cached = behind(MemoryCache(), provider)
    await cached.embed(["a"])
    with pytest.raises(ServiceError) as refused:
        await cached.embed(["a", "b", " "])
    assert refused.value.metadata["field"] == "texts[2]"
    assert provider.calls == [["a"]]


async def test_the_memory_cache_drops_what_is_longest_unused():
    """The bound holds, reading counts as use, and the last value of a key stays."""
    cache = MemoryCache(entries_max=2)
    await cache.put_many([(b"1", b"a"), (b"2", b"b")])
    assert await cache.get_many([b"1"]) == [b"a"]
    await cache.put_many([(b"3", b"c"), (b"3", b"d")])
    assert await cache.get_many([b"3", b"2", b"1"]) == [b"d", None, b"a"]
    assert len(cache) == 2


def test_a_cache_without_room_is_refused():
    """A bound under one is an error that names the setting."""
    with pytest.raises(ServiceError, match="entries_max must be positive"):
        MemoryCache(entries_max=0)


async def test_the_rest_is_the_providers():
    """Identity, tokens, loading and closing are passed on."""
    provider = Counting()
    cached = behind(MemoryCache(), provider)
    assert cached.identity is IDENTITY
    assert list(cached.token_spans("abc")) == [(0, 3)]
    await cached.load()
    await cached.close()
    assert (provider.loads, provider.closes) == (1, 1)

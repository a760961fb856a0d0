"""What every EmbeddingProvider must do. Plain functions; test_embedding_contract.py runs them."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.embedding.provider import EmbeddingProvider

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "x",
    "Zürich, Málaga, 東京 and Київ — 4 cities.",
    "A longer passage about storage engines. " * 40,
]


async def identity_is_complete(provider: EmbeddingProvider) -> None:
    """The identity names provider and model, and holds the dimension of the vectors."""
    identity = provider.identity
    assert identity.provider
    assert identity.model
    assert (await provider.embed(["a"])).vectors.shape == (1, identity.dimension)
    assert provider.identity == identity


async def vectors_are_rows_of_length_one(provider: EmbeddingProvider) -> None:
    """One float32 row a text, finite, of length 1; tokens are counted."""
    embedded = await provider.embed(TEXTS)
    assert embedded.vectors.dtype == np.float32
    assert embedded.vectors.shape == (len(TEXTS), provider.identity.dimension)
    assert np.allclose(np.linalg.norm(embedded.vectors, axis=1), 1.0, atol=1e-5)
    assert embedded.token_count >= len(TEXTS)
    assert embedded.cached_count == 0


async def no_texts_give_no_rows(provider: EmbeddingProvider) -> None:
    """An empty call is answered by an empty array of the right width."""
    embedded = await provider.embed([])
    assert embedded.vectors.shape == (0, provider.identity.dimension)
    assert embedded.vectors.dtype == np.float32
    assert (embedded.token_count, embedded.cached_count) == (0, 0)


async def a_text_has_one_vector(provider: EmbeddingProvider) -> None:
    """Alone, among others, twice in a call or later, a text has the same vector, bit by bit."""
    together = (await provider.embed([*TEXTS, TEXTS[0]])).vectors
    alone = [(await provider.embed([text])).vectors[0] for text in TEXTS]
    assert np.array_equal(together[:-1], alone)
    assert np.array_equal(together[-1], together[0])


async def rows_keep_the_order(provider: EmbeddingProvider) -> None:
    """Rows come in the order of the texts."""
    forwards = (await provider.embed(TEXTS)).vectors
    backwards = (await provider.embed(TEXTS[::-1])).vectors
    assert np.array_equal(forwards, backwards[::-1])
    assert len(np.unique(forwards, axis=0)) == len(TEXTS)


async def calls_at_once_do_not_mix(provider: EmbeddingProvider) -> None:
    """Each of several calls at the same time gets its own rows."""
    calls = [[f"call {call} text {number}" for number in range(3)] for call in range(6)]
    answers = await asyncio.gather(*(provider.embed(texts) for texts in calls))
    for texts, answer in zip(calls, answers, strict=True):
        assert np.array_equal(answer.vectors, (await provider.embed(texts)).vectors)


async def blank_texts_are_refused(provider: EmbeddingProvider) -> None:
    """A blank text is an error that names it, wherever it stands; nothing is embedded."""
    for blank in ("", " \n\t\u3000"):
        with pytest.raises(ServiceError) as refused:
            await provider.embed(["fine", "fine", blank])
        assert refused.value.reason == Reason.FIELD_REQUIRED
        assert refused.value.metadata["field"] == "texts[2]"


async def token_spans_cover_the_words(provider: EmbeddingProvider) -> None:
    """Spans are in order and inside the text, and together hold all that is not space."""
    text = "  Ångström's 東京 naïve café,\n\tfoo_bar(42) 한국어 🎉!  " + "word " * 5000
    spans = list(provider.token_spans(text))
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    covered = {at for start, end in spans for at in range(start, end)}
    assert {match.start() for match in re.finditer(r"\S", text)} <= covered
    assert list(provider.token_spans(" \n")) == []


async def closing_ends_it(provider: EmbeddingProvider) -> None:
    """After `close`, which may come twice, new texts are refused clearly."""
    await provider.embed(["before"])
    await provider.close()
    await provider.close()
    with pytest.raises(ServiceError) as refused:
        await provider.embed(["after"])
    assert refused.value.reason == Reason.PROVIDER_UNAVAILABLE
    assert refused.value.metadata["provider"] == provider.identity.provider


SUITE = [
    identity_is_complete,
    vectors_are_rows_of_length_one,
    no_texts_give_no_rows,
    a_text_has_one_vector,
    rows_keep_the_order,
    calls_at_once_do_not_mix,
    blank_texts_are_refused,
    token_spans_cover_the_words,
    closing_ends_it,
]

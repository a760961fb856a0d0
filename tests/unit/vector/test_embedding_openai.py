"""Claims about services.vector.embedding.openai, against a real server on loopback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.embedding import openai
from services.vector.embedding.openai import OpenAIProvider
from services.vector.embedding.provider import OpenAISettings
from tests.embedding_server import serve_embeddings, vector_of

KEY = "sk-very-secret"
FAILURE = {"error": {"message": f"the key {KEY} is bad; the text was SECRET", "code": "x"}}


@pytest.fixture
def server():
    """A server that answers properly unless told otherwise."""
    with serve_embeddings() as server:
        yield server


@pytest.fixture
async def connect(server):
    """Makes providers that talk to the server, and closes them."""
    made = []

    def connect(**settings):
        plain = OpenAISettings(base_url=server.base_url, api_key=KEY)
        made.append(OpenAIProvider(replace(plain, **settings)))
        return made[-1]

    yield connect
    for provider in made:
        await provider.close()


async def refusal(provider, texts=("SECRET",)) -> ServiceError:
    """The error of a call, which must tell nothing of key, text or what the server said."""
    with pytest.raises(ServiceError) as refused:
        await provider.embed(list(texts))
    shown = f"{refused.value!r} {refused.value.__cause__!r}"
    assert KEY not in shown
    assert "SECRET" not in shown
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert refused.value.metadata["provider"] == "openai"
    return refused.value


async def test_it_asks_for_model_dimensions_and_texts(server, connect):
    """A request holds model, dimensions, the texts and the key; vectors travel as base64."""
    embedded = await connect().embed(["one", "two words"])
    assert server.requests == [
        {
            "model": "text-embedding-3-small",
            "dimensions": 384,
            "input": ["one", "two words"],
            "encoding_format": "base64",
        }
    ]
    assert server.authorizations == [f"Bearer {KEY}"]
    expected = np.array([vector_of(text, 384) for text in ("one", "two words")])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(embedded.vectors, expected, atol=1e-6)
    assert embedded.token_count == 3


async def test_plain_numbers_are_read_too(server, connect):
    """A server that ignores base64 and sends numbers is understood."""

    def as_numbers(answer):
        for entry in answer["data"]:
            entry["embedding"] = [3.0] + [0.0] * 382 + [4.0]
        return answer

    server.change = as_numbers
    (row,) = (await connect().embed(["text"])).vectors
    assert (row[0], row[-1]) == pytest.approx((0.6, 0.8))


async def test_texts_are_sent_in_batches(server, connect, monkeypatch):
    """No request has more texts or bytes than allowed, and rows keep their order."""
    provider = connect(batch=3)
    texts = [f"text {number}" for number in range(7)]
    rows = (await provider.embed(texts)).vectors
    assert [len(request["input"]) for request in server.requests] == [3, 3, 1]
    assert np.array_equal(rows[6], (await provider.embed([texts[6]])).vectors[0])
    server.requests.clear()
    monkeypatch.setattr(openai, "REQUEST_BYTES_MAX", 20)
    await provider.embed(["é" * 5, "é" * 5, "x", "y" * 50, "z"])
    assert [len(request["input"]) for request in server.requests] == [2, 1, 1, 1]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_failure_that_passes_is_retried(server, connect, status):
    """After a few failures the call succeeds and the caller does not notice."""
    server.failures = [(status, FAILURE)] * 3
    assert len((await connect(max_retries=3).embed(["text"])).vectors) == 1
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("status", "attempts", "words"),
    [
        (429, 3, "no more room"),
        (500, 3, "failed"),
        (400, 1, "refused"),
        (401, 1, "does not accept the API key"),
        (403, 1, "does not allow"),
        (404, 1, "does not know this model"),
    ],
)
async def test_a_failure_that_stays_is_told(server, connect, status, attempts, words):
    """What may pass is tried again so many times; the error has the status, not the answer."""
    server.failures = [(status, FAILURE)] * 3
    error = await refusal(connect(max_retries=2))
    assert error.reason == Reason.PROVIDER_UNAVAILABLE
    assert error.metadata["status"] == str(status)
    assert words in error.message
    assert len(server.requests) == attempts


async def test_silence_is_a_failure(server, connect):
    """A server that does not answer in time is unavailable."""
    server.silent = True
    error = await refusal(connect(timeout_s=0.05, max_retries=0))
    assert error.reason == Reason.PROVIDER_UNAVAILABLE
    assert "did not answer within 0.05 s in 1 attempt" in error.message


async def test_a_server_that_is_not_there_is_a_failure(connect):
    """A refused connection is unavailable."""
    error = await refusal(connect(base_url="http://127.0.0.1:9/v1", max_retries=0))
    assert error.reason == Reason.PROVIDER_UNAVAILABLE
    assert "cannot be reached" in error.message


@pytest.mark.parametrize("dimension", [3, 1536])
async def test_another_dimension_is_refused(server, connect, dimension):
    """Vectors of another length than asked for are never returned; both lengths are named."""

    def other(answer):
        for entry in answer["data"]:
            entry["embedding"] = [1.0] * dimension
        return answer

    server.change = other
    error = await refusal(connect())
    assert error.reason == Reason.DIMENSION_MISMATCH
    assert (error.metadata["expected"], error.metadata["got"]) == ("384", str(dimension))


def only(count):
    """Keep so many entries of an answer."""
    return lambda answer: answer | {"data": answer["data"][:count]}


def numbers(value):
    """Put the same number everywhere."""
    return lambda answer: (
        answer | {"data": [entry | {"embedding": [value] * 384} for entry in answer["data"]]}
    )


def twice_the_same_index(answer):
    """Give all entries one index."""
    return answer | {"data": [entry | {"index": 0} for entry in answer["data"]]}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(only(1), id="too few"),
        pytest.param(only(0), id="none"),
        pytest.param(twice_the_same_index, id="one index twice"),
        pytest.param(numbers(0.0), id="zero"),
        pytest.param(numbers(float("nan")), id="not a number"),
        pytest.param(numbers("SECRET"), id="words for numbers"),
        pytest.param(lambda _: {"SECRET": 1}, id="other JSON"),
        pytest.param(lambda _: [1, 2], id="a list"),
        pytest.param(lambda _: b"<html>SECRET</html>", id="no JSON"),
        pytest.param(lambda answer: answer | {"data": [{"index": 0}]}, id="no vector"),
        pytest.param(lambda answer: answer | {"data": None}, id="null"),
    ],
)
async def test_a_senseless_answer_is_a_failure(server, connect, change):
    """Whatever a server sends with status 200, the caller gets vectors or a clear error."""
    server.change = change
    error = await refusal(connect(max_retries=0), ["SECRET", "two"])
    assert error.reason == Reason.PROVIDER_UNAVAILABLE


async def test_an_answer_without_usage_counts_no_tokens(server, connect):
    """Usage is optional with servers of one's own."""
    server.change = lambda answer: {k: v for k, v in answer.items() if k != "usage"}
    assert (await connect().embed(["text"])).token_count == 0


async def test_a_server_of_ones_own_needs_no_key(server, connect):
    """Without a key something harmless is sent in its place."""
    await connect(api_key="").embed(["text"])
    assert server.authorizations == ["Bearer none"]


def test_approximate_tokens_are_not_fewer_than_words(connect):
    """Words count at least once, long ones more; signs and wide characters count each."""
    provider = connect()
    spans = list(provider.token_spans("a word, embedding 東京"))
    assert spans == [(0, 1), (2, 6), (6, 7), (8, 12), (12, 16), (16, 17), (18, 19), (19, 20)]

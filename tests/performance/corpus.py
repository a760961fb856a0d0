"""Real texts that any machine has, and their embeddings by the project's own model.

Sentences of Python's own documentation and of the docstrings and comments of installed packages,
each different; where there are too few, two neighbours together make another. Kept in a folder that
git ignores, since making them takes minutes.
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from services.vector.embedding.local import DIMENSION, LocalProvider
from services.vector.embedding.provider import LocalSettings

FOLDER = Path(".bench")
QUERIES = 1000
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
_LETTERS_MIN, _LENGTH_MAX = 20, 200
_STEP = 2048


def corpus(count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts, their vectors (count, 384), and QUERIES vectors of texts that are not among them."""
    FOLDER.mkdir(exist_ok=True)
    texts = _kept_texts(count + QUERIES)
    vectors = _kept_vectors(texts)
    return texts[:count], vectors[:count], vectors[count:]


def sentences() -> Iterator[str]:
    """Every sentence there is, repeats included."""
    from pydoc_data import topics

    documents = [*topics.topics.values(), *_docstrings()]
    for document in documents:
        for part in _SENTENCE.split(document):
            text = " ".join(part.split())
            if sum(map(str.isalpha, text)) >= _LETTERS_MIN:
                yield text[:_LENGTH_MAX]


def _docstrings() -> Iterator[str]:
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    for folder in sorted(folders):
        for path in sorted(Path(folder).rglob("*.py")):
            try:
                tree = ast.parse(path.read_text("utf-8"))
            except (SyntaxError, ValueError, OSError, RecursionError):
                continue
            for node in ast.walk(tree):
                kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
                if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                    yield text


def _kept_texts(count: int) -> list[str]:
    path = FOLDER / f"texts-{count}.txt"
    if not path.exists():
        different = list(dict.fromkeys(sentences()))
        pairs = [f"{a} {b}"[:_LENGTH_MAX] for a, b in itertools.pairwise(different)]
        different = list(dict.fromkeys(different + pairs))
        if len(different) < count:
            sys.exit(f"there are {len(different)} texts on this machine, and {count} are needed")
        order = np.random.default_rng(7).permutation(len(different))[:count]
        path.write_text("\n".join(different[place] for place in order), "utf-8")
    return path.read_text("utf-8").split("\n")


def _kept_vectors(texts: list[str]) -> np.ndarray:
    path = FOLDER / f"vectors-{len(texts)}.npy"
    if not path.exists():
        asyncio.run(_embed(texts, path.with_suffix(".part")))
        path.with_suffix(".part").rename(path)
    return np.load(path)


async def _embed(texts: list[str], path: Path) -> None:
    """Into a file, step by step: one who was stopped goes on where it was."""
    kept = path.exists()
    vectors = np.lib.format.open_memmap(
        path, "r+" if kept else "w+", np.float32, (len(texts), DIMENSION)
    )
    provider = LocalProvider(LocalSettings(threads=2))
    order = np.argsort([len(text) for text in texts])  # alike lengths take alike times
    for start in range(0, len(texts), _STEP):
        some = order[start : start + _STEP]
        if not vectors[some].any(axis=1).all():  # no vector is all zeros
            vectors[some] = (await provider.embed([texts[place] for place in some])).vectors
            vectors.flush()
            print(f"\rembedding {start + len(some)} of {len(texts)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    await provider.close()


if __name__ == "__main__":
    corpus(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

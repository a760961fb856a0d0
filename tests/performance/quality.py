"""`make bench-quality`: how well retrieval finds what is known to be the answer.

The first line of a docstring, or the NAME line of a manual page, is the question; the rest of it,
that line taken out, is the one right document among all. Writes `docs/benchmarks/quality.md`.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import math
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from llmspell.v1 import rag_pb2, rag_pb2_grpc

from tests.performance.peers.engines.llmspell import Deployment

PAGE = Path("docs/benchmarks/quality.md")
K = 10
SEED = 13
_BODY_LETTERS_MIN, _BODY_LENGTH_MAX = 200, 1200
_QUESTION_WORDS_MIN = 4
_PASSAGES = 40
_WRITE = 16
_MANUAL = Path("/usr/share/man")
_MACRO = re.compile(r"^[.'].*$", re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:f(?:\[\w*\]|\(\w\w|\w)|s[-+]?\d+|\*?\(\w\w|\*?\[\w+\]|[-&|^%/, ~e])")
_MEANING = {r"\-": "-", r"\e": "\\", "\\ ": " ", r"\~": " "}


@dataclass(frozen=True)
class Known:
    """A document and the question that it answers."""

    question: str
    text: str


@dataclass(frozen=True)
class Way:
    """One way to retrieve."""

    name: str
    mode: int
    fusion: rag_pb2.Fusion | None = None


def docstrings() -> Iterator[Known]:
    """Of all functions and classes of the standard library and of what is installed."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    folders = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")})
    for path in _drawn(path for folder in folders for path in Path(folder).rglob("*.py")):
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, ValueError, OSError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                question, _, body = text.partition("\n\n")
                yield Known(" ".join(question.split()), body.strip())


def manual() -> Iterator[Known]:
    """Of the commands' manual pages, where a machine has them."""
    for path in _drawn(_MANUAL.glob("man[1-8]/*.gz")):
        try:
            source = gzip.decompress(path.read_bytes()).decode("utf-8")
        except (OSError, UnicodeDecodeError, EOFError):
            continue
        parts = re.split(r'^\.\s*(?:SH|Sh)\s+"?NAME"?\s*$', source, maxsplit=1, flags=re.MULTILINE)
        if len(parts) == 1:
            continue
        name, body = _sections(parts[1])
        summary = _plain(name).partition(" - ")[2]
        if summary:
            yield Known(summary, _plain(body))


def _drawn(paths: Iterable[Path]) -> list[Path]:
    """In an order by chance, so that the first of them speak for all."""
    every = sorted(paths)
    return [every[place] for place in np.random.default_rng(SEED).permutation(len(every))]


def _sections(text: str) -> tuple[str, str]:
    """What stands before the next heading, and all after it."""
    first = re.search(r"^\.\s*(?:SH|Sh)\b", text, re.MULTILINE)
    place = first.start() if first else len(text)
    return text[:place], text[place:]


def _plain(source: str) -> str:
    text = _ESCAPE.sub(lambda found: _MEANING.get(found[0], ""), _MACRO.sub("", source))
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


def chosen(source: Callable[[], Iterator[Known]], count: int) -> list[Known]:
    """So many of them, each question and each text once."""
    questions: dict[str, Known] = {}
    texts: set[str] = set()
    for known in source():
        long_enough = sum(map(str.isalpha, known.text)) >= _BODY_LETTERS_MIN
        body = known.text[:_BODY_LENGTH_MAX].replace(known.question, " ")
        clear = len(known.question.split()) >= _QUESTION_WORDS_MIN
        if long_enough and clear and body not in texts and known.question not in questions:
            questions[known.question] = Known(known.question, body)
            texts.add(body)
        if len(questions) == count:
            break
    return list(questions.values())


class Retrieval:
    """RagService through the gateway, with one collection."""

    def __init__(self, deployment: Deployment, collection: str) -> None:
        channel = grpc.insecure_channel(deployment.processes.address)
        self._stub = rag_pb2_grpc.RagServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {deployment.key()}"),)
        self._collection = collection

    def write(self, known: Sequence[Known]) -> None:
        """Import all by stream."""

        def requests() -> Iterator[rag_pb2.ImportDocumentsRequest]:
            for first in range(0, len(known), _WRITE):
                documents = [
                    rag_pb2.Document(document_id=f"d{first + n}", text=each.text)
                    for n, each in enumerate(known[first : first + _WRITE])
                ]
                yield rag_pb2.ImportDocumentsRequest(
                    collection_id=self._collection, documents=documents
                )

        start = time.perf_counter()
        calls = self._stub.ImportDocuments(requests(), metadata=self._metadata, timeout=3600)
        for answer in calls:
            print(f"\r{answer.document_count} of {len(known)}", end="", file=sys.stderr)
        print(f" in {time.perf_counter() - start:.0f} s", file=sys.stderr)

    def ranks(self, known: Sequence[Known], asked: int, way: Way) -> list[int]:
        """For each question the rank of its document, from 1; 0: not among the first K."""
        return [self._rank(known[number].question, f"d{number}", way) for number in range(asked)]

    def _rank(self, question: str, wanted: str, way: Way) -> int:
        request = rag_pb2.RetrieveDocumentsRequest(
            collection_id=self._collection,
            text=question,
            mode=way.mode,
            fusion=way.fusion,
            limit=_PASSAGES,
        )
        answer = self._stub.RetrieveDocuments(request, metadata=self._metadata, timeout=60)
        documents = list(dict.fromkeys(each.document_id for each in answer.passages))[:K]
        return documents.index(wanted) + 1 if wanted in documents else 0


def ways() -> list[Way]:
    """By nearness, by words, and by both with each fusion that could be a default."""
    found = [
        Way("dense", rag_pb2.RETRIEVAL_MODE_DENSE),
        Way("lexical", rag_pb2.RETRIEVAL_MODE_LEXICAL),
        Way("hybrid, as it is by default", rag_pb2.RETRIEVAL_MODE_HYBRID),
    ]
    for dense in (0.3, 0.4, 0.5, 0.6, 0.7):
        weights = {"dense_weight": dense, "lexical_weight": 1 - dense}
        for k in (5, 10, 20, 60):
            fusion = rag_pb2.Fusion(reciprocal_rank_k=k, **weights)
            name = f"hybrid, reciprocal ranks, k {k}, dense weight {dense:g}"
            found.append(Way(name, rag_pb2.RETRIEVAL_MODE_HYBRID, fusion))
        fusion = rag_pb2.Fusion(weighted=True, **weights)
        name = f"hybrid, weighted scores, dense weight {dense:g}"
        found.append(Way(name, rag_pb2.RETRIEVAL_MODE_HYBRID, fusion))
    return found


def ndcg(ranks: Sequence[int]) -> float:
    """With one right document, the gain is 1 / log2(1 + rank)."""
    return sum(1 / math.log2(1 + rank) for rank in ranks if rank) / len(ranks)


def recall(ranks: Sequence[int]) -> float:
    """Share of questions whose document is among the first K."""
    return sum(rank > 0 for rank in ranks) / len(ranks)


Row = tuple[str, float, float]


def measured(deployment: Deployment, name: str, known: Sequence[Known], asked: int) -> list[Row]:
    """A row for each way: its name, nDCG and recall."""
    retrieval = Retrieval(deployment, name)
    retrieval.write(known)
    rows = []
    for way in ways():
        ranks = retrieval.ranks(known, asked, way)
        rows.append((way.name, ndcg(ranks), recall(ranks)))
        print(f"{name}: {way.name}: nDCG@10 {rows[-1][1]:.4f}, recall@10 {rows[-1][2]:.4f}")
    return rows


def page(results: Mapping[str, Sequence[Row]], sizes: Mapping[str, tuple[int, int]]) -> str:
    """All of it as Markdown."""
    parts = [_HEAD]
    for name, rows in results.items():
        documents, asked = sizes[name]
        lines = [f"## {name.capitalize()}: {documents:,} documents, {asked:,} questions\n"]
        lines += ["| | nDCG@10 | recall@10 |", "| --- | ---: | ---: |"]
        lines += [f"| {way} | {gain:.4f} | {hit:.4f} |" for way, gain, hit in rows]
        parts.append("\n".join([*lines, "", _verdict(rows)]))
    return "\n".join(parts)


def _verdict(rows: Sequence[Row]) -> str:
    better = [max(row[place] for row in rows[:2]) for place in (1, 2)]
    met = rows[2][1] >= better[0] and rows[2][2] >= better[1]
    best = max(rows[2:], key=lambda row: row[1:3])
    return (
        "Hybrid by default is at least as good as the better of the two, by both measures: "
        f"{'met' if met else '**missed**'}. The best of those tried: {best[0]}.\n"
    )


_HEAD = """# What retrieval finds

Written by `make bench-quality`, through the gateway, with the local model. The question is the
first line of a docstring, or the summary of a manual page; the right answer is the one document
that stood under it, that line taken out. Many documents are near copies of each other, so that no
way can find them all.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    sources = {"docstrings": docstrings, "manual": manual}
    sets = {name: chosen(source, given.documents) for name, source in sources.items()}
    sets = {name: known for name, known in sets.items() if len(known) >= K}
    with tempfile.TemporaryDirectory(prefix="llmspell-quality-") as folder:
        deployment = Deployment(Path(folder) / "data")
        try:
            results = {
                name: measured(deployment, name, known, min(given.questions, len(known)))
                for name, known in sets.items()
            }
        finally:
            deployment.close()
    sizes = {name: (len(k), min(given.questions, len(k))) for name, k in sets.items()}
    given.page.parent.mkdir(parents=True, exist_ok=True)
    given.page.write_text(page(results, sizes), "utf-8")


if __name__ == "__main__":
    main()

"""The page: one table for each question, one line for each engine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.performance.peers.peer import BATCH, LINKS, SHARES, WIDTH_BUILD, WRITE

Found = Mapping[str, Any]
Column = tuple[str, Callable[[Found], str]]
NAMES = {
    "llmspell": "**LLMSpell**, direct",
    "llmspell_gateway": "**LLMSpell**, gateway",
    "usearch": "usearch",
    "faiss": "faiss",
    "hnswlib": "hnswlib",
    "qdrant_edge": "qdrant-edge",
    "chroma": "Chroma",
    "lancedb": "LanceDB",
    "pgvector": "pgvector",
}
_NONE = "-"
_ASKED = """\
Each line is a ratio within one run. The empty call is `GetVectorStats` of a scope that holds
nothing: the cheapest call that the gateway relays to the vector process, through the same doors.
Searches are answered in columns: ids and scores, as a library answers. Memory for serving is read
ten seconds after the last call. The profiles that explain each miss are in [What explains the
misses](vector-misses.md)."""
_WRITING = f"""\
Calls of {WRITE:,} records, one after the other, each with a number that filters see. A library that
builds its graph while it writes has nothing left to build."""
_FILTERS = """\
The condition is `part < n` over a number drawn by chance. In each cell: recall@10, searches a
second in the engine's best way (1 or 16 callers, or batches), p50 of one caller; **short** answers
had fewer hits than there are matches, of 300."""
_MEMORY = """\
Of the serving processes with everything loaded: what they share counts by share (PSS). `more` is
the growth since the engine was opened empty."""
_KILLED = """\
Opened again, and searched for the record. A power cut is another matter: the last column says what
each engine's words promise."""


def page(results: Sequence[Found], asked: Sequence[Sequence[str]], count: int, plot: str) -> str:
    """The whole page as Markdown."""
    ran = [found for found in results if _done(found, "ingest")]
    parts = [_head(count), f"![Throughput, filters, ingest and memory, side by side]({plot}.png)\n"]
    parts.append(_asked(asked))
    parts += [_table(title, words, columns, ran) for title, words, columns in _tables()]
    parts += [_engines(results), _gaps(results)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _head(count: int) -> str:
    return f"""# Vector engines side by side

Written by `make bench-vector`, on one machine and one day: {os.cpu_count()} cores of
{_processor()}, Linux {platform.release()}. The data are {count:,} sentences of Python's own
documentation and docstrings, embedded by the local model (384 numbers each), and 1 000 more as
queries. Each engine runs alone, in processes and a folder of its own, on loopback.

All graphs have m {LINKS} and ef_construction {WIDTH_BUILD}. The width of the search is the least
that reaches recall@10 of 0.97 on all queries; it is stated, and stays for every line after it.
Callers are threads of one Python process, for libraries and servers alike. Figures of one run on a
shared machine vary by some tenths; figures side by side say more than any of them alone.
"""


def _asked(lines: Sequence[Sequence[str]]) -> str:
    head = ["## What was asked\n", _ASKED, "", "| what | measured | asked | |"]
    table = ["| --- | --- | --- | --- |", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join([*head, *table, ""])


def _tables() -> list[tuple[str, str, list[Column]]]:
    return [
        (
            "Writing",
            _WRITING,
            [
                ("acknowledged, vectors/s", lambda f: _number(f["ingest"]["rate"])),
                ("until acknowledged, s", lambda f: _number(f["ingest"]["ingest_s"])),
                ("until the index is complete, s", lambda f: _number(f["ingest"]["total_s"])),
            ],
        ),
        ("Searching", f"Without a filter; a batch is a call of {BATCH}.", _searching()),
        (
            "Filters",
            _FILTERS,
            [(f"{share:.1%} match", lambda f, s=share: _filter(f, s)) for share in SHARES],
        ),
        (
            "Memory and disk",
            _MEMORY,
            _footprint(),
        ),
        (
            "After deleting nine of ten, and what the engine's manual then advises",
            "`fresh` is an engine that never held more than the tenth.",
            _deletion(),
        ),
        (
            "After `kill -9` straight after an acknowledged insert",
            _KILLED,
            [
                ("the record is found", lambda f: "yes" if f["crash"]["found"] else "**lost**"),
                ("of earlier ones", lambda f: f"{f['crash']['earlier_found']:.0%}"),
                ("what an answer means", lambda f: f["start"]["durable"]),
            ],
        ),
    ]


def _searching() -> list[Column]:
    return [
        ("width", lambda f: str(f["tune"]["width"] or "default")),
        ("recall@10", lambda f: f"{f['tune']['recall']:.3f}"),
        ("p50, ms", lambda f: f"{f['single']['p50_ms']:.2f}"),
        ("p99, ms", lambda f: f"{f['single']['p99_ms']:.2f}"),
        ("1 caller, /s", lambda f: _number(f["callers"]["1"])),
        ("16, /s", lambda f: _number(f["callers"]["16"])),
        ("64, /s", lambda f: _number(f["callers"]["64"])),
        ("batches, /s", lambda f: _number(f["batch"]["rate"])),
    ]


def _footprint() -> list[Column]:
    return [
        ("PSS, MB", lambda f: _number(f["footprint"]["memory"]["pss_mb"])),
        ("more, MB", lambda f: _number(_more(f["footprint"]["memory"], f["start"]["memory"]))),
        ("of it anonymous, MB", lambda f: _number(_more_anon(f))),
        ("disk, MB", lambda f: _number(f["footprint"]["disk_mb"])),
    ]


def _deletion() -> list[Column]:
    return [
        ("recall@10", lambda f: f"{f['deletion']['recall']:.3f}"),
        ("recall, fresh", lambda f: f"{f['fresh']['recall']:.3f}"),
        ("more, MB", lambda f: _number(_more(f["deletion"]["memory"], f["start"]["memory"]))),
        ("fresh, MB", lambda f: _number(_more(f["fresh"]["memory"], f["fresh"]["empty"]))),
        ("disk, MB", lambda f: _number(f["deletion"]["disk_mb"])),
        ("fresh disk, MB", lambda f: _number(f["fresh"]["disk_mb"])),
        ("answers with what is gone", lambda f: str(f["deletion"]["foreign"])),
    ]


def _table(title: str, words: str, columns: Sequence[Column], ran: Sequence[Found]) -> str:
    lines = [f"## {title}\n", f"{words}\n"]
    lines.append("| | " + " | ".join(name for name, _ in columns) + " |")
    lines.append("| --- |" + " ---: |" * len(columns))
    for found in ran:
        cells = [_cell(value, found) for _, value in columns]
        lines.append(f"| {NAMES[found['engine']]} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _engines(results: Sequence[Found]) -> str:
    lines = ["## Engines\n", "| | version and choices |", "| --- | --- |"]
    for found in results:
        title = found.get("start", {}).get("title", "did not start")
        lines.append(f"| {NAMES[found['engine']]} | {title} |")
    return "\n".join([*lines, ""])


def _gaps(results: Sequence[Found]) -> str:
    lines = []
    for found in results:
        name = NAMES[found["engine"]]
        if "start" not in found and "failure" not in found:
            lines.append(f"- {name}: not run")
        if "failure" in found:
            lines.append(f"- {name}: {found['failure']}")
        lines += [f"- {name}, {what}: {why}" for what, why in _reasons(found)]
    return "\n".join(["## What is missing, and why\n", *(lines or ["- nothing"]), ""])


def _reasons(found: Found) -> list[tuple[str, str]]:
    reasons = []
    for stage, what in found.items():
        if not isinstance(what, dict):
            continue
        for kind in ("unsupported", "error", "no_compact"):
            if kind in what:
                words = str(what[kind]).split("\n", maxsplit=1)[0]
                reasons.append(("compaction" if kind == "no_compact" else stage, words))
    return reasons


def _done(found: Found, stage: str) -> bool:
    what = found.get(stage)
    return isinstance(what, dict) and not {"error", "unsupported"} & what.keys()


def _cell(value: Callable[[Found], str], found: Found) -> str:
    try:
        return value(found)
    except (KeyError, TypeError):
        return _NONE


def _filter(found: Found, share: float) -> str:
    one = found["filtered"][str(share)]
    short = f", **{one['short']} short**" if one["short"] else ""
    return f"{one['recall']:.3f}, {_number(one['best_rate'])}/s, {one['p50_ms']:.2f} ms{short}"


def _more(after: Mapping[str, float], before: Mapping[str, float]) -> float:
    return after["pss_mb"] - before["pss_mb"]


def _more_anon(found: Found) -> float:
    return found["footprint"]["memory"]["anon_mb"] - found["start"]["memory"]["anon_mb"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

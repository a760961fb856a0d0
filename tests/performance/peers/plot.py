"""The picture beside the table: `python -m tests.performance.peers.plot COUNT FILE`.

Runs in the peers' environment, which has matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.performance.peers.data import place
from tests.performance.peers.peer import NAMES

Found = Mapping[str, Any]
OURS, OTHERS, GRID, INK = "#0b7a75", "#b8c0c8", "#e6e9ec", "#22282e"
NARROW = "Filter that 1 % match: searches/s"
LABELS = {
    "llmspell": "LLMSpell, direct",
    "llmspell_gateway": "LLMSpell, gateway",
    "qdrant_edge": "qdrant-edge",
    "chroma": "Chroma (server)",
    "lancedb": "LanceDB",
    "pgvector": "pgvector (server)",
}


def _panels() -> list[tuple[str, Callable[[Found], float]]]:
    return [
        ("Batches of 64: searches/s", lambda f: f["batch"]["rate"]),
        ("64 callers: searches/s", lambda f: f["callers"]["64"]),
        ("One caller: p50, ms (less is better)", lambda f: f["single"]["p50_ms"]),
        (NARROW, lambda f: f["filtered"]["0.01"]["best_rate"]),
        ("Acknowledged writes: vectors/s", lambda f: f["ingest"]["rate"]),
        ("Memory while serving, MB (less is better)", _memory),
    ]


def _memory(found: Found) -> float:
    return found["footprint"]["memory"]["pss_mb"]


def _results(count: int) -> list[Found]:
    paths = [place(count) / f"{name}.json" for name in NAMES]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def _draw(axes: Axes, title: str, value: Callable[[Found], float], found: Sequence[Found]) -> None:
    known = []
    for each in found:
        try:
            known.append((each["engine"], value(each)))
        except (KeyError, TypeError):
            known.append((each["engine"], float("nan")))
    names = [LABELS.get(name, name) for name, _ in known]
    colours = [OURS if name.startswith("llmspell") else OTHERS for name, _ in known]
    bars = axes.barh(names, [amount for _, amount in known], color=colours, height=0.68)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    _quiet(axes, [amount for _, amount in known if amount > 0])
    for row, (bar, (_, amount)) in enumerate(zip(bars, known, strict=True)):
        end = bar.get_width() if amount > 0 else axes.get_xlim()[0]
        axes.annotate(
            _label(amount) + (_weak(found[row]) if title == NARROW else ""),
            (end, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )


def _weak(found: Found) -> str:
    """A rate that was bought with recall says so."""
    reached = found.get("filtered", {}).get("0.01", {}).get("recall", 1.0)
    return "" if reached >= 0.97 else f"  (recall {reached:.2f})"


def _label(amount: float) -> str:
    if amount != amount:  # noqa: PLR0124 - not a number
        return "not offered"
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2f}"


def _quiet(axes: Axes, amounts: Sequence[float]) -> None:
    if amounts:
        axes.set_xlim(min(amounts) / 2.5, max(amounts) * 4)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, colors=INK)
    axes.minorticks_off()
    for side in axes.spines.values():
        side.set_visible(False)


def main() -> None:
    """Draw six panels."""
    count, target = int(sys.argv[1]), Path(sys.argv[2])
    mpl.use("Agg")
    found = [each for each in _results(count) if "ingest" in each]
    figure, grid = plt.subplots(3, 2, figsize=(11, 10.5), layout="constrained")
    for axes, (title, value) in zip(grid.flat, _panels(), strict=True):
        _draw(axes, title, value, found)
    figure.suptitle(
        f"{count:,} sentence embeddings of 384 numbers, recall@10 ≥ 0.97 (logarithmic scales)",
        fontsize=12,
        color=INK,
    )
    figure.savefig(target, dpi=110)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()

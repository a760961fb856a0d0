"""Runs every engine after the other, each in a process of its own, and writes the page.

What was measured is kept; an engine that is done is not run again unless it is named with --again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.performance.peers.asked import against_peers, rows
from tests.performance.peers.data import place, prepare
from tests.performance.peers.peer import NAMES
from tests.performance.peers.table import page

OURS = ("llmspell", "llmspell_gateway")
PAGE = Path("docs/benchmarks/vector.md")
PLOT = PAGE.with_suffix(".png")
WAIT_S = 3600.0


def measured(name: str, count: int) -> dict[str, Any]:
    """What is known of an engine."""
    path = place(count) / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {"engine": name}


def run(name: str, python: str, asked: argparse.Namespace) -> None:
    """Measure one engine; its failure is a finding and ends nothing."""
    module = "tests.performance.peers.worker"
    command = [sys.executable if name in OURS else python, "-m", module, name]
    command += ["--count", str(asked.count), "--seconds", str(asked.seconds)]
    environment = dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1", "ANONYMIZED_TELEMETRY": "False"}
    print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
    try:
        done = subprocess.run(
            command, env=environment, stderr=subprocess.PIPE, timeout=WAIT_S, text=True, check=False
        )
        words = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        words = [f"not done after {WAIT_S:.0f} s"]
    if words:
        found = measured(name, asked.count) | {"failure": words[0][:300]}
        (place(asked.count) / f"{name}.json").write_text(json.dumps(found), "utf-8")
        print(f"{name}: {words[0]}", flush=True)


def main() -> None:
    """Measure what is missing, then write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure of speed")
    parser.add_argument("--engines", default=",".join(NAMES))
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument("--python", default=".venv-bench/bin/python", help="that has the peers")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    prepare(asked.count)
    for name in asked.engines.split(","):
        if asked.again or not measured(name, asked.count).get("done"):
            run(name, asked.python, asked)
    results = {name: measured(name, asked.count) for name in NAMES}
    lines = [line for group in rows(asked.count).values() for line in group]
    lines += against_peers(results)
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(
        page(list(results.values()), lines, asked.count, asked.page.stem), "utf-8"
    )
    plot = [asked.python, "-m", "tests.performance.peers.plot", str(asked.count)]
    subprocess.run([*plot, str(asked.page.with_suffix(".png"))], check=True)
    print(f"wrote {asked.page}")


if __name__ == "__main__":
    main()

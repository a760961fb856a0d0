"""Measures one engine in a process of its own: `python -m tests.performance.peers.worker NAME`.

Writes what it found after every stage, so that an engine that crashes loses one stage and no more.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.performance.peers import measure
from tests.performance.peers.data import Data, load, place
from tests.performance.peers.peer import BATCH, PARTS, SHARES, WRITE, K, Peer, Unsupported, create

RECALL = 0.97
CALLERS = (1, 16, 64)
KEPT_OF = 10
"""After the deletion one record of so many is left."""

_CRASH_BEFORE = 1000


class Run:
    """One engine, its folder and what was found so far."""

    def __init__(self, name: str, data: Data, folder: Path, target: Path, seconds: float) -> None:
        self.name, self.data, self.folder, self.target = name, data, folder, target
        self.seconds = seconds
        self.peer: Peer = create(name)
        self.found: dict[str, Any] = {"engine": name, "count": len(data.vectors)}

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do one stage; what it cannot do is a finding too."""
        start = time.perf_counter()
        try:
            self.found[name] = work()
        except Unsupported as reason:
            self.found[name] = {"unsupported": str(reason)}
        except Exception as error:  # noqa: BLE001 - one engine's failure must not end the others
            traceback.print_exc()
            self.found[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        took = time.perf_counter() - start
        print(f"{self.name:>17} {name:<9} {took:6.1f} s  {self.found[name]}", flush=True)
        aside = self.target.with_suffix(".new")
        aside.write_text(json.dumps(self.found, indent=1), "utf-8")
        aside.replace(self.target)

    def query(self, number: int) -> np.ndarray:
        """One of the queries, round and round."""
        return self.data.queries[number % len(self.data.queries)]

    def group(self, number: int) -> np.ndarray:
        """As many queries as go into one batch."""
        first = number * BATCH % (len(self.data.queries) - BATCH)
        return self.data.queries[first : first + BATCH]

    def recall(self, below: int | None, allowed: np.ndarray, queries: int) -> dict[str, float]:
        """How well the engine answers, one search at a time."""
        asked = self.data.queries[:queries]
        found = [self.peer.search(vector, below) for vector in asked]
        expected = measure.nearest(self.data.vectors, asked, allowed, K)
        return measure.recall(
            found, expected, vectors=self.data.vectors, queries=asked, allowed=allowed
        )


def start(run: Run) -> dict[str, Any]:
    """Open an empty folder."""
    run.peer.start(run.folder)
    return {
        "title": run.peer.title,
        "durable": run.peer.durable,
        "memory": measure.memory(run.peer.pids()),
        "disk_mb": measure.disk_mb(run.folder),
    }


def write_all(peer: Peer, data: Data, rows: np.ndarray) -> float:
    """Write in calls of WRITE; seconds until all was acknowledged."""
    took = 0.0
    for first in range(0, len(rows), WRITE):
        writes = data.writes(rows[first : first + WRITE])
        begun = time.perf_counter()
        peer.ingest(writes)
        took += time.perf_counter() - begun
    return took


def ingest(run: Run) -> dict[str, Any]:
    """Acknowledged writes a second, and when the index is complete."""
    rows = np.arange(len(run.data.vectors))
    took = write_all(run.peer, run.data, rows)
    begun = time.perf_counter()
    run.peer.build()
    built = time.perf_counter() - begun
    return {"rate": len(rows) / took, "ingest_s": took, "build_s": built, "total_s": took + built}


def tune(run: Run) -> dict[str, Any]:
    """The least effort that reaches RECALL; stays set for all that follows."""
    everything = run.data.below(None)
    tried = {}
    for width in run.peer.widths:
        run.peer.widen(width)
        tried[width] = run.recall(None, everything, len(run.data.queries))["recall"]
        if tried[width] >= RECALL:
            break
    return {"width": width, "recall": tried[width], "tried": tried}


def single(run: Run) -> dict[str, Any]:
    """One caller, one search after the other."""
    return measure.p50_p99(lambda n: run.peer.search(run.query(n), None), seconds=run.seconds)


def callers(run: Run) -> dict[str, Any]:
    """Searches a second by several callers at once."""
    return {
        str(count): measure.rate(lambda n: run.peer.search(run.query(n), None), count, run.seconds)
        for count in CALLERS
    }


def batch(run: Run) -> dict[str, Any]:
    """Searches a second in calls of BATCH, and whether they are as good."""
    everything = run.data.below(None)
    asked = run.data.queries[: BATCH * 8]
    found = [row for n in range(8) for row in run.peer.batch(asked[n * BATCH :][:BATCH], None)]
    expected = measure.nearest(run.data.vectors, asked, everything, K)
    good = measure.recall(
        found, expected, vectors=run.data.vectors, queries=asked, allowed=everything
    )
    rates = {
        count: BATCH
        * measure.rate(lambda n: run.peer.batch(run.group(n), None), count, run.seconds)
        for count in (1, 2)
    }
    return {"rate": max(rates.values()), "one_call_rate": rates[1], "recall": good["recall"]}


def filtered(run: Run) -> dict[str, Any]:
    """Each share of records that a condition lets through."""
    return {str(share): _filtered(run, share) for share in SHARES}


def _filtered(run: Run, share: float) -> dict[str, Any]:
    below = round(share * PARTS)
    allowed = run.data.below(below)
    found: dict[str, Any] = dict(run.recall(below, allowed, 300))
    seconds = run.seconds / 2
    found |= measure.p50_p99(lambda n: run.peer.search(run.query(n), below), seconds=seconds)
    for count in (1, 16):
        found[f"rate_{count}"] = measure.rate(
            lambda n: run.peer.search(run.query(n), below), count, seconds
        )
    try:
        found["rate_batch"] = BATCH * max(
            measure.rate(lambda n: run.peer.batch(run.group(n), below), count, seconds)
            for count in (1, 2)
        )
    except Unsupported as reason:
        found["no_batch"] = str(reason)
    rates = {name: found.get(f"rate_{name}", 0.0) for name in ("1", "16", "batch")}
    found["best"] = max(rates, key=lambda name: rates[name])
    found["best_rate"] = rates[found["best"]]
    return found


def footprint(run: Run) -> dict[str, Any]:
    """Memory and disk as they are, after a few searches."""
    for number in range(100):
        run.peer.search(run.query(number), None)
    return {
        "memory": measure.memory(run.peer.pids()),
        "disk_mb": measure.disk_mb(run.folder),
    }


def deletion(run: Run) -> dict[str, Any]:
    """Delete nine records of ten, wait for what the engine does then, and look again."""
    rows = np.random.default_rng(5).permutation(len(run.data.vectors))
    kept = np.sort(rows[: len(rows) // KEPT_OF])
    gone = rows[len(rows) // KEPT_OF :]
    begun = time.perf_counter()
    for first in range(0, len(gone), WRITE):
        run.peer.delete(gone[first : first + WRITE])
    took = time.perf_counter() - begun
    found: dict[str, Any] = {"rate": len(gone) / took}
    begun = time.perf_counter()
    try:
        run.peer.compact()
        found["compact_s"] = time.perf_counter() - begun
    except Unsupported as reason:
        found["no_compact"] = str(reason)
    found |= run.recall(None, kept, 300)
    return found | footprint(run)


def fresh(run: Run) -> dict[str, Any]:
    """What the tenth that is left takes in an engine that never held more, in a new process."""
    with tempfile.TemporaryDirectory(dir=run.folder.parent) as folder:
        command = [*_again(run), "--fresh", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-300:])
        return json.loads(done.stdout.splitlines()[-1])


def fresh_child(run: Run, width: int) -> dict[str, Any]:
    """The other side of `fresh`."""
    rows = np.random.default_rng(5).permutation(len(run.data.vectors))
    kept = np.sort(rows[: len(rows) // KEPT_OF])
    run.peer.start(run.folder)
    empty = measure.memory(run.peer.pids())
    write_all(run.peer, run.data, kept)
    run.peer.build()
    run.peer.widen(width)
    found: dict[str, Any] = dict(run.recall(None, kept, 300))
    found |= footprint(run) | {"empty": empty}
    run.peer.stop()
    return found


def crash(run: Run) -> dict[str, Any]:
    """Kill -9 straight after an acknowledged write, open again and look for the record."""
    with tempfile.TemporaryDirectory(dir=run.folder.parent) as folder:
        command = [*_again(run), "--crash", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            line = next((one for one in child.stdout if one.startswith("acknowledged")), "")
            _kill(child, [int(pid) for pid in line.split()[1:]])
        if not line:
            raise RuntimeError("the engine could not be started for this")
        return _after_crash(run, Path(folder))


def _kill(child: subprocess.Popen[str], pids: list[int]) -> None:
    """Servers first and their supervisor stopped, so that none of them is warned."""
    child.send_signal(signal.SIGSTOP)
    for pid in pids:
        if pid != child.pid:
            try:
                signal.pidfd_send_signal(_open(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
    child.kill()
    child.wait()
    time.sleep(1.0)


def _open(pid: int) -> int:
    import os

    return os.pidfd_open(pid)


def _after_crash(run: Run, folder: Path) -> dict[str, Any]:
    peer = create(run.name)
    begun = time.perf_counter()
    peer.start(folder)
    try:
        peer.widen(peer.widths[-1])
        last = _CRASH_BEFORE
        rows = peer.search(np.array(run.data.vectors[last]), None)
        before = [
            row in peer.search(np.array(run.data.vectors[row]), None)
            for row in range(0, _CRASH_BEFORE, 50)
        ]
        return {
            "found": last in rows,
            "earlier_found": sum(before) / len(before),
            "seconds": time.perf_counter() - begun,
        }
    finally:
        peer.stop()


def crash_child(run: Run) -> None:
    """The other side of `crash`: write, say so, and wait to be killed."""
    run.peer.start(run.folder)
    write_all(run.peer, run.data, np.arange(_CRASH_BEFORE))
    run.peer.ingest(run.data.writes(np.array([_CRASH_BEFORE])))
    print("acknowledged", *run.peer.pids(), flush=True)
    time.sleep(60)


def _again(run: Run) -> list[str]:
    width = str(run.found.get("tune", {}).get("width", 0))
    module = "tests.performance.peers.worker"
    count = str(len(run.data.vectors))
    return [sys.executable, "-m", module, run.name, "--count", count, "--width", width]


STAGES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "start": start,
    "ingest": ingest,
    "tune": tune,
    "single": single,
    "callers": callers,
    "batch": batch,
    "footprint": footprint,
    "filtered": filtered,
    "deletion": deletion,
    "fresh": fresh,
    "crash": crash,
}
_NEEDED = ("start", "ingest")


def measure_all(run: Run) -> None:
    """Every stage in order; without a start or an ingest there is nothing to go on with."""
    for name, stage in STAGES.items():
        run.stage(name, lambda stage=stage: stage(run))
        if name in _NEEDED and not run.found[name].keys().isdisjoint({"error", "unsupported"}):
            break
        if name == "deletion":  # the rest is other processes' work
            run.peer.stop()
    run.found["done"] = True
    run.target.write_text(json.dumps(run.found, indent=1), "utf-8")


def main() -> None:
    """Measure the engine that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--width", type=int, default=0)
    parser.add_argument("--fresh", type=Path)
    parser.add_argument("--crash", type=Path)
    asked = parser.parse_args()
    target = place(asked.count) / f"{asked.name}.json"
    with tempfile.TemporaryDirectory(prefix="llmspell-peers-") as folder:
        own = Path(folder) / "store"
        own.mkdir()
        inner = asked.fresh or asked.crash or own
        run = Run(asked.name, load(asked.count), inner, target, asked.seconds)
        if asked.crash:
            crash_child(run)
        elif asked.fresh:
            print(json.dumps(fresh_child(run, asked.width)))
        else:
            measure_all(run)


if __name__ == "__main__":
    main()

"""What is asked of the vector service, each line with its target, beside its reference in one run.

Each group of lines has a deployment of its own; what was measured is kept, and a group that is done
is not run again unless it is named. The lines that compare with a peer are made from what `run`
measured, when the page is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import types_pb2, vector_pb2

from services.common.clock import SystemClock
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import Metric
from tests.performance import vector
from tests.performance.peers import measure
from tests.performance.peers.data import Data, load, place, prepare
from tests.performance.peers.engines.llmspell import OPTIONS, TENANT, Deployment, sealed
from tests.performance.peers.peer import DIMENSION, PARTS, WRITE
from tests.performance.report import Report

TENANTS, EACH = 10_000, 100
SCOPED = 10_000
EXPIRING = 100_000
_ROUNDS = 12


class Bench:
    """A data set, a folder, and how much of the full size is measured."""

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.scale = min(1.0, len(data.vectors) / 100_000)

    def scaled(self, full: int) -> int:
        """The same share of a number as the data set is of its full size."""
        return max(100, round(full * self.scale))

    def deployment(self, name: str = "data") -> Deployment:
        """The four processes over a folder of that name."""
        return Deployment(self.folder / name)

    def rows(self, first: int, count: int) -> np.ndarray:
        """Vectors, round and round, each turn a little different."""
        places = np.arange(first, first + count)
        rows = np.asarray(self.data.vectors[places % len(self.data.vectors)])
        turns = places // len(self.data.vectors)
        if not turns.any():
            return rows
        noise = np.random.default_rng(first).normal(size=rows.shape).astype(np.float32)
        mixed = rows + noise * (0.02 * (turns > 0))[:, None].astype(np.float32)
        return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


class Door:
    """One channel past the gateway, for as many tenants as wanted."""

    def __init__(self, deployment: Deployment) -> None:
        self._processes = deployment.processes
        address = self._processes.children["vector"].address
        self._channel = grpc.insecure_channel(address, options=OPTIONS)

    def tenant(self, name: str = TENANT) -> vector.Ours:
        """Calls of that tenant."""
        return vector.Ours(self._channel, sealed(self._processes, name))


def core(bench: Bench, report: Report) -> None:
    """Ingest, build, batches, single, 64 callers and memory."""
    deployment = bench.deployment()
    try:
        key = deployment.key()
        ours = vector.direct(deployment.processes)
        through = vector.public(deployment.processes, key)
        vectors = np.array(bench.data.vectors)
        vector.bench_main(
            report,
            deployment.processes,
            ours,
            through,
            vectors=vectors,
            queries=bench.data.queries,
        )
    finally:
        deployment.close()


def tenants(bench: Bench, report: Report) -> None:
    """Many small tenants: created, touched, and after a restart idle."""
    count = bench.scaled(TENANTS)
    empty = _resting(bench, "empty")[0]
    deployment = bench.deployment()
    try:
        created = _fill(bench, deployment, count)
        _touch(bench, deployment, count)
        touched = _own_memory(deployment)
    finally:
        deployment.close()
    idle, started = _resting(bench, "data")
    raw = EACH * DIMENSION * 4
    mine = (touched - empty) * 2**20 / count
    limit = 1.3 * raw + 4096
    report.asked(
        f"{count:,} tenants of {EACH} vectors, each touched: memory of one",
        f"{mine:,.0f} bytes; 1.3 x raw + 4 KB: {limit:,.0f}",
        "at most that",
        mine <= limit,
    )
    resting = (idle - empty) * 2**20 / count
    report.asked("the same, idle", f"{resting:,.0f} bytes", "under 1 024", resting < 1024)
    report.asked("SERVING after start", f"{started:.2f} s", "3 s", started <= 3)
    engine = asyncio.run(_create_in_engine(bench.folder / "engine", min(count, 1000)))
    report.asked(
        "namespace creation, p50, in the engine",
        f"{engine:.2f} ms; over gRPC {created:.2f} ms",
        "1 ms",
        engine < 1,
    )


def _resting(bench: Bench, name: str) -> tuple[float, float]:
    """Memory of a vector process that was just started, and seconds until all four serve."""
    begun = time.perf_counter()
    deployment = bench.deployment(name)
    took = time.perf_counter() - begun
    try:
        time.sleep(2.0)
        return _own_memory(deployment), took
    finally:
        deployment.close()


def _own_memory(deployment: Deployment) -> float:
    return measure.memory(measure.family(deployment.processes.pid("vector")))["pss_mb"]


def _fill(bench: Bench, deployment: Deployment, count: int) -> float:
    """Make and fill the tenants; median milliseconds of making one."""
    took = []
    door = Door(deployment)
    for number in range(count):
        ours = door.tenant(f"t{number}")
        begun = time.perf_counter()
        ours.create("own")
        took.append((time.perf_counter() - begun) * 1e3)
        ours.load("own", np.ascontiguousarray(bench.rows(number * EACH, EACH)))
        if number % 500 == 0:
            print(f"\r{number} of {count} tenants", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return statistics.median(took)


def _touch(bench: Bench, deployment: Deployment, count: int) -> None:
    door = Door(deployment)
    for number in range(count):
        ours = door.tenant(f"t{number}")
        query = bench.rows(number * EACH, 1)[0]
        found = ours.search("own", query)
        assert found.columns.record_ids[0] == "r0", found


async def _create_in_engine(folder: Path, count: int) -> float:
    def fail(words: str) -> None:
        raise RuntimeError(words)

    folder.mkdir()
    store = open_store(folder / "store", on_fatal=fail)
    storage = EmbeddedVectorStorage(store, SystemClock())
    took = []
    for number in range(count):
        begun = time.perf_counter()
        place = (f"t{number}", "global", "own")
        await storage.create_collection(*place, dimension=DIMENSION, metric=Metric.DOT)
        took.append((time.perf_counter() - begun) * 1e3)
    await storage.close()
    return statistics.median(took)


def scoped(bench: Bench, report: Report) -> None:
    """One tenant's search, alone and among many others, turn by turn."""
    own, others = bench.scaled(SCOPED), bench.scaled(100 * SCOPED)
    alone, among = bench.deployment("alone"), bench.deployment("among")
    try:
        pair = []
        for deployment in (alone, among):
            ours = Door(deployment).tenant()
            ours.create("own")
            ours.load("own", np.ascontiguousarray(bench.rows(0, own)))
            ours.checkpoint("own")
            pair.append(ours)
        _crowd(bench, among, own, others)
        ratios = [_turn(bench, pair, turn) for turn in range(_ROUNDS)]
    finally:
        among.close()
        alone.close()
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    report.asked(
        f"search in a tenant of {own:,} among {others:,} others / alone, p50",
        f"{ratio:.3f} ({_ROUNDS} turns: {spread})",
        "1.03",
        ratio <= 1.03,
    )


def _crowd(bench: Bench, deployment: Deployment, own: int, others: int) -> None:
    door = Door(deployment)
    for number in range(others // own):
        ours = door.tenant(f"other{number}")
        ours.create("theirs")
        ours.load("theirs", np.ascontiguousarray(bench.rows((number + 1) * own, own)))
        ours.checkpoint("theirs")
        print(f"\r{number + 1} of {others // own} others", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _turn(bench: Bench, pair: list[vector.Ours], turn: int) -> float:
    """Medians of two that are asked call by call, so that noise falls on both alike."""
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(200):
        query = bench.data.queries[(turn * 200 + number) % len(bench.data.queries)]
        for which in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            pair[which].search("own", query)
            took[which].append(time.perf_counter() - begun)
    return statistics.median(took[1]) / statistics.median(took[0])


def expiry(bench: Bench, report: Report) -> None:
    """Many records expire at once, while a neighbour searches."""
    count = bench.scaled(EXPIRING)
    deployment = bench.deployment()
    try:
        ours = Door(deployment).tenant()
        ours.create("stays")
        ours.load("stays", np.ascontiguousarray(bench.rows(0, bench.scaled(20_000))))
        ours.checkpoint("stays")
        end = _write_expiring(bench, ours, count)
        normal = _searching(bench, ours, lambda: time.time() < end - 1)
        with ThreadPoolExecutor(1) as pool:
            gone = pool.submit(_until_gone, ours, end)
            during = _searching(bench, ours, lambda: not gone.done())
            seconds = gone.result()
    finally:
        deployment.close()
    report.asked(f"{count:,} expired records swept", f"{seconds:.1f} s", "10 s", seconds <= 10)
    ratio = during / normal
    report.asked(
        "search p99 meanwhile / normal",
        f"{during:.2f} / {normal:.2f} ms = {ratio:.2f}",
        "2",
        ratio < 2,
    )


def _write_expiring(bench: Bench, ours: vector.Ours, count: int) -> float:
    """All end at the same moment, far enough ahead for the writing and for a look at the normal."""
    ours.create("ends")
    end = time.time() + 15 + count / 4000

    def requests():
        for first in range(0, count, WRITE):
            left = end - time.time()
            ttl = Duration(seconds=int(left), nanos=int(left % 1 * 1e9))
            rows = bench.rows(first, WRITE)
            records = [
                vector_pb2.VectorRecord(
                    record_id=f"r{first + n}", vector=types_pb2.Vector(f32=row.tobytes()), ttl=ttl
                )
                for n, row in enumerate(rows)
            ]
            yield vector_pb2.ImportVectorsRequest(collection_id="ends", records=records)

    for _ in ours.call("ImportVectors", requests()):
        pass
    assert time.time() < end - 8, "writing took so long that the normal cannot be measured"
    return end


def _searching(bench: Bench, ours: vector.Ours, going: Callable[[], bool]) -> float:
    """p99 in milliseconds, of searches one after another while `going` says so."""
    took: list[float] = []
    while going() or len(took) < 100:
        begun = time.perf_counter()
        ours.search("stays", bench.data.queries[len(took) % len(bench.data.queries)])
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.quantiles(took, n=100)[98]


def _until_gone(ours: vector.Ours, end: float) -> float:
    request = vector_pb2.GetCollectionRequest(collection_id="ends")
    while ours.call("GetCollection", request).collection.record_count:
        if time.time() > end + 120:
            return float("inf")
        time.sleep(0.2)
    return time.time() - end


GROUPS: dict[str, Callable[[Bench, Report], None]] = {
    "core": core,
    "tenants": tenants,
    "scoped": scoped,
    "expiry": expiry,
}


def against_peers(results: dict[str, dict]) -> list[list[str]]:
    """Lines whose reference is a peer, from what `run` measured."""
    report = Report()
    ours, edge = results.get("llmspell", {}), results.get("qdrant_edge", {})
    for share in (0.01, 0.001):
        try:
            _narrow(report, share, ours["filtered"][str(share)], edge["filtered"][str(share)])
        except KeyError:
            report.line(f"filter, {share:.1%} match", "not measured")
    try:
        _shrunk(report, ours)
    except KeyError:
        report.line("after deleting nine of ten", "not measured")
    return [list(row) for row in report.rows]


def _narrow(report: Report, share: float, mine: dict, theirs: dict) -> None:
    ratio = mine["best_rate"] / theirs["best_rate"]
    words = {"1": "1 caller", "16": "16 callers", "batch": "batches"}
    report.asked(
        f"filter, {share:.1%} of {PARTS:,} parts match: searches a second, direct / qdrant-edge",
        f"{mine['best_rate']:,.0f} ({words[mine['best']]}) / {theirs['best_rate']:,.0f} "
        f"({words[theirs['best']]}) = {ratio:.2f}; recall {mine['recall']:.4f}, "
        f"{mine['short']} short",
        "1; recall 1, none short",
        ratio >= 1 and mine["recall"] >= 0.9999 and not mine["short"],
    )


def _shrunk(report: Report, ours: dict) -> None:
    after, fresh = ours["deletion"], ours["fresh"]
    memory = after["memory"]["pss_mb"] / fresh["memory"]["pss_mb"]
    disk = after["disk_mb"] / fresh["disk_mb"]
    report.asked(
        "after deleting nine of ten: memory and disk / a fresh build, all of the process",
        f"{memory:.2f} and {disk:.2f}; recall {after['recall']:.4f} against {fresh['recall']:.4f}",
        "1.3 each; 0.01",
        memory <= 1.3 and disk <= 1.3 and after["recall"] >= fresh["recall"] - 0.01,
    )


def rows(count: int) -> dict[str, list[list[str]]]:
    """What was measured so far, by group."""
    path = place(count) / "asked.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _keep(count: int, name: str, lines: list[list[str]]) -> None:
    path = place(count) / "asked.json"
    path.write_text(json.dumps(rows(count) | {name: lines}, indent=1), "utf-8")


def run(name: str, count: int) -> None:
    """Measure one group in this process."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmspell-asked-") as folder:
        try:
            GROUPS[name](Bench(load(count), Path(folder)), report)
        except Exception as error:  # noqa: BLE001 - one group's failure must not end the others
            traceback.print_exc()
            report.line(name, f"failed: {type(error).__name__}: {str(error)[:200]}")
    _keep(count, name, [list(row) for row in report.rows])


def main() -> None:
    """Measure what is missing, or the groups that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--groups", default="")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        run(asked.inside, asked.count)
        return
    prepare(asked.count)
    done = rows(asked.count)
    for name in filter(None, asked.groups.split(",")) if asked.groups else GROUPS:
        if asked.groups or name not in done:
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            module = ["-m", "tests.performance.peers.asked", "--inside", name]
            command = [sys.executable, *module, "--count", str(asked.count)]
            subprocess.run(command, check=False, timeout=3600)


if __name__ == "__main__":
    main()

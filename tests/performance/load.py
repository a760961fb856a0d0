"""`make load`: the whole system under ghz; writes docs/benchmarks/load.md and load.png.

What is asked and by how many is in load/*.json, which are ghz's own configurations; here the system
is started, tenants and data are made, ghz is run, and what came of it is written down. Beside each
rate stands the processor time that a call took of each process, which other work on the machine
disturbs little: it says what more processors would bring.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from llmspell import AsyncClient, Record

from services.common.processes import Processes, running
from tests.integration.deployment import free_port
from tests.performance.load_page import write_page
from tests.performance.rounds import processor_s

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "load"
GHZ = Path(sys.executable).parent / "ghz"
NAMES = ("gateway", "runtime", "vector", "state")
DIMENSION, RECORDS, QUERIES, BATCH = 384, 10_000, 64, 100
TENANTS = 16
OFFERED = (250, 500, 1000, 1500, 2000)
SEED = 20261128


@dataclass(frozen=True)
class Outcome:
    """What ghz told of one run."""

    name: str
    callers: int
    rate: float
    """Calls a second that were answered."""
    latency_ms: dict[int, float]
    """By percentile."""
    refused: int
    """Calls that were not answered with OK."""
    cost_us: dict[str, float]
    """Processor time of each process a call; of ghz too."""


class Load:
    """Runs ghz against a deployment."""

    def __init__(self, processes: Processes, folder: Path, keys: list[str], scale: float) -> None:
        self._processes = processes
        self._folder = folder
        self._keys = keys
        self._scale = scale
        self._numbers = itertools.count()

    async def run(
        self, name: str, *, keys: int = 1, more: dict[str, Any] | None = None, address: str = ""
    ) -> Outcome:
        """One configuration, with the keys of so many tenants in turn."""
        config = json.loads((CONFIGS / f"{name}.json").read_text()) | (more or {})
        seconds = float(config["duration"].removesuffix("s")) * self._scale
        config["duration"] = f"{seconds:g}s"
        config |= {"insecure": True, "protoset": "contract.binpb"}
        config["metadata"] = {"authorization": f"Bearer {self._key(keys)}"}
        written = self._folder / f"{name}-{next(self._numbers)}-config.json"
        written.write_text(json.dumps(config))
        before, own = self._processor(), _children_s()
        command = [str(GHZ), "--config", str(written), "--format", "json"]
        done = await asyncio.create_subprocess_exec(
            *command, address or self._processes.address, cwd=self._folder, stdout=subprocess.PIPE
        )
        out, _ = await done.communicate()
        assert done.returncode == 0, out[-500:]
        told = json.loads(out)
        answered = told["statusCodeDistribution"].get("OK", 0)
        used = {each: seconds - before[each] for each, seconds in self._processor().items()}
        used["ghz"] = _children_s() - own
        return Outcome(
            name=name,
            callers=config["concurrency"],
            rate=answered / (told["total"] / 1e9),
            latency_ms={
                each["percentage"]: each["latency"] / 1e6
                for each in told["latencyDistribution"] or ()
            },
            refused=told["count"] - answered,
            cost_us={each: seconds * 1e6 / max(answered, 1) for each, seconds in used.items()},
        )

    def _key(self, count: int) -> str:
        """One key, or a template that takes several in turn."""
        if count == 1:
            return self._keys[0]
        listed = " ".join(f"`{key}`" for key in self._keys[:count])  # JSON escapes quotes
        return f"{{{{ index (list {listed}) (mod .RequestNumber {count}) }}}}"

    def _processor(self) -> dict[str, float]:
        return {name: processor_s(self._processes.pid(name)) for name in NAMES}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype("<f4")


async def _prepare(processes: Processes, folder: Path) -> list[str]:
    """Tenants with a key and data each; what ghz is to send."""
    keys = []
    async with AsyncClient(processes.address, processes.operator_key) as operator:
        for number in range(TENANTS):
            await operator.create_tenant(f"load-{number}")
            keys.append((await operator.create_key(f"load-{number}", roles=["admin"])).key)
    vectors = _vectors(RECORDS, SEED)
    for number, key in enumerate(keys):
        async with AsyncClient(processes.address, key) as client:
            await client.set_state("load/read", {"answer": 42})
            await client.create_collection("load", dimension=DIMENSION)
            await client.create_collection("load-ingest", dimension=DIMENSION)
            for first in range(0, RECORDS if number == 0 else 1000, 1000):
                rows = vectors[first : first + 1000]
                records = [
                    Record(record_id=f"r{first + n}", vector=row) for n, row in enumerate(rows)
                ]
                await client.upsert("load", records)
    _write_requests(folder)
    buf = Path(sys.executable).parent / "buf"
    contract = ["build", str(ROOT / "protos"), "-o", str(folder / "contract.binpb")]
    await (await asyncio.create_subprocess_exec(str(buf), *contract)).wait()
    return keys


def _write_requests(folder: Path) -> None:
    def packed(rows: np.ndarray) -> str:
        return base64.b64encode(rows.tobytes()).decode()

    queries = _vectors(QUERIES, SEED + 1)
    searches = [{"collection_id": "load", "vector": {"f32": packed(row)}} for row in queries]
    (folder / "search-data.json").write_text(json.dumps(searches))
    batch = {"collection_id": "load", "f32": packed(_vectors(BATCH, SEED + 2))}
    (folder / "batch-search-data.json").write_text(json.dumps([batch]))
    records = [
        {"record_id": f"i{number}", "vector": {"f32": packed(row)}}
        for number, row in enumerate(_vectors(BATCH, SEED + 3))
    ]
    ingest = {"collection_id": "load-ingest", "records": records}
    (folder / "ingest-data.json").write_text(json.dumps([ingest]))


async def _second_gateway(processes: Processes) -> tuple[asyncio.subprocess.Process, str]:
    """Another gateway beside the one that runs, with the same settings."""
    proc = Path(f"/proc/{processes.pid('gateway')}")
    command = (proc / "cmdline").read_text().split("\0")[:-1]
    pairs = (pair.partition("=") for pair in (proc / "environ").read_text().split("\0") if pair)
    variables = {name: value for name, _, value in pairs}
    address = f"127.0.0.1:{free_port()}"
    variables["LLMSPELL_DIE_WITH_PARENT"] = str(os.getpid())
    command += ["--set", f"gateway.listen={address}", "--set", "gateway.metrics_listen="]
    process = await asyncio.create_subprocess_exec(
        *command, env=variables, stderr=subprocess.DEVNULL
    )
    async with grpc.aio.insecure_channel(address) as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
    return process, address


async def _two_gateways(load: Load, processes: Processes) -> list[Outcome]:
    """The same reads, half of the callers at each."""
    process, address = await _second_gateway(processes)
    try:
        half = {"concurrency": 32}
        return await asyncio.gather(
            load.run("state-read", more=half), load.run("state-read", more=half, address=address)
        )
    finally:
        process.terminate()
        await process.wait()


async def _measure(load: Load, processes: Processes) -> dict[str, Any]:
    told: dict[str, Any] = {"runs": [], "offered": []}
    await load.run("state-read")  # everything is warm after it
    names = ("state-read", "state-write", "search", "batch-search", "ingest", "scripts")
    for name in names:
        told["runs"].append(await load.run(name))
    told["runs"].append(await load.run("mixed-tenants", keys=TENANTS))
    for rate in OFFERED:
        # What comes does not wait for what was answered, as with many callers who know nothing
        # of each other.
        more = {"rps": rate, "async": True, "duration": "3s"}
        told["offered"].append((rate, await load.run("state-read", more=more)))
    told["two"] = await _two_gateways(load, processes)
    return told


async def _bench(scale: float, page: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="llmspell-load-") as name:
        folder = Path(name)
        address = f"127.0.0.1:{free_port()}"
        report = lambda name, what: print(f"{name} {what}", file=sys.stderr)  # noqa: E731
        async with running(folder / "data", address, report=report) as processes:
            keys = await _prepare(processes, folder)
            told = await _measure(Load(processes, folder, keys, scale), processes)
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"grpcio {grpc.__version__}"
    )
    write_page(page, told, machine)
    print(page.read_text())


def main() -> int:
    """Read how long to measure and where to write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of each run's duration")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks/load.md")
    asked = parser.parse_args()
    if not GHZ.exists():
        print("there is no ghz: `make load` builds it, and needs go", file=sys.stderr)
        return 1
    asyncio.run(_bench(asked.scale, asked.page))
    return 0


if __name__ == "__main__":
    sys.exit(main())

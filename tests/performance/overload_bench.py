"""Overload: what ten times the load leaves of the goodput, and what it does to the others.

`python -m tests.performance.overload_bench`: four tenants, one of them abusive, open loop (T13).
The machine that measures also makes the load, so figures are ratios of one run.
`LLMSPELL_BENCH_SECONDS` is how long each part takes (60 for the full form).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmspell import Client
from llmspell.types import Record
from llmspell.v1 import types_pb2, vector_pb2

from tests.integration.deployment import Deployment, deployed
from tests.performance.wire import Flow, Outcome, quantile

SECONDS = float(os.environ.get("LLMSPELL_BENCH_SECONDS", "6"))
TIMES = float(os.environ.get("LLMSPELL_BENCH_TIMES", "10"))
"""The peak's."""
QUIET = ("globex", "initech", "hooli")
ABUSIVE = "acme"
QUIET_SHARE = 0.05
"""Of the peak, each."""
DIMENSION, RECORDS = 64, 2000
SEARCH = "/llmspell.v1.VectorService/Search"


def search_request() -> str:
    """A search, hexadecimal."""
    vector = types_pb2.Vector(values=[0.1 * (1 + n % 7) for n in range(DIMENSION)])
    request = vector_pb2.SearchRequest(collection_id="load", vector=vector)
    return request.SerializeToString().hex()


def fill(up: Deployment, tenant: str) -> None:
    """Give a tenant something to search."""
    up.tenant(tenant)
    with Client(up.address, up.keys[tenant], timeout_s=60) as client:
        client.create_collection("load", DIMENSION)
        for first in range(0, RECORDS, 500):
            numbers = range(first, first + 500)
            client.upsert("load", [Record(str(n), vector=vector_of(n)) for n in numbers])


def vector_of(number: int) -> list[float]:
    """One that differs from the others'."""
    return [float((number * k) % 97 + 1) for k in range(1, DIMENSION + 1)]


async def flood(flows: Sequence[Flow]) -> list[Outcome]:
    """Each flow in a process of its own."""

    async def one(flow: Flow) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.performance.wire"), stdin=-1, stdout=-1
        )
        order = json.dumps({name: getattr(flow, name) for name in flow.__dataclass_fields__})
        told, _ = await process.communicate(order.encode())
        return Outcome(**json.loads(told))

    return await asyncio.gather(*(one(flow) for flow in flows))


def held(up: Deployment) -> dict[str, tuple[int, int, int]]:
    """Threads, open files and resident KiB of the gateway and of what it floods."""
    told = {}
    for name in ("gateway", "vector"):
        status = Path(f"/proc/{up.pid(name)}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        files = len([*Path(f"/proc/{up.pid(name)}/fd").iterdir()])
        told[name] = (int(fields["Threads"]), files, int(fields["VmRSS"].split()[0]))
    return told


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(title: str, outcomes: Sequence[Outcome], seconds: float) -> None:
    """One line for each flow."""
    print(f"\n{title}")
    for each in outcomes:
        print(
            f"  {each.name:8} offered {each.offered / seconds:7.0f}/s, {each.held_back} held back",
            f"good {_told(each.good_s, seconds)}",
            f"refused {_told(each.refused_s, seconds)}",
            f"lost {each.lost}",
            sep=" · ",
            flush=True,
        )


def _told(latencies_s: list[float], seconds: float) -> str:
    median, worst = (1e3 * quantile(latencies_s, share) for share in (0.5, 0.99))
    return f"{len(latencies_s) / seconds:6.0f}/s p50 {median:7.1f} p99 {worst:7.1f} ms"


async def measure(up: Deployment) -> None:
    """All parts, and the table."""
    message = search_request()

    def flow(tenant: str, **how: float) -> Flow:
        return Flow(
            name=tenant,
            address=up.address,
            key=up.keys[tenant],
            path=SEARCH,
            message=message,
            **{"seconds": SECONDS, **how},
        )

    tenants = (*QUIET, ABUSIVE)
    used_s = cpu_s(up.pid("gateway"))
    peaks = [await flood([flow(each, callers=16) for each in tenants]) for _ in range(2)]
    used_s = cpu_s(up.pid("gateway")) - used_s
    each_s = used_s / sum(len(each.good_s) for run in peaks for each in run)
    show("peak: 16 callers a tenant", peaks[-1], SECONDS)
    peak = max(sum(len(each.good_s) for each in run) for run in peaks) / SECONDS
    peak_p99 = quantile([s for each in peaks[-1] for s in each.good_s], 0.99)

    quiet = [flow(each, rate=peak * QUIET_SHARE) for each in QUIET]
    alone = await flood(quiet)
    show(f"quiet: {QUIET_SHARE:.0%} of the peak each", alone, SECONDS)
    fair = await flood([*quiet, flow(ABUSIVE, rate=peak * 0.5)])
    show("quiet, and one tenant at half of the peak", fair, SECONDS)

    before = held(up)
    print("\n## No limit but the gateway's own")
    first = await under_flood(up, flow, quiet, (alone, fair, peak, peak_p99, each_s))
    with Client(up.address, up.operator_key) as operator:
        operator.update_tenant(ABUSIVE, limits={"requests_per_minute": round(peak * 30)})
    await asyncio.sleep(1.5)
    print("\n## The abusive tenant has `requests_per_minute`: half of the peak")
    second = await under_flood(up, flow, quiet, (alone, fair, peak, peak_p99, each_s))
    await asyncio.sleep(2)
    after = held(up)
    grown = max(after[name][n] - before[name][n] for name in after for n in (0, 1))
    print(f"\n{before} -> {after}")
    print("\n| figure | bound | no limit | with one |\n| --- | --- | --- | --- |")
    for (what, bound, one), (_, _, other) in zip(first, second, strict=True):
        print(f"| {what} | {bound} | {one} | {other} |")
    print(f"| threads and open files more than before | at most 2 | {told(grown, 2)} | |")


Row = tuple[str, str, str]
Usual = tuple[Sequence[Outcome], Sequence[Outcome], float, float, float]
"""Quiet tenants alone, with half a peak beside them, the peak, its p99, and what a call takes of
the gateway's processor there, in seconds."""


def told(value: float, most: float, *, least: bool = False) -> str:
    """A figure, and whether it is met."""
    met = value >= most if least else value <= most
    return f"{value:.3g}, {'met' if met else 'not met'}"


async def under_flood(up: Deployment, flow: Any, quiet: Sequence[Flow], usual: Usual) -> list[Row]:
    """What a flood does, as rows."""
    alone, fair, peak, peak_p99, each_s = usual
    used_s = cpu_s(up.pid("gateway"))
    flooded = await flood([*quiet, flow(ABUSIVE, rate=peak * TIMES, connections=4)])
    used_s = cpu_s(up.pid("gateway")) - used_s
    show(f"quiet, and one tenant at {TIMES:g} x the peak", flooded, SECONDS)
    recovery_s = await recovered(flow, alone, time.monotonic())
    print(f"gateway: {used_s / SECONDS:.0%} of a processor in the flood")
    *quiet_then, abusive = flooded
    good = sum(len(each.good_s) for each in flooded) / SECONDS / peak
    by_processor = good * SECONDS * peak * each_s / used_s
    kept = sum(len(each.good_s) for each in quiet_then) / sum(len(each.good_s) for each in alone)
    usual_p99 = statistics.median(quantile(each.good_s, 0.99) for each in fair[:-1])
    beside = max(quantile(each.good_s, 0.99) for each in quiet_then) / usual_p99
    admitted = quantile(abusive.good_s, 0.99) / peak_p99
    median, worst = (1e3 * quantile(abusive.refused_s, share) for share in (0.5, 0.99))
    return [
        ("goodput / peak", "at least 0.8", told(good, 0.8, least=True)),
        ("the same, by the gateway's processor", "", f"{by_processor:.3g}"),
        ("p99 of admitted calls / p99 at the peak", "at most 3", told(admitted, 3)),
        ("quiet: goodput / alone", "at least 0.9", told(kept, 0.9, least=True)),
        ("quiet: p99 / with half a peak beside", "at most 1.5", told(beside, 1.5)),
        ("refusal, median, ms", "at most 5", told(median, 5)),
        ("refusal, p99, ms", "at most 5", told(worst, 5)),
        ("recovery, s", "at most 2", told(recovery_s, 2)),
    ]


async def recovered(flow: Any, alone: Sequence[Outcome], begin: float) -> float:
    """Seconds until a quiet tenant's calls take what they took without the flood."""
    usual_s = quantile([s for each in alone for s in each.good_s], 0.9)
    while (passed := time.monotonic() - begin) < 10:
        (told,) = await flood([flow(QUIET[0], rate=50, seconds=0.5)])
        if told.good_s and quantile(told.good_s, 0.9) <= 1.5 * usual_s:
            return passed
    return passed


def main() -> None:
    """Start a deployment and measure it."""
    settings = dict(pair.split("=", 1) for pair in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), variables=settings) as up:
        for tenant in (*QUIET, ABUSIVE):
            fill(up, tenant)
        asyncio.run(measure(up))


if __name__ == "__main__":
    main()

"""What scripts cost, each figure beside a reference of the same run.

`python -m tests.performance.runtime_bench` prints a Markdown table (about three minutes; `make
bench` does it too). Rounds of a measurement and of its reference alternate, so that other work on
the machine meets both alike; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
from llmspell import Client
from llmspell.v1 import script_pb2, script_pb2_grpc, state_pb2, state_pb2_grpc

from services.common.processes import running
from services.runtime.frames import HEADER
from services.runtime.pool import TurnLimits, WorkerPool
from services.runtime.runs import Reply, Result, RunSpec, pack_reply, run_script
from services.runtime.worker import vm
from tests.integration.attacks import Caller
from tests.integration.deployment import free_port
from tests.performance.report import Report
from tests.performance.round_trips import bare
from tests.performance.rounds import beside

WAITING = 500
CALLS = 1000
CALL = "State.get('k')"
REPLY = Reply(ok=True, tree={"item": {"key": "k", "value": {"json": "1"}}, "revision": 7})
CALL_BYTES = 76
"""Of `CALL` as a frame: what the reference sends."""
NEIGHBOUR = "State.set('n', 1) return State.get('n')"


def bench_preparing(report: Report) -> None:
    """All globals, once, in the zygote."""
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        vm.Machine()
        took.append((time.perf_counter() - begin) * 1e3)
    median = statistics.median(took)
    report.asked("all globals made, once in a zygote", f"{median:.1f} ms", "< 5 ms", median < 5)


def _own_mib(pid: int) -> float:
    """Memory that a process shares with none."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return sum(int(fields[f"Private_{kind}"].split()[0]) for kind in ("Clean", "Dirty")) / 1024


async def bench_waiting(report: Report) -> None:
    """Many runs that wait for a call at once, and what each has of its own."""
    held, answered, reached = asyncio.Event(), 0, asyncio.Event()

    async def call(_: object) -> Reply:
        nonlocal answered
        answered += 1
        if answered == WAITING:
            reached.set()
        await held.wait()
        return REPLY

    async with WorkerPool(turns=TurnLimits(WAITING, WAITING, WAITING)) as pool:
        runs = [asyncio.create_task(_run(pool, f"return {CALL}", call)) for _ in range(WAITING)]
        await reached.wait()
        zygote = pool.zygote_pid
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        own = [_own_mib(int(pid)) for pid in children]
        held.set()
        await asyncio.gather(*runs)
    report.asked(
        f"own memory of each of {WAITING} runs that wait for a call",
        f"{statistics.median(own):.1f} MiB, the most {max(own):.1f}",
        "at most 6 MB",
        max(own) * 1.048576 <= 6,
    )


async def _run(pool: WorkerPool, source: str, call: Any) -> Result:
    async for event in run_script(pool, RunSpec(source), call):
        last = event
    assert isinstance(last, Result)
    return last


async def bench_call(report: Report) -> None:
    """A call of the host from Lua, beside the same bytes over a socket pair and nothing else."""

    async def call(_: object) -> Reply:
        return REPLY

    received = HEADER.size + len(pack_reply(REPLY))
    figures: list[float] = []
    ratios: dict[bool, list[float]] = {True: [], False: []}
    async with WorkerPool() as pool:
        for _ in range(5):
            many = await _run(pool, f"for _ = 1, {CALLS} do {CALL} end", call)
            figures.append(many.elapsed_s / CALLS * 1e6)
            for blocking, told in ratios.items():
                reference = await bare(5000, CALL_BYTES, received, blocking=blocking)
                told.append(figures[-1] / reference)
    ratio = statistics.median(ratios[False])
    report.asked(
        "a host call from Lua, beside a bare round trip to a loop of events",
        f"{statistics.median(figures):.0f} us, {ratio:.2f} times as long",
        "at most 2",
        ratio <= 2,
    )
    report.line(
        "the same, beside a round trip to a thread that blocks",
        f"{statistics.median(ratios[True]):.2f} times as long",
    )


async def bench_trivial(report: Report, address: str, key: str) -> None:
    """A script that does nothing and a call that does next to nothing, both through the gateway."""
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        scripts = script_pb2_grpc.ScriptServiceStub(channel)
        state = state_pb2_grpc.StateServiceStub(channel)
        request = script_pb2.RunScriptRequest(source="return 1")
        item = state_pb2.SetStateRequest(key="k", value=state_pb2.Payload(json="1"))
        await state.SetState(item, metadata=metadata)

        async def script(_: int) -> None:
            async for _event in scripts.RunScript(request, metadata=metadata):
                pass

        async def empty(_: int) -> None:
            await state.GetState(state_pb2.GetStateRequest(key="k"), metadata=metadata)

        ratios, p50s = [], []
        for _ in range(5):
            figure, reference = await _p50(script, 150), await _p50(empty, 300)
            ratios.append(figure / reference)
            p50s.append(figure)
        ratio = statistics.median(ratios)
        report.asked(
            "trivial script, p50, beside the read of an item; both through the gateway",
            f"{statistics.median(p50s):.2f} ms, {ratio:.2f} times as long",
            "at most 4",
            ratio <= 4,
        )
        runs, forks, ratio = await beside(script, _fork, 4)
        report.line(
            "trivial scripts, 4 callers, beside bare fork and exec of /bin/true",
            f"{runs:.0f}/s beside {forks:.0f}/s: {ratio:.2f}",
        )


async def _p50(call: Any, count: int) -> float:
    took = []
    for number in range(count):
        begin = time.perf_counter()
        await call(number)
        took.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(took)


async def _fork(_: int) -> None:
    await asyncio.to_thread(subprocess.run, ["/bin/true"], check=True)


async def bench_neighbour(
    report: Report, address: str, keys: dict[str, str], at_once: int = 32
) -> None:
    """A tenant's runs while another one attacks with all it has, beside the same when alone."""
    victim = Caller(address, keys["victim"])

    async def rounds(count: int) -> list[float]:
        return sorted([(await victim.run(NEIGHBOUR)).took_s * 1e3 for _ in range(count)])

    await rounds(50)
    alone = await rounds(1000)
    # A process of its own, so that the victim's clock does not wait for the attacker's program.
    storm = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.performance.storm", address, str(at_once)),
        env={**os.environ, "STORM_KEY": keys["mallory"]},
    )
    await asyncio.sleep(2)
    beside_them = await rounds(1000)
    assert storm.returncode is None
    storm.terminate()
    await storm.wait()
    await victim.close()
    p99, reference = alone[990], beside_them[990]
    report.asked(
        f"a neighbour's p99 while a tenant attacks, {at_once} at once, beside its p99 alone",
        f"{reference:.1f} ms beside {p99:.1f}, {reference / p99:.2f} times as long "
        f"(p50 {beside_them[500]:.1f} beside {alone[500]:.1f} ms)",
        "less than 2",
        reference < 2 * p99,
    )


async def _main() -> None:
    report = Report()
    bench_preparing(report)
    await bench_waiting(report)
    await bench_call(report)
    with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as folder:
        address = f"127.0.0.1:{free_port()}"
        async with running(Path(folder) / "data", address, report=print) as processes:
            keys = await asyncio.to_thread(_tenants, processes)
            await bench_trivial(report, address, keys["victim"])
            for at_once in (1, 8, 32):
                await bench_neighbour(report, address, keys, at_once)
    print(f"\n{os.cpu_count()} cores\n\n{report.table()}")


def _tenants(processes: Any) -> dict[str, str]:
    keys = {}
    with Client(processes.address, processes.operator_key) as operator:
        for tenant in ("victim", "mallory"):
            operator.create_tenant(tenant)
            keys[tenant] = operator.create_key(tenant, roles=["writer"]).key
    return keys


if __name__ == "__main__":
    asyncio.run(_main())

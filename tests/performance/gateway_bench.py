"""What the gateway costs: the same calls through it and past it, in rounds that alternate.

`python -m tests.performance.gateway_bench` prints a table. Rates meet whatever else the machine
does, so processor time a call of each process stands beside them: that is what a hop costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from llmspell import AsyncClient, Record
from llmspell.v1 import state_pb2, types_pb2, vector_pb2

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, read_key
from services.common.processes import Processes, running
from tests.integration.deployment import free_port
from tests.performance.report import Report
from tests.performance.rounds import Call, echo_server, processor_s, rate

CALLERS = 64
DIMENSION = 384
RECORDS = 10_000
NAMES = ("gateway", "state", "vector")
PATHS = {
    "read of state": "/llmspell.v1.StateService/GetState",
    "write of state": "/llmspell.v1.StateService/SetState",
    "search of 10 000 x 384": "/llmspell.v1.VectorService/Search",
}


class Calls:
    """The same requests by two ways."""

    def __init__(self, processes: Processes, key: str) -> None:
        self._processes = processes
        seal = Seal(read_key(processes.place.secret("context.key")), SystemClock())
        context = CallContext(tenant="acme", principal="bench", permissions=("*",))
        self._sealed = ((METADATA_KEY, seal.seal(context, lifetime_s=7200)),)
        self._key = (("authorization", f"Bearer {key}"),)
        self._channels: dict[str, grpc.aio.Channel] = {}
        vectors = np.random.default_rng(7).normal(size=(64, DIMENSION)).astype("<f4")
        payload = state_pb2.Payload(json='{"answer": 42}')
        self._requests = {
            "read of state": [state_pb2.GetStateRequest(key="bench").SerializeToString()],
            "write of state": [
                state_pb2.SetStateRequest(key=f"bench-{n}", value=payload).SerializeToString()
                for n in range(64)
            ],
            "search of 10 000 x 384": [
                vector_pb2.SearchRequest(
                    collection_id="bench", vector=types_pb2.Vector(f32=vector.tobytes())
                ).SerializeToString()
                for vector in vectors
            ],
        }

    def direct(self, what: str) -> Call:
        """Past the gateway."""
        owner = "vector" if "Vector" in PATHS[what] else "state"
        return self._call(self._processes.addresses()[owner], what, self._sealed)

    def public(self, what: str) -> Call:
        """Through it."""
        return self._call(self._processes.address, what, self._key)

    def _call(self, address: str, what: str, metadata: Any) -> Call:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address)
        ask, requests = self._channels[address].unary_unary(PATHS[what]), self._requests[what]

        async def call(number: int) -> object:
            return await ask(requests[number % len(requests)], metadata=metadata, timeout=30)

        return call


class Costs:
    """Processor time of the processes and of this one, while something runs."""

    def __init__(self, processes: Processes) -> None:
        self._pids = {name: processes.pid(name) for name in NAMES} | {"caller": os.getpid()}
        self.us: dict[str, list[float]] = {name: [] for name in self._pids}

    async def rate(self, call: Call, callers: int, round_s: float) -> float:
        """Calls a second; what each cost is kept."""
        before = {name: processor_s(pid) for name, pid in self._pids.items()}
        measured = await rate(call, callers, round_s=round_s)
        for name, pid in self._pids.items():
            used = (processor_s(pid) - before[name]) * 1e6
            self.us[name].append(used / (measured * round_s))
        return measured

    def __str__(self) -> str:
        shares = {name: statistics.median(each) for name, each in self.us.items()}
        return ", ".join(f"{name} {us:.0f}" for name, us in shares.items() if us >= 1)


async def _prepare(client: AsyncClient) -> None:
    await client.set_state("bench", {"answer": 42})
    vectors = np.random.default_rng(5).normal(size=(RECORDS, DIMENSION)).astype(np.float32)
    await client.create_collection("bench", dimension=DIMENSION)
    for first in range(0, RECORDS, 1000):
        rows = [
            Record(record_id=f"r{first + n}", vector=vector)
            for n, vector in enumerate(vectors[first : first + 1000])
        ]
        await client.upsert("bench", rows)


async def _beside(
    report: Report, calls: Calls, processes: Processes, what: str, *, rounds: int, round_s: float
) -> None:
    """64 callers, through the gateway and past it."""
    through, past = Costs(processes), Costs(processes)
    public, direct = calls.public(what), calls.direct(what)
    await rate(public, CALLERS, round_s=round_s)
    pairs = [
        (
            await through.rate(public, CALLERS, round_s),
            await past.rate(direct, CALLERS, round_s),
        )
        for _ in range(rounds)
    ]
    ratio = statistics.median(one / other for one, other in pairs)
    rates = [statistics.median(side) for side in zip(*pairs, strict=True)]
    text = f"{ratio:.2f} x ({rates[0]:.0f}/s of {rates[1]:.0f}/s)"
    report.asked(f"{what}, {CALLERS} callers, of direct", text, ">= 0.7 x", ratio >= 0.7)
    report.line("processor µs a call, through", str(through))
    report.line("processor µs a call, direct", str(past))


async def _alone(report: Report, calls: Calls, what: str, *, rounds: int, round_s: float) -> None:
    """One caller: what the gateway adds, in empty calls."""
    public, direct = calls.public(what), calls.direct(what)
    with echo_server() as address:
        async with grpc.aio.insecure_channel(address) as channel:
            ask = channel.unary_unary("/Echo/Echo")
            await ask(b"", wait_for_ready=True)

            async def echo(_: int) -> object:
                return await ask(bytes(64))

            extra, took = [], []
            for _ in range(rounds):
                each = [1e3 / await rate(one, 1, round_s=round_s) for one in (public, direct, echo)]
                took.append(each)
                extra.append((each[0] - each[1]) / each[2])
    share = statistics.median(extra)
    through, past, empty = (statistics.median(side) for side in zip(*took, strict=True))
    text = f"{share:.2f} ({through:.2f} ms, {past:.2f} ms direct, an empty call {empty:.2f} ms)"
    report.asked(f"{what}, one caller, extra empty calls", text, "<= 1", share <= 1)


async def _bench(rounds: int, round_s: float, names: list[str]) -> None:
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as folder:
        address = f"127.0.0.1:{free_port()}"
        told = lambda name, what: print(f"{name} {what}", file=sys.stderr)  # noqa: E731
        async with running(Path(folder) / "data", address, report=told) as processes:
            async with AsyncClient(processes.address, processes.operator_key) as operator:
                await operator.create_tenant("acme")
                key = (await operator.create_key("acme", roles=["admin"])).key
            async with AsyncClient(processes.address, key) as client:
                await _prepare(client)
            calls = Calls(processes, key)
            for what in names:
                await _beside(report, calls, processes, what, rounds=rounds, round_s=round_s)
                await _alone(report, calls, what, rounds=rounds, round_s=round_s / 2)
    print(report.table())


def main() -> None:
    """Read how long to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--what", nargs="*", default=list(PATHS), choices=list(PATHS))
    asked = parser.parse_args()
    asyncio.run(_bench(asked.rounds, asked.seconds, asked.what))


if __name__ == "__main__":
    main()

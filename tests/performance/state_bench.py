"""What the state process does, each figure beside a reference that was measured in turn with it.

`python -m tests.performance.state_bench` prints a Markdown table. The reference of a call is one
that does nothing, to the same kind of server in a process of its own: grpc.aio, our door (who
is calling, and may they), and no work behind it. What a server without a door does is told too.
Rounds of both alternate, so that other work on the machine meets both alike; a ratio is the median
of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import state_pb2, state_pb2_grpc

from tests.crash.alone import alone
from tests.crash.state_clients import caller
from tests.integration.deployment import free_port
from tests.performance import echo
from tests.performance.report import Report

ROUNDS, ROUND_S = 7, 1.5
CALLERS = 64
VALUE = state_pb2.Payload(json='{"answer": 42}')

Call = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Servers:
    """The state process and one that does nothing, and calls of both."""

    state: Any
    doored: Any
    bare: Any
    metadata: Any

    async def empty(self, _: int) -> None:
        """The reference: through the same door, and nothing behind it."""
        await self.doored(b"", metadata=self.metadata)

    async def nothing(self, _: int) -> None:
        """What gRPC in Python costs alone."""
        await self.bare(b"")

    async def write(self, number: int) -> None:
        """On disk when it is answered."""
        request = state_pb2.SetStateRequest(scope="global", key=f"b{number}", value=VALUE)
        await self.state.SetState(request, metadata=self.metadata)

    async def read(self, number: int) -> None:
        """One of a hundred items."""
        request = state_pb2.GetStateRequest(scope="global", key=f"r{number % 100}")
        await self.state.GetState(request, metadata=self.metadata)


@contextmanager
def echo_server(*options: str) -> Iterator[str]:
    """Serves an empty call, in a process of its own; its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tests.performance.echo", address, "0", *options]
    process = subprocess.Popen(command)
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


async def rate(call: Call, callers: int) -> float:
    """Calls a second by so many callers at once."""
    stop = time.perf_counter() + ROUND_S

    async def work(number: int) -> int:
        count = 0
        while time.perf_counter() < stop:
            await call(number * 1_000_000 + count)
            count += 1
        return count

    counts = await asyncio.gather(*(work(number) for number in range(callers)))
    return sum(counts) / ROUND_S


async def beside(measured: Call, reference: Call, callers: int) -> tuple[float, float, float]:
    """Medians of both rates, and of the rounds' ratios; rounds alternate."""
    await rate(measured, callers)
    pairs = [(await rate(measured, callers), await rate(reference, callers)) for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in pairs)
    return *(statistics.median(side) for side in zip(*pairs, strict=True)), ratio


def flush_s(folder: Path) -> float:
    """Seconds of one write with a flush, to a file of the same disk."""
    took = []
    block = os.urandom(4096)
    with (folder / "flushes").open("wb", 0) as target:
        for _ in range(500):
            start = time.perf_counter()
            os.pwrite(target.fileno(), block, 0)
            os.fdatasync(target.fileno())
            took.append(time.perf_counter() - start)
    return statistics.median(took)


async def bench_writes(report: Report, servers: Servers) -> None:
    """Many callers share flushes, and should hardly be slower than those who ask for nothing."""
    writes, empty, ratio = await beside(servers.write, servers.empty, CALLERS)
    report.asked(
        f"durable writes, {CALLERS} callers",
        f"{writes:.0f}/s beside {empty:.0f} empty calls/s: {ratio:.2f}",
        "at least 0.8",
        ratio >= 0.8,
    )


async def bench_one(report: Report, servers: Servers, folder: Path) -> None:
    """One caller waits for a call and a flush."""
    flush = statistics.median(flush_s(folder) for _ in range(3))
    writes, empty, _ = await beside(servers.write, servers.empty, 1)
    ratio = (1 / writes) / (1 / empty + flush)
    parts = f"{1e3 / empty:.2f} ms empty call + {flush * 1e3:.2f} ms flush"
    report.asked(
        "durable write, one caller",
        f"{1e3 / writes:.2f} ms beside {parts}: {ratio:.2f}",
        "at most 1.5",
        ratio <= 1.5,
    )


async def bench_reads(report: Report, servers: Servers) -> None:
    """One caller and many."""
    for number in range(100):
        await servers.state.SetState(
            state_pb2.SetStateRequest(scope="global", key=f"r{number}", value=VALUE),
            metadata=servers.metadata,
        )
    for callers in (1, CALLERS):
        reads, empty, ratio = await beside(servers.read, servers.empty, callers)
        report.asked(
            f"read, {callers} callers" if callers > 1 else "read, one caller",
            f"{reads:.0f}/s beside {empty:.0f} empty calls/s: {1 / ratio:.2f} times as long",
            "at most 1.15",
            1 / ratio <= 1.15,
        )


async def bench_reference(report: Report, servers: Servers) -> None:
    """What the door costs: no target, but the reference of all the others has it in it."""
    doored, bare, ratio = await beside(servers.empty, servers.nothing, CALLERS)
    report.line(
        f"empty call, {CALLERS} callers",
        f"{doored:.0f}/s beside {bare:.0f}/s of a server without a door: {ratio:.2f}",
    )


async def bench_calls(report: Report, state: str, doored: str, bare: str, folder: Path) -> None:
    """Reads and writes of items."""
    async with (
        grpc.aio.insecure_channel(state) as ours,
        grpc.aio.insecure_channel(doored) as same,
        grpc.aio.insecure_channel(bare) as alone_with_grpc,
    ):
        for channel in (same, alone_with_grpc):
            await channel.channel_ready()
        servers = Servers(
            state=state_pb2_grpc.StateServiceStub(ours),
            doored=same.unary_unary(echo.BEHIND_DOOR),
            bare=alone_with_grpc.unary_unary(echo.BARE),
            metadata=caller("acme"),
        )
        await bench_reference(report, servers)
        await bench_writes(report, servers)
        await bench_one(report, servers, folder)
        await bench_reads(report, servers)


def main() -> None:
    """Print the table."""
    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="llmspell-bench-") as name,
        echo_server("door") as doored,
        echo_server() as bare,
    ):
        folder = Path(name)
        with alone("state", folder / "state") as up:
            asyncio.run(bench_calls(report, up.address, doored, bare, folder))
    print(report.table())


if __name__ == "__main__":
    main()

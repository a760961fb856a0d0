"""What the state process does, each figure beside a reference that was measured in turn with it.

`python -m tests.performance.state_bench` prints a Markdown table. The reference of a call is one
that does nothing, to the same kind of server in a process of its own: grpc.aio, our door (who
is calling, and may they), and no work behind it. What a server without a door does is told too.
Rounds of both alternate, so that other work on the machine meets both alike; a ratio is the median
of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import state_pb2, state_pb2_grpc

from tests.crash.alone import Alone, alone
from tests.crash.state_clients import caller
from tests.performance import (
    echo,
    state_artifacts,
    state_backup,
    state_events,
    state_migration,
    state_sessions,
)
from tests.performance.report import Report
from tests.performance.rounds import beside, echo_server, flush_s

CALLERS = 64
VALUE = state_pb2.Payload(json='{"answer": 42}')


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


async def bench_others(report: Report, up: Alone, doored: str, folder: Path) -> None:
    """Sessions, artifacts and events."""
    await state_sessions.bench(report, up.address, doored, folder)
    await state_artifacts.bench(report, up.address, folder, up.process.pid)
    await state_events.bench(report, up.address, folder, up.process.pid)


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
        with alone("state", folder / "others") as up:
            asyncio.run(bench_others(report, up, doored, folder))
        state_backup.bench(report, folder / "backup")
    state_migration.bench(report)
    print(report.table())


if __name__ == "__main__":
    main()

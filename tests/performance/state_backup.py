"""A backup of a gigabyte while others write, beside `cp`; and a start over as much.

    python -m tests.performance.state_backup [--megabytes 1000]

The data are items of about 1.5 KB that cannot be made smaller. Both the backup and the copy are on
disk when they end. The backup reads each record, verifies it, cuts and names chunks and writes
them; `cp` moves pages. Writers go on with one call in flight each, before the backup and while it
is made.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import backup_pb2, backup_pb2_grpc, state_pb2, state_pb2_grpc

from services.common.clock import SystemClock
from services.common.view import Slice
from services.state.engine import open_engine
from services.state.layout import ITEMS
from services.state.layout import items as layout
from services.state.model import Encoding, Item, Value
from services.state.step import Keeper
from tests.crash.alone import alone
from tests.crash.state_clients import caller
from tests.performance.report import Report
from tests.performance.rounds import copied, percentile, processor_s

TENANT = "backups"
MEGABYTES = 1000
ITEM_BYTES = 1500
WRITERS = 16
SETTLE_S, BEFORE_S = 4.0, 6.0
"""At first the process reads all of a large file that was not closed."""
START_S_MAX = 1.0
STARTS = 3
COPIES = 2
_AT_A_TIME = 5_000


def fill(folder: Path, megabytes: int) -> None:
    """Write so much into an empty store, past all servers."""
    keeper = Keeper(open_engine("embedded", folder), clock=SystemClock())

    async def put_all() -> None:
        for part in _slices(megabytes * 1_000_000 // ITEM_BYTES):
            await keeper.step(lambda step, part=part: step.txn.put_slice(ITEMS, part))  # type: ignore[misc]

    asyncio.run(put_all())
    keeper.engine.close()


def _slices(count: int) -> Iterator[Slice]:
    source = random.Random(7)
    for first in range(0, count, _AT_A_TIME):
        numbers = range(first, min(count, first + _AT_A_TIME))
        keys = [layout.item_key(TENANT, "global", f"item-{number:09d}") for number in numbers]
        yield Slice(keys, [_value(source) for _ in numbers])


def _value(source: random.Random) -> bytes:
    value = Value(Encoding.RAW, source.randbytes(ITEM_BYTES))
    return layout.pack_item(
        Item(key="", value=value, revision=1, create_time_ns=1, update_time_ns=1)
    )


@dataclass(frozen=True)
class Under:
    """What writers saw."""

    per_s: float
    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, spans: list[float], took_s: float) -> Under:
        """From the seconds that each write took."""
        middle, late, most = (1e3 * percentile(spans, share) for share in (0.5, 0.99, 1.0))
        return cls(len(spans) / took_s, middle, late, most)


class Writers:
    """Callers who write small items, one call in flight each."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = state_pb2_grpc.StateServiceStub(channel)
        self._metadata = caller(TENANT)
        self.spans: list[float] = []

    def taken(self) -> list[float]:
        """The seconds of all writes since it was asked last."""
        spans, self.spans = self.spans, []
        return spans

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """They write."""
        tasks = [asyncio.ensure_future(self._write(number)) for number in range(WRITERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, number: int) -> None:
        count, value = 0, state_pb2.Payload(json='{"answer": 42}')
        while True:
            key = f"w{number}-{count % 1000}"
            request = state_pb2.SetStateRequest(scope="custom:writers", key=key, value=value)
            start = time.perf_counter()
            await self._stub.SetState(request, metadata=self._metadata)
            self.spans.append(time.perf_counter() - start)
            count += 1


@dataclass(frozen=True)
class Made:
    """A backup that was made while others wrote."""

    backup: backup_pb2.Backup
    took_s: float
    processor_s: float
    before: Under
    during: Under


async def make(address: str, pid: int) -> Made:
    """Write for a while, then back up meanwhile."""
    async with grpc.aio.insecure_channel(address) as channel:
        backups: Any = backup_pb2_grpc.BackupServiceStub(channel)
        writers = Writers(channel)
        async with writers.going():
            await asyncio.sleep(SETTLE_S)
            writers.taken()
            await asyncio.sleep(BEFORE_S)
            before = Under.of(writers.taken(), BEFORE_S)
            start, used = time.perf_counter(), processor_s(pid)
            request = backup_pb2.CreateBackupRequest(full=True)
            answer = await backups.CreateBackup(request, metadata=caller(TENANT), timeout=600)
            took_s, used = time.perf_counter() - start, processor_s(pid) - used
            during = Under.of(writers.taken(), took_s)
        return Made(answer.backup, took_s, used, before, during)


def copy_mb_s(source: Path, folder: Path) -> float:
    """Megabytes a second of a plain copy with a flush."""
    rates = []
    for _ in range(COPIES):
        target = folder / "copy"
        start = time.perf_counter()
        copied(source, target)
        rates.append(source.stat().st_size / 1e6 / (time.perf_counter() - start))
        target.unlink()
    return statistics.median(rates)


def bench(report: Report, folder: Path, megabytes: int = MEGABYTES) -> None:
    """Print the lines."""
    folder.mkdir()
    data = folder / "full"
    fill(data, megabytes)
    _bench_start(report, folder, data, megabytes)
    cp = copy_mb_s(data / "data.mdb", folder)
    with alone("state", data) as up:
        made = asyncio.run(make(up.address, up.process.pid))
    _tell(report, made, cp)


def _bench_start(report: Report, folder: Path, data: Path, megabytes: int) -> None:
    """After a kill, as after a crash."""
    full, empty, used = [], [], []
    with alone("state", folder / "empty"):
        pass
    for _ in range(STARTS):
        with alone("state", folder / "empty") as up:
            empty.append(up.start_s)
        with alone("state", data) as up:
            full.append(up.start_s)
            used.append(processor_s(up.process.pid))
    ours, nothing = statistics.median(full), statistics.median(empty)
    report.asked(
        f"start after a kill, {megabytes} MB of items",
        f"{ours:.2f} s until it serves ({statistics.median(used):.2f} s of its processor), beside "
        f"{nothing:.2f} s of one that has nothing: {ours / nothing:.2f}",
        f"under {START_S_MAX:.0f} s",
        ours < START_S_MAX,
    )


def _tell(report: Report, made: Made, cp: float) -> None:
    before, during, plain_mb = made.before, made.during, made.backup.plain_bytes / 1e6
    rate = plain_mb / made.took_s
    report.line(
        f"backup of {plain_mb:,.0f} MB while {WRITERS} callers write",
        f"{rate:,.0f} MB/s beside {cp:,.0f} MB/s of a copy of the file: {rate / cp:.2f}; "
        f"{made.took_s:.1f} s, {made.processor_s:.1f} s of the server's processor for both",
    )
    report.line(
        "p99 of those writes",
        f"{during.p99_ms:.1f} ms beside {before.p99_ms:.1f} ms before it: "
        f"{during.p99_ms / before.p99_ms:.2f} times; median {during.p50_ms:.1f} beside "
        f"{before.p50_ms:.1f} ms, longest {during.most_ms:.0f} beside {before.most_ms:.0f} ms, "
        f"{during.per_s:,.0f}/s beside {before.per_s:,.0f}/s",
    )


def main() -> None:
    """Print these lines alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=MEGABYTES)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as name:
        bench(report, Path(name) / "backup", parser.parse_args().megabytes)


if __name__ == "__main__":
    main()

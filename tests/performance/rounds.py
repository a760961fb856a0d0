"""Measures in rounds that alternate with those of a reference, so that both meet the same machine.

Other work comes and goes while a benchmark runs. A ratio is the median of the rounds' ratios; a
figure beside it is the median of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.deployment import free_port

ROUNDS, ROUND_S = 5, 1.5

Call = Callable[[int], Awaitable[Any]]

_TICKS = os.sysconf("SC_CLK_TCK")


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


async def rate(call: Call, callers: int, *, round_s: float = ROUND_S) -> float:
    """Calls a second by so many callers at once."""
    begin = time.perf_counter()
    stop = begin + round_s

    async def work(number: int) -> int:
        count = 0
        while time.perf_counter() < stop:
            await call(number * 1_000_000 + count)
            count += 1
        return count

    counts = await asyncio.gather(*(work(number) for number in range(callers)))
    return sum(counts) / (time.perf_counter() - begin)


async def beside(
    measured: Call,
    reference: Call,
    callers: int,
    *,
    rounds: int = ROUNDS,
    round_s: float = ROUND_S,
) -> tuple[float, float, float]:
    """Medians of both rates, and of the rounds' ratios; rounds alternate."""
    await rate(measured, callers, round_s=round_s)
    pairs = [
        (
            await rate(measured, callers, round_s=round_s),
            await rate(reference, callers, round_s=round_s),
        )
        for _ in range(rounds)
    ]
    ratio = statistics.median(one / other for one, other in pairs)
    return *(statistics.median(side) for side in zip(*pairs, strict=True)), ratio


async def spans(works: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """The median of the seconds that each takes, one after the other in each round."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            await work(number)
            if number:  # the first round finds nothing warm
                took[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in took.items()}


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


def copied(source: Path, target: Path) -> None:
    """A plain copy with a flush of the file and of its name."""
    shutil.copyfile(source, target)
    for path in (target, target.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def processor_s(pid: int) -> float:
    """Processor seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    assert values, "nothing was measured"
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]

"""Time, memory, disk and recall, measured alike for every engine."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np

TIE = 1e-6
"""Two vectors nearer than this to equally near: either is right."""


def p50_p99(call: Callable[[int], object], *, seconds: float, warm: int = 50) -> dict[str, float]:
    """Milliseconds of calls one after another."""
    for number in range(warm):
        call(number)
    took: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(took) < 20:
        start = time.perf_counter()
        call(len(took))
        took.append((time.perf_counter() - start) * 1e3)
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "calls": len(took)}


def rate(call: Callable[[int], object], callers: int, seconds: float) -> float:
    """Calls a second by so many callers at once, each of which has called once before."""
    together = Barrier(callers)

    def work(caller: int) -> tuple[int, float, float]:
        try:
            call(caller)  # opens the caller's connection, where it has one of its own
        except BaseException:
            together.abort()  # else the others would wait for ever
            raise
        together.wait()
        begun = time.perf_counter()
        done = 0
        while time.perf_counter() < begun + seconds:
            call(caller * 1009 + done)
            done += 1
        return done, begun, time.perf_counter()

    with ThreadPoolExecutor(callers) as pool:
        counts, starts, ends = zip(*pool.map(work, range(callers)), strict=True)
    return sum(counts) / (max(ends) - min(starts))


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(after[1]), []).append(int(path.parent.name))
    found, new = [pid], [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, [])]
        found += new
    return found


def memory(pids: Sequence[int]) -> dict[str, float]:
    """MB of processes together: all that is resident, shared pages by share, and what is theirs.

    The bench's own data set, mapped into this process, does not count.
    """
    totals = {"rss_mb": 0, "pss_mb": 0, "anon_mb": 0}
    names = {"Rss:": "rss_mb", "Pss:": "pss_mb", "Anonymous:": "anon_mb"}
    for pid in pids:
        for key, kilobytes in _entries(pid):
            if key in names:
                totals[names[key]] += kilobytes
    return {name: kilobytes / 1024 for name, kilobytes in totals.items()}


def _entries(pid: int) -> Iterator[tuple[str, int]]:
    ours = False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        first, *rest = line.split()
        if not first.endswith(":"):
            ours = line.endswith(".npy")
        elif not ours and len(rest) == 2 and rest[1] == "kB":
            yield first, int(rest[0])


def disk_mb(folder: Path) -> float:
    """MB that files take, holes not counted."""
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(Path(top) / name).st_blocks * 512
            except FileNotFoundError:  # removed while we looked
                continue
    return total / 2**20


def nearest(
    vectors: np.ndarray, queries: np.ndarray, allowed: np.ndarray, limit: int
) -> tuple[np.ndarray, int]:
    """The score of the last of the `limit` nearest for each query, and how many there can be."""
    count = min(limit, len(allowed))
    scores = queries @ np.asarray(vectors[allowed]).T
    if count == 0:
        return np.full(len(queries), np.inf, np.float32), 0
    place = scores.shape[1] - count
    return np.partition(scores, place, axis=1)[:, place], count


def recall(
    found: Sequence[Sequence[int]],
    expected: tuple[np.ndarray, int],
    *,
    vectors: np.ndarray,
    queries: np.ndarray,
    allowed: np.ndarray,
) -> dict[str, float]:
    """Share of the nearest that was found, answers that are short, and rows that may not be."""
    scores, count = expected
    right = short = foreign = 0
    may = np.zeros(len(vectors), bool)
    may[allowed] = True
    for number, rows in enumerate(found):
        distinct = np.unique(np.asarray(rows, np.int64))
        fit = distinct[may[distinct]]
        foreign += len(distinct) - len(fit)
        near = np.asarray(vectors[fit]) @ queries[number]
        right += min(count, int((near >= scores[number] - TIE).sum()))
        short += len(fit) < count
    return {
        "recall": right / (count * len(found)) if count else 1.0,
        "short": short,
        "foreign": foreign,
        "of": len(found),
    }

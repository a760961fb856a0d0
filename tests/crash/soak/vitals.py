"""What each process takes in its life: memory and descriptors, looked at once a second."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.integration.apart import Apart

MIB = 1024 * 1024
EVERY_S = 1.0
PER_S = 600.0
"""Slopes are told per ten minutes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one process at one moment."""

    at: float
    resident_mib: float
    """All that is in memory, the pages of its store's file included."""
    own_mib: float
    """Without pages of files: these are the kernel's to keep or to let go."""
    descriptors: int


class Vitals:
    """Samples of all processes."""

    def __init__(self, up: Apart) -> None:
        self._up = up
        self.lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        """By name and process id."""

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            for name, process in list(self._up.processes.items()):
                with suppress(OSError, KeyError):
                    self.lives[name, process.pid].append(sample(process.pid))
            await asyncio.sleep(EVERY_S)

    def since(self, name: str, moment: float) -> list[Sample]:
        """Of the process that has this name now."""
        life = self.lives[name, self._up.pid(name)]
        return [each for each in life if each.at >= moment]


def sample(pid: int) -> Sample:
    """How it is with a process.

    Raises:
        OSError: it is not there.
    """
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    resident, own = (int(fields[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon"))
    count = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(time.monotonic(), resident, own, count)


def slope(samples: Sequence[Sample], field: str) -> float:
    """Least squares over the samples: MiB per ten minutes."""
    values = [getattr(each, field) for each in samples]
    times = [each.at for each in samples]
    time_mean, value_mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((each - time_mean) ** 2 for each in times)
    both = sum((t - time_mean) * (v - value_mean) for t, v in zip(times, values, strict=True))
    return PER_S * both / spread


def zombies(up: Apart) -> list[str]:
    """Processes below ours that have ended and that nobody has asked what became of them."""
    told = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told.append(folder.joinpath("stat").read_text("ascii", "replace"))
    parents, ended = {}, {}
    for line in told:
        pid, rest = line.split(" ", 1)[0], line.rpartition(")")[2].split()
        parents[pid], ended[pid] = rest[1], rest[0] == "Z"
    ours = {str(process.pid) for process in up.processes.values()}
    return [pid for pid, is_one in ended.items() if is_one and _ancestors(pid, parents) & ours]


def _ancestors(pid: str, parents: dict[str, str]) -> set[str]:
    found = set()
    while (pid := parents.get(pid, "0")) not in found | {"0"}:
        found.add(pid)
    return found

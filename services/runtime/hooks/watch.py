"""Tells hooks of the host of what hangs on no call: the process, slow calls, runs near a limit."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.runtime.hooks.announcing import SLOW_S
from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.model import RunInfo
from services.runtime.runs import Call

log = logging.getLogger(__name__)

SHARE_HIGH = 0.8
"""Of a run's limit."""

_WATCHED = frozenset({"PerformanceThresholdExceeded", "MemoryUsageHigh", "CpuUsageHigh"})
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


async def tell(
    hooks: Sequence[Guarded], point: str, data: Mapping[str, object], run: RunInfo | None = None
) -> None:
    """Tell those that wait for it; what one does wrong is counted and logged."""
    for guarded in hooks:
        hook = guarded.hook
        if isinstance(hook, AtPoints):
            try:
                await hook.tell(point, data, run)
            except Exception as error:  # a hook breaks nothing
                guarded.count.failures += 1
                log.warning("hook failed", exc_info=error, extra={"hook": guarded.name})


class Watch:
    """One run, looked at after each of its calls where a hook waits for it."""

    def __init__(self, hooks: Sequence[Guarded], run: RunInfo) -> None:
        self._hooks = [
            guarded
            for guarded in hooks
            if isinstance(guarded.hook, AtPoints) and guarded.hook.points & _WATCHED
        ]
        self._run = run
        self._is_high: set[str] = set()

    async def after(self, call: Call, elapsed_s: float) -> None:
        """A call was answered."""
        if not self._hooks:
            return
        if elapsed_s >= SLOW_S:
            slow = {
                "operation": call.method,
                "elapsed_ms": elapsed_s * 1000,
                "threshold_ms": SLOW_S * 1000,
            }
            await tell(self._hooks, "PerformanceThresholdExceeded", slow, self._run)
        limits = self._run.limits
        if limits is not None and call.worker_pid:
            used_bytes, used_s = resident_bytes(call.worker_pid), cpu_s(call.worker_pid)
            await self._cross("MemoryUsageHigh", used_bytes, limits.memory_bytes)
            await self._cross("CpuUsageHigh", used_s, limits.cpu_s)

    async def _cross(self, point: str, used: float, limit: float) -> None:
        """Tell when a share passes its limit, and again only after it was below."""
        if not used >= SHARE_HIGH * limit:  # nan is not
            self._is_high.discard(point)
        elif point not in self._is_high:
            self._is_high.add(point)
            await tell(self._hooks, point, {"used": used, "limit": limit}, self._run)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far; nan where it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> float:
    """Memory of a process, what it shares with others too; nan where it cannot be read."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return math.nan

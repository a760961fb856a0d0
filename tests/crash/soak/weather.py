"""Faults as they come: each is brought about, ended, and then waited for until all is served."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.crash.soak.plan import Fault
from tests.integration.apart import Apart

SETTLE_S = 1.0
"""After which nothing that was sent before a fault is still on its way."""
SLOW_S = 0.05


class Weather:
    """Whether all is well, and what is done against it."""

    def __init__(self, up: Apart, storm: Callable[[], Awaitable[None]]) -> None:
        """`storm`: brings about one of bad scripts, and waits for its end."""
        self._up, self._storm = up, storm
        self._calm = asyncio.Event()
        self._calm.set()
        self.counts: Counter[str] = Counter()
        self.back_s: dict[str, list[float]] = {}
        """Seconds from the end of a fault until all was served, by kind."""

    async def settled(self) -> None:
        """Wait until all is well, and has been for a while."""
        while True:
            await self._calm.wait()
            before = self.counts.total()
            await asyncio.sleep(SETTLE_S)
            if self._calm.is_set() and self.counts.total() == before:
                return

    async def strike(self, fault: Fault, served: Callable[[], Awaitable[None]]) -> float:
        """One fault; how long it took afterwards until all was served."""
        self._calm.clear()
        self.counts[fault.kind] += 1
        if fault.kind == "storm":
            await self._storm()
        else:
            await asyncio.to_thread(self._begin, fault)
            await asyncio.sleep(fault.hold_s)
            await asyncio.to_thread(self._end, fault)
        ended = time.monotonic()
        await served()
        took_s = time.monotonic() - ended
        self.back_s.setdefault(fault.kind, []).append(took_s)
        self._calm.set()
        return took_s

    def _begin(self, fault: Fault) -> None:
        if fault.kind in {"kill", "stop"}:
            process = self._up.processes[fault.where[0]]
            process.send_signal({"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[fault.kind])
            if fault.kind == "kill":
                process.wait()
            return
        way = self._up.ways[fault.where]
        way.latency_s = SLOW_S if fault.kind == "slow" else 0.0
        acts = {"hold": way.hold, "lose": way.drop, "reset": way.reset}
        acts["half-close"] = way.half_close
        acts.get(fault.kind, lambda: None)()

    def _end(self, fault: Fault) -> None:
        if fault.kind == "kill":
            self._up.start(fault.where[0])
        elif fault.kind == "stop":
            self._up.processes[fault.where[0]].send_signal(signal.SIGCONT)
        else:
            self._up.ways[fault.where].heal()

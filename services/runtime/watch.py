"""One worker on the clock: it is killed at its deadline, and one that is gone is asked why."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import signal
from collections.abc import Iterator
from typing import Self

from services.runtime.zygote import Worker, WorkerExit

logger = logging.getLogger(__name__)

_EXIT_SECONDS = 5.0


class Cause(enum.Enum):
    """Why a worker ended without a last word."""

    TIME = "time"
    """It was killed at its deadline."""
    CPU = "cpu"
    """It used up its processor time."""
    LOST = "lost"
    """Anything else."""


class Watch:
    """Over one worker, for as long as it serves."""

    def __init__(self, worker: Worker, *, wall_s: float, cpu_s: float) -> None:
        """`wall_s`: seconds on the clock; `cpu_s`: seconds of processor time."""
        self._worker = worker
        self._wall_s = wall_s
        self._cpu_s = cpu_s
        self._expired = False

    @contextlib.contextmanager
    def on_the_clock(self) -> Iterator[Self]:
        """Kill the worker at the deadline, whatever this process is waiting for."""
        loop = asyncio.get_running_loop()
        self.begin = loop.time()
        self.deadline = self.begin + self._wall_s
        timer = loop.call_at(self.deadline, self.expire)
        try:
            yield self
        finally:
            timer.cancel()

    def expire(self) -> None:
        """Its time is over now."""
        self._expired = True
        self._worker.kill()

    async def cause(self) -> tuple[Cause, int | None]:
        """Why the worker is gone, and its exit status where it is known."""
        if self._expired:
            return Cause.TIME, None
        end = await self._end()
        if end.status == -signal.SIGXCPU or (end.cpu_seconds or 0.0) > self._cpu_s:
            return Cause.CPU, end.status
        if end.status == -signal.SIGSYS:
            logger.error("worker %d made a forbidden system call", self._worker.pid)
        return Cause.LOST, end.status

    async def _end(self) -> WorkerExit:
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                return await self._worker.wait()
        except TimeoutError:
            self._worker.kill()
            return await self._worker.wait()

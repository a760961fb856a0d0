"""Lets a run that computes for long give way to all that is quick.

Workers of all tenants share the processors with the services. A run is short until it has shown
that it is not, unless its tenant has had more than others of late; from then on the kernel gives it
what others leave, so that spinning scripts slow each other rather than a neighbour's call. Nothing
is lost on an idle machine.

That alone does not do: the kernel gives even such a process a few milliseconds at a time. So while
its tenant has more than others, one processor is left free of it.

The kernel weighs processes of one session against each other and then whole sessions
(`autogroup` in sched(7)): this works because the services and their workers are one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from services.common.limits import RUN_QUICK_SECONDS

_LOOK_SECONDS_MAX = 1.0
_LOOK_LESS_OFTEN = 1.3
_TICKS = os.sysconf("SC_CLK_TCK")


class HasProcess(Protocol):
    """What is needed of a worker."""

    @property
    def pid(self) -> int:
        """Process id; not reaped before the run is over."""


class Calm:
    """Over one worker: what it computes is counted, and a long one gives way."""

    def __init__(
        self,
        worker: HasProcess,
        computed: Callable[[float], None],
        is_ahead: Callable[[], bool],
        *,
        is_patient: bool = False,
    ) -> None:
        """Make it.

        Args:
            worker: The worker.
            computed: Told of each further bit of processor time, in seconds.
            is_ahead: Whether its tenant has more than others who are served.
            is_patient: It gives way already.
        """
        self._pid = worker.pid
        self._computed = computed
        self._is_ahead = is_ahead
        self._counted_s = 0.0
        self._is_patient = is_patient
        self._is_confined = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While the block runs, look from time to time how much the worker has computed."""
        if self._is_patient:
            with contextlib.suppress(OSError):
                self._confine()
        watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watcher.cancel()

    def count(self, cpu_s: float) -> None:
        """All the processor time it has had, in seconds."""
        self._computed(max(cpu_s - self._counted_s, 0.0))
        self._counted_s = cpu_s

    async def _watch(self) -> None:
        pause_s = RUN_QUICK_SECONDS
        with contextlib.suppress(OSError):  # it has ended
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(_LOOK_LESS_OFTEN * pause_s, _LOOK_SECONDS_MAX)
                self._look()

    def _look(self) -> None:
        fields = Path(f"/proc/{self._pid}/stat").read_text("ascii").rpartition(")")[2].split()
        self.count((int(fields[11]) + int(fields[12])) / _TICKS)
        if self._counted_s >= RUN_QUICK_SECONDS and not self._is_patient:
            os.sched_setscheduler(self._pid, os.SCHED_IDLE, os.sched_param(0))
            self._is_patient = True
        if self._is_patient:
            self._confine()

    def _confine(self) -> None:
        """Keep it off one processor, or let it go there again."""
        if (is_ahead := self._is_ahead()) == self._is_confined:
            return
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(self._pid, (is_ahead and processors[1:]) or processors)
        self._is_confined = is_ahead

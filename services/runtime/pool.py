"""Workers ready to be given a run: one zygote, one warm spare, and turns between tenants.

A worker that has the default limits is forked before it is needed. If the zygote dies, runs in
flight go on and another one is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Self

from services.common.errors import Reason, ServiceError
from services.common.limits import INTERACT_AT_ONCE, TENANT_INTERACT_AT_ONCE
from services.common.tracing import span
from services.runtime.budgets import Budget, Budgets
from services.runtime.calm import Calm
from services.runtime.frames import FrameError
from services.runtime.layers import told
from services.runtime.shares import START_SECONDS, Shares
from services.runtime.turns import TurnLimits, Turns
from services.runtime.zygote import Worker, WorkerExit, WorkerLimits, Zygote

__all__ = ["Budget", "TurnLimits", "Worker", "WorkerExit", "WorkerLimits", "WorkerPool"]

_TOLD_S = 0.001
"""A wait that is shorter is not told in traces."""
logger = logging.getLogger(__name__)

ZYGOTE = "services.runtime.worker.__main__"
"""Module whose `main(control_fd)` serves as zygote."""

_DEFAULT_LIMITS = WorkerLimits()
_DEFAULT_TURNS = TurnLimits()
_DEFAULT_BUDGET = Budget()
_TALKS = TurnLimits(INTERACT_AT_ONCE, TENANT_INTERACT_AT_ONCE, tenant_waiting=0)
_KERNEL_LAYERS = ("seccomp", "landlock", "no_new_privs")


class WorkerPool:
    """Gives out workers, so many at a time; more wait their tenant's turn."""

    def __init__(
        self,
        *,
        default_limits: WorkerLimits = _DEFAULT_LIMITS,
        turns: TurnLimits = _DEFAULT_TURNS,
        budget: Budget = _DEFAULT_BUDGET,
        require_kernel_layers: bool = False,
        zygote: str = ZYGOTE,
    ) -> None:
        self._default_limits = default_limits
        self._require_kernel_layers = require_kernel_layers
        self._module = zygote
        self.places_of: Callable[[str], int] | None = None
        """How many runs a tenant may have at the same time by its operator's word; 0: as all."""
        self.turns = Turns(turns, is_ahead=self._is_ahead, places_of=self._places_of)
        """Who holds a place, and who waits for one."""
        self.talks = Turns(_TALKS)
        """Of interactive runs, which mostly wait for people: they hold a run's place only while
        a piece runs."""
        self._leaving: Counter[str] = Counter()
        """Of each tenant, runs that have ended and still hold their place."""
        self.shares = Shares(self._in_hand)
        """What was done for whom of late."""
        self.budgets = Budgets(budget)
        """What is left to whom."""
        self._starting = asyncio.Lock()
        self._zygote: Zygote | None = None
        self._watch: asyncio.Task[None] | None = None
        self._spare: asyncio.Task[Worker] | None = None
        self._going: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def layers(self) -> dict[str, object]:
        """Which layers of the jail hold on this machine; see `sandbox.enter`."""
        return dict(self._zygote.layers.result()) if self._zygote else {}

    @property
    def zygote_pid(self) -> int | None:
        """The zygote's process id, while there is one."""
        return self._zygote.process.pid if self._zygote else None

    async def start(self) -> None:
        """Start zygote and spare.

        Raises:
            ServiceError: CONFIG_INVALID where `require_kernel_layers` asks for what this machine
                lacks; INTERNAL where the zygote does not come up.
        """
        await self._ensure_zygote()
        missing = [name for name in _KERNEL_LAYERS if not self.layers.get(name)]
        if missing and self._require_kernel_layers:
            await self.close()
            raise ServiceError(
                Reason.CONFIG_INVALID,
                f"runtime.require_kernel_layers is set; this machine lacks {', '.join(missing)}.",
                key="runtime.require_kernel_layers",
            )
        self._spare = self._new_spare()

    async def close(self) -> None:
        """End spare and zygote; workers that were given out are their holders' to close."""
        self._closed = True
        if self._spare is not None:
            self._spare.cancel()
            await _discard(self._spare)
        await asyncio.gather(*self._going)
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.close()
        if self._watch is not None:
            await self._watch

    @contextlib.asynccontextmanager
    async def worker(
        self, limits: WorkerLimits, tenant: str = "", *, turns: Turns | None = None
    ) -> AsyncIterator[Worker]:
        """A worker for one run of a tenant; it is killed when the block ends.

        `turns`: what its place is of; else of the runs' own.

        Its place is free once it has gone. A block that ends well does not wait for that.

        Raises:
            ServiceError: RUN_TENANT_LIMIT where the tenant's budget is used up; RUN_QUEUE_FULL
                where too many of its runs wait; RUN_WORKER_LOST where no worker can be made.
        """
        self.budgets.check(tenant)
        async with contextlib.AsyncExitStack() as held:
            with span("wait for a place", least_s=_TOLD_S):
                await held.enter_async_context((turns or self.turns).place(tenant))
                await self.shares.turn(tenant, START_SECONDS)
            is_ahead = functools.partial(self.shares.is_ahead, tenant)
            # The spare is for those who had less; others' workers give way from the first moment.
            patient = is_ahead()
            with span("start a worker", least_s=_TOLD_S):
                made = self._spawn(limits, patient=True) if patient else self.acquire(limits)
                worker = await made
            computed = functools.partial(self.shares.compute, tenant)
            calm = Calm(worker, computed, is_ahead, is_patient=patient)
            held.push_async_callback(self._close, worker, tenant, calm)
            held.enter_context(calm.watching())
            yield worker
            worker.kill()
            leaving = "" if turns else tenant
            self._leaving[leaving] += 1
            going = asyncio.create_task(self._leave(held.pop_all(), leaving))
            self._going.add(going)
            going.add_done_callback(self._going.discard)

    async def _leave(self, held: contextlib.AsyncExitStack, tenant: str) -> None:
        try:
            await held.aclose()
        finally:
            self._leaving[tenant] -= 1
            if not self._leaving[tenant]:
                del self._leaving[tenant]

    def _in_hand(self, tenant: str) -> int:
        """Who runs one script after another has one, though the last may not have left yet."""
        return self.turns.in_hand(tenant) - self._leaving[tenant]

    def _places_of(self, tenant: str) -> int:
        return 0 if self.places_of is None else self.places_of(tenant)

    def _is_ahead(self, tenant: str) -> bool:
        return self.shares.is_ahead(tenant)

    async def _close(self, worker: Worker, tenant: str, calm: Calm) -> None:
        await worker.close()
        cpu_s = (await worker.wait()).cpu_seconds or 0.0
        calm.count(cpu_s)
        self.budgets.spend(tenant, cpu_s=cpu_s)

    async def acquire(self, limits: WorkerLimits) -> Worker:
        """A ready worker with these limits, the caller's to close; the spare for the default ones.

        Raises:
            ServiceError: RUN_WORKER_LOST where none can be made.
        """
        if limits == self._default_limits and (spare := await self._take_spare()) is not None:
            return spare
        return await self._spawn(limits)

    async def _take_spare(self) -> Worker | None:
        task, self._spare = self._spare, None
        if task is None:
            return None
        try:
            worker = await task
        except ServiceError:
            return None
        except asyncio.CancelledError:
            await _discard(task)
            raise
        finally:
            self._spare = self._spare or self._new_spare()
        if worker.alive:
            return worker
        await worker.close()
        return None

    def _new_spare(self) -> asyncio.Task[Worker] | None:
        if self._closed:
            return None
        task = asyncio.create_task(self._spawn(self._default_limits))
        # Its failure is met again by whoever needs a worker; asking here keeps the loop quiet.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _spawn(self, limits: WorkerLimits, *, patient: bool = False) -> Worker:
        for _ in range(2):
            zygote = await self._ensure_zygote()
            try:
                return await zygote.spawn(limits, patient=patient)
            except (EOFError, FrameError, TimeoutError) as error:
                logger.warning("a worker did not start: %r", error)
        raise ServiceError(Reason.RUN_WORKER_LOST, "No worker could be started for the run.")

    async def _ensure_zygote(self) -> Zygote:
        async with self._starting:
            if self._closed:
                raise ServiceError(Reason.RUN_WORKER_LOST, "The runtime is stopping.")
            if self._zygote is None or self._zygote.lost.is_set():
                if self._zygote is not None:
                    await self._zygote.close()
                self._zygote = await Zygote.start(self._module)
                logger.info("a zygote of workers is up: %s", told(self.layers))
                if self._watch is None:
                    self._watch = asyncio.create_task(self._replace_lost())
            return self._zygote

    async def _replace_lost(self) -> None:
        """Start another zygote as soon as one dies, rather than when the next run needs it."""
        while self._zygote is not None:
            await self._zygote.lost.wait()
            if self._closed:
                return
            logger.warning("the zygote of script workers died; starting another")
            try:
                await self._ensure_zygote()
            except ServiceError as error:
                logger.error("%s", error.message)  # noqa: TRY400 - it names its cause
                self._watch = None
                return


async def _discard(task: asyncio.Task[Worker]) -> None:
    """End the worker that a cancelled task may have made all the same."""
    with contextlib.suppress(asyncio.CancelledError, ServiceError):
        await (await task).close()

"""Workers ready to be given a run: one zygote, one warm spare, a limit on how many at once.

A worker that has the default limits is forked before it is needed. If the zygote dies, runs in
flight go on and another one is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Self

from services.common.errors import Reason, ServiceError
from services.common.limits import RUNS_AT_ONCE
from services.runtime.frames import FrameError
from services.runtime.zygote import Worker, WorkerExit, WorkerLimits, Zygote

__all__ = ["Worker", "WorkerExit", "WorkerLimits", "WorkerPool"]

logger = logging.getLogger(__name__)

ZYGOTE = "services.runtime.worker.__main__"
"""Module whose `main(control_fd)` serves as zygote."""

_DEFAULT_LIMITS = WorkerLimits()
_KERNEL_LAYERS = ("seccomp", "landlock", "no_new_privs")


class WorkerPool:
    """Gives out workers, at most `runs_at_once` at a time; more wait their turn."""

    def __init__(
        self,
        *,
        default_limits: WorkerLimits = _DEFAULT_LIMITS,
        runs_at_once: int = RUNS_AT_ONCE,
        require_kernel_layers: bool = False,
        zygote: str = ZYGOTE,
    ) -> None:
        self._default_limits = default_limits
        self._require_kernel_layers = require_kernel_layers
        self._module = zygote
        self._slots = asyncio.Semaphore(runs_at_once)
        self._starting = asyncio.Lock()
        self._zygote: Zygote | None = None
        self._watch: asyncio.Task[None] | None = None
        self._spare: asyncio.Task[Worker] | None = None
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
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.close()
        if self._watch is not None:
            await self._watch

    @contextlib.asynccontextmanager
    async def worker(self, limits: WorkerLimits) -> AsyncIterator[Worker]:
        """A worker for one run; it is dead and reaped when the block ends."""
        worker = await self.acquire(limits)
        try:
            yield worker
        finally:
            await self.release(worker)

    async def acquire(self, limits: WorkerLimits) -> Worker:
        """A ready worker with these limits; the spare where they are the default ones.

        Raises:
            ServiceError: RUN_WORKER_LOST where none can be made.
        """
        await self._slots.acquire()
        try:
            if limits == self._default_limits and (spare := await self._take_spare()) is not None:
                return spare
            return await self._spawn(limits)
        except BaseException:
            self._slots.release()
            raise

    async def release(self, worker: Worker) -> None:
        """End the worker and free its place."""
        self._slots.release()
        await worker.close()

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

    async def _spawn(self, limits: WorkerLimits) -> Worker:
        for _ in range(2):
            zygote = await self._ensure_zygote()
            try:
                return await zygote.spawn(limits)
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
                logger.info("script workers are jailed by: %s", self.layers)
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

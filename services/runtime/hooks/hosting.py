"""The hooks of a process, and what each run has of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from services.common.errors import Reason, ServiceError
from services.common.settings import EventsSettings
from services.common.telemetry import Counts
from services.runtime.hooks.announcing import Announcer, OperationEvent
from services.runtime.hooks.chain import Hooked
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.model import RunInfo
from services.runtime.hooks.watch import tell
from services.runtime.runs import CallHandler


class Hosting:
    """Puts the same hooks around the calls of every run."""

    def __init__(self, hooks: Sequence[Guarded], announcer: Announcer) -> None:
        """`hooks`: the outermost first."""
        self._hooks = hooks
        self._announcer = announcer

    @classmethod
    def of_none(cls) -> Hosting:
        """No hooks of the host, and no events."""
        return cls((), Announcer(_nowhere, EventsSettings(enabled=False), Counts()))

    async def start(self) -> None:
        """The process has begun."""
        self._announcer.start()
        await self._tell("SystemStartup", {})

    async def close(self) -> None:
        """It ends."""
        await self._tell("SystemShutdown", {})
        await self._announcer.close()

    @asynccontextmanager
    async def run(self, inner: CallHandler, run: RunInfo) -> AsyncIterator[Hooked]:
        """What answers the calls of one run; `inner` answers those that passed all hooks."""
        hooked = Hooked(self._hooks, inner, run, self._announcer)
        self._announcer.run_started(run)
        gone = ServiceError(Reason.CANCELLED, "The caller went away.")
        error: ServiceError | None = gone
        try:
            yield hooked
            error = None
        except ServiceError as raised:
            error = raised
            raise
        finally:
            await hooked.end()
            self._announcer.run_ended(run, error, hooked.told())

    @asynccontextmanager
    async def call(self, inner: CallHandler, run: RunInfo) -> AsyncIterator[Hooked]:
        """The same for one call that no script makes; nothing is told of a run."""
        hooked = Hooked(self._hooks, inner, run, self._announcer)
        try:
            yield hooked
            await hooked.settle()
        finally:
            await hooked.end()

    async def notice(self, point: str, data: Mapping[str, object], run: RunInfo) -> None:
        """Tell those of something in a run on which no call hangs."""
        await tell(self._hooks, point, data, run)

    def announce(self, run: RunInfo, event: str, data: Mapping[str, object]) -> None:
        """Publish an event to a run's tenant, in the background."""
        self._announcer.announce(run, event, data)

    async def _tell(self, point: str, data: Mapping[str, object]) -> None:
        """Tell the hooks that wait for it; what one does wrong is logged."""
        await tell(self._hooks, point, data)


async def _nowhere(tenant: str, events: Sequence[OperationEvent]) -> None:
    del tenant, events

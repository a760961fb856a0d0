"""The one place where it is put together what becomes of a script's call.

From the outside in: the run (`runs`) counts it, its journal (`journal`) keeps it, hooks
(`hooks.chain`) may change it, and the bridge answers it. So what hooks do is part of the answer
that is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.common.context import CallContext
from services.common.limits import DEADLINE_SECONDS_MAX
from services.common.relay import Relay
from services.common.standing import LooksUp
from services.runtime.bridge import Bridge, Own
from services.runtime.claims import Memory
from services.runtime.executions import Executions
from services.runtime.hooks.chain import Hooked as HookedCalls
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.model import RunInfo
from services.runtime.money.model import Purse
from services.runtime.runs import Call, CallHandler, Reply, RunSpec

_EXECUTE = "llmspell.v1.ToolService/ExecuteTool"


class Hooked(Protocol):
    """Answers the calls of one run."""

    async def __call__(self, call: Call, /) -> Reply:
        """The answer."""

    async def settle(self) -> None:
        """Wait for what goes on beside the run."""


Handlers = Callable[[CallContext, RunSpec], AbstractAsyncContextManager[Hooked]]


@dataclass(frozen=True, slots=True)
class RunPlace:
    """The run of a script within which a call is served."""

    run_id: str
    """Unlike any other's, of whichever tenant."""
    tenant: str
    """Whose run it is."""
    session_id: str
    calls: HookedCalls
    """Answers calls as the run's own, through the host's hooks."""
    purses: tuple[Purse, ...] = ()
    """What all models together may cost that it asks."""


_run: ContextVar[RunPlace | None] = ContextVar("run_place", default=None)


def current_run() -> RunPlace | None:
    """The run that makes the call that is being served; None: no script does."""
    return _run.get()


def _purses(max_cost_usd: float) -> tuple[Purse, ...]:
    return (Purse.of_usd("run", max_cost_usd),) if max_cost_usd else ()


class KnowsTools(Protocol):
    """Knows which tools change nothing; `tools.toolbox.Toolbox` does."""

    def changes_nothing(self, name: object) -> bool:
        """Whether this one does not."""

    def memory_of(self, name: object) -> Memory:
        """Who knows of an execution of this one once this process is lost."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What answers the calls of runs, inside of their journals."""

    relay: Relay
    tenants: LooksUp
    own: Own
    """What this process answers itself, see `Bridge`."""
    hosting: Hosting
    tools: KnowsTools | None = None
    """None: of no tool is known that it changes nothing."""
    executions: Executions = field(default_factory=Executions)
    """What scripts and clients have begun and not waited for."""

    @asynccontextmanager
    async def hooked(self, caller: CallContext, spec: RunSpec) -> AsyncIterator[Hooked]:
        """For a run: through the host's hooks. What it has begun ends with it."""
        known_as, caller = str(spec.facts.get("run_id", "")), _within(caller, spec.session_id)
        run = RunInfo(caller, spec.name, spec.session_id, spec.limits, known_as)
        async with self.hosting.run(self.bare(caller, spec), run) as hooked:
            place = RunPlace(
                run_id=known_as or secrets.token_hex(16),
                tenant=caller.tenant,
                session_id=spec.session_id,
                calls=hooked,
                purses=_purses(spec.limits.max_cost_usd),
            )
            try:
                yield _InRun(place)
            finally:
                self.executions.end_run(place.run_id)

    def beside_runs(
        self, caller: CallContext, session_id: str, *, is_long: bool = False
    ) -> AbstractAsyncContextManager[HookedCalls]:
        """For a call that a client makes itself: through the same hooks, in a run of no script.

        `is_long`: whether the tenant may have gone meanwhile; of a single call the gateway knows.
        """
        caller = _within(caller, session_id)
        run = RunInfo(caller, "", session_id)
        tenants, timeout_s = self.tenants if is_long else None, DEADLINE_SECONDS_MAX
        bridge = Bridge(self.relay, tenants, caller, timeout_s=timeout_s, own=self.own)
        return self.hosting.call(bridge, run)

    def bare(self, caller: CallContext, spec: RunSpec) -> CallHandler:
        """For a run that is made again: nothing but the answer."""
        timeout_s, caller = spec.limits.wall_s, _within(caller, spec.session_id)
        return Bridge(self.relay, self.tenants, caller, timeout_s=timeout_s, own=self.own)

    def is_harmless(self, call: Call) -> bool:
        """Whether a call changes nothing although its method might: a tool only computes."""
        if self.tools is None or call.method != _EXECUTE:
            return False
        return self.tools.changes_nothing(call.args.get("name"))

    def memory_of(self, call: Call) -> Memory:
        """Who knows of a call of a tool that was made by a process now lost."""
        if self.tools is None or call.method != _EXECUTE:
            return Memory.NONE
        return self.tools.memory_of(call.args.get("name"))


def _within(caller: CallContext, session_id: str) -> CallContext:
    """The caller, in a session where there is one: policies may keep it from others."""
    return replace(caller, session=session_id) if session_id else caller


class _InRun:
    """Answers the calls of one run; whoever serves one finds the run."""

    def __init__(self, place: RunPlace) -> None:
        self._place = place

    async def __call__(self, call: Call) -> Reply:
        """The answer."""
        _run.set(self._place)
        return await self._place.calls(call)

    async def settle(self) -> None:
        """Wait for what goes on beside the run."""
        await self._place.calls.settle()

"""Events of operations: a run began, a tool was executed, a limit was hit. Told in the background.

An event never holds up or fails the call that it tells of: where there is no room for it, it is
dropped, counted, and the tenant is told how many (`events.dropped`). Each carries the run's id,
which is the request id of the call that began it, in all four processes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from services.common.errors import ServiceError, reason_name
from services.common.settings import EventsSettings
from services.common.telemetry import Counts
from services.runtime.hooks.model import HostCall, RunInfo, failure_of, reached_by
from services.runtime.runs import Reply
from services.runtime.worker.points import AROUND

log = logging.getLogger(__name__)

SLOW_S = 1.0
_BATCH = 200
_GATHER_S = 0.05
"""Events of so long travel together."""
_CLOSE_S = 2.0
_TEXT_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """One that waits to be published."""

    tenant: str
    type: str
    correlation_id: str
    data: str
    """JSON."""


Publish = Callable[[str, Sequence[OperationEvent]], Awaitable[None]]
"""Publishes events of one tenant."""


@dataclass(slots=True)
class _Tenant:
    tokens: float
    at: float
    waiting: deque[OperationEvent] = field(default_factory=deque)
    dropped: int = 0


class Announcer:
    """The events of all tenants on their way; nobody's flood drops another's.

    A tenant may have a tenth of the room at most.
    """

    def __init__(
        self,
        publish: Publish,
        settings: EventsSettings,
        counts: Counts,
        *,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._publish = publish
        self._settings = settings
        self._counts = counts
        self._now = now
        self._tenants: dict[str, _Tenant] = {}
        self._size = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish what waits."""
        if self._settings.enabled:
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Publish what waits, for a moment, and stop."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.flush()
        except TimeoutError:
            log.warning("events not published", extra={"count": self._size})

    # What is told

    def run_started(self, run: RunInfo) -> None:
        """A script begins."""
        self._tell(run, "run.started", _known(run) | {"session_id": run.session_id})

    def run_ended(
        self, run: RunInfo, error: ServiceError | None, data: Mapping[str, object]
    ) -> None:
        """It has ended, well where there is no error."""
        if error is None:
            self._tell(run, "run.completed", _known(run) | dict(data))
            return
        reason = reason_name(error.reason)
        told = {"reason": reason, "message": error.message[:_TEXT_LENGTH_MAX]}
        self._tell(run, "run.failed", _known(run) | told | dict(data))
        if reason.startswith("RUN_") and reason.endswith("_LIMIT"):
            self._tell(run, "limit.hit", {"reason": reason, **error.metadata})

    def answered(self, call: HostCall, reply: Reply, elapsed_s: float) -> None:
        """A call of a script was answered."""
        if not self._settings.enabled:
            return
        data: dict[str, object] = {"method": call.method, "elapsed_ms": round(elapsed_s * 1000, 3)}
        if not reply.ok:
            data["reason"] = failure_of(reply)[1]
        if call.method == "ToolService/ExecuteTool":
            tool = data | {"tool": str(call.args.get("name", ""))[:_TEXT_LENGTH_MAX]}
            self._tell(call.run, "tool.executed" if reply.ok else "tool.failed", tool)
        if call.inner is not None and call.method == "AgentService/ExecuteAgent":
            agent = data | {"agent": str(call.args.get("agent", ""))[:_TEXT_LENGTH_MAX]}
            self._tell(call.run, "agent.executed" if reply.ok else "agent.failed", agent)
        if not reply.ok and call.method not in AROUND:  # the call within has told it
            reached = reached_by(call, reply)
            if "SecurityViolation" in reached:
                self._tell(call.run, "security.violation", data)
            if "ResourceLimitExceeded" in reached:
                self._tell(call.run, "limit.hit", data)
        self._asked_for(call, reply, data, elapsed_s)

    def hook(self, run: RunInfo, event: str, hook: str, point: str, why: str) -> None:
        """A hook has failed, or is left out: one of the script's own or of the host's."""
        self._tell(run, event, {"hook": hook, "point": point, "message": why[:_TEXT_LENGTH_MAX]})

    def announce(self, run: RunInfo, event: str, data: Mapping[str, object]) -> None:
        """Something else that happened in a run."""
        self._tell(run, event, data)

    # How it travels

    async def flush(self) -> None:
        """Publish what waits now."""
        for name in list(self._tenants):
            tenant = self._tenants[name]
            while tenant.waiting or tenant.dropped:
                await self._send(name, tenant)
            if self._now() - tenant.at >= 1:  # its rate is whole again
                del self._tenants[name]

    def _asked_for(self, call: HostCall, reply: Reply, data: dict[str, object], s: float) -> None:
        """What is told only where the settings say so."""
        points = call.points
        if self._settings.emit_timing_events and s >= SLOW_S:
            self._tell(call.run, "call.slow", data)
        if self._settings.emit_state_events and points and "AfterStateRead" in points.after:
            self._tell(call.run, "state.read", data | {"scope": str(call.args.get("scope", ""))})
        if self._settings.emit_debug_events:
            self._tell(call.run, "call.completed" if reply.ok else "call.failed", data)

    def _tell(self, run: RunInfo, event: str, data: Mapping[str, object]) -> None:
        if not self._settings.enabled or not run.tenant:
            return
        tenant = self._tenants.get(run.tenant)
        if tenant is None:
            rate = float(self._settings.max_events_per_second)
            tenant = self._tenants[run.tenant] = _Tenant(rate, self._now())
        share = max(self._settings.buffer_size // 10, 1)
        full = self._size >= self._settings.buffer_size or len(tenant.waiting) >= share
        if full or not self._may(tenant):
            tenant.dropped += 1
            self._counts.events_dropped += 1
        else:
            text = json.dumps(data, ensure_ascii=True)
            tenant.waiting.append(OperationEvent(run.tenant, event, run.run_id, text))
            self._size += 1
        self._wake.set()

    def _may(self, tenant: _Tenant) -> bool:
        """Whether the tenant's rate allows one more."""
        rate, now = float(self._settings.max_events_per_second), self._now()
        tenant.tokens = min(tenant.tokens + (now - tenant.at) * rate, rate)
        tenant.at = now
        if tenant.tokens < 1:
            return False
        tenant.tokens -= 1
        return True

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            await self.flush()

    async def _send(self, name: str, tenant: _Tenant) -> None:
        batch = [tenant.waiting.popleft() for _ in range(min(len(tenant.waiting), _BATCH))]
        self._size -= len(batch)
        if tenant.dropped:
            text = json.dumps({"count": tenant.dropped})
            batch.append(OperationEvent(name, "events.dropped", "", text))
            tenant.dropped = 0
        try:
            await self._publish(name, batch)
        except ServiceError as error:
            self._counts.events_dropped += len(batch)
            known = {"count": len(batch), "reason": reason_name(error.reason)}
            log.warning("events not published", extra=known)


def _known(run: RunInfo) -> dict[str, object]:
    return {"name": run.name, "run_id": run.known_as or run.run_id}

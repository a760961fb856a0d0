"""Goes on with runs whose process was lost, by itself: at the start, and from time to time.

Each acts with the permissions that its starter had when it began. Where the tenant is gone, or the
key that began it, it stays interrupted: what was taken from somebody does not come back in a run.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Protocol

import msgspec

from services.common.clock import Clock
from services.common.context import OPERATOR, CallContext, set_context
from services.common.errors import ServiceError
from services.common.limits import WORKFLOW_RESUME_ATTEMPTS_MAX
from services.common.scopes import KEYS_SCOPE
from services.common.standing import LooksUp
from services.common.tenants import SystemItems
from services.runtime.workflows.desk import Workflows
from services.runtime.workflows.leases import Leases, RunningRecord
from services.runtime.workflows.past import Past, read_past

log = logging.getLogger(__name__)

_OFTEN_S = 5.0
_SOON_S = 0.5
_UNBEGUN_NS = 60 * 10**9
"""A run that has no record so long after it was listed never began."""
_NOT_A_KEY = (OPERATOR,)
"""Principals that are kept in no list."""


class _Key(msgspec.Struct):
    """Of a key that is kept: whose it is, and until when."""

    tenant_id: str
    expires_ns: int = 0
    """Nanoseconds since the epoch; 0: it does not end."""


class Keys(Protocol):
    """Knows keys."""

    async def is_there(self, context: CallContext) -> bool:
        """Whether the key still is that a context was made of."""


class KeptKeys:
    """The keys of the gateway, as it keeps them."""

    def __init__(self, items: SystemItems, clock: Clock) -> None:
        self._items = items
        self._clock = clock

    async def is_there(self, context: CallContext) -> bool:
        """Whether the key still is that a context was made of."""
        if context.principal in _NOT_A_KEY:
            return True
        record, _ = await self._items.read(KEYS_SCOPE, context.principal, _Key)
        if record is None or 0 < record.expires_ns <= self._clock.now_ns():
            return False
        return record.tenant_id in {"", context.tenant}


class Finder:
    """Looks for runs that were lost."""

    def __init__(
        self, desk: Workflows, leases: Leases, tenants: LooksUp, keys: Keys, clock: Clock
    ) -> None:
        self._desk = desk
        self._leases = leases
        self._tenants = tenants
        self._keys = keys
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look_for_ever())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except ServiceError as error:
                log.info("runs that were lost are looked for later", extra={"why": error.message})
                await asyncio.sleep(_SOON_S)
                continue
            except Exception:
                log.exception("runs that were lost cannot be looked for")
            await asyncio.sleep(_OFTEN_S)

    async def look(self) -> None:
        """Go on with all that are found.

        Raises:
            ServiceError: where state is away.
        """
        await self._leases.sign()  # whoever takes a run must be seen to live, or the next takes it
        async for record in self._leases.lost(self._is_here):
            try:
                await self._found(record)
            except ServiceError as error:
                log.warning(
                    "a run that was lost is not gone on with",
                    extra={"execution_id": record.execution_id, "reason": error.message},
                )

    def _is_here(self, record: RunningRecord) -> bool:
        return self._desk.active(record.tenant, record.execution_id) is not None

    async def _found(self, record: RunningRecord) -> None:
        past = None
        if await self._tenants.get(record.tenant) is not None:
            past = await read_past(self._desk.shelf, record.tenant, record.execution_id)
            if past is None and self._clock.now_ns() - record.since_ns < _UNBEGUN_NS:
                return
        if past is None or past.end is not None or not await self._may(record.tenant, past):
            await self._leases.remove(record.tenant, record.execution_id)
            return
        context = past.record.context(record.tenant)
        await asyncio.create_task(self._resume(context, past), context=contextvars.Context())

    async def _may(self, tenant: str, past: Past) -> bool:
        """Whether it is gone on with by itself."""
        if past.record.needs_caller or past.lease.by_itself_count >= WORKFLOW_RESUME_ATTEMPTS_MAX:
            return False
        return await self._keys.is_there(past.record.context(tenant))

    async def _resume(self, context: CallContext, past: Past) -> None:
        set_context(context)
        await self._desk.resume(past, by_itself=True)

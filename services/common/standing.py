"""Whether a tenant takes calls: asked when one comes, and of those that go on.

A tenant that is suspended while its calls go on loses them too: a stream would otherwise outlive
the operator's word for as long as its caller likes. While a tenant is emptied all else that is done
for it is ended first, and nothing comes in after it, so that what was looked at and found empty
stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from time import monotonic
from types import TracebackType
from typing import Protocol

from services.common.access import Method
from services.common.context import OPERATOR, CallContext, is_tenant_id
from services.common.door import Arrival, Identify
from services.common.errors import Reason, ServiceError
from services.common.tenants import TenantRecord, tenant_not_found

LOOK_S = 0.5
"""How often the calls that go on are looked at; a record is at most a second old then."""

END_PERMISSION = "tenant.end"
"""Held by whoever empties a tenant for good: it stays closed for a while."""
_PURGE = "tenant.purge"
_CLOSED_S = 3.0
"""By then whoever remembered the tenant has looked it up again."""
_LOOK_AGAIN_S = 0.005
_ENDING_S = 10.0
"""How long calls may take to end."""

COLD_METHODS = frozenset(
    f"/llmspell.v1.{path}"
    for path in (
        "BackupService/ExportTenant",
        "BackupService/ListBackups",
        "BackupService/GetBackup",
        "BackupService/VerifyBackup",
        "TenantService/WhoAmI",
        "VectorService/ListCollections",
        "VectorService/ListVectors",
    )
)
"""What a frozen tenant still answers: it can be shown and exported."""


_LET_IN_NO_MORE = frozenset(
    {
        Reason.CREDENTIAL_INVALID,
        Reason.GRANT_REQUIRED,
        Reason.PERMISSION_DENIED,
        Reason.TENANT_NOT_FOUND,
    }
)
"""What ends a call that goes on; that state is away does not."""
_AWAY = frozenset({Reason.SERVICE_UNAVAILABLE, Reason.DEADLINE_EXCEEDED})
"""State cannot be asked."""


class LooksUp(Protocol):
    """Knows which tenants there are; `common.tenants.Tenants` does."""

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """The tenant, None where there is none."""


def refusal(record: TenantRecord, context: CallContext, method: Method) -> ServiceError | None:
    """Why this call for the tenant is not taken; None where it is.

    The operator, where it was let in, may act for a suspended one too. A frozen one is not woken by
    anybody's call.
    """
    is_operator = context.any_tenant or context.principal == OPERATOR
    if record.status == "active" or (method.tenantless and is_operator):
        return None
    if record.status == "suspended":
        return None if is_operator else _suspended(record)
    return None if method.path in COLD_METHODS else _frozen(record)


class Standing:
    """The gate and the place of a door: new calls are refused, those that go on are ended."""

    def __init__(self, tenants: LooksUp | None = None, identify: Identify | None = None) -> None:
        """`tenants`: which there are; None: another process has looked.

        `identify`: asked again for calls that go on, as for new ones; None: nobody is.
        """
        self._tenants = tenants
        self._identify = identify
        self._closed: dict[str, float] = {}
        self._going: dict[str, set[_Going]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def gate(self, arrival: Arrival) -> None:
        """Refuse what comes for a tenant that takes no calls.

        Raises:
            ServiceError: TENANT_SUSPENDED, TENANT_FROZEN; TENANT_NOT_FOUND while it is emptied.
        """
        caller = arrival.caller
        if not is_tenant_id(caller.tenant) or arrival.method is None:
            return
        if arrival.method.permission == _PURGE:
            return
        self.check_open(caller.tenant)
        if self._tenants is None:
            return
        try:
            record = await self._tenants.get(caller.tenant)
        except ServiceError as error:
            if self._identify is not None or error.reason not in _AWAY:
                raise
            return  # behind the gateway: whoever sealed the call has looked, minutes ago at most
        if record is not None and (why := refusal(record, caller, arrival.method)):
            raise why

    def place(self, arrival: Arrival) -> AbstractAsyncContextManager[None]:
        """Stands around a call while it goes on."""
        if arrival.method is not None and arrival.method.permission == _PURGE:
            return self._emptying(arrival)
        return _Going(self, arrival)

    @asynccontextmanager
    async def _emptying(self, arrival: Arrival) -> AsyncIterator[None]:
        """While it goes on, nothing else does for its tenant."""
        tenant = arrival.caller.tenant
        self._closed[tenant] = inf
        try:
            await self._end_all(tenant)
            yield
        finally:
            del self._closed[tenant]
            if END_PERMISSION in arrival.caller.permissions:
                now = monotonic()
                for name in [name for name, until in self._closed.items() if until <= now]:
                    del self._closed[name]
                self._closed[tenant] = now + _CLOSED_S

    async def _end_all(self, tenant: str) -> None:
        why = tenant_not_found(tenant)
        deadline = monotonic() + _ENDING_S
        while going := self._going.get(tenant):
            for each in [*going]:
                each.end(why)
            if monotonic() > deadline:
                raise ServiceError(
                    Reason.OVERLOADED, "Calls of the tenant do not end; try again shortly."
                )
            await asyncio.sleep(_LOOK_AGAIN_S)

    def check_open(self, tenant: str) -> None:
        """Nobody empties the tenant just now.

        Raises:
            ServiceError: TENANT_NOT_FOUND.
        """
        if self._closed and self._closed.get(tenant, 0.0) > monotonic():
            raise tenant_not_found(tenant)

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def add(self, going: _Going) -> None:
        """A call goes on."""
        self._going.setdefault(going.tenant, set()).add(going)
        if self._looking is None and self._tenants is not None:
            self._looking = asyncio.create_task(self._look())

    def remove(self, going: _Going) -> None:
        """It does no longer."""
        if (mine := self._going.get(going.tenant)) is not None:
            mine.discard(going)
            if not mine:
                del self._going[going.tenant]

    async def _look(self) -> None:
        while self._going:
            await asyncio.sleep(LOOK_S)
            for tenant in [*self._going]:
                if old := [each for each in self._going.get(tenant, ()) if each.is_old()]:
                    await self._look_at(tenant, old)
        self._looking = None

    async def _look_at(self, tenant: str, calls: list[_Going]) -> None:
        assert self._tenants is not None, "else nobody looks"
        try:
            record = await self._tenants.get(tenant)
        except ServiceError:  # state is away: nothing is known, and the call goes on
            return
        for each in calls:
            each.end(tenant_not_found(tenant) if record is None else each.refusal(record))
            if self._identify is not None:
                await each.ask_again(self._identify)


class _Going(AbstractAsyncContextManager[None]):
    """One call that goes on; not a generator, because every call enters it."""

    __slots__ = ("_arrival", "_begin_s", "_standing", "_task", "_why", "tenant")

    def __init__(self, standing: Standing, arrival: Arrival) -> None:
        self._standing = standing
        self._arrival = arrival
        self._begin_s = monotonic()
        self._task: asyncio.Task[object] | None = None
        self._why: ServiceError | None = None
        self.tenant = arrival.caller.tenant

    async def __aenter__(self) -> None:
        if is_tenant_id(self.tenant):
            self._standing.check_open(self.tenant)
            self._task = asyncio.current_task()
            self._standing.add(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._standing.remove(self)
        if self._why is not None and kind is not None and issubclass(kind, asyncio.CancelledError):
            task.uncancel()
            raise self._why from None

    def is_old(self) -> bool:
        """Whether it came before the last look."""
        return monotonic() - self._begin_s >= LOOK_S

    def refusal(self, record: TenantRecord) -> ServiceError | None:
        """Why it may not go on."""
        method = self._arrival.method
        return None if method is None else refusal(record, self._arrival.caller, method)

    async def ask_again(self, identify: Identify) -> None:
        """End it where its caller would not be let in any more: a key was revoked, or has expired.

        Where nobody can tell, it goes on.
        """
        if (method := self._arrival.method) is None or self._task is None:
            return
        try:
            await identify(self._arrival.metadata, method)
        except ServiceError as error:
            self.end(error if error.reason in _LET_IN_NO_MORE else None)

    def end(self, why: ServiceError | None) -> None:
        """End it, where there is a reason and it has not ended."""
        if why is not None and self._why is None and self._task is not None:
            self._why = why
            self._task.cancel()


def _suspended(record: TenantRecord) -> ServiceError:
    return ServiceError(
        Reason.TENANT_SUSPENDED,
        f"The tenant {record.tenant_id} is suspended{_because(record)}.",
        tenant_id=record.tenant_id,
        note=record.status_note,
    )


def _frozen(record: TenantRecord) -> ServiceError:
    return ServiceError(
        Reason.TENANT_FROZEN,
        f"The tenant {record.tenant_id} is frozen{_because(record)}; it can be exported, and the "
        "operator can resume it.",
        tenant_id=record.tenant_id,
        note=record.status_note,
    )


def _because(record: TenantRecord) -> str:
    return f": {record.status_note}" if record.status_note else ""

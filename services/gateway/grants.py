"""What the operator was let at: grants to see a tenant's data, for a while, with a reason.

Those of one tenant are one item of the system tenant. What is looked up is remembered for a second,
and an end is checked at each call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from llmspell.v1 import state_pb2

from services.common.clock import Clock
from services.common.context import current_context
from services.common.limits import GRANTS_KEPT_MAX
from services.common.scopes import GRANTS_SCOPE
from services.common.tenants import Remembered, SystemItems

log = logging.getLogger(__name__)


class GrantRecord(msgspec.Struct, frozen=True):
    """A grant as it is kept."""

    grant_id: str
    tenant_id: str
    principal: str
    permissions: tuple[str, ...]
    reason: str
    create_ns: int
    expires_ns: int
    """Nanoseconds since the epoch; ending it early writes the time then."""


class TenantGrants(msgspec.Struct, frozen=True):
    """All that are kept of one tenant, newest first."""

    grants: tuple[GrantRecord, ...] = ()


class Grants:
    """Reads and writes them through the state process."""

    def __init__(self, items: SystemItems, clock: Clock) -> None:
        self._items = items
        self._clock = clock
        self._remembered = Remembered[TenantGrants](clock)

    async def permissions(self, principal: str, tenant_id: str) -> frozenset[str]:
        """What the principal may do with the tenant's data now; at most a second old."""
        kept = await self._remembered.get(tenant_id, lambda: self._read(tenant_id))
        now_ns, held = self._clock.now_ns(), set[str]()
        for grant in kept.grants if kept else ():
            if grant.principal == principal and grant.create_ns <= now_ns < grant.expires_ns:
                held.update(grant.permissions)
        return frozenset(held)

    async def add(self, grant: GrantRecord) -> None:
        """Keep a new one.

        Raises:
            ServiceError: REVISION_MISMATCH where another call was quicker.
        """
        await self._change(grant.tenant_id, lambda kept: (grant, *kept)[:GRANTS_KEPT_MAX])
        told("operator.grant", grant)

    async def end(self, tenant_id: str, grant_id: str) -> list[GrantRecord]:
        """End the one, or all where none is named; those that ended.

        Raises:
            ServiceError: REVISION_MISMATCH likewise.
        """
        now_ns = self._clock.now_ns()
        ended: list[GrantRecord] = []

        def shortened(grant: GrantRecord) -> GrantRecord:
            if grant.expires_ns <= now_ns or grant_id not in {"", grant.grant_id}:
                return grant
            ended.append(grant)
            return msgspec.structs.replace(grant, expires_ns=now_ns)

        await self._change(tenant_id, lambda kept: tuple(shortened(each) for each in kept))
        for grant in ended:
            told("operator.grant.end", grant)
        return ended

    async def list(
        self, tenant_id: str, page_size: int, page_token: str
    ) -> tuple[list[GrantRecord], str]:
        """Those of one tenant, or a page of every tenant's, and the token of the next page."""
        if tenant_id:
            kept = await self._read(tenant_id)
            return list(kept.grants if kept else ()), ""
        request = state_pb2.ListStateRequest(
            scope=GRANTS_SCOPE, page_size=page_size, page_token=page_token
        )
        raw = await self._items.call("ListState", request)
        answer = state_pb2.ListStateResponse.FromString(raw)
        found = [msgspec.json.decode(item.value.json, type=TenantGrants) for item in answer.items]
        return [grant for kept in found for grant in kept.grants], answer.next_page_token

    async def _change(
        self,
        tenant_id: str,
        change: Callable[[tuple[GrantRecord, ...]], tuple[GrantRecord, ...]],
    ) -> None:
        kept, revision = await self._items.read(GRANTS_SCOPE, tenant_id, TenantGrants)
        changed = TenantGrants(change(kept.grants if kept else ()))
        there = state_pb2.Precondition(revision=revision)
        request = state_pb2.SetStateRequest(
            scope=GRANTS_SCOPE,
            key=tenant_id,
            value=state_pb2.Payload(json=msgspec.json.encode(changed).decode()),
            precondition=there if kept else state_pb2.Precondition(absent=True),
        )
        await self._items.call("SetState", request)
        self._remembered.forget(tenant_id)

    async def _read(self, tenant_id: str) -> TenantGrants | None:
        return (await self._items.read(GRANTS_SCOPE, tenant_id, TenantGrants))[0]


def told(event: str, grant: GrantRecord) -> None:
    """One line in the log for each grant and each end of one."""
    log.warning(
        event,
        extra={
            "grant_id": grant.grant_id,
            "tenant": grant.tenant_id,
            "principal": grant.principal,
            "by": current_context().principal,
            "permissions": ", ".join(grant.permissions),
            "why": grant.reason,
            "expires_ns": grant.expires_ns,
        },
    )

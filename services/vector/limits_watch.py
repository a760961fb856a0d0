"""Keeps what tenants may have up to date: looked up when they write, at most a second old."""

from __future__ import annotations

import asyncio
import logging

from services.common.door import Arrival
from services.common.errors import ServiceError
from services.common.standing import LooksUp
from services.vector.allowances import Allowance, Allowances

_REFRESH_S = 1.0
_WRITES = frozenset({"vector.write", "vector.admin", "rag.write"})

log = logging.getLogger(__name__)


class LimitsWatch:
    """A gate of the door, and a background task for streams that go on for long."""

    def __init__(self, tenants: LooksUp, allowances: Allowances) -> None:
        self._tenants = tenants
        self._allowances = allowances

    async def gate(self, arrival: Arrival) -> None:
        """Look up what the tenant may have before it writes."""
        if arrival.method is not None and arrival.method.permission in _WRITES:
            await self._look_up(arrival.caller.tenant)

    async def run(self) -> None:
        """Look up again who writes, each second."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            for tenant in self._allowances.take_used():
                await self._look_up(tenant)

    async def _look_up(self, tenant: str) -> None:
        """What was known before holds while state is away; without it nobody calls for long."""
        try:
            record = await self._tenants.get(tenant)
        except ServiceError as error:
            log.warning("the limits of a tenant are not known: %s", error.message)
            return
        if record is not None:
            limits = record.limits
            self._allowances.put(tenant, Allowance(limits.vectors, limits.bytes, limits.dimensions))

"""What each tenant's runs take of the processes that serve all: so that one cannot take it all.

Places bound how many runs there are, not how often they begin and how much they say: a tenant whose
scripts end at once and begin again, or print without pause, keeps host and zygote busy while its
own workers hardly compute. So what is done for a tenant is counted in seconds, and so is what its
workers compute, each as often as the tenant has runs in hand. While others are served too, a tenant
that has had more than one of them goes on at a bounded pace. A tenant alone is never held up, and
neither is one with a single run: it leaves the others their half.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

PACE = 0.25
"""Seconds of service a second that every tenant has in any case."""
BURST_SECONDS = 0.01
"""Of service that a tenant may have ahead of the others and of its pace."""
LEAD_SECONDS_MAX = 1.0
"""More than this ahead of the others does not count: nobody pays for an hour for an hour."""
RECENT_SECONDS = 0.2
"""How long after a tenant was served others are held back for it."""
_KEPT_SECONDS = 1.0
"""How long after it a tenant's own account is kept."""

START_SECONDS = 0.005
"""What the start and the end of a run take, measured: host, gateway, zygote, the events of it."""
CALL_SECONDS = 0.001
"""A call with a small argument and its answer: host, and the process that answers."""
FRAME_SECONDS = 0.000_2
"""Anything else a run says, on its way to the caller."""
READING_SECONDS = 0.000_02
"""A look at the clock."""

_WAIT_SECONDS_MAX = 0.05


@dataclass(slots=True)
class _Account:
    used_s: float
    """Service, and what its workers computed."""
    served: float
    """When it was last served."""
    left_s: float = BURST_SECONDS
    """Of service until the tenant is held to its pace."""


class Shares:
    """Accounts of all tenants that were served of late."""

    def __init__(
        self, in_hand: Callable[[str], int], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`in_hand`: how many runs a tenant has, those that wait included."""
        self._in_hand = in_hand
        self._monotonic = monotonic
        self._accounts: dict[str, _Account] = {}

    def use(self, tenant: str, seconds: float) -> None:
        """Something was done for a tenant."""
        now = self._monotonic()
        account = self._accounts.get(tenant)
        least = self._least(tenant, now)
        if account is None:
            self._forget(now)
            account = self._accounts[tenant] = _Account(least or 0.0, now)
        elif now - account.served > RECENT_SECONDS:
            # Whoever comes back has no claim to what it did not use meanwhile.
            account.used_s = max(account.used_s, least or 0.0)
        account.left_s = min(self._left(account, now), BURST_SECONDS) - seconds
        account.served = now
        self._count(tenant, account, seconds, least)

    def compute(self, tenant: str, seconds: float) -> None:
        """A worker of a tenant had processor time. It holds nobody up by itself."""
        if (account := self._accounts.get(tenant)) is not None:
            self._count(tenant, account, seconds, self._least(tenant, self._monotonic()))

    def is_ahead(self, tenant: str) -> bool:
        """Whether another tenant that is served too has had less."""
        account = self._accounts.get(tenant)
        least = self._least(tenant, self._monotonic())
        if account is None or least is None or self._in_hand(tenant) <= 1:
            return False
        return account.used_s > least + BURST_SECONDS

    def wait_s(self, tenant: str) -> float:
        """How long a tenant should pause now, in seconds; mostly 0."""
        account = self._accounts.get(tenant)
        if account is None or account.left_s >= 0 or not self.is_ahead(tenant):
            return 0.0
        return max(-self._left(account, self._monotonic()) / PACE, 0.0)

    async def wait(self, tenant: str) -> None:
        """Pause where it is others' turn."""
        while (pause_s := self.wait_s(tenant)) > 0:  # noqa: ASYNC110 - time is what it waits for
            await asyncio.sleep(min(pause_s, _WAIT_SECONDS_MAX))

    async def turn(self, tenant: str, seconds: float) -> None:
        """Pause where it is others' turn, then have something done: of many, one at a time."""
        await self.wait(tenant)
        self.use(tenant, seconds)

    def _left(self, account: _Account, now: float) -> float:
        return account.left_s + PACE * (now - account.served)

    def _count(self, tenant: str, account: _Account, seconds: float, least: float | None) -> None:
        account.used_s += seconds * max(self._in_hand(tenant), 1)
        if least is not None:
            account.used_s = min(account.used_s, least + LEAD_SECONDS_MAX)

    def _least(self, tenant: str, now: float) -> float | None:
        """Seconds that another tenant had, of those served of late the one that had the least."""
        return min(
            (
                account.used_s
                for name, account in self._accounts.items()
                if name != tenant and now - account.served <= _recent_s(account)
            ),
            default=None,
        )

    def _forget(self, now: float) -> None:
        stale = [
            name
            for name, account in self._accounts.items()
            if now - account.served > max(_recent_s(account), _KEPT_SECONDS)
        ]
        for name in stale:
            del self._accounts[name]


def _recent_s(account: _Account) -> float:
    """One that is held back has not been served of late for that very reason."""
    return RECENT_SECONDS - min(account.left_s, 0.0) / PACE

"""Tokens a minute of each tenant: held before a model is asked, and settled after.

What a call may take at most is held, so that no number of calls at a time takes more than there is;
what it did not take is free again when it ends. A call that waits only for others of its tenant to
end waits; where what was taken leaves no room, it is refused with the time at which it does. One
call alone may take more than a minute's: that is paid off before the next.

The counts are of this process, and begin anew with it: what was spent is in the accounts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.errors import Reason, ServiceError
from services.common.limits import REQUESTS_A_MINUTE_UNLIMITED

_MINUTE_S = 60.0
_TENANTS_KEPT = 10_000

LimitOf = Callable[[str], Awaitable[int]]
"""Tokens a minute that a tenant may take; 0: without limit. May raise: then the last one holds."""


@dataclass(slots=True)
class Held:
    """Tokens of one call."""

    most: float
    """Held until it is settled."""
    spent: int | None = None
    """What it took; None while that is not known: then all that is held counts."""


@dataclass(slots=True)
class _Account:
    limit: int = 0
    spent: float = 0.0
    """Tokens that have not come back yet."""
    seen_s: float = 0.0
    held: float = 0.0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def drain(self, now: float) -> None:
        """What has come back meanwhile."""
        self.spent = max(self.spent - (now - self.seen_s) / _MINUTE_S * self.limit, 0.0)
        self.seen_s = now


class TokenRates:
    """What tenants take of models in a minute."""

    def __init__(
        self, limit_of: LimitOf, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_of = limit_of
        self._monotonic = monotonic
        self._accounts: dict[str, _Account] = {}

    async def is_limited(self, tenant: str) -> bool:
        """Whether anything is counted for a tenant."""
        return (await self._account(tenant)).limit > 0

    @asynccontextmanager
    async def hold(self, tenant: str, most: int, *, wait_s: float) -> AsyncIterator[Held]:
        """Around one call of a model; set what it took in what is given.

        Args:
            tenant: Who pays.
            most: Tokens that it may take.
            wait_s: How long to wait for other calls of the tenant to end.

        Raises:
            ServiceError: QUOTA_EXCEEDED, before anything is asked.
        """
        account = await self._account(tenant)
        held = Held(min(most, account.limit))
        if account.limit:
            await self._wait(tenant, account, held.most, self._monotonic() + wait_s)
        account.held += held.most
        try:
            yield held
        finally:
            account.held -= held.most
            if account.limit:
                account.drain(self._monotonic())
                account.spent += held.most if held.spent is None else held.spent
            _wake(account)

    async def _wait(self, tenant: str, account: _Account, most: float, until_s: float) -> None:
        while True:
            account.drain(self._monotonic())
            over = account.spent + most - account.limit
            if over > 0:
                raise _exceeded(tenant, account.limit, over / account.limit * _MINUTE_S)
            if over + account.held <= 0:
                return
            left_s = until_s - self._monotonic()
            if left_s <= 0:
                raise _exceeded(tenant, account.limit, 1.0)
            await _woken(account, left_s)

    async def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            self._forget()
            account = self._accounts[tenant] = _Account(seen_s=self._monotonic())
        try:
            limit = await self._limit_of(tenant)
        except ServiceError:
            return account
        if limit != account.limit:
            account.drain(self._monotonic())
            account.limit = 0 if limit >= REQUESTS_A_MINUTE_UNLIMITED else limit
        return account

    def _forget(self) -> None:
        if len(self._accounts) < _TENANTS_KEPT:
            return
        now = self._monotonic()
        for tenant, account in [*self._accounts.items()]:
            account.drain(now)
            if not account.held and not account.spent and not account.waiting:
                del self._accounts[tenant]


async def _woken(account: _Account, left_s: float) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    account.waiting.add(turn)
    try:
        await asyncio.wait((turn,), timeout=left_s)
    finally:
        account.waiting.discard(turn)


def _wake(account: _Account) -> None:
    for turn in account.waiting:
        if not turn.done():
            turn.set_result(None)


def _exceeded(tenant: str, limit: int, wait_s: float) -> ServiceError:
    wait = f"{max(math.ceil(wait_s * 10) / 10, 0.1):.1f}"
    return ServiceError(
        Reason.QUOTA_EXCEEDED,
        f"The tenant may take {limit} tokens a minute of models; try again in {wait} s.",
        quota="tokens_per_minute",
        limit=limit,
        retry_after_s=wait,
        tenant_id=tenant,
    )

"""Who is subscribed now, and how far each has seen: the places, and what a publisher must not pass.

Only those that hold a stream are waited for by a publisher; a poll that comes now and then is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    SUBSCRIPTIONS_MAX,
    SUBSCRIPTIONS_PER_CALLER_MAX,
    SUBSCRIPTIONS_PER_TENANT_MAX,
)
from services.state.feed import Feed


@dataclass(eq=False, slots=True)
class Subscription:
    """One who waits for a tenant's events."""

    tenant: str
    caller: str
    line: asyncio.Event
    """Set where there may be something new. Clear it before you read."""
    seen: int | None = None
    """It has been given all up to this sequence; None: nobody waits for it."""
    ended: bool = False
    """Whether it is to go: what it was subscribed to was erased."""


class Subscriptions:
    """All subscriptions of the process. In the event loop only."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._all: set[Subscription] = set()
        self._closing = False

    @contextmanager
    def enter(self, tenant: str, caller: str) -> Iterator[Subscription]:
        """A place, given back at the end.

        Raises:
            ServiceError: OVERLOADED where the caller, the tenant or the process has too many.
        """
        mine = self.of(tenant)
        _check(sum(one.caller == caller for one in mine), SUBSCRIPTIONS_PER_CALLER_MAX, "caller")
        _check(len(mine), SUBSCRIPTIONS_PER_TENANT_MAX, "tenant")
        _check(len(self._all), SUBSCRIPTIONS_MAX, "process")
        with self._feed.line(tenant) as line:
            one = Subscription(tenant, caller, line)
            self._all.add(one)
            try:
                yield one
            finally:
                self._all.discard(one)

    def of(self, tenant: str) -> list[Subscription]:
        """Those of a tenant."""
        return [one for one in self._all if one.tenant == tenant]

    def seen_by_all(self, tenant: str) -> int | None:
        """The sequence up to which every stream of a tenant was given all; None: there is none."""
        return min((one.seen for one in self.of(tenant) if one.seen is not None), default=None)

    def end(self, tenant: str) -> None:
        """End those of a tenant that is erased."""
        for one in self.of(tenant):
            one.ended = True
            one.line.set()

    def check_open(self) -> None:
        """Refuse to wait in a process that ends.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE.
        """
        if self._closing:
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                "The process ends; go on after the last sequence when it is back.",
                service="state",
            )

    async def run(self) -> None:
        """Until cancelled; then every subscription ends, so that the process need not wait."""
        try:
            await asyncio.Event().wait()
        finally:
            self._closing = True
            for one in self._all:
                one.line.set()


def _check(count: int, limit: int, who: str) -> None:
    if count >= limit:
        raise ServiceError(
            Reason.OVERLOADED,
            f"There is no room for another subscription: this {who} has {limit} already. End one, "
            "or try again later.",
            limit=limit,
        )

"""Who waits for a tenant's next change, and how they learn of it.

A commit is told to the event loop, which wakes those who wait; what has changed they read from the
engine. So nothing is lost between reading and waiting: take the place in line first, then read,
then wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Feed:
    """Wakes who waits for a tenant's changes."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def committed(self, tenants: set[str]) -> None:
        """Wake all who wait for these tenants' changes. In the event loop only."""
        for tenant in tenants & self._waiting.keys():
            for event in self._waiting[tenant]:
                event.set()

    @contextmanager
    def line(self, tenant: str) -> Iterator[asyncio.Event]:
        """An event that is set with each change of the tenant. Clear it before you read."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(tenant, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(tenant, None)


async def wait(line: asyncio.Event, timeout_s: float) -> None:
    """Until the next change, or so many seconds; without any, until others have had their turn."""
    if timeout_s <= 0:
        await asyncio.sleep(0)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await line.wait()

"""Events of the asyncio client; `_blocking_events` says more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from llmspell import _events
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell.errors import DeadlineExceeded, Unavailable


class AsyncEventCalls(AsyncCaller):
    """What happened, and telling of it."""

    async def publish_event(
        self,
        type: str,  # noqa: A002  (the field's own word for it)
        data: Any = None,
        *,
        correlation_id: str = "",
        source: str = "",
        ttl_s: float | None = None,
    ) -> int:
        """Publish one event; its sequence. It is on disk then."""
        event = t.NewEvent(type, data, correlation_id, source, ttl_s)
        return (await self.publish_events([event]))[0]

    async def publish_events(
        self, events: Iterable[t.NewEvent], *, refuse_overflow: bool = False
    ) -> list[int]:
        """Publish events, all or none, at most 1000; their sequences."""
        return await self._unary(_events.publish(events, refuse_overflow=refuse_overflow))

    def list_events(
        self,
        pattern: str = "*",
        *,
        after: int = 0,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> AsyncIterator[t.Event]:
        """Events that are kept, the oldest first; pages come as they are needed."""
        call = _events.list_events(pattern, after=after, start_time=start_time, end_time=end_time)
        return self._entries(call)

    async def poll_events(
        self,
        pattern: str = "*",
        *,
        after: int | None = None,
        limit: int = 100,
        wait_s: float = 0,
        skip: bool = False,
    ) -> t.Events:
        """What comes after a sequence, waited for at most 20 seconds."""
        call = _events.poll(pattern, after=after, limit=limit, wait_s=wait_s, skip=skip)
        return await self._unary(call)

    async def events(
        self, pattern: str = "*", *, after: int | None = None
    ) -> AsyncGenerator[t.Event, None]:
        """Events as they happen, one by one, in order and without a gap."""
        async with aclosing(self.subscribe_events(pattern, after=after)) as told:
            async for each in told:
                for event in each.events:
                    yield event

    async def subscribe_events(
        self,
        pattern: str = "*",
        *,
        after: int | None = None,
        skip: bool = False,
        progress: bool = False,
    ) -> AsyncGenerator[t.Events, None]:
        """Events as they happen, as many at once as there are; closing the generator ends it."""
        subscription = _events.Subscription(pattern, after=after, skip=skip)
        while True:
            try:
                async with aclosing(self._stream(subscription.call())) as stream:
                    async for events in stream:
                        subscription.note(events)
                        if events.events or events.skipped or progress:
                            yield events
            except (Unavailable, DeadlineExceeded) as error:
                await asyncio.sleep(subscription.patience.pause_s(error, time.monotonic()))

    async def event_stats(self) -> t.EventStats:
        """Counts of the published events."""
        return await self._unary(_events.stats())

"""Events of the blocking client."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from llmspell import _events
from llmspell import types as t
from llmspell._blocking import BlockingCaller
from llmspell.errors import DeadlineExceeded, Unavailable


class EventCalls(BlockingCaller):
    """What happened, and telling of it."""

    def publish_event(
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
        return self.publish_events([event])[0]

    def publish_events(
        self, events: Iterable[t.NewEvent], *, refuse_overflow: bool = False
    ) -> list[int]:
        """Publish events, all or none, at most 1000; their sequences.

        Args:
            events: In order.
            refuse_overflow: Be refused where a subscriber has not seen what would be let go.

        Raises:
            ResourceExhausted: EVENTS_OVERFLOW.
        """
        return self._unary(_events.publish(events, refuse_overflow=refuse_overflow))

    def list_events(
        self,
        pattern: str = "*",
        *,
        after: int = 0,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> Iterator[t.Event]:
        """Events that are kept, the oldest first; pages come as they are needed.

        Args:
            pattern: Which types; `*` stands for any text.
            after: Only what comes after this sequence.
            start_time: Only what happened then or later.
            end_time: Only what happened before.
        """
        call = _events.list_events(pattern, after=after, start_time=start_time, end_time=end_time)
        return self._entries(call)

    def poll_events(
        self,
        pattern: str = "*",
        *,
        after: int | None = None,
        limit: int = 100,
        wait_s: float = 0,
        skip: bool = False,
    ) -> t.Events:
        """What comes after a sequence, waited for at most 20 seconds; see `subscribe_events`.

        Without `after` it answers at once with the sequence of now.
        """
        call = _events.poll(pattern, after=after, limit=limit, wait_s=wait_s, skip=skip)
        return self._unary(call)

    def events(
        self, pattern: str = "*", *, after: int | None = None
    ) -> Generator[t.Event, None, None]:
        """Events as they happen, one by one, in order and without a gap; see `subscribe_events`.

        Keep the `sequence` of the last one to go on after it.
        """
        with closing(self.subscribe_events(pattern, after=after)) as told:
            for each in told:
                yield from each.events

    def subscribe_events(
        self,
        pattern: str = "*",
        *,
        after: int | None = None,
        skip: bool = False,
        progress: bool = False,
    ) -> Generator[t.Events, None, None]:
        """Events as they happen, as many at once as there are; closing the generator ends it.

        A connection that ends is made again, and the subscription goes on where it was.

        Args:
            pattern: Which types; `*` stands for any text.
            after: Begin after this sequence; 0: with the oldest that is kept; None: from now on.
            skip: Where events that were not seen were let go, say so (`skipped`) and go on.
            progress: Tell of the sequence when nothing happens, too: now and then, and at once.

        Raises:
            FailedPrecondition: REVISION_COMPACTED where events after `after` were let go.
            InvalidArgument: PATTERN_INVALID; REVISION_FUTURE where there is no such sequence yet.
            ResourceExhausted: OVERLOADED where there are too many subscriptions.
            Unavailable: nothing has answered for half a minute.
        """
        subscription = _events.Subscription(pattern, after=after, skip=skip)
        while True:
            try:
                for events in self._stream(subscription.call()):
                    subscription.note(events)
                    if events.events or events.skipped or progress:
                        yield events
            except (Unavailable, DeadlineExceeded) as error:
                time.sleep(subscription.patience.pause_s(error, time.monotonic()))

    def event_stats(self) -> t.EventStats:
        """Counts of the published events."""
        return self._unary(_events.stats())

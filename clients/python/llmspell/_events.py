"""EventService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from llmspell._contract import Call, Page
from llmspell._event_types import Event, Events, EventStats, NewEvent, SkippedEvents
from llmspell._resume import Patience
from llmspell._values import to_duration, to_timestamp
from llmspell.errors import InvalidArgument
from llmspell.v1 import event_pb2 as pb

_EPOCH = datetime.fromtimestamp(0, UTC)
_ANSWER_S = 10.0


def publish(events: Iterable[NewEvent], *, refuse_overflow: bool) -> Call[list[int]]:
    """Publish events; their sequences."""
    request = pb.PublishEventsRequest(
        events=[_new_event(event, number) for number, event in enumerate(events)],
        refuse_overflow=refuse_overflow,
    )
    return Call(request, _sequences)


def list_events(
    pattern: str, *, after: int, start_time: datetime | None, end_time: datetime | None
) -> Call[Page[Event]]:
    """A page of events that are kept."""
    request = pb.ListEventsRequest(
        pattern=pattern,
        after=_sequence(after),
        start_time=to_timestamp(start_time, "start_time"),
        end_time=to_timestamp(end_time, "end_time"),
    )
    return Call(request, _page)


def poll(pattern: str, *, after: int | None, limit: int, wait_s: float, skip: bool) -> Call[Events]:
    """What comes next."""
    request = pb.PollEventsRequest(
        pattern=pattern,
        after=None if after is None else _sequence(after),
        limit=limit,
        wait=to_duration(wait_s, "wait_s", or_zero=True),
        on_overflow=_policy(skip=skip),
    )
    return Call(request, _events, timeout_s=wait_s + _ANSWER_S)


def stats() -> Call[EventStats]:
    """Counts."""
    return Call(pb.GetEventStatsRequest(), _stats)


class Subscription:
    """Where a subscription is, and whether it goes on when its connection has ended."""

    def __init__(self, pattern: str, *, after: int | None, skip: bool) -> None:
        self._request = pb.SubscribeEventsRequest(
            pattern=pattern,
            after=None if after is None else _sequence(after),
            on_overflow=_policy(skip=skip),
        )
        self.patience = Patience()

    def call(self) -> Call[Events | None]:
        """What to send to begin, or to go on."""
        return Call(self._request, _events)

    def note(self, events: Events) -> None:
        """Go on from here the next time."""
        self._request.after = events.sequence
        self.patience.answered()


def _new_event(event: NewEvent, number: int) -> pb.NewEvent:
    try:
        text = json.dumps(event.data, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        field = f"events[{number}].data"
        raise InvalidArgument(
            f"{field} cannot be written as JSON: {error}.", metadata={"field": field}
        ) from None
    return pb.NewEvent(
        type=event.type,
        json=text,
        correlation_id=event.correlation_id,
        source=event.source,
        ttl=to_duration(event.ttl_s, "ttl_s"),
    )


def _sequence(after: int) -> int:
    if not 0 <= after < 2**64:
        raise InvalidArgument("after must be a sequence.", metadata={"field": "after"})
    return after


def _policy(*, skip: bool) -> pb.OverflowPolicy:
    return pb.OVERFLOW_POLICY_SKIP if skip else pb.OVERFLOW_POLICY_FAIL


def _sequences(answer: pb.PublishEventsResponse) -> list[int]:
    return list(range(answer.first_sequence, answer.last_sequence + 1))


def _page(answer: pb.ListEventsResponse) -> Page[Event]:
    return Page([_event(event) for event in answer.events], answer.next_page_token)


def _events(answer: Any) -> Events:
    skipped = None
    if answer.HasField("skipped"):
        known = answer.skipped.HasField("event_count")
        skipped = SkippedEvents(
            answer.skipped.through_sequence, answer.skipped.event_count if known else None
        )
    return Events([_event(event) for event in answer.events], answer.sequence, skipped)


def _event(message: pb.Event) -> Event:
    return Event(
        message.sequence,
        message.type,
        json.loads(message.json),
        _time(message.event_time),
        message.correlation_id,
        message.source,
        _time(message.expire_time) if message.HasField("expire_time") else None,
        message.own,
    )


def _time(stamp: Any) -> datetime:
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def _stats(answer: pb.GetEventStatsResponse) -> EventStats:
    return EventStats(
        published_count=answer.published_count,
        kept_count=answer.kept_count,
        kept_bytes=answer.kept_bytes,
        refused_count=answer.refused_count,
        subscription_count=answer.subscription_count,
        sequence=answer.sequence,
    )

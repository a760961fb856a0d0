"""Between EventService's messages and the engine's values; each is translated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import event_pb2

from services.common.errors import field_invalid
from services.common.limits import EVENT_POLL_SECONDS_MAX
from services.common.scope_guard import may_see_now, sees_all_scopes
from services.state import event_rules, rules
from services.state.event_model import Event, NewEvent, Reading, Skipped
from services.state.event_reading import MaySee, Query
from services.state.patterns import Pattern
from services.state.servicers.messages import read_ttl, write_moment

_NULL = "null"


def read_events(request: event_pb2.PublishEventsRequest) -> list[NewEvent]:
    """What is to be published.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    event_rules.check_count(len(request.events))
    return [
        NewEvent(
            event.type,
            event.json or _NULL,
            event.correlation_id,
            event.source,
            read_ttl(event, f"events[{number}].ttl") if event.HasField("ttl") else None,
        )
        for number, event in enumerate(request.events)
    ]


def read_query(request: event_pb2.ListEventsRequest, tenant: str) -> Query:
    """Which events are asked for.

    Raises:
        ServiceError: PATTERN_INVALID, FIELD_INVALID.
    """
    return Query(
        tenant,
        Pattern(request.pattern),
        _read_time(request, "start_time") or 0,
        _read_time(request, "end_time"),
        may_see(),
    )


def may_see() -> MaySee | None:
    """Of which scopes the caller is told; None: of all."""
    return None if sees_all_scopes() else may_see_now()


def read_skip(request: Any) -> bool:
    """Whether to go on where events were let go."""
    return bool(request.on_overflow == event_pb2.OVERFLOW_POLICY_SKIP)


def read_after(request: Any) -> int | None:
    """The sequence to go on after; None: from now on."""
    return int(request.after) if request.HasField("after") else None


def read_wait_s(request: event_pb2.PollEventsRequest) -> float:
    """How long to wait, in seconds.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not request.HasField("wait"):
        return 0.0
    wait_s = float(request.wait.seconds + request.wait.nanos / 1e9)
    return rules.check_wait(wait_s, EVENT_POLL_SECONDS_MAX)


def write_list(reading: Reading, compacted_sequence: int) -> event_pb2.ListEventsResponse:
    """A page, without its token."""
    answer = event_pb2.ListEventsResponse(compacted_sequence=compacted_sequence)
    _write_events(answer.events, reading.events)
    return answer


def write_advance(reading: Reading) -> event_pb2.SubscribeEventsResponse:
    """How far a subscription has come."""
    answer = event_pb2.SubscribeEventsResponse(
        sequence=reading.position.sequence, skipped=_write_skipped(reading.skipped)
    )
    _write_events(answer.events, reading.events)
    return answer


def write_poll(reading: Reading) -> event_pb2.PollEventsResponse:
    """What a poll has found."""
    answer = event_pb2.PollEventsResponse(
        sequence=reading.position.sequence, skipped=_write_skipped(reading.skipped)
    )
    _write_events(answer.events, reading.events)
    return answer


def _write_events(target: Any, events: Sequence[Event]) -> None:
    """Add events to a field. Each line here runs for each event that a subscriber is given.

    So one field after the other is set, which takes a third of what a constructor takes, and one
    timestamp serves all events that were published together.
    """
    time, time_ns = Timestamp(), 0
    for event in events:
        message = target.add()
        message.sequence = event.sequence
        message.type = event.type
        message.json = event.json
        message.correlation_id = event.correlation_id
        message.source = event.source
        message.own = event.own
        if event.time_ns != time_ns:
            time, time_ns = write_moment(event.time_ns), event.time_ns
        message.event_time.CopyFrom(time)
        if event.expire_time_ns is not None:
            message.expire_time.CopyFrom(write_moment(event.expire_time_ns))


def _write_skipped(skipped: Skipped | None) -> event_pb2.SkippedEvents | None:
    if skipped is None:
        return None
    return event_pb2.SkippedEvents(
        through_sequence=skipped.through_sequence, event_count=skipped.event_count
    )


def _read_time(message: Any, field: str) -> int | None:
    if not message.HasField(field):
        return None
    time: Timestamp = getattr(message, field)
    if not 0 <= time.nanos < 10**9:
        raise field_invalid(field, "must be a valid timestamp")
    return int(time.seconds * 10**9 + time.nanos)

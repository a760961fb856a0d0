"""EventService: messages to values, one call of the engine, values to messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llmspell.v1 import event_pb2, event_pb2_grpc

from services.common.context import current_context, current_tenant
from services.common.errors import field_invalid
from services.common.limits import PAGE_SIZE_DEFAULT
from services.common.paging import PageTokens, page_size
from services.state.events import Events
from services.state.patterns import Pattern
from services.state.servicers import event_messages as messages
from services.state.servicers.messages import read_once

_ANSWER_S = 0.5
"""What is left of a caller's time for the answer to reach it."""


class EventServicer(event_pb2_grpc.EventServiceServicer):
    """Answers from one engine."""

    def __init__(self, events: Events, page_tokens: PageTokens) -> None:
        self._events = events
        self._page_tokens = page_tokens

    async def PublishEvents(  # noqa: N802  (the contract's name)
        self, request: event_pb2.PublishEventsRequest, context: object
    ) -> event_pb2.PublishEventsResponse:
        """Add events."""
        del context
        published = await self._events.publish(
            current_tenant(),
            messages.read_events(request),
            refuse_overflow=request.refuse_overflow,
            once=read_once(request),
        )
        return event_pb2.PublishEventsResponse(
            first_sequence=published.first_sequence, last_sequence=published.last_sequence
        )

    async def ListEvents(  # noqa: N802
        self, request: event_pb2.ListEventsRequest, context: object
    ) -> event_pb2.ListEventsResponse:
        """A page of events."""
        del context
        query = messages.read_query(request, current_tenant())
        limit = page_size(request.page_size)
        bound_to = "\0".join(
            map(
                str,
                ("ListEvents", query.tenant, request.pattern, query.start_ns, query.end_ns),
            )
        )
        after = request.after
        if request.page_token:
            after = int(self._page_tokens.open(request.page_token, bound_to))
        reading, compacted = await self._events.list(query, after=after, limit=limit)
        answer = messages.write_list(reading, compacted)
        if not reading.complete:
            cursor = str(reading.position.sequence).encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor)
        return answer

    async def SubscribeEvents(  # noqa: N802
        self, request: event_pb2.SubscribeEventsRequest, context: object
    ) -> AsyncGenerator[event_pb2.SubscribeEventsResponse, None]:
        """Events as they happen."""
        del context
        caller = current_context()
        readings = self._events.subscribe(
            caller.tenant,
            Pattern(request.pattern),
            caller=caller.principal,
            after=messages.read_after(request),
            skip=messages.read_skip(request),
            may_see=messages.may_see(),
        )
        async with aclosing(readings):
            async for reading in readings:
                yield messages.write_advance(reading)

    async def PollEvents(  # noqa: N802
        self, request: event_pb2.PollEventsRequest, context: Any
    ) -> event_pb2.PollEventsResponse:
        """The next events."""
        if request.limit < 0:
            raise field_invalid("limit", "must not be negative")
        caller = current_context()
        left_s = context.time_remaining() if context is not None else None
        wait_s = messages.read_wait_s(request)
        reading = await self._events.poll(
            caller.tenant,
            Pattern(request.pattern),
            caller=caller.principal,
            after=messages.read_after(request),
            limit=request.limit or PAGE_SIZE_DEFAULT,
            wait_s=wait_s if left_s is None else max(0.0, min(wait_s, left_s - _ANSWER_S)),
            skip=messages.read_skip(request),
            may_see=messages.may_see(),
        )
        return messages.write_poll(reading)

    async def GetEventStats(  # noqa: N802
        self, request: event_pb2.GetEventStatsRequest, context: object
    ) -> event_pb2.GetEventStatsResponse:
        """Counts."""
        del request, context
        stats = await self._events.stats(current_tenant())
        return event_pb2.GetEventStatsResponse(
            published_count=stats.published,
            kept_count=stats.kept,
            kept_bytes=stats.kept_bytes,
            refused_count=stats.refused,
            subscription_count=stats.subscriptions,
            sequence=stats.sequence,
        )

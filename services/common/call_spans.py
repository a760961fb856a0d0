"""The span of a call that has come: where a door begins and ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from services.common import tracing
from services.common.errors import ServiceError, reason_name
from services.common.status import status_code
from services.common.tracing import TRACEPARENT_KEY, Attribute, Span, begin_call

if TYPE_CHECKING:
    from services.common.access import Method
    from services.common.door import Arrival

_OK, _CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
_NOTABLE = frozenset({"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNKNOWN"})
"""Codes of failures that are not the caller's."""


_OURS = frozenset({"gateway", "runtime", "vector", "state", "metrics"})
"""Principals of calls that a process makes for itself."""


def begin_span(arrival: Arrival) -> Span:
    """Of the call of one of our own, the span that is sealed in its context; else the caller's."""
    caller = arrival.caller
    sent = caller.traceparent
    if not sent:
        sent = next((str(told) for key, told in arrival.metadata if key == TRACEPARENT_KEY), "")
    return begin_call(
        arrival.path,
        request_id=arrival.request_id,
        traceparent=sent,
        is_trusted=bool(caller.traceparent),
        is_wanted=caller.principal not in _OURS,
    )


def end_span(arrival: Arrival, span: Span, error: ServiceError | None, *, cancelled: bool) -> None:
    """The call has ended; what is told of it is put together only where it is kept."""
    recorder = tracing.recorder()
    if recorder is None:
        return
    assert arrival.method is not None
    code = _CANCELLED if cancelled else _OK if error is None else status_code(error.reason)
    span.end_ns = tracing.now_ns()
    is_notable = code.name in _NOTABLE
    # A stream that its caller or its deadline ends has done what it was for.
    may_be_long = cancelled or (arrival.method.streams and error is not None)
    if recorder.keeps(span, is_notable=is_notable, may_be_long=may_be_long):
        span.error = "" if error is None else reason_name(error.reason)
        span.attributes |= _told(arrival, arrival.method, code)
        recorder.put(span)


def _told(arrival: Arrival, method: Method, code: grpc.StatusCode) -> dict[str, Attribute]:
    """Names as OpenTelemetry has them for RPCs; those that begin with llmspell are ours."""
    return {
        "rpc.system": "grpc",
        "rpc.service": method.service,
        "rpc.method": method.descriptor.name,
        "rpc.grpc.status_code": code.value[0],
        "llmspell.request_id": arrival.request_id,
        "llmspell.tenant": arrival.caller.tenant,
        "llmspell.principal": arrival.caller.principal,
        "llmspell.request_bytes": arrival.request_bytes,
        "llmspell.response_bytes": arrival.response_bytes,
    }

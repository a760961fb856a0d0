"""What may be published, asked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import (
    EVENT_DATA_BYTES_MAX,
    EVENT_TEXT_BYTES_MAX,
    EVENTS_BATCH_BYTES_MAX,
    EVENTS_BATCH_MAX,
)
from services.state import rules
from services.state.event_model import NewEvent
from services.state.own_events import OWN_TYPES
from services.state.patterns import check_type

_decode = msgspec.json.Decoder().decode


def check_count(count: int) -> None:
    """Refuse no events, or too many at once."""
    if count == 0:
        raise required("events")
    if count > EVENTS_BATCH_MAX:
        raise limit_exceeded("events", count, EVENTS_BATCH_MAX)


def check_events(events: Sequence[NewEvent], *, data_bytes_max: int = EVENT_DATA_BYTES_MAX) -> None:
    """Refuse events of which one is unfit; it is named.

    Args:
        events: In order.
        data_bytes_max: How long what one of them tells may be.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_count(len(events))
    known: set[str] = set()
    texts: set[str] = {""}
    for number, event in enumerate(events):
        if event.type not in known:
            _check_type(event.type, f"events[{number}].type")
            known.add(event.type)
        _check_data(event.json, number, data_bytes_max)
        if event.correlation_id not in texts:
            _check_text(event.correlation_id, f"events[{number}].correlation_id")
            texts.add(event.correlation_id)
        if event.source not in texts:
            _check_text(event.source, f"events[{number}].source")
            texts.add(event.source)
        if event.ttl_ns is not None:
            rules.check_ttl(event.ttl_ns, f"events[{number}].ttl")


def check_size(size: int) -> None:
    """Refuse a batch of too many bytes."""
    if size > EVENTS_BATCH_BYTES_MAX:
        raise limit_exceeded("events", size, EVENTS_BATCH_BYTES_MAX, "bytes")


def _check_type(event_type: str, field: str) -> None:
    check_type(event_type, field)
    if event_type in OWN_TYPES:
        raise field_invalid(field, f"must not be {event_type}, which the process itself tells of")


def _check_data(json: str, number: int, bytes_max: int) -> None:
    if len(json) * 4 > bytes_max:  # a character has four bytes at most
        _check_length(json, f"events[{number}].json", bytes_max)
    try:
        _decode(json)
    except msgspec.DecodeError as error:
        raise field_invalid(f"events[{number}].json", f"must be JSON: {error}") from None
    except RecursionError:
        raise field_invalid(f"events[{number}].json", "must not be nested so deeply") from None


def _check_text(text: str, field: str) -> None:
    _check_length(text, field, EVENT_TEXT_BYTES_MAX)
    if not text.isprintable():
        raise field_invalid(field, "must not contain control characters")


def _check_length(text: str, field: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise limit_exceeded(field, size, bytes_max, "bytes")

"""Published events, and what is known of a tenant's, as lines.

A line has the events of one call. How many events there are, and their bytes, is not said: an
import counts them.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec

from services.common.limits import EVENT_DATA_BYTES_MAX, EVENTS_BATCH_BYTES_MAX
from services.common.redaction import redact_json
from services.state import event_rules
from services.state.backup.lines import (
    REVISION_MAX,
    Form,
    Number,
    Record,
    Revision,
    Time,
    check,
    redacted,
)
from services.state.event_model import NewEvent
from services.state.layout import events as layout
from services.state.layout.events import BatchHeader, Log

_PLACE = struct.Struct(">Q")
_GROWN = 3
"""How many times as long a document may be once its credentials are taken out: the marks are longer
than some of them. It is measured before that."""


class EventPart(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """One event in a line."""

    type: str
    json: str
    correlation_id: str = ""
    source: str = ""
    ttl_ns: Time | None = None


class EventsLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `events.jsonl`."""

    revision: Revision
    time_ns: Time
    end_ns: Time
    published_before: Number
    events: tuple[EventPart, ...]


class EventLogLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The line of `event_logs.jsonl`."""

    compacted_sequence: Annotated[int, msgspec.Meta(ge=0, le=layout.end_of(REVISION_MAX))]
    published: Number


def _tell_events(own: bytes, stored: bytes) -> EventsLine:
    (revision,) = _PLACE.unpack(own)
    header = layout.unpack_header(stored)
    events = layout.unpack_events(stored)
    return EventsLine(
        revision=revision,
        time_ns=header.time_ns,
        end_ns=header.end_ns,
        published_before=header.before,
        events=tuple(EventPart(**msgspec.structs.asdict(each)) for each in events),
    )


def _withhold_events(line: EventsLine) -> EventsLine | None:
    clean = tuple(map(_clean, line.events))
    return None if clean == line.events else msgspec.structs.replace(line, events=clean)


def _clean(event: EventPart) -> EventPart:
    event = redacted(event, "correlation_id", "source") or event
    return msgspec.structs.replace(event, json=redact_json(event.json))


def _keep_events(line: EventsLine) -> Record:
    events = [NewEvent(**msgspec.structs.asdict(each)) for each in line.events]
    event_rules.check_events(events, data_bytes_max=_GROWN * EVENT_DATA_BYTES_MAX)
    check(line.end_ns >= line.time_ns, "end_ns", "must not be before time_ns")
    # As publishing does: no event holds a credential.
    events = [msgspec.structs.replace(each, json=redact_json(each.json)) for each in events]
    packed = layout.pack_events(events)
    size_max = _GROWN * EVENTS_BATCH_BYTES_MAX
    check(len(packed) <= size_max, "events", f"must have {size_max} bytes at most")
    header = BatchHeader(line.time_ns, line.end_ns, line.published_before, len(events))
    return _PLACE.pack(line.revision), layout.pack_batch(header, packed)


def _tell_log(own: bytes, stored: bytes) -> EventLogLine:
    del own
    log = layout.unpack_log(stored)
    return EventLogLine(compacted_sequence=log.compacted_sequence, published=log.published)


def _keep_log(line: EventLogLine) -> Record:
    return b"", layout.pack_log(Log(line.compacted_sequence, published=line.published))


EVENTS = Form(EventsLine, _tell_events, _keep_events, _withhold_events)
LOG = Form(EventLogLine, _tell_log, _keep_log, lambda _line: None)

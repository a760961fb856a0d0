"""Published events, when they end, and what is kept of a tenant's.

| database | key | value |
|---|---|---|
| events | tenant NUL revision | header, the events that were published at this revision |
| event_ends | end, key in `events` | nothing |
| event_logs | tenant NUL | last sequence that was let go, events and bytes kept, events ever made |

A sequence is a revision and a number in it, as one number: so events of the change feed and
published ones have one order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from services.state.event_model import NewEvent
from services.state.layout import EVENT_ENDS, tenant_prefix

_NUMBER_BITS = 20
_NUMBER_LAST = (1 << _NUMBER_BITS) - 1
_U64 = struct.Struct(">Q")
_HEADER = struct.Struct(">QQQI")
_LOG = struct.Struct(">QQQQ")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[NewEvent]).decode


def sequence_of(revision: int, number: int) -> int:
    """The sequence of a revision's event with this number, from 0."""
    assert 0 <= number <= _NUMBER_LAST, "a revision has no more events"
    return revision << _NUMBER_BITS | number


def end_of(revision: int) -> int:
    """A sequence that comes after all events of a revision, and before those of the next."""
    return revision << _NUMBER_BITS | _NUMBER_LAST


def split_sequence(sequence: int) -> tuple[int, int]:
    """Revision and number."""
    return sequence >> _NUMBER_BITS, sequence & _NUMBER_LAST


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What is known of the events of one revision without reading them."""

    time_ns: int
    """When they were published."""
    end_ns: int
    """When the last of them ends, or they are too old."""
    before: int
    """How many events the tenant had published before."""
    count: int
    """How many these are."""


@dataclass(frozen=True, slots=True)
class Log:
    """What is kept of a tenant's published events."""

    compacted_sequence: int = 0
    """The last event that was let go."""
    count: int = 0
    """Events that are kept."""
    size: int = 0
    """Bytes that those take."""
    published: int = 0
    """Events that were ever published."""


def batch_key(tenant: str, revision: int) -> bytes:
    """Key in `events`."""
    return tenant_prefix(tenant) + _U64.pack(revision)


def split_batch_key(stored: bytes) -> tuple[str, int]:
    """Tenant and revision."""
    tenant, _, place = stored.partition(b"\0")
    (revision,) = _U64.unpack(place)
    return tenant.decode(), revision


def pack_batch(header: BatchHeader, events: bytes) -> bytes:
    """Value in `events`."""
    return _HEADER.pack(header.time_ns, header.end_ns, header.before, header.count) + events


def unpack_header(stored: bytes) -> BatchHeader:
    """From a value in `events`."""
    return BatchHeader(*_HEADER.unpack_from(stored))


def pack_events(events: Sequence[NewEvent]) -> bytes:
    """Events as they are kept."""
    return _encode(events)


def unpack_events(stored: bytes) -> list[NewEvent]:
    """The events in a value in `events`."""
    return _decode(memoryview(stored)[_HEADER.size :])


def index_entries(key: bytes, value: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Database, key and value of the index entry that goes with a record of `events`."""
    yield EVENT_ENDS, end_key(unpack_header(value).end_ns, key), b""


def end_key(end_ns: int, batch: bytes) -> bytes:
    """Key in `event_ends`."""
    return _U64.pack(end_ns) + batch


def split_end_key(stored: bytes) -> tuple[int, bytes]:
    """When a batch ends, and its key in `events`."""
    (end_ns,) = _U64.unpack_from(stored)
    return end_ns, stored[_U64.size :]


def pack_log(log: Log) -> bytes:
    """Value in `event_logs`."""
    return _LOG.pack(log.compacted_sequence, log.count, log.size, log.published)


def unpack_log(stored: bytes | None) -> Log:
    """From a value in `event_logs`; None is that of a tenant that never published."""
    return Log() if stored is None else Log(*_LOG.unpack(stored))

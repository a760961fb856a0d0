"""Which rows of a table a search may find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from services.vector.filters import matches
from services.vector.model import Filter, Query, Span
from services.vector.segments.rows import NO_TIME, Bools, Int64s, Table

_decode = msgspec.msgpack.Decoder(dict).decode

ReadMetadata = Callable[[int], bytes | None]
"""From a label to the MessagePack of its metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a search may see, in every table alike."""

    member: int | None
    """In rows that collections share: whose; None: they are not shared."""
    labels: Int64s | None
    """Living records that match the filter, rising; None: there is no filter."""
    filter: Filter | None
    event_time: Span | None
    ingest_time: Span | None
    as_of_ns: int | None
    expired_by_ns: int | None
    """What has expired by then is not seen; None: all is."""
    read_metadata: ReadMetadata

    def open_to(self, table: Table) -> bool:
        """Whether every row is seen."""
        restricted = (self.member, self.labels, self.event_time, self.ingest_time, self.as_of_ns)
        if any(each is not None for each in restricted):
            return False
        hidden = self.expired_by_ns is not None and table.expire_times_ns is not None
        return table.alive_count == len(table) and not hidden

    def rows(self, table: Table) -> Int64s:
        """The rows that are seen, rising."""
        if self.labels is None:
            found: Int64s = np.flatnonzero(self._mask(table))
            return found
        rows = table.rows_of(self.labels)
        kept = rows[self._holds(table, rows)]
        if self.as_of_ns is None or table.ends_ns is None:
            return kept
        gone = self._gone_rows(table)
        return np.union1d(kept, gone[self._holds(table, gone)]) if len(gone) else kept

    def _mask(self, table: Table) -> Bools:
        return self._holds(table, slice(None))

    def _holds(self, table: Table, rows: Int64s | slice) -> Bools:
        """Whether each of some rows is seen, its metadata apart."""
        seen = table.alive[rows]
        if self.as_of_ns is not None:
            if table.ends_ns is not None:
                seen = table.ends_ns[rows] > self.as_of_ns
            seen = seen & (table.ingest_times_ns[rows] <= self.as_of_ns)
        if self.member is not None and table.members is not None:
            seen = seen & (table.members[rows] == self.member)
        if self.expired_by_ns is not None and table.expire_times_ns is not None:
            seen = seen & (table.expire_times_ns[rows] > self.expired_by_ns)
        if self.ingest_time is not None:
            seen = seen & _within(table.ingest_times_ns[rows], self.ingest_time)
        if self.event_time is not None:
            if table.event_times_ns is None:
                return np.zeros(len(seen), np.bool_)
            times = table.event_times_ns[rows]
            seen = seen & _within(times, self.event_time) & (times != NO_TIME)
        return seen

    def _gone_rows(self, table: Table) -> Int64s:
        """Rows that have ended and match the filter: no posting tells of these."""
        assert table.ends_ns is not None
        assert self.as_of_ns is not None
        assert self.filter is not None
        rows = np.flatnonzero(~table.alive & (table.ends_ns > self.as_of_ns))
        stored = (self.read_metadata(int(label)) for label in table.labels[rows])
        keep = [each is not None and matches(self.filter, _decode(each)) for each in stored]
        found: Int64s = rows[np.array(keep, np.bool_)]
        return found


def sight_of(
    query: Query,
    *,
    member: int | None,
    labels: Int64s | None,
    now_ns: int,
    read_metadata: ReadMetadata,
) -> Sight:
    """What a query may see."""
    return Sight(
        member=member,
        labels=labels,
        filter=query.filter,
        event_time=query.event_time,
        ingest_time=query.ingest_time,
        as_of_ns=query.as_of_ns,
        expired_by_ns=None
        if query.include_expired
        else (now_ns if query.as_of_ns is None else query.as_of_ns),
        read_metadata=read_metadata,
    )


def _within(times: Int64s, span: Span) -> Bools:
    inside = np.ones(len(times), np.bool_)
    if span.start_ns is not None:
        inside &= times >= span.start_ns
    if span.end_ns is not None:
        inside &= times < span.end_ns
    return inside

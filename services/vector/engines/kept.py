"""What the memory engine keeps of a collection, and what can be seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from services.vector.checks import encode_metadata
from services.vector.filters import matches
from services.vector.model import (
    Collection,
    Filter,
    Mask,
    MetadataChange,
    NewRecord,
    Query,
    Record,
    Span,
    Value,
)
from services.vector.refusals import restricted_by_row_filter
from services.vector.times import times_from


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope's settings."""

    record_ttl_ns: int | None = None
    expire_time_ns: int | None = None

    def ended(self, now_ns: int) -> bool:
        """Whether its time has come."""
        return self.expire_time_ns is not None and self.expire_time_ns <= now_ns


@dataclass(frozen=True, slots=True)
class Version:
    """A record, and when it was replaced or removed."""

    record: Record
    end_ns: int | None = None
    due_ns: int | None = None


@dataclass(slots=True)
class Kept:
    """A collection with its records."""

    collection: Collection
    history_start_ns: int = 0
    records_revision: int = 0
    records: dict[str, Version] = field(default_factory=dict)
    history: list[Version] = field(default_factory=list)

    def counted(self) -> Collection:
        """The collection as callers see it."""
        return replace(
            self.collection, record_count=len(self.records), history_count=len(self.history)
        )

    def ended(self, now_ns: int) -> bool:
        """Whether its time has come."""
        ends = self.collection.expire_time_ns
        return ends is not None and ends <= now_ns

    def put(
        self,
        new: NewRecord,
        record_id: str,
        metadata: dict[str, Value],
        *,
        revision: int,
        now_ns: int,
        ttl_ns: int | None,
    ) -> None:
        """Write a record that is not there; `ttl_ns` is for one that has no own."""
        times = new.copied or times_from(now_ns, new.ttl_ns, ttl_ns)
        self.records[record_id] = Version(
            Record(
                record_id=record_id,
                vector=np.array(new.vector, np.float32),
                metadata=metadata,
                text=new.text,
                event_time_ns=new.event_time_ns,
                expire_time_ns=times.expire_time_ns,
                ingest_time_ns=times.ingest_time_ns,
                revision=revision,
            )
        )

    def end(self, record_id: str, now_ns: int) -> bool:
        """Remove a record, to the history where there is one; whether it was there."""
        version = self.records.pop(record_id, None)
        if version is None:
            return False
        window = self.collection.history_window_ns
        if window:
            ends = version.record.expire_time_ns
            end = now_ns if ends is None else min(now_ns, ends)
            self.history.append(Version(version.record, end, end + window))
        return True

    def forget_history(self, now_ns: int) -> None:
        """Remove what nobody can ask for any more."""
        self.history = [each for each in self.history if (each.due_ns or 0) > now_ns]

    def changed(
        self,
        record_ids: Sequence[str],
        change: MetadataChange,
        *,
        row_filter: Filter | None,
        now_ns: int,
    ) -> list[Record]:
        """Records that are there and may be seen, with other metadata."""
        found = []
        for record_id in record_ids:
            version = self.records.get(record_id)
            if version is None or not alive(version.record, now_ns):
                continue
            old = version.record.metadata
            if row_filter is not None and not matches(row_filter, old):
                continue
            kept = (
                {} if change.replace else {k: v for k, v in old.items() if k not in change.remove}
            )
            metadata = kept | change.set
            if row_filter is not None and not matches(row_filter, metadata):
                raise restricted_by_row_filter(record_id)
            stored = msgspec.msgpack.decode(encode_metadata(metadata, "set"))
            found.append(msgspec.structs.replace(version.record, metadata=stored))
        return found

    def exchange(self, shadow: Kept, *, now_ns: int, revision: int) -> None:
        """Exchange records with the shadow; settings stay."""
        mine, other = self.collection, shadow.collection
        self.records, shadow.records = shadow.records, self.records
        self.history, shadow.history = shadow.history, self.history
        for kept, old, new in ((self, mine, other), (shadow, other, mine)):
            kept.collection = replace(
                old,
                dimension=new.dimension,
                metric=new.metric,
                embedding=new.embedding,
                hnsw=new.hnsw,
            )
            kept.history_start_ns = now_ns
            kept.records_revision = revision
        shadow.collection = replace(shadow.collection, role="previous")

    def seen(self, query: Query, time_ns: int) -> list[Record]:
        """What a query may find; `time_ns` is now, or the time that it asks for."""
        versions = list(self.records.values())
        if query.as_of_ns is not None:
            versions += [each for each in self.history if (each.end_ns or 0) > time_ns]
        return [
            each.record
            for each in versions
            if (query.as_of_ns is None or each.record.ingest_time_ns <= time_ns)
            and (query.include_expired or alive(each.record, time_ns))
            and _lies_in(each.record.event_time_ns, query.event_time)
            and _lies_in(each.record.ingest_time_ns, query.ingest_time)
            and (query.filter is None or matches(query.filter, each.record.metadata))
        ]


def alive(record: Record, now_ns: int) -> bool:
    """Whether a record has not expired."""
    return record.expire_time_ns is None or record.expire_time_ns > now_ns


def with_prefix(kept: Kept, prefixes: Sequence[str]) -> list[str]:
    """Ids that begin with one of the prefixes."""
    return [key for key in kept.records if key.startswith(tuple(prefixes))]


def masked(record: Record, mask: Mask) -> Record:
    """A record without what nobody asked for."""
    return msgspec.structs.replace(
        record,
        vector=record.vector if mask.vector else None,
        metadata=record.metadata if mask.metadata else {},
        text=record.text if mask.text else "",
    )


def size_of(record: Record) -> int:
    """Bytes of vector, metadata and text."""
    assert record.vector is not None
    metadata = msgspec.msgpack.encode(record.metadata)
    return len(record.vector) * 4 + len(metadata) + len(record.text.encode())


def _lies_in(time_ns: int | None, span: Span | None) -> bool:
    if span is None:
        return True
    if time_ns is None:
        return False
    after = span.start_ns is None or time_ns >= span.start_ns
    return after and (span.end_ns is None or time_ns < span.end_ns)

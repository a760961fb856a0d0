"""One namespace in memory: segments with graphs, and the tail that no segment holds yet.

Everything here is made from the store and follows each commit. While segments are built, merged or
made small again, searches go on with what is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np

from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.vector.engines import layout, postings
from services.vector.engines.building import BuildFailedError
from services.vector.engines.changes import Edit
from services.vector.engines.layout import CollectionRow, NamespaceRow
from services.vector.engines.sealing import Merge, Sealing
from services.vector.engines.tail import Arrivals, Tail
from services.vector.model import Metric
from services.vector.segments.container import FileRefusedError
from services.vector.segments.footprint import give_back
from services.vector.segments.rows import NEVER, NO_TIME, Int64s, Table, history_count
from services.vector.segments.segment import Segment, open_segment

_log = logging.getLogger(__name__)

SETTLE_S = 0.4
"""A tail that is still growing is not built from before it has been quiet for so long, so that what
is imported in one go becomes one segment."""
PATIENCE_S = 5.0
"""A tail that is never quiet is built from all the same after so long."""
SEGMENT_ROWS_MAX = 262_144
"""A segment that has reached this is merged with no other; a tail that has, is built at once."""
DEAD_SHARE = 0.25
"""A segment of which more is dead is built anew."""
_RETRY_S = 5.0


class Namespace:
    """Rows of one namespace. Used on the event loop; heavy work is in threads and the builder."""

    def __init__(
        self, number: int, row: NamespaceRow, *, exact_threshold: int, sealing: Sealing
    ) -> None:
        self.number = number
        self.row = row
        self.metric = Metric(row.metric)
        self.dimension = row.dimension
        self.revision = 0
        self.used_at = time.monotonic()
        self.segments: dict[int, Segment] = {}
        self._tail = Tail(row.dimension, self.metric, shared=row.shared)
        self._exact_threshold = exact_threshold
        self._sealing = sealing
        self._written_at = 0.0
        self._unfit: set[int] = set()
        self._hurry = asyncio.Event()
        self._anew = False
        self._failed_at: float | None = None
        self._closing = False
        self._working: asyncio.Task[None] | None = None

    def read(self, view: View) -> None:
        """Take in what is stored, and segments' files. Runs in any thread, once.

        Raises:
            ServiceError: RECORD_CORRUPT.
        """
        self.revision = view.revision()
        living = self._living(view)
        gone, ends_ns = _ends(view, self.number)
        self._open_segments(view)
        kept = np.union1d(living, gone) if len(gone) else living
        for segment in self.segments.values():
            segment.show(living, gone, ends_ns)
            kept = np.setdiff1d(kept, segment.table().labels, assume_unique=True)
        if len(kept):
            self._tail.append(_stored(view, self.number, self.dimension, kept))
            self._tail.remove(gone, ends_ns)

    def apply(self, edits: Iterable[Edit], revision: int) -> None:
        """Take in what a commit changed, unless it was in the store already when that was read."""
        known = revision <= self.revision
        for edit in edits:
            if known and not edit.forgotten:
                continue
            if edit.removed:
                self._remove(*edit.ended())
            if edit.forgotten:
                labels = np.sort(np.asarray(edit.forgotten, np.int64))
                self._remove(labels, np.full(len(labels), NO_TIME))
            if edit.labels:
                self._tail.append(edit.arrivals(revision))
                self._written_at = time.monotonic()
        self.revision = max(self.revision, revision)

    def drop_member(self, member: int) -> None:
        """Forget the rows of a collection that is gone."""
        for table in self.tables():
            assert table.members is not None
            labels = table.labels[table.members == member]
            self._remove(labels, np.full(len(labels), NO_TIME))

    def tables(self) -> list[Table]:
        """The rows now."""
        return [*(segment.table() for segment in self.segments.values()), self._tail.table()]

    def size_bytes(self) -> int:
        """Memory that searching takes, mapped files included."""
        return self._tail.size_bytes() + self.mapped_bytes()

    def mapped_bytes(self) -> int:
        """What of that are mapped files."""
        return sum(segment.resident_bytes() for segment in self.segments.values())

    def file_bytes(self) -> int:
        """Bytes of the segments' files."""
        return sum(segment.size_bytes for segment in self.segments.values())

    def indexed_count(self, member: int) -> int:
        """Living rows of a member that graphs cover."""
        tables = [segment.table() for segment in self.segments.values()]
        if not self.row.shared:
            return sum(table.alive_count for table in tables)
        return sum(int((table.alive & (table.members == member)).sum()) for table in tables)

    def dead_count(self) -> int:
        """Nodes of graphs whose record is gone."""
        return sum(_dead(segment.table()) for segment in self.segments.values())

    def follow(self) -> None:
        """See that segments will become what they should, if there is anything to do."""
        idle = self._working is None or self._working.done()
        if idle and not self._closing and self._plan() is not None:
            self._working = asyncio.create_task(self._work())

    async def settle(self) -> None:
        """Return once segments are what they should be."""
        self._failed_at = None
        self._hurry.set()
        try:
            self.follow()
            while self._working is not None and not self._working.done():
                await asyncio.shield(self._working)
                if self._failed_at is not None:
                    return
                self.follow()
        finally:
            self._hurry.clear()

    def rebuild(self, row: CollectionRow) -> int:
        """Begin to build all segments again; how many rows a collection has."""
        self._anew = bool(self.segments)
        self._failed_at = None
        self.follow()
        return row.record_count

    def lag_count(self) -> int:
        """Rows that are to be put into a graph and are compared one by one until then."""
        if self.metric is Metric.MANHATTAN:
            return 0
        count = self._tail.table().alive_count
        return count if count > self._exact_threshold else 0

    def busy(self) -> bool:
        """Whether segments are being worked on."""
        return self._working is not None and not self._working.done()

    async def close(self) -> None:
        """Stop working; what was built and not registered is thrown away."""
        self._closing = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    def _living(self, view: View) -> Int64s:
        living = postings.to_array(postings.living(view, self.number))
        if not self.row.shared:
            return living
        for key in view.keys(layout.DOOMED, layout.namespace_key(self.number)):
            gone = postings.to_array(postings.members(view, self.number, layout.read_pair(key)[1]))
            living = np.setdiff1d(living, gone, assume_unique=True)
        return living

    def _open_segments(self, view: View) -> None:
        for key, value in view.scan(layout.SEGMENTS, layout.namespace_key(self.number)):
            number = layout.read_pair(key)[1]
            row = layout.unpack_segment(value)
            try:
                self.segments[number] = open_segment(
                    self._sealing.folder / row.file,
                    row.digest,
                    namespace=self.number,
                    dimension=self.dimension,
                )
            except FileRefusedError as refusal:
                _log.warning("the segment %s is not used: %s", row.file, refusal)
                self._unfit.add(number)

    def _remove(self, labels: Int64s, ends_ns: Int64s) -> None:
        for segment in self.segments.values():
            segment.remove(labels, ends_ns)
        self._tail.remove(labels, ends_ns)

    def _plan(self) -> Merge | None:
        """What to do next: rows of which segments become one segment with the tail's."""
        if self.metric is Metric.MANHATTAN and not self.segments:
            return None
        tail = self._tail.table()
        worn = {
            number
            for number, segment in self.segments.items()
            if self._anew or _is_worn(segment.table(), self._exact_threshold)
        }
        grown = tail.alive_count > self._exact_threshold
        if not (worn or grown or self._unfit):
            return None
        rows = tail.alive_count + sum(self.segments[n].table().alive_count for n in worn)
        chosen = worn | self._partners(rows, worn)
        return Merge(frozenset(chosen), frozenset(self._unfit))

    def _partners(self, rows: int, worn: set[int]) -> set[int]:
        """Segments that are small beside what is to be built, so that few stay."""
        sizes = {n: each.table().alive_count for n, each in self.segments.items() if n not in worn}
        chosen: set[int] = set()
        for number, size in sorted(sizes.items(), key=lambda pair: pair[1]):
            if size > 2 * rows or rows + size > SEGMENT_ROWS_MAX:
                break
            chosen.add(number)
            rows += size
        return chosen

    async def _work(self) -> None:
        wanted_at = time.monotonic()
        while not self._closing and (merge := self._plan()) is not None:
            try:
                if await self._waited(wanted_at):
                    continue
                await self._merge(merge)
                self._failed_at, wanted_at = None, time.monotonic()
            except (BuildFailedError, FileRefusedError, OSError, ServiceError) as error:
                # Whatever it was, scans answer meanwhile.
                _log.warning("segments of namespace %d: %s", self.number, error)
                self._failed_at = time.monotonic()
                if self._hurry.is_set():
                    return

    async def _waited(self, wanted_at: float) -> bool:
        """Wait for the tail to be quiet, or for the next try after a failure."""
        now = time.monotonic()
        until = min(self._written_at + SETTLE_S, wanted_at + PATIENCE_S)
        if self._tail.table().alive_count >= SEGMENT_ROWS_MAX or self._hurry.is_set():
            until = 0.0
        if self._failed_at is not None:
            until = max(until, self._failed_at + _RETRY_S)
        if until <= now:
            return False
        if self._failed_at is None and self._tail.table().alive_count > self._exact_threshold:
            await self._sealing.prepare()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), min(until - now, SETTLE_S))
        return True

    async def _merge(self, merge: Merge) -> None:
        tail = self._tail.table()
        last = int(tail.labels[-1]) if len(tail) else -1
        anew, self._anew = self._anew, False
        try:
            sealed = await self._sealing.seal(
                self.number,
                self.row,
                [*self._tables_of(merge), tail],
                small=self._exact_threshold,
                replaces=merge.segments | merge.unfit,
            )
        except BaseException:
            self._anew = self._anew or anew
            raise
        state = _state([*self._tables_of(merge), self._tail.table()])
        if sealed.segment is not None:
            sealed.segment.show(*state)
            self.segments[sealed.number] = sealed.segment
            self._tail.keep(_after(self._tail.table(), last))
        elif sealed.rows is not None:
            self._take_back(sealed.rows, state, last)
        for number in merge.segments:
            self._sealing.forget(self.segments.pop(number).path)
        self._unfit -= merge.unfit
        give_back()

    def _tables_of(self, merge: Merge) -> list[Table]:
        return [self.segments[number].table() for number in sorted(merge.segments)]

    def _take_back(self, rows: Arrivals, state: tuple[Int64s, Int64s, Int64s], last: int) -> None:
        """Go on with a tail alone: too few rows are left for a graph."""
        old = self._tail.table()
        living, gone, ends_ns = state
        self._tail = Tail(self.dimension, self.metric, shared=self.row.shared)
        if len(rows.labels):
            self._tail.append(rows)
        newer = _after(old, last)
        if len(newer):
            self._tail.append(_arrivals(old, newer))
        self._tail.remove(gone, ends_ns)
        table = self._tail.table()
        lost = np.setdiff1d(table.labels[table.alive], living, assume_unique=True)
        self._tail.remove(lost, np.full(len(lost), NO_TIME))


def _after(table: Table, label: int) -> Int64s:
    """Rows of larger labels."""
    return np.arange(np.searchsorted(table.labels, label, "right"), len(table))


def _dead(table: Table) -> int:
    return len(table) - table.alive_count - history_count(table)


def _is_worn(table: Table, exact_threshold: int) -> bool:
    return table.alive_count == 0 or _dead(table) > max(
        DEAD_SHARE * len(table), min(exact_threshold, len(table) // 2)
    )


def _ends(view: View, number: int) -> tuple[Int64s, Int64s]:
    """Labels that are kept for the history, rising, and when they ended."""
    found = [
        (layout.read_label(key), layout.unpack_end(value).end_ns)
        for key, value in view.scan(layout.ENDS, layout.namespace_key(number))
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _stored(view: View, number: int, dimension: int, labels: Int64s) -> Arrivals:
    """Rows from the store."""
    vectors = np.empty((len(labels), dimension), np.float32)
    payloads = []
    for row, label in enumerate(labels.tolist()):
        vector = view.get(layout.VECTORS, layout.label_key(number, label))
        payload = view.get(layout.PAYLOADS, layout.label_key(number, label))
        if vector is None or payload is None or len(vector) != 4 * dimension:
            raise _disagree(number, label)
        vectors[row] = np.frombuffer(vector, "<f4")
        payloads.append(layout.unpack_payload(payload))
    return Arrivals(
        labels=labels,
        record_ids=[payload.record_id for payload in payloads],
        vectors=vectors,
        ingest_times_ns=[payload.ingest_time_ns for payload in payloads],
        event_times_ns=[
            NO_TIME if payload.event_time_ns is None else payload.event_time_ns
            for payload in payloads
        ],
        expire_times_ns=[payload.expire_time_ns for payload in payloads],
        members=[payload.member for payload in payloads],
        revision=max(payload.revision for payload in payloads),
    )


def _arrivals(table: Table, rows: Int64s) -> Arrivals:
    """Rows of a table as new ones of another; under cosine they have length 1 already."""
    count = len(rows)
    event, expire, members = table.event_times_ns, table.expire_times_ns, table.members
    return Arrivals(
        labels=table.labels[rows],
        record_ids=[table.record_ids[row] for row in rows.tolist()],
        vectors=table.vectors.exact(rows),
        ingest_times_ns=table.ingest_times_ns[rows],
        event_times_ns=np.full(count, NO_TIME) if event is None else event[rows],
        expire_times_ns=np.full(count, NEVER) if expire is None else expire[rows],
        members=np.zeros(count, np.int64) if members is None else members[rows],
        revision=table.revision,
    )


def _state(tables: Sequence[Table]) -> tuple[Int64s, Int64s, Int64s]:
    """Labels that live; labels that are kept for the history, and when they ended; all rising."""
    living = np.concatenate([table.labels[table.alive] for table in tables])
    gone, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for table in tables:
        if table.ends_ns is not None:
            rows = np.flatnonzero(~table.alive & (table.ends_ns != NO_TIME))
            gone.append(table.labels[rows])
            ends.append(table.ends_ns[rows])
    labels = np.concatenate(gone)
    order = np.argsort(labels)
    return np.sort(living), labels[order], np.concatenate(ends)[order]


def _disagree(namespace: int, label: int) -> ServiceError:
    return ServiceError(
        Reason.RECORD_CORRUPT,
        "Records and their vectors do not agree; restore the store from a backup.",
        key=layout.label_key(namespace, label).hex(),
    )

"""Lexical search in the embedded engine: one index a collection, made when it is first asked."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from services.common.limits import MIB
from services.common.store import View
from services.vector.checks import check_settings
from services.vector.engines import reads
from services.vector.engines.changes import Place
from services.vector.engines.core import Core
from services.vector.engines.layout import OWN, CollectionRow
from services.vector.engines.lexical import LexicalIndex
from services.vector.engines.namespace import Namespace
from services.vector.engines.visible import Sight
from services.vector.model import Hit, Query, Record, SearchPath, SearchResult
from services.vector.segments.rows import Int64s, Table

INDEX_BYTES_MAX = 512 * MIB
"""Text whose indexes are kept; those longest unused go."""
IDLE_S = 300.0
_DEAD_MIN = 1000
_AT_ONCE = 20_000


class _Entry:
    def __init__(self) -> None:
        self.index = LexicalIndex()
        self.lock = threading.Lock()
        self.used_at = time.monotonic()


class Lexicon:
    """Indexes by namespace and member."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._entries: OrderedDict[tuple[int, int], _Entry] = OrderedDict()

    async def search(self, place: Place, text: str, query: Query) -> SearchResult:
        """The records that share a word with a text, best first."""
        check_settings(query)
        while True:
            async with self._core.opened.view() as view:
                row = reads.need_row(view, place, self._core.now_ns())
                namespace = self._core.opened.find(row.namespace)
                if namespace is not None:
                    return await self._found(view, row, namespace, text=text, query=query)
            await self._core.opened.load(row.namespace)

    def rest(self) -> None:
        """Let go of indexes that nobody has used for a while, or that are too many."""
        before = time.monotonic() - IDLE_S
        size = sum(entry.index.size_bytes() for entry in self._entries.values())
        for key, entry in list(self._entries.items()):
            if entry.used_at > before and size <= INDEX_BYTES_MAX:
                return
            size -= entry.index.size_bytes()
            del self._entries[key]

    def forget(self, namespaces: Collection[int]) -> None:
        """Let go of the indexes of these."""
        for key in [key for key in self._entries if key[0] in namespaces]:
            del self._entries[key]

    async def _found(
        self, view: View, row: CollectionRow, namespace: Namespace, *, text: str, query: Query
    ) -> SearchResult:
        entry = self._entry(row) if query.as_of_ns is None else _Entry()
        tables = namespace.tables()

        def work() -> SearchResult:
            sight = self._core.sight(view, row, query, namespace)
            seen = _labels([(table, sight.rows(table)) for table in tables])
            with entry.lock:
                if query.as_of_ns is None:
                    _follow(entry, view, row, _living(tables, row))
                else:
                    _take_in(entry.index, view, row.namespace, seen)
                ranked = _visible(entry.index, text, seen, query.limit)
            return _result(view, row.namespace, ranked, query, len(seen))

        return await self._core.in_pool(work)

    def _entry(self, row: CollectionRow) -> _Entry:
        entry = self._entries.setdefault((row.namespace, row.member), _Entry())
        self._entries.move_to_end((row.namespace, row.member))
        entry.used_at = time.monotonic()
        return entry


def _labels(rows: Sequence[tuple[Table, Int64s]]) -> Int64s:
    return np.sort(np.concatenate([table.labels[some] for table, some in rows]))


def _living(tables: Sequence[Table], row: CollectionRow) -> Int64s:
    sight = Sight(
        member=None if row.member == OWN else row.member,
        labels=None,
        filter=None,
        event_time=None,
        ingest_time=None,
        as_of_ns=None,
        expired_by_ns=None,
        read_metadata=lambda _: None,
    )
    return _labels([(table, sight.rows(table)) for table in tables])


def _follow(entry: _Entry, view: View, row: CollectionRow, living: Int64s) -> None:
    """Take in what is new; begin anew where too much of the index is gone."""
    known = int(np.searchsorted(living, entry.index.covered, "right"))
    if entry.index.count - known > max(_DEAD_MIN, len(living) // 2):
        entry.index, known = LexicalIndex(), 0
    _take_in(entry.index, view, row.namespace, living[known:])


def _take_in(index: LexicalIndex, view: View, namespace: int, labels: Int64s) -> None:
    for start in range(0, len(labels), _AT_ONCE):
        some = labels[start : start + _AT_ONCE].tolist()
        index.add(some, [reads.need_payload(view, namespace, label).text for label in some])


def _visible(index: LexicalIndex, text: str, seen: Int64s, limit: int) -> list[tuple[int, float]]:
    """The best that may be found; asks for more until there are enough, or no more."""
    count = 2 * limit + 8
    while True:
        found = index.search(text, count)
        labels = np.array([label for label, _ in found], np.int64)
        places = np.minimum(np.searchsorted(seen, labels), max(len(seen) - 1, 0))
        good = seen[places] == labels if len(seen) else np.zeros(len(labels), np.bool_)
        kept = [pair for pair, ok in zip(found, good.tolist(), strict=True) if ok]
        if len(kept) > limit or len(found) < count:
            return kept
        count *= 4


def _result(
    view: View,
    namespace: int,
    ranked: Sequence[tuple[int, float]],
    query: Query,
    match_count: int,
) -> SearchResult:
    least = query.score_threshold
    hits = [
        Hit(record=_record(view, namespace, label, query), score=score, distance=-score)
        for label, score in ranked
        if least is None or score >= least
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.record.record_id))
    return SearchResult(
        hits=hits[: query.limit],
        exact=True,
        indexed_revision=view.revision(),
        revision=view.revision(),
        path=SearchPath.SCAN,
        candidate_count=len(ranked),
        match_count=match_count,
    )


def _record(view: View, namespace: int, label: int, query: Query) -> Record:
    if query.columns:
        return Record(record_id=reads.need_payload(view, namespace, label).record_id)
    return reads.record(view, namespace, label, query.mask)

"""One search in one open collection, over all its tables: through graphs, or row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.store import View
from services.vector.engines import nearest, reads
from services.vector.engines.nearest import Probes
from services.vector.engines.visible import Sight
from services.vector.model import (
    Exactness,
    Hit,
    Mask,
    Metric,
    Query,
    Record,
    SearchPath,
    SearchResult,
)
from services.vector.segments.graph import EF_MIN, RECALL_DEFAULT, Graph
from services.vector.segments.rows import NO_TIME, Floats, Int64s, Table

CANDIDATES_MAX = 4096
"""Nodes asked of a graph; where more would be needed, a scan is quicker."""
_ROWS_A_NODE = 50
"""Rows that a scan compares while a graph visits one node (measured, 384 numbers)."""
_ROWS_A_NODE_TOGETHER = 150
"""The same, where a scan compares them with several probes at once."""
_SPARE = 2
_TABLE_BITS = 40
_ROW_BITS = (1 << _TABLE_BITS) - 1
_THREADED_PROBES = 4
_LIVING_SHARE = 0.999
_SHARED_BELOW = 2
"""Fewer rows than so many times those that are compared exactly: several probes share many."""


@dataclass(slots=True)
class _Part:
    """A table and what of it may be found."""

    table: Table
    rows: Int64s | None
    """None: every row."""
    mask: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    def visible(self) -> NDArray[np.bool_]:
        """Whether each row may be found."""
        if self.mask is None:
            self.mask = np.zeros(len(self.table), np.bool_)
            self.mask[slice(None) if self.rows is None else self.rows] = True
        return self.mask


class Search:
    """A query on tables that do not change. `run` may be called in any thread, once."""

    def __init__(
        self,
        tables: Sequence[Table],
        view: View,
        query: Query,
        sight: Sight,
        *,
        namespace: int,
        metric: Metric,
        ef_search: int,
        exact_threshold: int,
        threads: int,
    ) -> None:
        """Search what `view` shows; the tables stand at the same revision."""
        self._tables = [table for table in tables if len(table)]
        self._view = view
        self._query = query
        self._sight = sight
        self._namespace = namespace
        self._metric = metric
        self._ef_search = ef_search
        self._exact_threshold = exact_threshold
        self._threads = threads
        self._candidates = np.zeros(len(query.vectors), np.int64)
        self._path = SearchPath.SCAN
        self._exact = True
        self._probes: Probes
        self._revision = view.revision()
        self._indexed_revision = max(
            (table.revision for table in self._tables if table.graph is not None), default=0
        )

    def cost(self) -> int:
        """What it will take, roughly, in rows looked at."""
        total = 0
        for table in self._tables:
            rows = len(table)
            if table.graph is not None and self._query.exactness is not Exactness.EXACT:
                rows = min(rows, EF_MIN * _ROWS_A_NODE)
            total += rows
        return total * len(self._query.vectors)

    def run(self) -> list[SearchResult]:
        """One result for each vector of the query."""
        if not self._query.vectors:
            return []
        self._probes = nearest.probes(self._query.vectors, self._metric)
        parts = [self._part(table) for table in self._tables]
        count = sum(part.count for part in parts)
        if any(part.rows is not None for part in parts):
            self._path = SearchPath.MATCHES
        codes, scores = [], []
        for number, part in enumerate(parts):
            if part.count:
                rows = self._look(part)
                scores.append(self._scored(part, rows))
                codes.append(np.where(rows < 0, -1, rows + (number << _TABLE_BITS)))
        ranked = self._rank(codes, scores)
        return [self._result(each, place, count) for place, each in enumerate(ranked)]

    def _part(self, table: Table) -> _Part:
        if self._sight.open_to(table):
            return _Part(table, None)
        return _Part(table, self._sight.rows(table))

    def _look(self, part: _Part) -> Int64s:
        """Rows that may be among the nearest, for each probe; (b, any), -1 for none."""
        graph = part.table.graph
        width = None if graph is None else self._width(graph, part)
        if graph is None or width is None:
            return self._compare_all(part, range(len(self._probes)))
        return self._through(graph, part, width)

    def _width(self, graph: Graph, part: _Part) -> int | None:
        """How wide to search a graph; None: compare with every row instead."""
        query = self._query
        if query.exactness is Exactness.EXACT or part.count <= query.limit:
            return None
        width = self._chosen_width(graph, part)
        if width is None or query.exactness is Exactness.APPROXIMATE:
            return width
        needed = max(width, self._asked(graph, part))
        rows = _ROWS_A_NODE_TOGETHER if self._together(part) else _ROWS_A_NODE
        return None if part.count <= max(self._exact_threshold, rows * needed) else width

    def _together(self, part: _Part) -> bool:
        probes = len(self._probes)
        return probes >= _THREADED_PROBES and nearest.at_once(probes, part.count)

    def _chosen_width(self, graph: Graph, part: _Part) -> int | None:
        """What was asked for, or what has the recall that was: so many of the visible rows."""
        query = self._query
        if query.min_recall is not None:
            width = graph.width(query.min_recall, query.limit)
        elif query.expansion or self._ef_search:
            return max(query.expansion or self._ef_search, 1)
        else:
            width = graph.width(RECALL_DEFAULT, query.limit) or graph.widest(query.limit)
        if width is None:
            return None
        return min(math.ceil(width / _share(graph, part)), max(width, CANDIDATES_MAX))

    def _asked(self, graph: Graph, part: _Part) -> int:
        """How many nodes to ask for at first, so that enough of them may be found."""
        enough = graph.enough(self._query.limit) + _SPARE
        share = _share(graph, part)
        return enough if share == 1 else math.ceil(1.2 * enough / share) + _SPARE

    def _through(self, graph: Graph, part: _Part, width: int) -> Int64s:
        """Ask the graph for more until enough of what it names may be found, else compare all."""
        self._exact = False
        if self._path is not SearchPath.FALLBACK:
            self._path = max(self._path, SearchPath.GRAPH, key=_RANK.__getitem__)
        nodes = self._probes.nodes
        missing = np.arange(len(self._probes))
        found: list[Int64s] = [np.zeros(0, np.int64)] * len(self._probes)
        count = self._asked(graph, part)
        while len(missing) and count <= CANDIDATES_MAX:
            threads = self._threads if len(missing) >= _THREADED_PROBES else 1
            rows = graph.search(nodes[missing], min(count, len(graph)), max(width, count), threads)
            self._candidates[missing] += (rows >= 0).sum(axis=1)
            good = rows >= 0 if part.rows is None else (rows >= 0) & part.visible()[rows]
            short = good.sum(axis=1) < min(self._query.limit, part.count)
            if len(missing) == len(found) and not short.any():
                return np.where(good, rows, -1)
            for place, probe in enumerate(missing.tolist()):
                found[probe] = rows[place][good[place]]
            missing, count = missing[short], 2 * count
            if len(missing):
                self._path = max(self._path, SearchPath.GRAPH_WIDENED, key=_RANK.__getitem__)
        if len(missing):
            self._path = SearchPath.FALLBACK
            every = self._compare_all(part, missing.tolist())
            for place, probe in enumerate(missing.tolist()):
                found[probe] = every[place]
        return _padded(found)

    def _compare_all(self, part: _Part, places: Sequence[int]) -> Int64s:
        table, limit = part.table, self._query.limit
        self._candidates[list(places)] += part.count
        most = part.rows is None or len(part.rows) > len(table) // 2
        if most and not nearest.at_once(len(places), part.count):
            visible = part.visible()
            found = [
                nearest.all_rows(table, self._probes, place, visible, limit) for place in places
            ]
        else:
            rows = np.arange(len(table)) if part.rows is None else part.rows
            found = nearest.some_rows(table, self._probes, places, rows, limit)
        return _padded(found)

    def _scored(self, part: _Part, rows: Int64s) -> Floats:
        """Scores of rows, (b, any); -inf where there is none."""
        scores = np.full(rows.shape, -np.inf, np.float32)
        good = rows >= 0
        owners = np.nonzero(good)[0]
        repeated = part.count < _SHARED_BELOW * rows.size
        scores[good] = nearest.scores(
            part.table, rows[good], self._probes, owners, repeated=repeated
        )
        return scores

    def _rank(self, codes: list[Int64s], scores: list[Floats]) -> list[list[tuple[int, float]]]:
        """Code and score of the nearest to each probe, best first, ties by record id."""
        if not codes:
            return [[] for _ in range(len(self._probes))]
        limit = self._query.limit
        all_codes, all_scores = np.concatenate(codes, axis=1), np.concatenate(scores, axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, : limit + 1]
        best = np.take_along_axis(all_scores, order, axis=1)
        tied = (best[:, 1:] == best[:, :-1]).any(axis=1).tolist()
        chosen = np.take_along_axis(all_codes, order[:, :limit], axis=1).tolist()
        ranked = []
        for place, pairs in enumerate(map(zip, chosen, best[:, :limit].tolist())):
            if tied[place]:
                ranked.append(self._by_id(all_codes[place], all_scores[place]))
            else:
                ranked.append([pair for pair in pairs if pair[0] >= 0])
        return ranked

    def _by_id(self, codes: Int64s, scores: Floats) -> list[tuple[int, float]]:
        limit = self._query.limit
        if len(scores) > limit:
            worst = np.partition(scores, len(scores) - limit)[len(scores) - limit]
            codes, scores = codes[scores >= worst], scores[scores >= worst]
        pairs = [pair for pair in zip(codes.tolist(), scores.tolist(), strict=True) if pair[0] >= 0]
        pairs.sort(key=lambda pair: (-pair[1], self._record_id(pair[0])))
        return pairs[:limit]

    def _result(
        self, ranked: list[tuple[int, float]], place: int, match_count: int
    ) -> SearchResult:
        least = self._query.score_threshold
        wanted = ranked if least is None else [pair for pair in ranked if pair[1] >= least]
        return SearchResult(
            hits=self._hits(wanted),
            exact=self._exact,
            indexed_revision=self._indexed_revision,
            revision=self._revision,
            path=self._path,
            candidate_count=int(self._candidates[place]),
            match_count=match_count,
            complete=len(ranked) >= min(self._query.limit, match_count),
        )

    def _hits(self, ranked: list[tuple[int, float]]) -> list[Hit]:
        records = map(self._reader(), [code for code, _ in ranked])
        cosine = self._metric is Metric.COSINE
        return [
            Hit(record=record, score=score, distance=1.0 - score if cosine else -score)
            for record, (_, score) in zip(records, ranked, strict=True)
        ]

    def _reader(self) -> Callable[[int], Record]:
        """What makes a record of a code: of what nobody asked for, nothing is read."""
        if self._query.columns:
            return lambda code: Record(record_id=self._record_id(code))
        return self._bare if self._query.mask == _NOTHING else self._whole

    def _whole(self, code: int) -> Record:
        table, row = self._place(code)
        label = int(table.labels[row])
        return reads.record(self._view, self._namespace, label, self._query.mask)

    def _bare(self, code: int) -> Record:
        """A record without its metadata and text."""
        table, row = self._place(code)
        event = NO_TIME if table.event_times_ns is None else int(table.event_times_ns[row])
        return Record(
            record_id=table.record_ids[row],
            event_time_ns=None if event == NO_TIME else event,
            ingest_time_ns=int(table.ingest_times_ns[row]),
        )

    def _place(self, code: int) -> tuple[Table, int]:
        return self._tables[code >> _TABLE_BITS], code & _ROW_BITS

    def _record_id(self, code: int) -> str:
        return self._tables[code >> _TABLE_BITS].record_ids[code & _ROW_BITS]


_NOTHING = Mask(vector=False, metadata=False, text=False)
_RANK = {
    SearchPath.SCAN: 0,
    SearchPath.MATCHES: 1,
    SearchPath.GRAPH: 2,
    SearchPath.GRAPH_WIDENED: 3,
    SearchPath.FALLBACK: 4,
}
"""Which path names a search that took several."""


def _share(graph: Graph, part: _Part) -> float:
    """How many of a graph's nodes may be found; a few that are gone do not count."""
    share = part.count / max(1, len(graph))
    return 1.0 if share > _LIVING_SHARE else share


def _padded(found: Sequence[Int64s]) -> Int64s:
    """Arrays as the rows of one, -1 where they end."""
    if len(found) == 1:
        return found[0][None]
    padded = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
    for row, array in zip(padded, found, strict=True):
        row[: len(array)] = array
    return padded

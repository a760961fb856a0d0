"""One search in one open collection: by scan, or by graph and a scan of what the graph lacks."""

from __future__ import annotations

import math

import numpy as np

from services.common.store import View
from services.vector.engines import nearest, reads
from services.vector.engines.index import EXPANSION_SEARCH, Graph
from services.vector.engines.namespace import Namespace
from services.vector.engines.nearest import Probe, Ranked, Visible
from services.vector.model import Exactness, Hit, Query, SearchResult

CANDIDATES_MAX = 4096
"""Nodes asked of a graph; where more would be needed, a scan is quicker."""
_GRAPH_COST_ROWS = 300
_READ_COST_ROWS = 100


class Search:
    """A query on a snapshot. `run` may be called in any thread, once."""

    def __init__(
        self,
        namespace: Namespace,
        view: View,
        query: Query,
        *,
        now_ns: int,
        exact_threshold: int,
    ) -> None:
        """Search what `view` shows; `namespace` stands at the same revision."""
        self._namespace = namespace.number
        self._metric = namespace.metric
        self._snapshot = namespace.snapshot()
        self._view = view
        self._query = query
        self._now_ns = now_ns
        self._exact_threshold = exact_threshold
        self._graph = namespace.graph
        covered = -1 if self._graph is None else self._graph.covered
        self._first_uncovered = self._snapshot.first_row_after(covered)

    def cost(self) -> int:
        """What it will take, in rows looked at; what stands before the scan counted likewise."""
        query, rows = self._query, len(self._snapshot.labels)
        if query.filter is not None:
            unread = self._snapshot.columns.unread(query.filter, rows)
            return rows * max(1, len(query.vectors)) + _READ_COST_ROWS * unread
        if self._usable_graph(self._snapshot.alive_count) is not None:
            rows = rows - self._first_uncovered + _GRAPH_COST_ROWS
        return rows * len(query.vectors)

    def run(self) -> list[SearchResult]:
        """One result for each vector of the query."""
        visible = self._visible()
        count = self._snapshot.alive_count if visible is None else int(visible.sum())
        probes = [nearest.probe(vector, self._metric) for vector in self._query.vectors]
        graph = self._usable_graph(count)
        if graph is None:
            ranked = self._scan(probes, visible)
            return [self._result(each, exact=True) for each in ranked]
        return [self._through(graph, probe, visible, count) for probe in probes]

    def _usable_graph(self, visible_count: int) -> Graph | None:
        """The graph, where it is worth asking."""
        exactness, covered = self._query.exactness, self._first_uncovered
        narrow = exactness is Exactness.AUTO and visible_count <= self._exact_threshold
        if covered == 0 or exactness is Exactness.EXACT or narrow:
            return None
        return self._graph if visible_count > self._query.limit else None

    def _visible(self) -> Visible:
        snapshot, query = self._snapshot, self._query
        visible = snapshot.alive
        if snapshot.expires and not query.include_expired:
            visible = visible & (snapshot.expire_times_ns > self._now_ns)
        if query.filter is not None:
            visible = visible & snapshot.columns.mask(query.filter, snapshot.alive, self._metadata)
        return None if visible.all() else visible

    def _metadata(self, row: int) -> bytes | None:
        return reads.metadata(self._view, self._namespace, int(self._snapshot.labels[row]))

    def _scan(self, probes: list[Probe], visible: Visible) -> list[Ranked]:
        return nearest.scan(self._snapshot, probes, self._metric, visible, self._query.limit)

    def _through(
        self, graph: Graph, probe: Probe, visible: Visible, visible_count: int
    ) -> SearchResult:
        """Ask the graph for more until enough of what it names is visible, else scan."""
        limit, snapshot = self._query.limit, self._snapshot
        covered = self._first_uncovered
        in_graph = covered if visible is None else int(visible[:covered].sum())
        share = visible_count / max(1, len(snapshot.labels), len(graph))
        count = math.ceil(1.2 * limit / share) + 8
        while count <= CANDIDATES_MAX:
            width = max(self._query.expansion or EXPANSION_SEARCH, count)
            rows = snapshot.rows_of(graph.search(probe.narrow, min(count, len(graph)), width))
            rows = rows if visible is None else rows[visible[rows]]
            if len(rows) >= min(limit, in_graph):
                return self._result(self._with_tail(rows, probe, visible), exact=False)
            count *= 2
        return self._result(self._scan([probe], visible)[0], exact=True)

    def _with_tail(self, rows: nearest.Rows, probe: Probe, visible: Visible) -> Ranked:
        """The best of some rows and of all that the graph does not cover."""
        snapshot, covered = self._snapshot, self._first_uncovered
        if covered < len(snapshot.labels):
            tail = np.ones(len(snapshot.labels), np.bool_) if visible is None else visible.copy()
            tail[:covered] = False
            newer = [row for row, _ in self._scan([probe], tail)[0]]
            rows = np.union1d(rows, np.array(newer, np.int64))
        return nearest.rank(snapshot, rows, probe, self._metric, self._query.limit)

    def _result(self, ranked: Ranked, *, exact: bool) -> SearchResult:
        least = self._query.score_threshold
        covered = self._first_uncovered
        hits = [self._hit(*pair) for pair in ranked if least is None or pair[1] >= least]
        return SearchResult(
            hits=hits,
            exact=exact,
            indexed_revision=int(self._snapshot.revisions[covered - 1]) if covered else 0,
            revision=self._view.revision(),
        )

    def _hit(self, row: int, score: float) -> Hit:
        label = int(self._snapshot.labels[row])
        return Hit(
            record=reads.record(self._view, self._namespace, label, self._query.mask),
            score=score,
            distance=nearest.distance(score, self._metric),
        )

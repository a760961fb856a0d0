"""What the vector process tells of its searches and of what stands in memory."""

from __future__ import annotations

from services.common.metrics import Counter, Metrics
from services.common.store_measures import add_store_metrics
from services.common.tracing import annotate
from services.vector.engines import Engine
from services.vector.model import SearchPath, SearchResult
from services.vector.retrieval import Retrieved


class SearchCounts:
    """Which way searches took, and how much they looked at."""

    def __init__(self) -> None:
        self._searches = Counter(("kind", "path"))
        self._candidates = Counter(("kind", "path"))

    def tell(self, metrics: Metrics) -> None:
        """Have them told to Prometheus."""
        metrics.rising(
            "llmspell_searches_total",
            "Searches by the way they took: scan, matches, graph, graph_widened or fallback.",
            self._searches.read,
            *self._searches.labels,
        )
        metrics.rising(
            "llmspell_search_candidates_total",
            "Records that searches looked at.",
            self._candidates.read,
            *self._candidates.labels,
        )

    def vectors(self, results: list[SearchResult]) -> None:
        """Searches by vector have their results."""
        for result in results:
            self._add("vector", result.path, result.candidate_count)

    def passages(self, found: Retrieved) -> None:
        """A search by text has its passages."""
        self._add("text", found.path, found.candidate_count)

    def _add(self, kind: str, path: SearchPath, candidates: int) -> None:
        self._searches.add(kind, path.value)
        self._candidates.add(kind, path.value, by=candidates)
        annotate({"llmspell.search.path": path.value, "llmspell.search.candidates": candidates})


def add_vector_metrics(metrics: Metrics, engine: Engine) -> SearchCounts:
    """What stands in memory, and what waits to be put into graphs; gives what counts searches."""
    searches = SearchCounts()
    searches.tell(metrics)
    metrics.gauge(
        "llmspell_index_lag_records",
        "Records of large collections that no graph has yet; searches compare them one by one.",
        lambda: engine.measures().lag_records,
    )
    metrics.gauge(
        "llmspell_index_builds_running",
        "Namespaces whose graphs are being built.",
        lambda: engine.measures().builds_running,
    )
    metrics.gauge(
        "llmspell_index_memory_bytes",
        "What vectors and graphs take in memory, mapped files included.",
        lambda: engine.measures().memory_bytes,
    )
    metrics.gauge(
        "llmspell_collections_open",
        "Namespaces that stand in memory.",
        lambda: engine.measures().open_count,
    )
    if engine.store is not None:
        add_store_metrics(metrics, engine.store)
    return searches

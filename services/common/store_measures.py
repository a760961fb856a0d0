"""What a process tells Prometheus of its store."""

from __future__ import annotations

from services.common.metrics import Metrics
from services.common.store import Store


def add_store_metrics(metrics: Metrics, store: Store) -> None:
    """Its size, what waits, and how many writes share a flush of the disk."""
    metrics.gauge("llmspell_store_bytes", "Size of the data file.", store.size_bytes)
    metrics.gauge(
        "llmspell_store_queue_length", "Writes that wait for the writer.", store.waiting_count
    )
    metrics.rising(
        "llmspell_store_commits_total", "Groups of writes that were flushed.", lambda: store.commits
    )
    metrics.rising(
        "llmspell_store_writes_total",
        "Writes in those groups; a commit's mean size is the ratio of the two.",
        lambda: store.writes,
    )

"""What the gateway tells Prometheus beside its calls."""

from __future__ import annotations

from services.common.metrics import Metrics
from services.gateway.audit import Audit
from services.gateway.fairness import FairPlaces


def add_gateway_metrics(metrics: Metrics, turns: FairPlaces, audit: Audit) -> None:
    """Who waits for a turn at each process, and what the audit log does not have yet."""
    metrics.gauge(
        "llmspell_fair_running",
        "Calls that have their turn at a process.",
        lambda: {(queue.name,): queue.running for queue in turns.queues},
        "upstream",
    )
    metrics.gauge(
        "llmspell_fair_waiting",
        "Calls that wait for their turn at a process.",
        lambda: {(queue.name,): queue.waiting for queue in turns.queues},
        "upstream",
    )
    metrics.gauge(
        "llmspell_audit_lag_entries",
        "Entries that the audit log does not have yet.",
        lambda: audit.lag_count,
    )

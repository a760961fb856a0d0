"""What the runtime process tells Prometheus beside its calls."""

from __future__ import annotations

from services.common.metrics import Metrics
from services.runtime.money.model_calls import ModelCalls
from services.runtime.pool import WorkerPool


def add_runtime_metrics(
    metrics: Metrics, scripts: WorkerPool, tools: WorkerPool, models: ModelCalls
) -> None:
    """Places of scripts and tools, who waits for one, and what models take."""
    models.tell(metrics)
    pools = {("scripts",): scripts, ("tools",): tools}
    metrics.gauge(
        "llmspell_workers_running",
        "Processes at work, of scripts and of tools.",
        lambda: {kind: pool.turns.running for kind, pool in pools.items()},
        "kind",
    )
    metrics.gauge(
        "llmspell_workers_waiting",
        "Scripts and tools that wait for a place.",
        lambda: {kind: pool.turns.waiting for kind, pool in pools.items()},
        "kind",
    )

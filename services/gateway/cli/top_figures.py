"""What `llmspell top` shows, worked out from two readings of the processes' metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Labels = frozenset[tuple[str, str]]
Key = tuple[str, str]
"""A sample's name and process."""

SHOWN_MAX = 8
"""Methods and tenants."""
_FAULTS = frozenset({"INTERNAL", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"})
_GATEWAY = "gateway"


@dataclass(slots=True)
class Reading:
    """The metrics of all processes at one moment."""

    at_s: float
    """On the monotonic clock."""
    samples: dict[Key, dict[Labels, float]] = field(default_factory=dict)
    away: tuple[str, ...] = ()
    """Processes that did not answer."""

    @classmethod
    def of(cls, texts: Mapping[str, str], at_s: float) -> Reading:
        """Read the texts of `Client.metrics`."""
        from prometheus_client.parser import (  # noqa: PLC0415  (slow to import)
            text_string_to_metric_families,
        )

        reading = cls(at_s, away=tuple(name for name, text in texts.items() if not text))
        for name, text in texts.items():
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    labels = frozenset(
                        pair for pair in sample.labels.items() if pair[0] != "process"
                    )
                    reading.samples.setdefault((sample.name, name), {})[labels] = sample.value
        return reading

    @property
    def processes(self) -> list[str]:
        """Those that answered, in their order."""
        return list(dict.fromkeys(name for _, name in self.samples))

    def value(self, name: str, process: str, **labels: str) -> float:
        """The sum of the series of a name that have these labels; 0 where there is none."""
        wanted = set(labels.items())
        found = self.samples.get((name, process), {})
        return sum(value for each, value in found.items() if wanted <= each)


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One process."""

    name: str
    is_ready: bool
    up_s: float = 0.0
    cpu_share: float = 0.0
    """Of one core."""
    memory_bytes: float = 0.0
    in_flight: int = 0
    calls_a_second: float = 0.0
    faults_a_second: float = 0.0


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """One method, as the gateway sees it."""

    name: str
    calls_a_second: float
    p50_s: float
    p99_s: float
    failures_a_second: float
    """Whatever the fault is."""


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """One tenant, as the gateway sees it."""

    name: str
    calls_a_second: float
    refusals_a_second: float
    mean_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One page of `top`."""

    interval_s: float
    processes: tuple[ProcessFigures, ...]
    methods: tuple[MethodFigures, ...]
    tenants: tuple[TenantFigures, ...]
    queues: Mapping[str, float]
    """What waits and what works, by name."""


def figures(before: Reading, now: Reading, wall_s: float) -> Figures:
    """What happened between two readings.

    Args:
        before: The first.
        now: The second.
        wall_s: Seconds since the epoch, at the second.
    """
    seconds = max(now.at_s - before.at_s, 1e-9)
    between = _Between(before, now, seconds)
    processes = [between.process(name, wall_s) for name in now.processes]
    processes += [ProcessFigures(name, is_ready=False) for name in now.away]
    methods = sorted(between.methods(), key=lambda each: -each.calls_a_second)
    tenants = sorted(between.tenants(), key=lambda each: -each.calls_a_second)
    return Figures(
        interval_s=seconds,
        processes=tuple(processes),
        methods=tuple(methods[:SHOWN_MAX]),
        tenants=tuple(tenants[:SHOWN_MAX]),
        queues=dict(between.queues()),
    )


@dataclass(frozen=True, slots=True)
class _Between:
    before: Reading
    now: Reading
    seconds: float

    def process(self, name: str, wall_s: float) -> ProcessFigures:
        now = self.now
        start_s = now.value("process_start_time_seconds", name)
        faults = sum(
            self._rate("grpc_server_handled_total", name, grpc_code=code) for code in _FAULTS
        )
        return ProcessFigures(
            name=name,
            is_ready=now.value("llmspell_ready", name) > 0,
            up_s=max(wall_s - start_s, 0.0) if start_s else 0.0,
            cpu_share=self._rate("process_cpu_seconds_total", name),
            memory_bytes=now.value("process_resident_memory_bytes", name),
            in_flight=int(now.value("llmspell_calls_in_flight", name)),
            calls_a_second=self._rate("grpc_server_started_total", name),
            faults_a_second=faults,
        )

    def methods(self) -> Iterator[MethodFigures]:
        counted = self.now.samples.get(("grpc_server_handling_seconds_count", _GATEWAY), {})
        for labels in counted:
            told = dict(labels)
            calls = self._rate("grpc_server_handling_seconds_count", _GATEWAY, **told)
            if not calls:
                continue
            buckets = self._buckets(told)
            answered = self._rate("grpc_server_handled_total", _GATEWAY, **told, grpc_code="OK")
            yield MethodFigures(
                name=f"{told['grpc_service'].rpartition('.')[2]}/{told['grpc_method']}",
                calls_a_second=calls,
                p50_s=quantile(buckets, 0.5),
                p99_s=quantile(buckets, 0.99),
                failures_a_second=max(calls - answered, 0.0),
            )

    def tenants(self) -> Iterator[TenantFigures]:
        for labels in self.now.samples.get(("llmspell_tenant_calls_total", _GATEWAY), {}):
            told = dict(labels)
            calls = self._rate("llmspell_tenant_calls_total", _GATEWAY, **told)
            took_s = self._rate("llmspell_tenant_seconds_total", _GATEWAY, **told)
            if calls:
                yield TenantFigures(
                    name=told["tenant"],
                    calls_a_second=calls,
                    refusals_a_second=self._rate(
                        "llmspell_tenant_refusals_total", _GATEWAY, **told
                    ),
                    mean_s=took_s / calls,
                )

    def queues(self) -> Iterator[tuple[str, float]]:
        for name in self.now.processes:
            for told, metric, labels in _GAUGES:
                if (metric, name) in self.now.samples:
                    yield f"{told}{_which(name)}", self.now.value(metric, name, **labels)
            writes = self._rate("llmspell_store_writes_total", name)
            groups = self._rate("llmspell_store_commits_total", name)
            if groups:
                yield f"{name} writes a commit", writes / groups
        tokens = self._sum("llmspell_model_tokens_total")
        if tokens:
            yield "model tokens a second", tokens

    def _sum(self, metric: str) -> float:
        return sum(self._rate(metric, name) for name in self.now.processes)

    def _rate(self, metric: str, process: str, **labels: str) -> float:
        """A second; a process that was started again has begun to count anew."""
        now = self.now.value(metric, process, **labels)
        before = self.before.value(metric, process, **labels)
        return (now - before if now >= before else now) / self.seconds

    def _buckets(self, labels: Mapping[str, str]) -> list[tuple[float, float]]:
        """Bounds and how many calls of this time were below each."""
        metric = ("grpc_server_handling_seconds_bucket", _GATEWAY)
        wanted = set(labels.items())
        before = self.before.samples.get(metric, {})
        found = []
        for each, value in self.now.samples.get(metric, {}).items():
            if wanted <= each:
                bound = float(dict(each)["le"])
                found.append((bound, value - min(before.get(each, 0.0), value)))
        return sorted(found)


_GAUGES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("scripts running", "llmspell_workers_running", {"kind": "scripts"}),
    ("scripts waiting", "llmspell_workers_waiting", {"kind": "scripts"}),
    ("tools running", "llmspell_workers_running", {"kind": "tools"}),
    ("tools waiting", "llmspell_workers_waiting", {"kind": "tools"}),
    ("records not indexed", "llmspell_index_lag_records", {}),
    ("writes waiting", "llmspell_store_queue_length", {}),
    ("calls waiting their turn", "llmspell_fair_waiting", {}),
    ("audit entries not written", "llmspell_audit_lag_entries", {}),
)


def _which(process: str) -> str:
    """Which of several of its kind."""
    instance = process.partition("/")[2]
    return f" ({instance})" if instance else ""


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """The time within which a share of the calls was, as Prometheus estimates it; 0: no calls."""
    if not buckets or not buckets[-1][1]:
        return 0.0
    wanted = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if math.isinf(bound):
                return low
            within = count - below
            return low + (bound - low) * ((wanted - below) / within if within else 1.0)
        low, below = bound, count
    return low

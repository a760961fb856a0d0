"""What a process tells Prometheus: counts of calls under their usual names, and what it measures.

Counting is on the way of every call, so it costs a microsecond or two and no more: what a series
is called is looked up once. Everything else is read when somebody asks. Every series says of which
process it is, so that the text of all four can be put together.

A label may only have values of which there are few. Of tenants those with most calls have series of
their own, the rest are one (`(other)`).
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from services.common.access import METHODS, Method
from services.common.door import Arrival, End
from services.common.errors import reason_name
from services.common.limits import LABEL_LENGTH_MAX, LABEL_VALUES_MAX
from services.common.status import status_code
from services.common.telemetry import Counts
from services.common.tenant_counts import OTHER, TenantCounts

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BOUNDS_S = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of how long a call took."""

_CALL_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_ONE = ()

Labels = tuple[str, ...]
Read = Callable[[], float | Mapping[Labels, float]]
"""A number, or numbers by the values of labels, as they are at this moment."""


@dataclass(slots=True)
class _Calls:
    """Of one method."""

    labels: Labels
    handled: dict[str, int] = field(default_factory=dict)
    """By code."""
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Told:
    """Something that is read when it is asked for."""

    name: str
    about: str
    read: Read
    labels: Labels
    rises: bool
    """Whether it is a counter: it begins at 0 with the process, and only rises."""


class Counter:
    """Numbers that rise, by the values of labels; beyond so many values the rest is `(other)`."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._other = tuple(OTHER for _ in labels)
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count; values come in the order of the labels' names."""
        values = self._values
        if labels not in values:
            labels = tuple(label[:LABEL_LENGTH_MAX] for label in labels)
            if labels not in values and len(values) >= LABEL_VALUES_MAX:
                labels = self._other
        values[labels] = values.get(labels, 0.0) + by

    def read(self) -> Mapping[Labels, float]:
        """All of them."""
        return dict(self._values)


class Metrics:
    """Of one process. A door observes calls with it; its other parts add what they know."""

    def __init__(self, process: str, counts: Counts) -> None:
        self.process = process
        self.tenants = TenantCounts()
        self._counts = counts
        self._by_path: dict[str, _Calls] = {}
        self._told: list[_Told] = []
        self._errors = self.counter(
            "llmspell_errors_total", "Calls that were refused or failed, by reason.", "reason"
        )
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._tell_counts()

    def __call__(self, arrival: Arrival, end: End) -> None:
        """A call has ended."""
        code = "OK"
        refused = False
        if end.is_cancelled:
            code = "CANCELLED"
        elif end.error is not None:
            status = status_code(end.error.reason)
            code = status.name
            refused = code in _REFUSALS
            self._errors.add(reason_name(end.error.reason))
        if arrival.method is not None:
            calls = self._calls(arrival.method)
            calls.handled[code] = calls.handled.get(code, 0) + 1
            calls.buckets[bisect.bisect_left(BOUNDS_S, end.elapsed_s)] += 1
            calls.seconds += end.elapsed_s
        if arrival.context is not None and arrival.context.tenant:
            self.tenants.count(arrival.context.tenant, end.elapsed_s, refused=refused)

    def gauge(self, name: str, about: str, read: Read, *labels: str) -> None:
        """Tell of something that rises and falls."""
        self._told.append(_Told(name, about, read, labels, rises=False))

    def rising(self, name: str, about: str, read: Read, *labels: str) -> None:
        """Tell of something that is counted elsewhere; its name ends in `_total`."""
        self._told.append(_Told(name, about, read, labels, rises=True))

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        """Something to count with."""
        made = Counter(labels)
        self.rising(name, about, made.read, *labels)
        return made

    async def tell(self) -> str:
        """All of it in the form that Prometheus reads.

        What is read for it is read in the event loop, where nothing else moves meanwhile; putting
        it into words takes milliseconds and is done beside it.
        """
        return await asyncio.to_thread(self._text, [*self._read_told(), *self._calls_told()])

    def _text(self, families: list[Metric]) -> str:
        families = [*self._registry.collect(), *families]
        for family in families:
            family.samples = [
                sample._replace(labels={"process": self.process, **sample.labels})
                for sample in family.samples
            ]
        return generate_latest(_Page(families)).decode()

    def _read_told(self) -> Iterator[Metric]:
        for told in self._told:
            kind = CounterMetricFamily if told.rises else GaugeMetricFamily
            family = kind(told.name, told.about, labels=told.labels)
            try:
                value = told.read()
            except Exception:
                log.exception("a measure cannot be read", extra={"metric": told.name})
                continue
            samples = value if isinstance(value, Mapping) else {_ONE: value}
            for labels, number in samples.items():
                family.add_metric(labels, number)
            yield family

    def _calls(self, method: Method) -> _Calls:
        calls = self._by_path.get(method.path)
        if calls is None:
            calls = self._by_path[method.path] = _Calls(_call_labels(method))
        return calls

    def _calls_told(self) -> Iterator[Metric]:
        yield from self._call_families()
        yield from self._tenant_families()

    def _call_families(self) -> Iterable[Metric]:
        started = CounterMetricFamily(
            "grpc_server_started_total", "Calls that have come.", labels=_CALL_LABELS
        )
        handled = CounterMetricFamily(
            "grpc_server_handled_total",
            "Calls that have ended, whatever with.",
            labels=(*_CALL_LABELS, "grpc_code"),
        )
        took = HistogramMetricFamily(
            "grpc_server_handling_seconds", "How long calls took.", labels=_CALL_LABELS
        )
        for path, count in list(self._counts.started.items()):
            started.add_metric(_call_labels(METHODS[path]), count)
        for calls in list(self._by_path.values()):
            for code, count in list(calls.handled.items()):
                handled.add_metric((*calls.labels, code), count)
            took.add_metric(calls.labels, _cumulated(calls.buckets), calls.seconds)
        return started, handled, took

    def _tenant_families(self) -> Iterable[Metric]:
        rows = self.tenants.told()
        for name, about, pick in _TENANT_FAMILIES:
            family = CounterMetricFamily(name, about, labels=("tenant",))
            for tenant, tally in rows.items():
                family.add_metric((tenant,), getattr(tally, pick))
            yield family

    def _tell_counts(self) -> None:
        """What processes count without this."""
        counts = self._counts
        self.gauge("llmspell_calls_in_flight", "Calls in flight.", lambda: counts.in_flight)
        self.rising(
            "llmspell_internal_errors_total",
            "Calls that failed for our own reasons.",
            lambda: counts.internal_errors,
        )
        self.gauge("llmspell_damages", "Things found damaged.", lambda: len(counts.damages))
        self.rising(
            "llmspell_events_dropped_total",
            "Events of operations that found no room on their way.",
            lambda: counts.events_dropped,
        )
        for name, field_name, about in _HOOK_FAMILIES:
            self.rising(
                f"llmspell_hook_{name}_total",
                about,
                partial(_of_hooks, counts, field_name),
                "hook",
            )
        self.gauge(
            "llmspell_hook_breakers_open",
            "Tenants for which a hook's breaker is open.",
            lambda: {(hook.name,): hook.open_now() for hook in counts.hooks},
            "hook",
        )


_REFUSALS = frozenset({"RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE"})
"""Codes of calls that were not let in, or found no room."""

_TENANT_FAMILIES = (
    ("llmspell_tenant_calls_total", "Calls of a tenant.", "calls"),
    ("llmspell_tenant_refusals_total", "Of these, such as were not let in.", "refusals"),
    ("llmspell_tenant_seconds_total", "How long they took together.", "seconds"),
)
_HOOK_FAMILIES = (
    ("calls", "calls", "Calls that a hook was asked about."),
    ("failures", "failures", "Times that a hook failed; the call went on."),
    ("left_out", "left_out", "Calls that passed a hook while its breaker was open."),
    ("opened", "opened", "Times that a hook's breaker opened."),
    ("seconds", "elapsed_s", "A hook's own time."),
)


def _of_hooks(counts: Counts, what: str) -> Mapping[Labels, float]:
    return {(hook.name,): getattr(hook, what) for hook in counts.hooks}


def _call_labels(method: Method) -> Labels:
    kind = "server_stream" if method.streams else "unary"
    kind = "bidi_stream" if method.request_streams else kind
    return (kind, method.service, method.descriptor.name)


def _cumulated(buckets: Iterable[int]) -> list[tuple[str, float]]:
    """Counts of each bucket as Prometheus wants them: of it and of all below."""
    total, told = 0, []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), buckets, strict=True):
        total += count
        told.append((bound, float(total)))
    return told


@dataclass(frozen=True, slots=True)
class _Page:
    """What prometheus_client writes a text of."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def of_member(text: str, instance: str) -> str:
    """The text of one of several processes of a kind, told from the others'."""
    # A quotation mark within a label's value has a backslash before it.
    said = r'\1,instance="' + instance + '"'
    return re.sub(r'(?m)(?<=[{,])(process="[a-z]+")', said, text) if instance else text


def joined(texts: Iterable[str]) -> str:
    """The text of several processes as one: what belongs to one metric must stand together."""
    blocks: dict[str, list[str]] = {}
    for text in texts:
        name = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
            block = blocks.setdefault(name, [])
            if not line.startswith("#") or line not in block[:2]:
                block.append(line)
    return "".join(f"{line}\n" for block in blocks.values() for line in block)

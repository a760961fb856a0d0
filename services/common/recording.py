"""Has a process keep its spans as the settings say, while it serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.settings import TelemetrySettings
from services.common.trace_sinks import Collector, TraceFile, Waiting
from services.common.tracing import Recorder, record_with
from services.common.vitals import Vitals


@contextmanager
def recording(settings: TelemetrySettings, vitals: Vitals) -> Iterator[None]:
    """Keep spans while the block runs, if anybody wants them.

    Raises:
        ServiceError: CONFIG_INVALID where they cannot be kept there.
    """
    sinks: list[Waiting] = []
    if settings.traces:
        sinks.append(TraceFile(Path(settings.traces).absolute(), vitals.name))
    if settings.traces_collector:
        sinks.append(Collector(settings.traces_collector, vitals.name))
    if not sinks:
        yield
        return
    recorder = Recorder(
        tuple(sinks), traces_a_second=settings.traces_a_second, slow_s=settings.slow_s
    )
    vitals.metrics.rising("llmspell_spans_total", "Spans kept.", lambda: recorder.kept)
    vitals.metrics.rising(
        "llmspell_spans_dropped_total",
        "Of these, such as found no room on their way.",
        lambda: sum(sink.dropped for sink in sinks),
    )
    record_with(recorder)
    try:
        yield
    finally:
        record_with(None)
        recorder.close()

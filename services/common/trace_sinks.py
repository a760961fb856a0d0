"""Where spans go: a file of JSON lines, which needs no other program, or a collector (OTLP).

Each has a thread of its own; whoever ends a span only puts it into a queue. A queue that is full
and a disk that is full cost spans, which are counted, and nothing else.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    SPAN_ATTRIBUTE_LENGTH_MAX,
    SPANS_WAITING_MAX,
    TRACE_FILE_BYTES_MAX,
)
from services.common.redaction import redact_text
from services.common.tracing import Attribute, Span

log = logging.getLogger(__name__)

_CLOSE_S = 2.0


class Waiting:
    """Spans on their way to a thread that does something with them."""

    pause_s = 0.1
    """Between two looks, so that one write is made for many spans."""

    def __init__(self, name: str) -> None:
        self.dropped = 0
        """Spans since the start that found no room, here or where they went."""
        self._queue: queue.SimpleQueue[Span | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Take a span."""
        if self._queue.qsize() >= SPANS_WAITING_MAX:
            self.dropped += 1
        else:
            self._queue.put(span)

    def close(self) -> None:
        """Do what waits, then end; wait for that for seconds at most."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(_CLOSE_S)

    def _serve(self) -> None:
        while (span := self._queue.get()) is not None:
            self._closing.wait(self.pause_s)
            self._take([span, *self._others()])

    def _others(self) -> Iterator[Span]:
        """What waits at this moment; the mark of the end stays."""
        while not self._queue.empty():
            if (span := self._queue.get()) is None:
                self._queue.put(None)
                return
            yield span

    def _take(self, spans: Sequence[Span]) -> None:
        """Do with them what is to be done."""
        raise NotImplementedError


class TraceFile(Waiting):
    """Spans as JSON lines in a file of this process's own; the file before is kept as `.1`."""

    def __init__(self, folder: Path, process: str) -> None:
        """Open it.

        Raises:
            ServiceError: CONFIG_INVALID where it cannot be written.
        """
        self._process = process
        self._path = folder / f"{process}.jsonl"
        self._is_failing = False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(self._open())
        except OSError as error:
            raise ServiceError(
                Reason.CONFIG_INVALID,
                f"Traces cannot be written to {self._path}: {error.strerror}.",
                key="telemetry.traces",
                file=self._path,
            ) from None
        super().__init__("trace-file")

    def _open(self) -> int:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def _take(self, spans: Sequence[Span]) -> None:
        lines = b"".join(_line(span, self._process) for span in spans)
        try:
            if self._path.exists() and self._path.stat().st_size > TRACE_FILE_BYTES_MAX:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with os.fdopen(self._open(), "wb") as file:
                file.write(lines)
            self._is_failing = False
        except OSError as error:
            self.dropped += len(spans)
            if not self._is_failing:
                log.warning("traces cannot be written", extra={"why": error.strerror})
            self._is_failing = True


def _line(span: Span, process: str) -> bytes:
    told: dict[str, Any] = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "process": process,
        "name": span.name,
        "kind": span.kind,
        "begin_ns": span.begin_ns,
        "end_ns": span.end_ns,
        "error": span.error,
        "attributes": clean_attributes(span),
    }
    return msgspec.json.encode(told) + b"\n"


def clean_attributes(span: Span) -> dict[str, Attribute]:
    """A span's attributes, texts cut and without what looks like a credential."""
    return {name: _clean(value) for name, value in list(span.attributes.items())}


def _clean(value: Attribute) -> Attribute:
    if not isinstance(value, str):
        return value
    text = redact_text(value[: 2 * SPAN_ATTRIBUTE_LENGTH_MAX])
    # A lone surrogate has no UTF-8.
    return text[:SPAN_ATTRIBUTE_LENGTH_MAX].encode("utf-8", "replace").decode()


class Collector(Waiting):
    """Sends spans to an OpenTelemetry collector (OTLP over gRPC)."""

    pause_s = 1.0

    def __init__(self, endpoint: str, process: str) -> None:
        """`endpoint`: `http://HOST:PORT`, or `https://` for TLS.

        The exporter reads what else there is to say from OTEL_EXPORTER_OTLP_* of the environment.
        """
        # Large, and most deployments need none of it.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

        self._resource = Resource.create(
            {
                "service.name": f"llmspell-{process}",
                "service.namespace": "llmspell",
                "service.instance.id": f"{os.uname().nodename}:{os.getpid()}",
            }
        )
        # It says so with every batch; this says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._is_failing = False
        self._endpoint = endpoint
        secure = endpoint.startswith("https://")
        self._exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not secure, timeout=5)
        super().__init__("trace-collector")

    def _take(self, spans: Sequence[Span]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        told = self._exporter.export([self._as_told(span) for span in spans])
        was_failing, self._is_failing = self._is_failing, told is not SpanExportResult.SUCCESS
        if self._is_failing:
            self.dropped += len(spans)
            if not was_failing:
                log.warning("the collector takes no traces", extra={"address": self._endpoint})

    def close(self) -> None:
        """Send what waits; a collector that does not answer is not waited for."""
        super().close()
        self._exporter.shutdown()

    def _as_told(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import (  # noqa: PLC0415
            SpanContext,
            SpanKind,
            Status,
            StatusCode,
            TraceFlags,
        )

        def context(span_id: str) -> SpanContext:
            return SpanContext(
                int(span.trace_id, 16),
                int(span_id, 16),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )

        return ReadableSpan(
            span.name,
            context=context(span.span_id),
            parent=context(span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=clean_attributes(span),
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.begin_ns,
            end_time=span.end_ns,
            instrumentation_scope=InstrumentationScope("llmspell"),
        )

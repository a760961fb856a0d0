"""Spans: what a call caused, where, and how long each part took, over all processes (W3C).

Every call has a trace's id and a span's id, which stand in the log and travel on, whether or not
anything is kept of it. That costs little, so a call that turns out slow or failed can still be kept
when it ends. Of the rest so many traces a second are kept as the settings say.

A span has names, ids, counts and times. Neither payloads nor what a caller wrote are put in, but
for names that it chose; those are cut, and cleaned of what looks like a credential.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from services.common.clock import SystemClock
from services.common.errors import ServiceError, reason_name
from services.common.limits import SLOW_SPANS_A_SECOND, TRACES_ASKED_A_SECOND

TRACEPARENT_KEY = "traceparent"

Attribute = str | int | float | bool

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII
)
_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
now_ns = SystemClock().now_ns
"""Nanoseconds since the epoch."""
_bits = random.getrandbits
"""Of ids, which are no secrets."""
_NOBODY_16, _NOBODY_32 = "0" * 16, "0" * 32


@dataclass(slots=True)
class Span:
    """A part of a trace, from its beginning to its end."""

    name: str
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str
    """Likewise; empty: it has none."""
    is_kept: bool
    """Whether its trace is recorded; this one may be even if not."""
    kind: str = "internal"
    """`server`: a call that came; `client`: one that goes out; `internal`."""
    begin_ns: int = field(default_factory=now_ns)
    """Since the epoch, as `end_ns`."""
    end_ns: int = 0
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error: str = ""
    """Why it failed, as the contract names it; empty: it did not."""

    @property
    def traceparent(self) -> str:
        """What makes another process's spans children of this one."""
        return f"00-{self.trace_id}-{self.span_id}-0{self.is_kept:d}"

    @property
    def elapsed_s(self) -> float:
        """How long it took."""
        return (self.end_ns - self.begin_ns) / 1e9


class Sink(Protocol):
    """Where spans go."""

    def put(self, span: Span) -> None:
        """Take a span that has ended; must not wait and must not raise."""

    def close(self) -> None:
        """Write what waits."""


class Rate:
    """So many a second, and as many at once after a pause."""

    def __init__(self, a_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._a_second = a_second
        self._monotonic = monotonic
        self._left = max(a_second, 1.0)
        self._then = monotonic()

    def take(self) -> bool:
        """Whether there is one left."""
        now = self._monotonic()
        gained = (now - self._then) * self._a_second
        self._then = now
        self._left = min(max(self._a_second, 1.0), self._left + gained)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Recorder:
    """Decides in one process what is kept of traces, and hands that to the sinks."""

    def __init__(self, sinks: tuple[Sink, ...], *, traces_a_second: float, slow_s: float) -> None:
        """`slow_s`: what takes longer is kept in any case."""
        self._sinks = sinks
        self._traces = Rate(traces_a_second)
        self._asked = Rate(TRACES_ASKED_A_SECOND)
        self._slow = Rate(SLOW_SPANS_A_SECOND)
        self._slow_ns = int(slow_s * 1e9)
        self.kept = 0
        """Spans since the start."""

    def keeps_new(self) -> bool:
        """Whether a trace that begins here is kept."""
        return self._traces.take()

    def keeps_asked(self) -> bool:
        """Whether one is whose caller asks for it."""
        return self._asked.take()

    def keeps(self, span: Span, *, is_notable: bool = False, may_be_long: bool = False) -> bool:
        """Whether a span that has ended is kept: its trace is, or it is notable or slow."""
        if span.is_kept:
            return True
        is_slow = not may_be_long and span.end_ns - span.begin_ns >= self._slow_ns
        return (is_notable or is_slow) and self._slow.take()

    def put(self, span: Span) -> None:
        """Keep a span."""
        self.kept += 1
        for sink in self._sinks:
            sink.put(span)

    def close(self) -> None:
        """Write what waits."""
        for sink in self._sinks:
            sink.close()


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Have this process's spans kept; None: none are."""
    global _recorder  # noqa: PLW0603  (like the log: one a process)
    _recorder = recorder


def current_span() -> Span | None:
    """What this task does at this moment; None outside a call."""
    return _current.get()


def current_traceparent() -> str:
    """What goes with a call to another process; empty outside a call."""
    span = _current.get()
    return "" if span is None else span.traceparent


def annotate(attributes: Mapping[str, Attribute]) -> None:
    """Add to the span of this moment."""
    if (span := _current.get()) is not None:
        span.attributes |= attributes


def begin_call(
    path: str, *, request_id: str, traceparent: str, is_trusted: bool, is_wanted: bool = True
) -> Span:
    """A call has come; its span is that of the task that serves it.

    Args:
        path: As on the wire.
        request_id: Is the trace's id too where it has the form and no trace was given.
        traceparent: Of whoever calls; empty or malformed: there is none.
        is_trusted: Whether it comes from one of our own; a stranger's wish is limited.
        is_wanted: Whether a trace may begin with it; what a process does for itself would be most
            of what there is.
    """
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    trace_id, parent_id = (found[1], found[2]) if found else ("", "")
    if not found or trace_id == _NOBODY_32 or parent_id == _NOBODY_16:
        trace_id = request_id if _TRACE_ID.fullmatch(request_id) else f"{_bits(128):032x}"
        parent_id = ""
        kept = is_wanted and _recorder is not None and _recorder.keeps_new()
    else:
        assert found is not None
        kept = bool(int(found[3], 16) & 1)
        if kept and not is_trusted:
            kept = _recorder is not None and _recorder.keeps_asked()
    span = Span(path[1:], trace_id, f"{_bits(64):016x}", parent_id, kept, "server")
    _current.set(span)
    return span


def recorder() -> Recorder | None:
    """What keeps this process's spans; None: nothing does."""
    return _recorder


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Attribute] = MappingProxyType({}),
    *,
    kind: str = "internal",
    least_s: float = 0.0,
) -> Iterator[Span | None]:
    """A part of what the task does. None where it does nothing for a call, or nothing is kept.

    Args:
        name: What is done, of few words; not made of what callers write.
        attributes: More of it, by the names of OpenTelemetry where that has one.
        kind: As `Span.kind`.
        least_s: What takes less is not worth telling.
    """
    outer = _current.get()
    if outer is None or _recorder is None:
        yield None
        return
    inner = Span(name, outer.trace_id, f"{_bits(64):016x}", outer.span_id, outer.is_kept, kind)
    inner.attributes |= attributes
    token = _current.set(inner)
    try:
        yield inner
    except BaseException as error:
        inner.error = inner.error or _reason(error)
        raise
    finally:
        _current.reset(token)
        inner.end_ns = now_ns()
        if inner.elapsed_s >= least_s and _recorder.keeps(inner):
            _recorder.put(inner)


def _reason(error: BaseException) -> str:
    return reason_name(error.reason) if isinstance(error, ServiceError) else type(error).__name__

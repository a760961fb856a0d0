"""What a process tells of itself: log lines as JSON, and counts.

One event a line on standard error. Control characters are escaped by the JSON encoder, so a value
from outside cannot forge a line. Payloads and secrets are never logged; what looks like a
credential all the same is taken out.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.correlation import correlation_id
from services.common.damage import Damages
from services.common.redaction import redact, redact_text
from services.common.tracing import current_span

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, process, event, and what was given in `extra`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "event": record.getMessage(),
        }
        if request_id := correlation_id():
            line["request_id"] = request_id
        if (span := current_span()) is not None:
            line |= {"trace_id": span.trace_id, "span_id": span.span_id}
        line.update({name: value for name, value in vars(record).items() if name not in _PLAIN})
        if record.exc_info and record.exc_info[0] is not None:
            line["cause"] = "".join(traceback.format_exception(*record.exc_info))
        # Pure ASCII: U+009B and its kin steer a terminal too, and a lone surrogate has no UTF-8.
        return json.dumps(redact(line), default=_shown, skipkeys=True)


def _shown(value: object) -> str:
    """What JSON has no form for, as text, in which may be what must not be told."""
    return redact_text(str(value))


def start_logging(process: str, level: str) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


@dataclass(slots=True)
class HookCount:
    """What became of one hook since the process started."""

    name: str
    calls: int = 0
    failures: int = 0
    """Times it raised, was late, or gave what has no meaning; the call went on."""
    left_out: int = 0
    """Calls that passed it while its breaker was open."""
    opened: int = 0
    """Times its breaker opened."""
    elapsed_s: float = 0.0
    """Its own time."""
    open_now: Callable[[], int] = lambda: 0
    """Tenants for which its breaker is open."""


@dataclass(slots=True)
class Counts:
    """Calls since the process started, and what was found damaged."""

    calls: int = 0
    started: dict[str, int] = field(default_factory=dict)
    """Of these, by the path of a method of the contract."""
    internal_errors: int = 0
    in_flight: int = 0
    damages: Damages = field(default_factory=Damages)
    hooks: list[HookCount] = field(default_factory=list)
    """In the order in which they are asked."""
    events_dropped: int = 0
    """Events of operations that found no room on their way."""

    def begin(self, path: str) -> None:
        """A call has come; `path` is empty where the contract has no such method."""
        self.calls += 1
        if path:
            self.started[path] = self.started.get(path, 0) + 1

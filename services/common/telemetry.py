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
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.damage import Damages
from services.common.redaction import redact, redact_text

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
class Counts:
    """Calls since the process started, and what was found damaged."""

    calls: int = 0
    internal_errors: int = 0
    in_flight: int = 0
    damages: Damages = field(default_factory=Damages)

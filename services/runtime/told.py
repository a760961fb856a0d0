"""What a run tells beside its output: lines of its log, and what it measured.

It is the worker's word, so its shape and size are checked here and nothing else is read into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from services.common import limits
from services.runtime.frames import FrameError

_MESSAGE_LENGTH_MAX = 4200
"""Lua cuts at 4096 bytes."""
_MODULE_LENGTH_MAX = 256


@dataclass(frozen=True, slots=True)
class Log:
    """A line of the run's log."""

    level: str
    """`error`, `warn`, `info`, `debug` or `trace`."""
    message: str
    """As the script said it."""
    module: str
    """What part of the script said it; empty where it did not say."""
    data_json: str
    """What was given beside the message, as JSON; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the run measured. Comes once at most, last but one."""

    json: str
    """A JSON object of `counters`, `gauges` and `histograms`, each by name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a piece of an interactive run went, or what was asked about a text."""

    kind: str
    """`ready`, `done`, `unfinished`, `failed`, `finished` or `names`."""
    text: str = ""
    """The values that a piece gave, as people read them."""
    message: str = ""
    """Why it failed."""
    reason: str = ""
    """The reason of that, where it has one."""
    line: int = 0
    """Its line in the piece; 0: unknown."""
    traceback: str = ""
    """The script's functions that were running."""
    names: tuple[str, ...] = ()
    """What may stand at the end of a text."""
    start: str = ""
    """What stands there of the name."""


class _Answer(msgspec.Struct):
    kind: Literal["ready", "done", "unfinished", "failed", "finished", "names"]
    text: str = ""
    message: str = ""
    reason: str = ""
    line: int = 0
    traceback: str = ""
    names: tuple[str, ...] = ()
    start: str = ""


class _Line(msgspec.Struct):
    level: Literal["error", "warn", "info", "debug", "trace"]
    message: str
    module: str = ""
    data: str = ""


class _Measured(msgspec.Struct):
    counters: dict[str, float]
    gauges: dict[str, float]
    histograms: dict[str, dict[str, float]]


def read_log(payload: bytes) -> Log:
    """A LOG frame's line.

    Raises:
        FrameError: where it is none.
    """
    try:
        line = msgspec.json.decode(payload, type=_Line)
        if line.data:
            msgspec.json.decode(line.data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("a line of a log that is not one") from None
    if len(line.message) > _MESSAGE_LENGTH_MAX or len(line.module) > _MODULE_LENGTH_MAX:
        raise FrameError("a line of a log that is too long")
    return Log(line.level, line.message, line.module, line.data)


def read_answer(payload: bytes) -> Answer:
    """An ANSWER frame's content.

    Raises:
        FrameError: where it is none.
    """
    try:
        return Answer(**msgspec.structs.asdict(msgspec.json.decode(payload, type=_Answer)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("an answer that is none") from None


def read_metrics(payload: bytes) -> Metrics:
    """A METRICS frame's numbers.

    Raises:
        FrameError: where it holds none, or too many.
    """
    if len(payload) > limits.RUN_METRICS_BYTES_MAX:
        raise FrameError("metrics that are too long")
    try:
        msgspec.json.decode(payload, type=_Measured)
        return Metrics(payload.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("metrics that are none") from None

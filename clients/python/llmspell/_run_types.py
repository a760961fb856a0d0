"""What a user of the client gives and gets of runs of scripts; `llmspell.types` has all of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of one run; None: the deployment's, which are also the most that may be asked."""

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None
    output_bytes: int | None = None
    max_cost_usd: float | None = None
    """US dollars that models may cost which it asks; None: only the budgets of its tenant."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run began."""

    run_id: str
    journal: bool = False
    """Whether what it observes is kept."""


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The run printed."""

    data: bytes
    """As printed; a character may be cut between two of these."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """The run wrote a line of its log."""

    level: str
    """`error`, `warn`, `info`, `debug` or `trace`."""
    message: str
    module: str = ""
    """What part of the script said it."""
    data: Any = None
    """What was given beside the message."""


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """What the run measured; comes at its end, where it measured anything."""

    counters: Mapping[str, float]
    gauges: Mapping[str, float]
    histograms: Mapping[str, Mapping[str, float]]
    """Each with `count`, `sum`, `mean`, `min`, `max`, `p50`, `p95`, `p99`."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The run ended well."""

    value: Any
    """What the script returned; a list where it returned several; None where nothing."""
    elapsed_s: float
    call_count: int
    output_bytes: int


RunEvent: TypeAlias = RunStarted | RunOutput | RunLog | RunMetrics | RunResult


@dataclass(frozen=True, slots=True)
class InteractInput:
    """What an interactive run is to do."""

    kind: Literal["source", "check", "complete", "interrupt", "alive"]
    """Run a piece; say whether a text is whole; say which names may end it; end the piece that
    runs; nothing, so that the stream keeps its place."""
    text: str = ""
    """Of the first three."""


InteractInputs: TypeAlias = Iterable[InteractInput] | AsyncIterable[InteractInput]
"""What `interact` is given; the blocking client takes the first form only."""


@dataclass(frozen=True, slots=True)
class InteractAnswer:
    """How a piece of an interactive run went, or what was asked."""

    kind: str
    """`done`, `unfinished`, `failed`, `finished` or `names`."""
    text: str = ""
    """The values that a piece gave, as people read them."""
    message: str = ""
    reason: str = ""
    line: int = 0
    """Line of the piece that failed; 0: unknown."""
    traceback: str = ""
    names: tuple[str, ...] = ()
    start: str = ""
    """What the text has of the name already."""


InteractEvent: TypeAlias = RunStarted | RunOutput | RunLog | InteractAnswer

"""What the client takes and gives of runs of which a journal is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

RunStatus: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]
"""How it is with a run; an interrupted one may be resumed."""
ReplayMode: TypeAlias = Literal["exact", "simulate", "modified", "debug"]
"""How a run is made again: see `docs/guide/replay.md`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a run."""

    run_id: str
    status: RunStatus
    name: str
    """Of the script."""
    session_id: str
    """Empty: it has none."""
    args: Sequence[str]
    """Without what looks like a credential."""
    named: Mapping[str, str]
    """Likewise."""
    source_digest: str
    """blake3, in hexadecimal digits."""
    start_time: datetime
    end_time: datetime | None
    """None while it goes on, and where it was lost with its process."""
    expire_time: datetime | None
    """When its journal is let go; None: with its session."""
    call_count: int
    output_bytes: int
    reason: str
    """Why it failed; empty where it did not."""
    message: str
    value: Any
    """What it returned."""
    journal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCall:
    """A call of a run."""

    number: int
    method: str
    failure_reason: str
    """Empty where it was done."""
    start_time: datetime | None
    """None where it was not made."""
    end_time: datetime | None
    size_bytes: int
    request: Any = None
    """What was asked, where that was wanted."""
    answer: Any = None
    """What was answered, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """An answer to put in the place of a recorded one, or of a part of it."""

    call_number: int = 0
    """From 1; 0: any call of the method."""
    method: str = ""
    """Such as `GetState`; empty: any."""
    path: str = ""
    """Which part of the answer, such as `item.key`; empty: all of it."""
    answer: Any = None
    """What it is to answer (then a mapping), or the part."""
    reason: str = ""
    """Or why it is to fail, such as `ITEM_NOT_FOUND`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDifference:
    """Where a run that was made again first differs."""

    what: str
    """`call`, `reading`, `output`, `result` or `end`."""
    call_number: int
    output_offset: int
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What came of making a run again."""

    run_id: str
    identical: bool
    """Whether calls, output, result and end were the same, byte for byte."""
    difference: ReplayDifference | None
    call_count: int
    output_bytes: int
    stopped_call: RunCall | None
    """The call that it was stopped at."""
    value: Any
    """What it returned now."""
    reason: str
    """Why it failed now; empty where it did not."""
    message: str
    elapsed_s: float
    answered_count: int
    """Calls answered from the journal."""
    asked_count: int
    """Calls that were made anew."""
    refused_count: int
    """Calls that were refused, since they would write."""

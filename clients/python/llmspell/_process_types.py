"""What the client gives of processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FoundDamage:
    """Something stored that is not what it was."""

    name: str
    """`record DATABASE KEY`, `pages DATABASE`, `artifact DIGEST` or `backup FILE`."""
    why: str


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One of the four processes."""

    name: str
    status: str
    """`SERVING`, `NOT_SERVING`, `UNREACHABLE` or `UNKNOWN`."""
    version: str
    start_time: datetime | None
    pid: int
    resident_bytes: int
    call_count: int
    internal_error_count: int
    damage_count: int = 0
    """Things that it found damaged since its start; all else is served."""
    damages: tuple[FoundDamage, ...] = ()
    """The first hundred of them."""

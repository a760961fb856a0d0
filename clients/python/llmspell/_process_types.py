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
class HookCounts:
    """What became of one of the runtime's hooks since the start, for all tenants together."""

    name: str
    call_count: int
    failure_count: int
    """Times it failed; the call went on without it."""
    left_out_count: int
    """Calls that passed it while its breaker was open."""
    opened_count: int
    """Times its breaker opened."""
    open_count: int
    """Tenants for which it is open now."""
    elapsed_s: float
    """Its own time."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate that a process shows over TCP."""

    purpose: str
    """`public` for the gateway's port, `inner` between the processes."""
    expire_time: datetime | None
    problem: str = ""
    """What somebody should look at, such as that it has expired; empty: nothing."""


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
    hooks: tuple[HookCounts, ...] = ()
    """The runtime's hooks, in the order in which they are asked."""
    events_dropped_count: int = 0
    """Events of operations that were not published."""
    jail: str = ""
    """Of the runtime: what holds scripts and tools on this machine, and what of it is off."""
    ready: bool = False
    """Whether it takes calls and has all that it needs for them."""
    not_ready_reasons: tuple[str, ...] = ()
    """Why not, in words."""
    certificates: tuple[CertificateStatus, ...] = ()
    """What it shows over TCP."""

"""A call that is to be done once, whatever becomes of this process: what is known of it.

It goes along with the call through hooks and bridge, and nobody outside can say one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.errors import ServiceError


class Memory(enum.Enum):
    """Who knows of a tool's execution once the runtime that asked for it is lost."""

    NEEDLESS = "needless"
    """It changes nothing."""
    RECEIPT = "receipt"
    """Its process, by a receipt on this machine."""
    REQUEST_IDS = "request_ids"
    """Whoever it asks, for a while."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution of a tool that is done once."""

    unknown: ServiceError
    """Told where nobody knows whether it was done."""
    request_id: str
    """The same however often it is tried; what it asks of others goes by ids made of this."""
    receipt: str = ""
    """What it is known by on the machine that executes it; empty: by nothing."""
    begun_ns: int | None = None
    """When a process that is lost began it; None: it is new."""
    may_repeat: bool = False
    """Whether it is done again where nobody knows of the first time."""
    is_left: Callable[[], bool] = lambda: False
    """Whether this process, where it ends the call, leaves the execution to go on: it ends itself,
    and somebody else will ask what came of it."""


_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def current_claim() -> Claim | None:
    """That of the call that is being served; None: it is done as often as it is asked for."""
    return _claim.get()


def set_claim(claim: Claim | None) -> None:
    """The call that this task serves is to be done once."""
    _claim.set(claim)

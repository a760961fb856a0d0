"""What a hook at a point may give back, for hooks that are asked at points instead of around calls.

Each means what it means in Lua (docs/guide/hooks.md has the table); what has no meaning at a point
is a failure of the hook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.runtime.worker.points import Phase


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Go on; this hook had nothing to do."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Modified:
    """Other arguments, another answer, or another text of the error."""

    data: Any


@dataclass(frozen=True, slots=True)
class Cancel:
    """The call fails with HOOK_CANCELLED."""

    reason: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another target of the same kind."""

    target: str


@dataclass(frozen=True, slots=True)
class Replace:
    """This is the answer."""

    data: Any


@dataclass(frozen=True, slots=True)
class Retry:
    """Make the call again while it fails; after an answer: once more."""

    delay_s: float = 1.0
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that is made beside the other."""

    id: str
    operation_type: str
    """`tool`, or a method such as `StateService/SetState`."""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fork:
    """Other calls begin beside this one."""

    parallel_operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Cache:
    """The answer is kept under a key and given again to the same caller."""

    key: str
    ttl_s: float = 300.0


HookResult = Continue | Skipped | Modified | Cancel | Redirect | Replace | Retry | Fork | Cache

_ALL = frozenset({Continue, Skipped, Modified, Cancel, Redirect, Replace, Retry, Fork, Cache})
ALLOWED: dict[Phase, frozenset[type]] = {
    Phase.BEFORE: _ALL,
    Phase.AFTER: _ALL,
    Phase.ERROR: _ALL - {Cache},
    Phase.NOTICE: frozenset({Continue, Skipped}),
}
"""What has a meaning when; a notice of the host has no run, so nothing can be forked from it."""


class ResultError(Exception):
    """A result that has no meaning where it was given."""


def check_allowed(result: object, phase: Phase) -> None:
    """Refuse what has no meaning here.

    Raises:
        ResultError: names the result and the phase.
    """
    if type(result) not in ALLOWED[phase]:
        raise ResultError(f"{type(result).__name__} has no meaning {phase} a call")

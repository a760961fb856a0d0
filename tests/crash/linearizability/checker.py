"""Whether a history of calls on one key could have come from one copy of it (Wing, Gong and Lowe).

Each operation took effect at one moment between its call and its return. The search tries orders,
remembers which (operations done, state) it has been at, and so needs few steps as long as few
operations are under way at once. An operation whose outcome is not known is one that `step` gives
two states for; its return is the moment after which it can no longer take effect, so that every
operation ends and nothing stays undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Operation = TypeVar("Operation")
State = TypeVar("State", bound=Hashable)

STEPS_MAX = 2_000_000


class Verdict(Enum):
    """What came of it."""

    FITS = "an order explains it"
    VIOLATED = "no order explains it"
    UNDECIDED = "the search was given up"


@dataclass(frozen=True, slots=True)
class Timed(Generic[Operation]):
    """An operation and when it was under way, on one clock."""

    called: float
    returned: float
    operation: Operation


def check(
    history: Iterable[Timed[Operation]],
    start: State,
    step: Callable[[State, Operation], Sequence[State]],
    *,
    steps_max: int = STEPS_MAX,
) -> Verdict:
    """Look for an order.

    Args:
        history: Operations on one key.
        start: What the key held before.
        step: The states that an operation can lead to from a state; none where its result does not
            fit.
        steps_max: After so many the search is given up.
    """
    timed = sorted(history, key=lambda each: each.called)
    seen: set[tuple[int, int, State]] = set()
    # Operations before `first` are done, and those whose bit is set in `ahead`, counted from it.
    stack: list[tuple[int, int, State]] = [(0, 0, start)]
    while stack:
        first, ahead, state = at = stack.pop()
        if first == len(timed):
            return Verdict.FITS
        if at in seen:
            continue
        seen.add(at)
        if len(seen) > steps_max:
            return Verdict.UNDECIDED
        for number in reversed(_next(timed, first, ahead)):
            done, rest = first, ahead | 1 << (number - first)
            while rest & 1:
                done, rest = done + 1, rest >> 1
            stack += [(done, rest, after) for after in step(state, timed[number].operation)]
    return Verdict.VIOLATED


def _next(timed: Sequence[Timed[Operation]], first: int, ahead: int) -> list[int]:
    """Operations that may come next: those called before any other of the rest has returned."""
    found: list[int] = []
    earliest = float("inf")
    for number in range(first, len(timed)):
        each = timed[number]
        if each.called > earliest:
            break
        if not ahead >> (number - first) & 1:
            found.append(number)
            earliest = min(earliest, each.returned)
    return found

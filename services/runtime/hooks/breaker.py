"""A breaker: what fails or is slow too often is left out for a while, then tried."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


class State(enum.StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    """All pass."""
    OPEN = "open"
    """None passes."""
    HALF_OPEN = "half_open"
    """Tried."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When it opens and closes."""

    failures: int = 3
    """So many within the window open it."""
    successes: int = 2
    """So many after another close it again."""
    window_s: float = 30.0
    open_s: float = 15.0
    slow_s: float = 0.05
    """Longer is slow."""
    slow_calls: int = 2
    """So many slow ones within the window open it."""


DEFAULT = Thresholds()


class Breaker:
    """Of one hook and one tenant: whatever a tenant does, others' hooks go on."""

    __slots__ = ("_failures", "_now", "_opened_at", "_slow", "_successes", "_thresholds", "state")

    def __init__(self, thresholds: Thresholds, now: Callable[[], float]) -> None:
        """`now`: seconds that never go back."""
        self._thresholds = thresholds
        self._now = now
        self.state = State.CLOSED
        self._failures: deque[float] = deque()
        self._slow: deque[float] = deque()
        self._opened_at = 0.0
        self._successes = 0

    def lets(self) -> bool:
        """Whether the hook may be asked."""
        if self.state is not State.OPEN:
            return True
        if self._now() - self._opened_at < self._thresholds.open_s:
            return False
        self.state, self._successes = State.HALF_OPEN, 0
        return True

    def failed(self) -> bool:
        """Note a failure; whether it has opened now."""
        return self._note(self._failures, self._thresholds.failures)

    def succeeded(self, took_s: float) -> bool:
        """Note that it went well; whether it has opened now, being slow."""
        if took_s > self._thresholds.slow_s:
            return self._note(self._slow, self._thresholds.slow_calls)
        if self.state is State.HALF_OPEN:
            self._successes += 1
            if self._successes >= self._thresholds.successes:
                self.state = State.CLOSED
        return False

    def _note(self, moments: deque[float], limit: int) -> bool:
        now = self._now()
        while moments and now - moments[0] >= self._thresholds.window_s:
            moments.popleft()
        moments.append(now)
        if self.state is not State.HALF_OPEN and len(moments) < limit:
            return False
        self.state, self._opened_at = State.OPEN, now
        self._failures.clear()
        self._slow.clear()
        return True

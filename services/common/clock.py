"""Time as an argument, so that tests may own it. Nothing else reads the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump either way."""

    def monotonic(self) -> float:
        """Seconds that only grow; for deadlines and durations."""


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns
        self._monotonic = 0.0

    def now_ns(self) -> int:
        """The time set."""
        return self._now_ns

    def monotonic(self) -> float:
        """The seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks; a negative number moves the wall clock only, as an operator might."""
        self._now_ns += round(seconds * 1e9)
        self._monotonic += max(seconds, 0.0)

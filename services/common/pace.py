"""How fast refusals are answered: at once, until one caller's flood would take a process's time.

A refusal costs a process in Python a third of what a small call does. Answered as fast as they
come, a flood of refused calls takes the time of everybody's good ones, and each answer brings the
next call. So a caller's refusals have a pace, which follows what the process gets done besides;
beyond it the answers wait. What is not answered holds its caller's streams, of which a connection
has so many: then its calls wait where they come from, and not in front of others'.
"""

from __future__ import annotations

import time
from collections.abc import Callable

A_SECOND = 100.0
"""Refusals of one caller that are answered in a second, in any case;"""
SHARE = 0.3
"""and for each call that is served besides."""
AT_ONCE = 200.0
"""That are answered without waiting, after a pause."""
WAIT_S_MAX = 5.0
"""A refusal never waits longer; calls that wait for an answer have mostly given up by then."""
_LOOK_S = 0.5
_CALLERS_KEPT = 10_000


class Pace:
    """When refusals of each caller are next."""

    def __init__(
        self,
        *,
        a_second: float = A_SECOND,
        at_once: float = AT_ONCE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._least = self._rate = a_second
        self._at_once = at_once
        self._monotonic = monotonic
        self._next_s: dict[str, float] = {}
        self._served = 0
        self._looked_s = monotonic()

    def count_served(self) -> None:
        """A call was served."""
        self._served += 1

    def wait_s(self, caller: str) -> float:
        """Seconds that the refusal of a call waits; mostly 0. It counts as answered then."""
        now = self._monotonic()
        self._look(now)
        due_s = max(self._next_s.get(caller, 0.0), now)
        wait_s = due_s - now - self._at_once / self._rate
        if wait_s > WAIT_S_MAX:
            return WAIT_S_MAX
        if len(self._next_s) >= _CALLERS_KEPT:
            self._next_s = {name: at_s for name, at_s in self._next_s.items() if at_s > now}
        self._next_s[caller] = due_s + 1 / self._rate
        return max(wait_s, 0.0)

    def _look(self, now: float) -> None:
        """What the process gets done, of late."""
        passed_s = now - self._looked_s
        if passed_s >= _LOOK_S:
            self._rate = self._least + SHARE * self._served / passed_s
            self._served, self._looked_s = 0, now

"""Time to live: a time that does not go back, and the loop that removes what has ended."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import ServiceError

log = logging.getLogger(__name__)

SET_BACK_S_MAX = 2 * 86_400.0
"""A clock that was set back by more while nothing ran is believed."""

SLICE = 128
"""Items removed in one transaction, so that writers never wait long."""


class ForwardTime:
    """The wall clock, except that it never goes back while the process lives.

    A wall clock that is set back would make expired items appear again, and let new ones live too
    long. Here time then goes on with the monotonic clock from where it was. A wall clock that jumps
    ahead is followed: an item's end is a moment that its owner was told.

    Over a restart it begins no earlier than at the last moment that the store knows of, if that is
    at most `SET_BACK_S_MAX` ahead. A store that is further ahead was written under a wrong clock,
    and that must have an end.
    """

    def __init__(self, clock: Clock, *, not_before_ns: int = 0) -> None:
        """`not_before_ns`: the last moment that is known of."""
        self._clock = clock
        self._lock = threading.Lock()
        self._now_ns = clock.now_ns()
        if self._now_ns < not_before_ns <= self._now_ns + int(SET_BACK_S_MAX * 1e9):
            self._now_ns = not_before_ns
        self._monotonic = clock.monotonic()

    def monotonic(self) -> float:
        """Seconds that only grow; the clock's own."""
        return self._clock.monotonic()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, never less than before. Safe from any thread."""
        with self._lock:
            monotonic = self._clock.monotonic()
            elapsed_ns = int((monotonic - self._monotonic) * 1e9)
            self._now_ns = max(self._clock.now_ns(), self._now_ns + elapsed_ns)
            self._monotonic = monotonic
            return self._now_ns


class Sweeps(Protocol):
    """What can be rid of expired items, a slice at a time."""

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit`; how many there were."""


async def sweep_forever(engine: Sweeps, interval_s: float) -> None:
    """Remove expired items every `interval_s` seconds, slice after slice, until cancelled.

    A sweep that fails is logged and tried again at the next interval: a full disk, say, must not
    end a process that can still answer reads.
    """
    while True:
        await asyncio.sleep(interval_s)
        try:
            await sweep_all(engine)
        except ServiceError as error:
            log.warning("sweep failed", extra={"why": error.message})


async def sweep_all(engine: Sweeps) -> int:
    """Remove all that has expired by now, a slice at a time; how many."""
    total = removed = await engine.sweep(SLICE)
    while removed >= SLICE:
        removed = await engine.sweep(SLICE)
        total += removed
    return total

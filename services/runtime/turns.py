"""Whose run is next: places for runs, so many in all and so many of one tenant, given out in turn.

Tenants take turns, not runs: a tenant with a thousand waiting runs delays another tenant's first
one by a single run. What waits is bounded for each tenant; more is refused at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from services.common import limits
from services.common.errors import Reason, ServiceError

_RETRY_SECONDS_MIN, _RETRY_SECONDS_MAX = 0.1, 60.0
_FIRST_GUESS_SECONDS = 0.1
"""Of how long a run holds its place, before one has ended."""
_WEIGHT = 0.2
"""Of the last run in the running mean."""
AHEAD_AT_ONCE = 2
"""Places of a tenant that has more than others who are served."""


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """How many runs there may be."""

    at_once: int = limits.RUNS_AT_ONCE
    """Places in all."""
    tenant_at_once: int = limits.TENANT_RUNS_AT_ONCE
    """Places that one tenant may hold."""
    tenant_waiting: int = limits.TENANT_RUNS_WAITING
    """Runs of one tenant that may wait."""


@dataclass(slots=True)
class _Line:
    """One tenant's runs."""

    running: int = 0
    waiting: collections.deque[asyncio.Future[None]] = field(default_factory=collections.deque)


class Turns:
    """Places for runs and who waits for one."""

    def __init__(
        self,
        most: TurnLimits,
        *,
        is_ahead: Callable[[str], bool] = lambda _: False,
        places_of: Callable[[str], int] = lambda _: 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_ahead`: whether a tenant has more than others who are served, so holds fewer places.

        It gets its other places again when one of its runs ends. `places_of`: how many places a
        tenant may hold by its operator's word; 0: as many as every tenant.
        """
        self._places_of = places_of
        self._most = most
        self._is_ahead = is_ahead
        self._monotonic = monotonic
        self._running = 0
        self._lines: dict[str, _Line] = {}
        # Tenants that wait and may hold one more place, in the order in which their turns come.
        self._order: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._held_s = _FIRST_GUESS_SECONDS

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """Runs that wait for a place."""
        return sum(len(line.waiting) for line in self._lines.values())

    def in_hand(self, tenant: str) -> int:
        """Runs of a tenant, those that wait included."""
        line = self._lines.get(tenant)
        return 0 if line is None else line.running + len(line.waiting)

    @contextlib.asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """A place for one run of a tenant, in its turn; free again when the block ends.

        Raises:
            ServiceError: RUN_QUEUE_FULL where as many of the tenant's runs wait as may.
        """
        await self._take(tenant)
        began = self._monotonic()
        try:
            yield
        finally:
            self._held_s += _WEIGHT * (self._monotonic() - began - self._held_s)
            self._free(tenant)

    async def _take(self, tenant: str) -> None:
        line = self._lines.setdefault(tenant, _Line())
        if not line.waiting and self._running < self._most.at_once and self._may_more(tenant, line):
            self._start(line)
            return
        if len(line.waiting) >= self._most.tenant_waiting:
            self._settle(tenant, line)
            raise self._full(line)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        self._settle(tenant, line)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come already
                self._free(tenant)
            elif turn in line.waiting:
                line.waiting.remove(turn)
                self._settle(tenant, line)
            raise

    def _may_more(self, tenant: str, line: _Line) -> bool:
        if line.running >= (self._places_of(tenant) or self._most.tenant_at_once):
            return False
        return line.running < AHEAD_AT_ONCE or not self._is_ahead(tenant)

    def _start(self, line: _Line) -> None:
        self._running += 1
        line.running += 1

    def _free(self, tenant: str) -> None:
        line = self._lines[tenant]
        self._running -= 1
        line.running -= 1
        self._settle(tenant, line)
        self._call_next()

    def _call_next(self) -> None:
        """Give free places to the tenants whose turn it is, one each, round and round."""
        while self._order and self._running < self._most.at_once:
            tenant, _ = self._order.popitem(last=False)
            line = self._lines[tenant]
            if not self._may_more(tenant, line):  # it has got ahead since
                continue
            turn = line.waiting.popleft()
            if not turn.cancelled():  # else its caller has gone and has not been told yet
                self._start(line)
                turn.set_result(None)
            self._settle(tenant, line)

    def _settle(self, tenant: str, line: _Line) -> None:
        """Put a tenant at the end of the order where it has use for a turn; forget it without any.

        So nothing grows with the tenants that were ever seen.
        """
        if line.waiting and self._may_more(tenant, line):
            self._order.setdefault(tenant)
        else:
            self._order.pop(tenant, None)
        if not line.waiting and not line.running and self._lines.get(tenant) is line:
            del self._lines[tenant]

    def _full(self, line: _Line) -> ServiceError:
        limit = self._most.tenant_waiting
        places = min(self._most.at_once, self._most.tenant_at_once)
        retry_s = self._held_s * (len(line.waiting) + 1) / places
        retry_s = min(max(retry_s, _RETRY_SECONDS_MIN), _RETRY_SECONDS_MAX)
        why = f"{limit} runs of this tenant wait already" if limit else "No place is free"
        return ServiceError(
            Reason.RUN_QUEUE_FULL,
            f"{why}; try again in {retry_s:.1f} s.",
            limit=limit,
            retry_after_s=f"{retry_s:.1f}",
        )

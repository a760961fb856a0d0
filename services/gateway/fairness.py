"""Whose call is next at a process behind the gateway: so many at a time, tenants by their weight.

While there is room, a call passes without waiting. Beyond that calls wait here, where tenants take
turns (start-time fair queueing: each turn moves a tenant back by 1 / weight): one with a thousand
calls delays another's first one by a single call. And no tenant holds more of the room than is
free, times its weight: its long calls leave room for whoever comes.

What waits is bounded: by the gateway's places, by time, and by its own deadline. A call that would
not get its turn in time is refused at once.

The runtime's own turns (`runtime.turns`) are of runs, which last, and count a tenant's seconds;
here calls are short and many, so all are counted alike.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from services.common.door import Arrival
from services.common.errors import Reason, ServiceError
from services.gateway.quotas import CLASSES, CallClass

_WEIGHT_MIN = 0.01
_LAST = 0.2
"""Weight of the last interval in the running mean."""
_RETRY_S_MIN = 0.05
_QUEUED = frozenset({CallClass.READ, CallClass.WRITE, CallClass.SEARCH})
"""Runs wait for their turn in the runtime, and management is rare and slow."""


@dataclass(slots=True, eq=False)
class _Line:
    """One tenant's calls at one process."""

    tag: float = 0.0
    """Virtual time of its next turn."""
    weight: float = 1.0
    running: int = 0
    waiting: collections.deque[asyncio.Future[None]] = field(default_factory=collections.deque)
    is_lined_up: bool = False
    """Whether it is in the order of turns; only once."""
    turn_at_s: float = 0.0
    """When a waiting call of it had its turn."""
    interval_s: float = 0.0
    """Between its turns, in the mean; 0: not known."""


class FairQueue:
    """The room at one process, and who waits for it."""

    def __init__(
        self,
        name: str,
        *,
        at_once: Callable[[], int],
        wait_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`at_once`: calls that it is given at a time; `wait_s`: how long one may wait."""
        self.name = name
        self._at_once = at_once
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._running = 0
        self._virtual = 0.0
        self._lines: dict[str, _Line] = {}
        # Tags and lines that have waiting calls, each once; the number keeps equal tags in order.
        self._order: list[tuple[float, int, str, _Line]] = []
        self._number = 0

    @property
    def running(self) -> int:
        """Calls that it has."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return sum(len(line.waiting) for line in self._lines.values())

    async def enter(self, tenant: str, weight: float, deadline_s: float | None) -> None:
        """Wait for a turn; `leave` gives it back.

        Args:
            tenant: Whose call it is.
            weight: Of the tenant's turns; 2 gets twice as many as 1.
            deadline_s: When its caller gives up, on the monotonic clock; None: never.

        Raises:
            ServiceError: OVERLOADED where it does not get one in time.
        """
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(self._virtual)
        line.weight = max(weight, _WEIGHT_MIN)
        if not line.waiting and self._may_start(line):
            self._start(line)
            return
        until_s = self._monotonic() + self._wait_s
        if deadline_s is not None:
            until_s = min(until_s, deadline_s)
        self._check_time(tenant, line, until_s)
        await self._wait(tenant, line, until_s)

    def leave(self, tenant: str) -> None:
        """A call has ended."""
        line = self._lines[tenant]
        self._running -= 1
        line.running -= 1
        self._call_next()
        self._forget(tenant, line)

    def _may_start(self, line: _Line) -> bool:
        free = self._at_once() - self._running
        return free > 0 and line.running < max(free * line.weight, 1)

    def _start(self, line: _Line) -> None:
        self._running += 1
        line.running += 1
        self._virtual = max(self._virtual, line.tag)
        line.tag = self._virtual + 1 / line.weight

    def _check_time(self, tenant: str, line: _Line, until_s: float) -> None:
        needed_s = line.interval_s * (len(line.waiting) + 1)
        if self._monotonic() + needed_s > until_s:
            self._forget(tenant, line)
            raise self._refusal(needed_s)

    async def _wait(self, tenant: str, line: _Line, until_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not line.waiting:
            line.turn_at_s = self._monotonic()
            if not line.is_lined_up:
                self._line_up(tenant, line)
        line.waiting.append(turn)
        timer = asyncio.get_running_loop().call_later(
            until_s - self._monotonic(), _expire, turn, self._refusal(line.interval_s)
        )
        try:
            await turn
        except BaseException as error:
            if turn in line.waiting:
                line.waiting.remove(turn)
                self._forget(tenant, line)
            elif isinstance(error, asyncio.CancelledError) and not turn.cancelled():
                self.leave(tenant)  # its turn had come already
            raise
        finally:
            timer.cancel()

    def _line_up(self, tenant: str, line: _Line) -> None:
        self._number += 1
        line.is_lined_up = True
        line.tag = max(line.tag, self._virtual)
        heapq.heappush(self._order, (line.tag, self._number, tenant, line))

    def _call_next(self) -> None:
        """Give free room to those whose turn it is and who may have more of it."""
        held_back = []
        while self._order and self._running < self._at_once():
            entry = heapq.heappop(self._order)
            _, _, tenant, line = entry
            while line.waiting and line.waiting[0].done():  # its caller has gone
                line.waiting.popleft()
            line.is_lined_up = False
            if not line.waiting:
                self._forget(tenant, line)
            elif self._may_start(line):
                self._give_turn(tenant, line)
            else:
                held_back.append(entry)
        for entry in held_back:
            entry[-1].is_lined_up = True
            heapq.heappush(self._order, entry)

    def _give_turn(self, tenant: str, line: _Line) -> None:
        now = self._monotonic()
        passed_s = now - line.turn_at_s
        line.interval_s += (passed_s - line.interval_s) * (_LAST if line.interval_s else 1.0)
        line.turn_at_s = now
        self._start(line)
        line.waiting.popleft().set_result(None)
        if line.waiting:
            self._line_up(tenant, line)

    def _forget(self, tenant: str, line: _Line) -> None:
        """So nothing grows with the tenants that were ever seen."""
        if not line.waiting and not line.running and self._lines.get(tenant) is line:
            del self._lines[tenant]

    def _refusal(self, needed_s: float) -> ServiceError:
        return ServiceError(
            Reason.OVERLOADED,
            f"The {self.name} process has more calls than it can take before this one's time is up;"
            " try again shortly.",
            service=self.name,
            limit=self._at_once(),
            retry_after_s=f"{max(needed_s, _RETRY_S_MIN):.3f}",
        )


class FairPlaces:
    """The place of the gateway's door in which calls wait for their turn."""

    def __init__(self, queues: Mapping[str, FairQueue], weight_of: Callable[[str], float]) -> None:
        """`queues`: by full name of the service that is called; `weight_of`: by tenant."""
        self._queues = queues
        self._weight_of = weight_of

    @property
    def queues(self) -> list[FairQueue]:
        """Each of them once."""
        return list({queue.name: queue for queue in self._queues.values()}.values())

    def place(self, arrival: Arrival) -> _Turn:
        """A turn at the process that is called; streams, runs and management take none."""
        method = arrival.method
        assert method is not None
        if method.streams or CLASSES[arrival.path] not in _QUEUED:
            return _Turn(None, arrival, 1.0)
        tenant = arrival.caller.tenant
        return _Turn(self._queues.get(method.service), arrival, self._weight_of(tenant))


class _Turn:
    """One call's turn."""

    __slots__ = ("_arrival", "_queue", "_weight")

    def __init__(self, queue: FairQueue | None, arrival: Arrival, weight: float) -> None:
        self._queue = queue
        self._arrival = arrival
        self._weight = weight

    async def __aenter__(self) -> None:
        if self._queue is not None:
            arrival = self._arrival
            await self._queue.enter(arrival.caller.tenant, self._weight, arrival.deadline_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._queue is not None:
            self._queue.leave(self._arrival.caller.tenant)


def _expire(turn: asyncio.Future[None], refusal: ServiceError) -> None:
    if not turn.done():
        turn.set_exception(refusal)

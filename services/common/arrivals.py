"""Operations that wait for a store's writer, and how those of one group are answered."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import Reason, ServiceError
from services.common.view import Txn

Tell = Callable[[set[str]], None]

_CROWD = 6
"""From so many writers at once on, a group waits for those that are about to come."""

_LOOK_S = 0.0005
_LOOKS_MAX = 4
"""It looks so often, and goes ahead once nobody came between two looks."""


@dataclass(slots=True)
class Waiting:
    """An operation, who waits for it, and what became of it."""

    operation: Callable[[Txn], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    grows: bool
    result: Any = None
    error: BaseException | None = None
    touched: set[str] = field(default_factory=set)


class Arrivals:
    """The queue in front of the writer. Anybody puts in, one thread takes out."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._entrance = threading.Lock()
        self._next: Waiting | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing may join any more."""
        return self._closed

    def join(self, waiting: Waiting) -> None:
        """Put in an operation.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE once it is closed.
        """
        with self._entrance:  # nothing may join behind the mark of the end
            if self._closed:
                raise closing()
            self._queue.put(waiting)

    def count(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def close(self) -> bool:
        """Let nothing join any more; what waits is still taken out. Whether it was open."""
        with self._entrance:
            was_open, self._closed = not self._closed, True
            if was_open:
                self._queue.put(None)
        return was_open

    def first(self) -> Waiting | None:
        """The next operation, as soon as there is one; None at the end."""
        if self._next is not None:
            waiting, self._next = self._next, None
            return waiting
        return self._queue.get()

    def more(self, *, unless: Callable[..., Any]) -> Waiting | None:
        """The next operation, if one waits and it is not that one, which stays the next."""
        try:
            waiting = self._queue.get_nowait()
        except queue.Empty:
            return None
        if waiting is None:
            self._queue.put(None)  # nothing can have joined behind it
        elif waiting.operation is unless:
            self._next = waiting
            return None
        return waiting

    def gather(self, together: int) -> None:
        """Let a crowd come together: a flush and two changes of thread for each few writes is much.

        One, two or four callers never wait here.

        Args:
            together: How many were in the last group.
        """
        waiting = self._queue.qsize()
        for _ in range(_LOOKS_MAX if together + waiting >= _CROWD else 0):
            time.sleep(_LOOK_S)
            before, waiting = waiting, self._queue.qsize()
            if waiting == before:
                return


def answer(group: list[Waiting], tell: Tell | None) -> None:
    """Tell each loop what was touched, then all who wait in it what became of their operations."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
    for waiting in group:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, mine in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed has nobody left to tell
            loop.call_soon_threadsafe(_resolve, mine, tell)


def _resolve(group: list[Waiting], tell: Tell | None) -> None:
    touched = set().union(*(waiting.touched for waiting in group if waiting.error is None))
    if tell is not None and touched:
        tell(touched)
    for waiting in group:
        if waiting.future.done():  # the caller has gone
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)


def closing() -> ServiceError:
    """What is said once the store is closing."""
    return ServiceError(Reason.SERVICE_UNAVAILABLE, "The store is closing.")

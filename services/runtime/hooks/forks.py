"""Calls that hooks begin beside a run's own, and what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.common.errors import Reason, ServiceError
from services.common.limits import HOOK_FORKS_AT_ONCE, HOOK_FORKS_MAX
from services.runtime.runs import Call, Reply


@dataclass(frozen=True, slots=True)
class Forked:
    """One that has ended."""

    id: str
    reply: Reply


class Forks:
    """Those of one run. They pass the host's hooks and the bridge as every call does."""

    def __init__(self, make: Callable[[Call, object], Awaitable[Reply]]) -> None:
        self._make = make
        self._places = asyncio.Semaphore(HOOK_FORKS_AT_ONCE)
        self._tasks: dict[str, list[asyncio.Task[Reply]]] = {}
        self._begun = 0

    def begin(self, calls: Sequence[tuple[str, Call]], *, by: object = None) -> None:
        """Begin them all, or none; `by`: the hook of the host that does.

        Raises:
            ServiceError: LIMIT_EXCEEDED where the run has begun too many.
        """
        if self._begun + len(calls) > HOOK_FORKS_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"A run may fork at most {HOOK_FORKS_MAX} operations.",
                field="operations",
                limit=HOOK_FORKS_MAX,
            )
        self._begun += len(calls)
        for name, call in calls:
            task = asyncio.create_task(self._one(call, by))
            self._tasks.setdefault(name, []).append(task)

    async def join(self, ids: Sequence[str] = ()) -> list[Forked]:
        """Wait for these, or for all, and give each once, in the order in which they began."""
        names = [name for name in self._tasks if not ids or name in ids]
        taken = [(name, task) for name in names for task in self._tasks.pop(name)]
        return [Forked(name, await task) for name, task in taken]

    async def end(self) -> None:
        """Cancel what still goes on."""
        left = [task for tasks in self._tasks.values() for task in tasks]
        self._tasks.clear()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _one(self, call: Call, by: object) -> Reply:
        async with self._places:
            return await self._make(call, by)

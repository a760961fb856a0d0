"""Searches that wait at the same time become one, where they ask the same of the same collection.

One call of a graph takes as many queries as there are, in as many threads as there are cores, and
costs the interpreter little more than one query does. So the more callers there are, the larger the
batches; a single caller waits for nobody.

A server learns of one call at a time, and of none while a search keeps its event loop. So whoever
is alone is served there, which is quickest; once two are seen to wait together, searches go aside,
into a thread, and the loop takes in the next ones meanwhile. Then a batch also waits for as many as
the one before it had, as long as they are seen to come: they were all answered at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.vector.engines.changes import Place
from services.vector.model import Query, SearchResult

BATCH_MAX = 32
"""Half of 64 callers: while one half is searched for, the other is answered (measured)."""
_COMING_S = 0.0005
"""How long nobody need come until a batch goes without the others."""
_LINES_MAX = 256
_LONE_MIN = 16
"""After so many searches that none waited beside, the callers are taken for a single one."""


class Run(Protocol):
    """Searches."""

    async def __call__(self, place: Place, query: Query, *, aside: bool) -> list[SearchResult]:
        """One result for each vector; in a thread where `aside` says so, else as it likes."""


@dataclass(slots=True)
class _Waiting:
    query: Query
    future: asyncio.Future[list[SearchResult]]


@dataclass(slots=True)
class _Line:
    waiting: list[_Waiting] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    callers: int = 1
    """How many there seem to be."""


class Gatherer:
    """Lines of searches, one for each collection and manner of asking."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lines: dict[Hashable, _Line] = {}
        self._lone_count = _LONE_MIN
        self._active = 0

    async def search(self, place: Place, query: Query) -> list[SearchResult]:
        """One result for each vector of the query."""
        manner = _manner(query)
        if manner is None:
            return await self._run(place, query, aside=False)
        line = self._lines.setdefault((place, manner), _Line())
        mine = _Waiting(query, asyncio.get_running_loop().create_future())
        line.waiting.append(mine)
        if line.task is None:
            self._active += 1
            line.task = asyncio.create_task(self._serve((place, manner), place, line))
        return await mine.future

    async def _serve(self, key: Hashable, place: Place, line: _Line) -> None:
        while line.waiting:
            await _company(line)
            batch, line.waiting = line.waiting[:BATCH_MAX], line.waiting[BATCH_MAX:]
            batch = [each for each in batch if not each.future.done()]
            crowded = len(batch) > 1 or self._active > 1
            self._lone_count = 0 if crowded else self._lone_count + 1
            if batch:
                await self._answer(place, batch)
            line.callers = len(batch) + len(line.waiting)
        line.task = None
        self._active -= 1
        if line.callers <= 1:
            del self._lines[key]
        elif len(self._lines) > _LINES_MAX:
            self._lines = {key: line for key, line in self._lines.items() if line.task}

    async def _answer(self, place: Place, batch: list[_Waiting]) -> None:
        vectors = [vector for each in batch for vector in each.query.vectors]
        try:
            query = replace(batch[0].query, vectors=vectors)
            results = await self._run(place, query, aside=self._lone_count < _LONE_MIN)
        except Exception as error:  # noqa: BLE001  (each caller gets it, or tries alone)
            await self._fail(place, batch, error)
            return
        start = 0
        for each in batch:
            end = start + len(each.query.vectors)
            if not each.future.done():
                each.future.set_result(results[start:end])
            start = end

    async def _fail(self, place: Place, batch: list[_Waiting], error: Exception) -> None:
        """One bad vector must not fail its neighbours, nor be called by their number."""
        if len(batch) == 1:
            if not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for each in batch:
            await self._answer(place, [each])


async def _company(line: _Line) -> None:
    """Wait for as many as came last time, as long as they are seen to come."""
    seen, until = 0, 0.0
    while len(line.waiting) < min(line.callers, BATCH_MAX):
        now = time.monotonic()
        if len(line.waiting) > seen:
            seen, until = len(line.waiting), now + _COMING_S
        elif now > until:
            return
        await asyncio.sleep(0)


def _manner(query: Query) -> Hashable | None:
    """What searches must have in common; None: this one goes alone."""
    if len(query.vectors) != 1 or query.filter is not None or query.as_of_ns is not None:
        return None
    return (
        len(query.vectors[0]),
        query.event_time,
        query.ingest_time,
        query.include_expired,
        query.mask,
        query.limit,
        query.score_threshold,
        query.exactness,
        query.expansion,
        query.min_recall,
        query.columns,
    )

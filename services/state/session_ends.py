"""Which sessions have ended: notes for the vector process, in order of revision.

State calls nobody. Whoever keeps something of sessions elsewhere reads on from the last revision it
knows, and is told within moments of the next end. Notes are kept for `SESSION_ENDS_SECONDS` and are
at most `SESSION_ENDS_KEPT_MAX`. They are told again to who asks again, so what is done with one
must be right when done twice.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

from services.common import limits
from services.common.expiry import SLICE
from services.common.store import Txn, View
from services.state.layout import SESSION_ENDS
from services.state.layout import sessions as layout
from services.state.session_model import End
from services.state.session_step import ENDS_LINE, stored_session
from services.state.step import Keeper, Step

_SECOND_NS = 10**9
_PURGE_SLICE = 5_000
"""Notes that one step of a purge looks at."""


class SessionEnds:
    """Ends of all tenants' sessions."""

    def __init__(self, keeper: Keeper, *, kept_max: int = limits.SESSION_ENDS_KEPT_MAX) -> None:
        """`kept_max`: the oldest are removed beyond this many."""
        self._keeper = keeper
        self._kept_max = kept_max
        self._waiting: set[asyncio.Event] = set()
        self._closing = False

    async def list(self, after_revision: int, *, limit: int, wait_s: float = 0.0) -> Sequence[End]:
        """Ends after a revision, in order; empty where none came within `wait_s` seconds."""
        with self._keeper.feed.line(ENDS_LINE) as event:
            found = self._read(after_revision, limit)
            if found or wait_s <= 0 or self._closing:
                return found
            self._waiting.add(event)
            try:
                async with asyncio.timeout(wait_s):
                    await event.wait()
            except TimeoutError:
                return []
            finally:
                self._waiting.discard(event)
            return self._read(after_revision, limit)

    async def run(self) -> None:
        """Until cancelled; then nobody waits any more, so that the process need not either."""
        try:
            await asyncio.Event().wait()
        finally:
            self._closing = True
            for event in self._waiting:
                event.set()

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` notes that are too old or too many; how many."""
        with self._keeper.engine.read() as view:
            idle = not self._old(view, 1)
        return 0 if idle else await self._keeper.step(lambda step: self._prune(step, limit))

    async def purge(self, tenant: str) -> None:
        """Remove the notes that name a tenant."""
        after: bytes | None = b""
        while after is not None:
            after = await self._purge_slice(tenant, after)

    def _read(self, after_revision: int, limit: int) -> Sequence[End]:
        with self._keeper.engine.read() as view:
            entries = view.scan(SESSION_ENDS, b"", after=layout.end_key(after_revision + 1))
            ends = (layout.unpack_end(place, stored) for place, stored in entries)
            return list(_first(ends, limit))

    def _old(self, view: View, limit: int) -> Sequence[bytes]:
        """The oldest notes that are to go, at most so many."""
        over = max(view.count(SESSION_ENDS) - self._kept_max, 0)
        oldest = self._keeper.time.now_ns() - limits.SESSION_ENDS_SECONDS * _SECOND_NS
        entries = enumerate(itertools.islice(view.scan(SESSION_ENDS, b""), limit))
        return [
            place
            for number, (place, stored) in entries
            if number < over or layout.unpack_end(place, stored).end_time_ns < oldest
        ]

    def _prune(self, step: Step, limit: int) -> int:
        doomed = self._old(step.txn, limit)
        for place in doomed:
            step.txn.delete(SESSION_ENDS, place)
        return len(doomed)

    async def _purge_slice(self, tenant: str, after: bytes) -> bytes | None:
        def operation(step: Step) -> bytes | None:
            entries = list(
                itertools.islice(step.txn.scan(SESSION_ENDS, b"", after=after), _PURGE_SLICE)
            )
            for place, stored in entries:
                if layout.unpack_end(place, stored).tenant == tenant:
                    step.txn.delete(SESSION_ENDS, place)
            return entries[-1][0] if len(entries) == _PURGE_SLICE else None

        return await self._keeper.step(operation)


def is_ended_by_restore(before: bytes | None, after: bytes | None) -> bool:
    """Whether a session that went on has ended, or is not there, by a restore.

    Args:
        before: What was stored of it; None where there was none, empty where that was damaged.
        after: What the backup has of it; None where it has none.
    """
    if before is None or (before and layout.unpack_session(before).end_time_ns is not None):
        return False
    return after is None or layout.unpack_session(after).end_time_ns is not None


def note_end(txn: Txn, session: bytes, end_time_ns: int) -> None:
    """Leave word of an end that a restore brought; `session` is its key in `sessions`.

    What it had elsewhere is younger than the end that the backup has: the moment is the restore's.
    """
    place = layout.end_key(txn.next_revision(), *layout.split_session_key(session))
    txn.put(SESSION_ENDS, place, layout.pack_end_time(end_time_ns))
    txn.touched.add(ENDS_LINE)


def forget_undone(step: Step, tenant: str, after: bytes) -> bytes | None:
    """Remove notes of ends of a tenant's sessions that have not ended any more, by a restore.

    Returns:
        After which note to go on; None once all were looked at.
    """
    entries = list(itertools.islice(step.txn.scan(SESSION_ENDS, b"", after=after), _PURGE_SLICE))
    for place, stored in entries:
        end = layout.unpack_end(place, stored)
        if end.tenant == tenant and _is_alive(step.txn, tenant, end.session_id):
            step.txn.delete(SESSION_ENDS, place)
    return entries[-1][0] if len(entries) == _PURGE_SLICE else None


def _is_alive(view: View, tenant: str, session_id: str) -> bool:
    session = stored_session(view, tenant, session_id)
    return session is not None and session.end_time_ns is None


def _first(ends: Iterator[End], limit: int) -> Iterator[End]:
    """So many, and the rest of the last one's revision: one is asked on after a revision."""
    last = 0
    for number, end in enumerate(ends):
        if number >= limit and end.revision != last:
            return
        last = end.revision
        yield end

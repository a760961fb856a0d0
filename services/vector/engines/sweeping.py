"""Removing what nobody can see any more, a slice at a time: expired, ended, past, and orphaned."""

from __future__ import annotations

from collections.abc import Callable

from services.common.store import Txn
from services.vector.engines import layout, places, writes
from services.vector.engines.changes import Change
from services.vector.engines.core import Core


async def sweep(core: Core, limit: int) -> int:
    """Do up to `limit` of what is due; how much there was."""
    now_ns = core.now_ns()
    with core.store.read() as view:
        ending = next(view.keys(layout.ENDINGS, b""), None)
        expiring = next(view.keys(layout.EXPIRY, b""), None)
        passing = next(view.keys(layout.HISTORY, b""), None)
        doomed = next(view.keys(layout.DOOMED, b""), None)
    count = 0
    if ending is not None and layout.read_ending_key(ending)[0] <= now_ns:
        count += len((await _remove(core, places.end_due, now_ns, limit)).gone)
    if expiring is not None and layout.read_due_key(expiring)[0] <= now_ns:
        count += (await _remove(core, writes.expire, now_ns, limit)).count
    if passing is not None and layout.read_due_key(passing)[0] <= now_ns:
        count += (await _remove(core, writes.forget_history, now_ns, limit)).count
    if doomed is not None and count < limit:
        count += await core.erase(*layout.read_pair(doomed), limit - count)
    return count


async def _remove(
    core: Core, work: Callable[[Txn, int, int], Change], now_ns: int, limit: int
) -> Change:
    return await core.write(lambda txn: work(txn.patient(), now_ns, limit))

"""Removing what nobody can see any more, a slice at a time: expired, ended, past, and orphaned."""

from __future__ import annotations

from services.vector.engines import layout, places, writes
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
        count += len(
            (await core.write(lambda txn: places.end_due(txn.patient(), now_ns, limit))).gone
        )
    if expiring is not None and layout.read_due_key(expiring)[0] <= now_ns:
        count += (await core.write(lambda txn: writes.expire(txn.patient(), now_ns, limit))).count
    if passing is not None and layout.read_due_key(passing)[0] <= now_ns:
        count += (
            await core.write(lambda txn: writes.forget_history(txn.patient(), now_ns, limit))
        ).count
    if doomed is not None and count < limit:
        count += await core.erase(*layout.read_pair(doomed), limit - count)
    return count

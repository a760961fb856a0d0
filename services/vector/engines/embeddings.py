"""Embeddings that were paid for once, kept across restarts. Bounded; the oldest go first."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.clock import Clock
from services.common.store import Store, Txn
from services.vector.embedding.cache import tenant_mark
from services.vector.engines import layout

ENTRIES_MAX = 200_000
"""At 384 dimensions some 400 MB on disk."""


class StoredEmbeddings:
    """Bytes under keys, in an engine's store, which it neither opens nor closes."""

    def __init__(self, store: Store, clock: Clock, *, entries_max: int = ENTRIES_MAX) -> None:
        self._store = store
        self._clock = clock
        self._entries_max = entries_max

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys, None for each that is not kept."""
        with self._store.read() as view:
            return [view.get(layout.EMBEDDINGS, key) for key in keys]

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these; a key that is kept already keeps its value.

        Takes no revision, since nothing that a caller sees depends on it.
        """
        now_ns = self._clock.now_ns()
        await self._store.write(lambda txn: self._put(txn, pairs, now_ns), grows=True)

    async def forget(self, tenant: str) -> int:
        """Remove all of a tenant."""
        mark = tenant_mark(tenant)
        with self._store.read() as view:
            if next(view.keys(layout.EMBEDDINGS, mark), None) is None:
                return 0
        return await self._store.write(lambda txn: _forget(txn.patient(), mark))

    def _put(self, txn: Txn, pairs: Sequence[tuple[bytes, bytes]], now_ns: int) -> None:
        for key, value in pairs:
            if not txn.has(layout.EMBEDDINGS, key):
                txn.put(layout.EMBEDDINGS, key, value)
                txn.put(layout.EMBEDDING_ORDER, layout.ending_key(now_ns, key), b"")
        excess = txn.count(layout.EMBEDDINGS) - self._entries_max
        if excess <= 0:
            return
        oldest = txn.keys(layout.EMBEDDING_ORDER, b"")
        for order_key in [key for key, _ in zip(oldest, range(excess), strict=False)]:
            txn.delete(layout.EMBEDDING_ORDER, order_key)
            txn.delete(layout.EMBEDDINGS, layout.read_ending_key(order_key)[1])


def _forget(txn: Txn, mark: bytes) -> int:
    doomed = [
        (order, key)
        for order in txn.keys(layout.EMBEDDING_ORDER, b"")
        if (key := layout.read_ending_key(order)[1]).startswith(mark)
    ]
    for order, key in doomed:
        txn.delete(layout.EMBEDDING_ORDER, order)
        txn.delete(layout.EMBEDDINGS, key)
    return len(doomed)

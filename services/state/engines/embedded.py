"""StateManager over LMDB: the default. What it has answered is on disk.

Reads open a read transaction where they are asked, on the event loop: one takes microseconds, and a
page ends after `PAGE_BYTES_MAX`. Writes are operations in the store's writer thread; what one of
them does stands in `step`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.common.clock import Clock
from services.common.expiry import SLICE, ForwardTime
from services.common.limits import CHANGES_KEPT_MAX, PAGE_BYTES_MAX
from services.common.store import Store, Txn, View, exit_on_fatal
from services.state import rules
from services.state.engines import layout
from services.state.engines.layout import ITEMS, SCHEMA, ChangeKind
from services.state.engines.step import Step, alive_item, ended_entries, forget_changes
from services.state.model import (
    Capability,
    Changed,
    Check,
    Counted,
    Found,
    Item,
    Page,
    Precondition,
    Value,
    Write,
)

_LOOKED_AT_MAX = 10_000
"""Items, ended ones included, after which a page ends."""

_CHANGES_SLICE = 5_000
"""Change records that one step of a purge looks at."""


class EmbeddedState:
    """Items in one LMDB environment."""

    capabilities = frozenset({Capability.DURABLE, Capability.CHANGE_FEED})

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        on_fatal: Callable[[str], None] = exit_on_fatal,
        sync: bool = True,
        changes_kept: int = CHANGES_KEPT_MAX,
        slice_size: int = SLICE,
    ) -> None:
        """Open or create the store under `path`, after any fork.

        Args:
            path: The folder; made where it is missing.
            clock: For times to live and times shown.
            on_fatal: Must end the process; see `common.store`.
            sync: False only in tests that prove that the crash tests can fail.
            changes_kept: Older change records are removed beyond this many.
            slice_size: Items that one step of a purge removes.

        Raises:
            ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT.
        """
        self._time = ForwardTime(clock)
        self._changes_kept = changes_kept
        self._slice_size = slice_size
        self._store = Store(path, SCHEMA, on_fatal=on_fatal, sync=sync)

    async def get(self, tenant: str, scope: str, key: str) -> Found:
        """See StateReader."""
        rules.check_place(tenant, scope)
        rules.check_key(key)
        with self._store.read() as view:
            item = alive_item(view, layout.item_key(tenant, scope, key), self._time.now_ns())
            return Found(item, view.revision())

    async def list(
        self,
        tenant: str,
        scope: str,
        *,
        limit: int,
        prefix: str = "",
        after: str = "",
        keys_only: bool = False,
    ) -> Page:
        """See StateReader."""
        rules.check_place(tenant, scope)
        rules.check_prefix(prefix)
        rules.check_prefix(after, "after")
        begin = layout.item_key(tenant, scope, prefix)
        behind = layout.item_key(tenant, scope, after) if after else b""
        most = rules.page_limit(limit)
        with self._store.read() as view:
            items, last = _page(view, begin, behind, limit=most, now_ns=self._time.now_ns())
            revision = view.revision()
        if keys_only:
            items = [replace(item, value=None) for item in items]
        return Page(items, last, revision)

    async def set(
        self,
        tenant: str,
        scope: str,
        key: str,
        value: Value,
        *,
        ttl_ns: int | None = None,
        precondition: Precondition | None = None,
    ) -> Changed:
        """See StateWriter."""
        rules.check_place(tenant, scope)
        rules.check_key(key)
        rules.check_value(value)
        rules.check_ttl(ttl_ns)
        return await self._write_one(tenant, Write(scope, key, value, ttl_ns), precondition)

    async def delete(
        self, tenant: str, scope: str, key: str, *, precondition: Precondition | None = None
    ) -> Changed:
        """See StateWriter."""
        rules.check_place(tenant, scope)
        rules.check_key(key)
        return await self._write_one(tenant, Write(scope, key, None), precondition)

    async def increment(self, tenant: str, scope: str, key: str, delta: float) -> Counted:
        """See StateWriter."""
        rules.check_place(tenant, scope)
        rules.check_key(key)
        rules.check_delta(delta)
        place = layout.item_key(tenant, scope, key)

        def operation(txn: Txn) -> Counted:
            step = self._step(txn)
            item = step.alive(place)
            number = rules.add(key, item.value if item else None, delta)
            ends = item.expire_time_ns if item else None
            step.put(place, rules.number_value(number), ends, kind=ChangeKind.INCREMENT)
            return Counted(number, step.finish())

        return await self._store.write(operation, grows=True)

    async def batch(self, tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> Changed:
        """See StateWriter."""
        rules.check_batch(tenant, checks, writes)
        return await self._store.write(
            lambda txn: self._step(txn).run(tenant, checks, writes),
            grows=any(write.value is not None for write in writes),
        )

    async def purge(self, tenant: str) -> Changed:
        """See StateWriter."""
        rules.check_place(tenant, "global")
        revision, deleted, more = 0, 0, True
        while more:
            changed, more = await self._store.write(
                lambda txn: self._step(txn).purge(tenant, self._slice_size)
            )
            revision, deleted = changed.revision, deleted + changed.deleted_count
        after: bytes | None = b""
        while after is not None:
            after = await self._store.write(
                partial(forget_changes, tenant=tenant, after=after, limit=_CHANGES_SLICE)
            )
        return Changed(revision, deleted)

    async def revision(self) -> int:
        """See StateReader."""
        with self._store.read() as view:
            return view.revision()

    async def sweep(self, limit: int = SLICE) -> int:
        """See StateManager."""
        with self._store.read() as view:
            idle = next(ended_entries(view, self._time.now_ns()), None) is None
        if idle:  # most times
            await self._store.tidy()
            return 0
        return await self._store.write(lambda txn: self._step(txn).sweep(limit))

    async def ready(self) -> bool:
        """See StateManager."""
        return self._store.is_open

    async def close(self) -> None:
        """See StateManager."""
        await asyncio.to_thread(self._store.close)

    async def _write_one(
        self, tenant: str, write: Write, precondition: Precondition | None
    ) -> Changed:
        checks = [Check(write.scope, write.key, precondition)] if precondition else []
        return await self._store.write(
            lambda txn: self._step(txn).run(tenant, checks, [write]), grows=write.value is not None
        )

    def _step(self, txn: Txn) -> Step:
        return Step(txn, now_ns=self._time.now_ns(), changes_kept=self._changes_kept)


def _page(
    view: View, begin: bytes, behind: bytes, *, limit: int, now_ns: int
) -> tuple[list[Item], str | None]:
    """Items that are seen, and the last key looked at where there may be more."""
    items: list[Item] = []
    size = 0
    last = ""
    for number, (place, stored) in enumerate(view.scan(ITEMS, begin, after=behind)):
        if len(items) == limit or size > PAGE_BYTES_MAX or number == _LOOKED_AT_MAX:
            return items, last
        last = layout.split_item_key(place)[2]
        size += len(stored)
        item = layout.unpack_item(last, stored)
        if item.alive_at(now_ns):
            items.append(item)
    return items, None

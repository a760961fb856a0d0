"""Items: keys and values in scopes, over any engine. The suite in tests/contract asks each of them.

The tenant comes first in every call and separates everything: nothing of another tenant is seen,
counted, or even found to exist. A scope is the text that `common.scopes` prints. Every answer
carries the revision at which it was true; revisions rise by one with each call that changes
something, whoever made it.

An item whose time has come is absent for everyone, swept or not. Every call refuses a tenant or a
key that is empty (FIELD_REQUIRED), has what no key may have (FIELD_INVALID) or is too long
(LIMIT_EXCEEDED), before anything is written; keys are kept in Unicode's NFC. A write whose
precondition does not hold raises REVISION_MISMATCH with the item's revision, 0 where it is absent,
and writes nothing. A write with `once` is made once: see `requests`.

Reads open a view where they are asked, on the event loop: one takes microseconds, and a page ends
after `PAGE_BYTES_MAX`. What a write does inside the transaction stands in `item_step`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.common.expiry import SLICE
from services.common.limits import PAGE_BYTES_MAX
from services.common.store import View
from services.state import numbers, rules
from services.state.item_step import ItemStep, alive_item, ended_entries
from services.state.layout import ITEMS
from services.state.layout import items as layout
from services.state.model import (
    Changed,
    Check,
    Counted,
    Found,
    Item,
    Once,
    Page,
    Precondition,
    Resolved,
    Value,
    Write,
)
from services.state.numbers import Number
from services.state.requests import Requests
from services.state.step import Keeper, Step

_LOOKED_AT_MAX = 10_000
"""Items, ended ones included, after which a page ends."""


class Items:
    """Items of all tenants."""

    def __init__(self, keeper: Keeper, *, slice_size: int = SLICE) -> None:
        """`slice_size`: items that one step of a purge removes."""
        self._keeper = keeper
        self._engine = keeper.engine
        self._time = keeper.time
        self._requests = Requests(keeper)
        self._slice_size = slice_size

    async def get(self, tenant: str, scope: str, key: str) -> Found:
        """One item; `Found.item` is None where there is none."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        with self._engine.read() as view:
            item = alive_item(view, layout.item_key(tenant, scope, key), self._time.now_ns())
            return Found(item, view.revision())

    async def resolve(self, tenant: str, scopes: Sequence[str], key: str) -> Resolved:
        """The item of the first of these scopes that has one, as they are at one moment."""
        for scope in scopes:
            rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        now_ns = self._time.now_ns()
        with self._engine.read() as view:
            for scope in scopes:
                item = alive_item(view, layout.item_key(tenant, scope, key), now_ns)
                if item is not None:
                    return Resolved(item, scope, view.revision())
            return Resolved(None, "", view.revision())

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
        """Items whose key begins with `prefix` and comes after `after`, in order of UTF-8 bytes.

        A page may be short, or empty, before the end: large values and expired items count too. So
        read on until its cursor is None.

        Raises:
            ServiceError: FIELD_INVALID where `limit` is not positive.
        """
        rules.check_place(tenant, scope)
        prefix = rules.normal_prefix(prefix)
        rules.check_after(after)
        begin = layout.item_key(tenant, scope, prefix)
        behind = layout.item_key(tenant, scope, after) if after else b""
        most = rules.page_limit(limit)
        with self._engine.read() as view:
            items, last = _page(
                view,
                begin,
                behind,
                limit=most,
                now_ns=self._time.now_ns(),
                values=not keys_only,
            )
            return Page(items, last, view.revision())

    async def set(
        self,
        tenant: str,
        scope: str,
        key: str,
        value: Value,
        *,
        ttl_ns: int | None = None,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Changed:
        """Write an item. Its time to live is the given one: without, it loses the one it had.

        Raises:
            ServiceError: REVISION_MISMATCH, LIMIT_EXCEEDED (value, ttl), FIELD_INVALID (ttl).
        """
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        rules.check_value(value)
        rules.check_ttl(ttl_ns)
        write = Write(scope, key, value, ttl_ns)
        return await self._write_one(tenant, write, precondition, once)

    async def delete(
        self,
        tenant: str,
        scope: str,
        key: str,
        *,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Changed:
        """Remove an item. What is not there counts 0 and takes no revision.

        Raises:
            ServiceError: REVISION_MISMATCH.
        """
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        return await self._write_one(tenant, Write(scope, key, None), precondition, once)

    async def increment(
        self,
        tenant: str,
        scope: str,
        key: str,
        delta: Number,
        *,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Counted:
        """Add to a JSON number; an absent item counts as 0. The time to live is kept.

        An int plus an int is an int of 64 bits; a Decimal makes a decimal, without loss; otherwise
        a float on either side makes a float.

        Raises:
            ServiceError: VALUE_NOT_NUMBER where the item is something else or the sum leaves its
                range, FIELD_INVALID where `delta` is not finite or has more than 64 bits,
                REVISION_MISMATCH.
        """
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        numbers.check_delta(delta)
        place = layout.item_key(tenant, scope, key)

        def operation(step: Step) -> Counted:
            items = ItemStep(step)
            if precondition is not None:
                rules.check_precondition(key, items.alive(place), precondition)
            return Counted(items.increment(place, delta), step.revision)

        return await self._requests.step(tenant, once, Counted, operation, grows=True)

    async def batch(
        self,
        tenant: str,
        checks: Sequence[Check],
        writes: Sequence[Write],
        *,
        once: Once | None = None,
    ) -> Changed:
        """Writes in order, all of them at one revision, or none.

        All checks are made before the first write. Of two writes to one key the last one stays;
        what is added is added to what the writes before have left. A removal of what is not there
        counts 0; where nothing at all changes, no revision is taken.

        Raises:
            ServiceError: REVISION_MISMATCH for the first check that fails, VALUE_NOT_NUMBER for the
                first number that cannot be added to, FIELD_REQUIRED where there is neither check
                nor write, LIMIT_EXCEEDED.
        """
        checks, writes = rules.normal_batch(tenant, checks, writes)
        return await self._requests.step(
            tenant,
            once,
            Changed,
            lambda step: ItemStep(step).run(tenant, checks, writes),
            grows=not all(write.removes for write in writes),
        )

    async def purge(self, tenant: str) -> Changed:
        """Erase all that a tenant has, and the keys that its change records name.

        Other calls are served between the steps. What is written to the tenant meanwhile may stay.
        """
        rules.check_place(tenant, "global")
        revision, deleted, more = 0, 0, True
        while more:
            changed, more = await self._keeper.step(
                lambda step: ItemStep(step).purge(tenant, self._slice_size)
            )
            revision, deleted = changed.revision, deleted + changed.deleted_count
        await self._keeper.purge_changes(tenant)
        return Changed(revision, deleted)

    async def revision(self) -> int:
        """The number of the last change; 0 where there was none."""
        with self._engine.read() as view:
            return view.revision()

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` expired items, in one revision; how many.

        Readers never see these items; this gives their room back.
        """
        with self._engine.read() as view:
            idle = next(ended_entries(view, self._time.now_ns()), None) is None
        if idle:  # most times
            await self._engine.tidy()
            return 0
        return await self._keeper.step(lambda step: ItemStep(step).sweep(limit))

    async def ready(self) -> bool:
        """Whether calls would be answered."""
        return self._engine.is_open

    async def close(self) -> None:
        """Finish what has begun and let go of files. Safe to call twice."""
        await asyncio.to_thread(self._engine.close)

    async def _write_one(
        self, tenant: str, write: Write, precondition: Precondition | None, once: Once | None
    ) -> Changed:
        checks = [Check(write.scope, write.key, precondition)] if precondition else []
        return await self._requests.step(
            tenant,
            once,
            Changed,
            lambda step: ItemStep(step).run(tenant, checks, [write]),
            grows=write.value is not None,
        )


def _page(
    view: View, begin: bytes, behind: bytes, *, limit: int, now_ns: int, values: bool
) -> tuple[list[Item], str | None]:
    """Items that are seen, and the last key looked at where there may be more."""
    items: list[Item] = []
    size = 0
    last = ""
    for number, (place, stored) in enumerate(view.scan(ITEMS, begin, after=behind)):
        if len(items) == limit or size > PAGE_BYTES_MAX or number == _LOOKED_AT_MAX:
            return items, last
        last = layout.split_item_key(place)[2]
        if layout.ends_ns(stored) > now_ns:
            items.append(layout.unpack_item(last, stored, values=values))
            size += layout.plain_bytes(stored) if values else 0
        size += len(stored)
    return items, None

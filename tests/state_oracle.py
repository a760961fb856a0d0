"""Items over plain dictionaries: the oracle of the property tests.

Deliberately plain. Everything happens between two awaits, so nothing is ever half done.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from services.common.clock import Clock
from services.common.expiry import SLICE, ForwardTime
from services.common.limits import PAGE_BYTES_MAX
from services.state import numbers, rules
from services.state.model import (
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

_Place = tuple[str, str, str]


class MemoryState:
    """Items in a dictionary by tenant, scope and key."""

    def __init__(self, *, clock: Clock) -> None:
        self._time = ForwardTime(clock)
        self._items: dict[_Place, Item] = {}
        self._revision = 0

    async def get(self, tenant: str, scope: str, key: str) -> Found:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        return Found(self._alive((tenant, scope, key)), self._revision)

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
        """See Items."""
        rules.check_place(tenant, scope)
        prefix = rules.normal_prefix(prefix)
        rules.check_after(after)
        most = rules.page_limit(limit)
        items = sorted(  # code points come in the order of their UTF-8
            (
                item
                for item in self._all_alive(tenant, scope)
                if item.key.startswith(prefix) and item.key > after
            ),
            key=lambda item: item.key,
        )
        page = items[: min(most, _fitting(items))]
        last = page[-1].key if len(items) > len(page) else None
        if keys_only:
            page = [replace(item, value=None) for item in page]
        return Page(page, last, self._revision)

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
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        rules.check_value(value)
        rules.check_ttl(ttl_ns)
        if precondition is not None:
            rules.check_precondition(key, self._alive((tenant, scope, key)), precondition)
        return self._apply(tenant, [Write(scope, key, value, ttl_ns)])

    async def delete(
        self, tenant: str, scope: str, key: str, *, precondition: Precondition | None = None
    ) -> Changed:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        if precondition is not None:
            rules.check_precondition(key, self._alive((tenant, scope, key)), precondition)
        return self._apply(tenant, [Write(scope, key, None)])

    async def increment(self, tenant: str, scope: str, key: str, delta: float) -> Counted:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        numbers.check_delta(delta)
        place = (tenant, scope, key)
        item = self._alive(place)
        number = numbers.add(key, item.value if item else None, delta)
        self._revision += 1
        self._put(place, numbers.number_value(number), item.expire_time_ns if item else None)
        return Counted(number, self._revision)

    async def batch(self, tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> Changed:
        """See Items."""
        checks, writes = rules.normal_batch(tenant, checks, writes)
        for check in checks:
            item = self._alive((tenant, check.scope, check.key))
            rules.check_precondition(check.key, item, check.precondition)
        return self._apply(tenant, writes)

    async def purge(self, tenant: str) -> Changed:
        """See Items."""
        rules.check_place(tenant, "global")
        deleted = len(self._all_alive(tenant))
        doomed = [place for place in self._items if place[0] == tenant]
        for place in doomed:
            del self._items[place]
        self._revision += bool(doomed)
        return Changed(self._revision, deleted)

    async def revision(self) -> int:
        """See Items."""
        return self._revision

    async def sweep(self, limit: int = SLICE) -> int:
        """See Items."""
        now_ns = self._time.now_ns()
        ended = [
            (item.expire_time_ns or 0, place)
            for place, item in self._items.items()
            if not item.alive_at(now_ns)
        ]
        for _, place in sorted(ended)[:limit]:
            del self._items[place]
        self._revision += bool(ended)
        return min(len(ended), limit)

    async def ready(self) -> bool:
        """See Items."""
        return True

    async def close(self) -> None:
        """See Items."""
        self._items.clear()

    def _apply(self, tenant: str, writes: Sequence[Write]) -> Changed:
        """All writes at the next revision; what follows the first await of a caller sees all."""
        changes = deleted = 0
        self._revision += 1
        for write in writes:
            place = (tenant, write.scope, write.key)
            if write.value is not None:
                ends = None if write.ttl_ns is None else self._time.now_ns() + write.ttl_ns
                self._put(place, write.value, ends)
                changes += 1
            elif self._alive(place) is not None:
                del self._items[place]
                changes += 1
                deleted += 1
        if not changes:
            self._revision -= 1
        return Changed(self._revision, deleted)

    def _put(self, place: _Place, value: Value, expire_time_ns: int | None) -> None:
        now_ns = self._time.now_ns()
        before = self._alive(place)
        self._items[place] = Item(
            key=place[2],
            value=value,
            revision=self._revision,
            create_time_ns=before.create_time_ns if before else now_ns,
            update_time_ns=now_ns,
            expire_time_ns=expire_time_ns,
        )

    def _alive(self, place: _Place) -> Item | None:
        item = self._items.get(place)
        return item if item is not None and item.alive_at(self._time.now_ns()) else None

    def _all_alive(self, tenant: str, scope: str | None = None) -> Sequence[Item]:
        now_ns = self._time.now_ns()
        return [
            item
            for place, item in self._items.items()
            if place[0] == tenant and scope in {None, place[1]} and item.alive_at(now_ns)
        ]


def _fitting(items: Sequence[Item]) -> int:
    """How many of the first items a page can carry, at least one."""
    sizes = itertools.accumulate(len(item.value.content) for item in items if item.value)
    return 1 + sum(size <= PAGE_BYTES_MAX for size in sizes)

"""Items over plain dictionaries: the oracle of the property tests.

Deliberately plain. Everything happens between two awaits, so nothing is ever half done.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from services.common.clock import Clock
from services.common.errors import ServiceError, field_invalid
from services.common.expiry import SLICE, ForwardTime
from services.common.limits import PAGE_BYTES_MAX
from services.state import numbers, rules
from services.state.model import (
    Address,
    Changed,
    Check,
    Counted,
    Found,
    Item,
    Once,
    Page,
    Precondition,
    Transferred,
    Value,
    Write,
)
from services.state.numbers import Number
from services.state.requests import request_id_reused
from services.state.transfers import item_not_found

T = TypeVar("T")
TEN_MINUTES_NS = 600 * 10**9

_Place = tuple[str, str, str]


class MemoryState:
    """Items in a dictionary by tenant, scope and key."""

    def __init__(self, *, clock: Clock) -> None:
        self._time = ForwardTime(clock)
        self._items: dict[_Place, Item] = {}
        self._made: dict[tuple[str, str], tuple[int, bytes, Any]] = {}
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
        once: Once | None = None,
    ) -> Changed:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        rules.check_value(value)
        rules.check_ttl(ttl_ns)
        return self._once(
            tenant, once, lambda: self._set((tenant, scope, key), value, ttl_ns, precondition)
        )

    def _set(self, place, value, ttl_ns, precondition):
        tenant, scope, key = place
        if precondition is not None:
            rules.check_precondition(key, self._alive((tenant, scope, key)), precondition)
        return self._apply(tenant, [Write(scope, key, value, ttl_ns)])

    async def delete(
        self,
        tenant: str,
        scope: str,
        key: str,
        *,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Changed:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        return self._once(tenant, once, lambda: self._delete(tenant, scope, key, precondition))

    def _delete(self, tenant, scope, key, precondition):
        if precondition is not None:
            rules.check_precondition(key, self._alive((tenant, scope, key)), precondition)
        return self._apply(tenant, [Write(scope, key, None)])

    async def increment(
        self, tenant: str, scope: str, key: str, delta: Number, *, once: Once | None = None
    ) -> Counted:
        """See Items."""
        rules.check_place(tenant, scope)
        key = rules.normal_key(key)
        numbers.check_delta(delta)
        return self._once(tenant, once, lambda: self._increment(tenant, scope, key, delta))

    def _increment(self, tenant, scope, key, delta):
        changed = self._apply(tenant, [Write(scope, key, None, delta=delta)])
        return Counted(changed.sums[0], self._revision)

    def _add(self, place, delta):
        item = self._alive(place)
        number = numbers.add(place[2], item.value if item else None, delta)
        self._put(place, numbers.number_value(number), item.expire_time_ns if item else None)
        return number

    async def batch(
        self,
        tenant: str,
        checks: Sequence[Check],
        writes: Sequence[Write],
        *,
        once: Once | None = None,
    ) -> Changed:
        """See Items."""
        checks, writes = rules.normal_batch(tenant, checks, writes)
        return self._once(tenant, once, lambda: self._batch(tenant, checks, writes))

    def _batch(self, tenant, checks, writes):
        for check in checks:
            item = self._alive((tenant, check.scope, check.key))
            rules.check_precondition(check.key, item, check.precondition)
        return self._apply(tenant, writes)

    async def copy(
        self,
        tenant: str,
        source: Address,
        target: Address,
        *,
        move: bool = False,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Changed:
        """See Transfers."""
        begin = (tenant, source.scope, rules.normal_key(source.key, "source_key"))
        end = (tenant, target.scope, rules.normal_key(target.key))
        if begin == end:
            raise field_invalid("key", "must differ from source_key, or its scope must")

        def copy() -> Changed:
            item = self._alive(begin)
            if item is None:
                raise item_not_found(begin[2], begin[1])
            self._transfer([begin], [end], move=move, precondition=precondition)
            return Changed(self._revision, int(move))

        return self._once(tenant, once, copy)

    async def copy_scope(
        self,
        tenant: str,
        source: str,
        target: str,
        *,
        prefix: str = "",
        move: bool = False,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Transferred:
        """See Transfers."""
        prefix = rules.normal_prefix(prefix)
        if source == target:
            raise field_invalid("scope", "must differ from source_scope")

        def copy() -> Transferred:
            begins = self._places(tenant, source, prefix)
            ends = [(tenant, target, key) for _, _, key in begins]
            self._transfer(begins, ends, move=move, precondition=precondition)
            return Transferred(len(begins), self._revision)

        return self._once(tenant, once, copy)

    async def clear(
        self, tenant: str, scope: str, *, prefix: str = "", once: Once | None = None
    ) -> Transferred:
        """See Transfers."""
        prefix = rules.normal_prefix(prefix)

        def clear() -> Transferred:
            places = self._places(tenant, scope, prefix)
            for place in places:
                del self._items[place]
            self._revision += bool(places)
            return Transferred(len(places), self._revision)

        return self._once(tenant, once, clear)

    def _places(self, tenant: str, scope: str, prefix: str) -> Sequence[_Place]:
        items = self._all_alive(tenant, scope)
        return sorted((tenant, scope, item.key) for item in items if item.key.startswith(prefix))

    def _transfer(
        self,
        begins: Sequence[_Place],
        ends: Sequence[_Place],
        *,
        move: bool,
        precondition: Precondition | None,
    ) -> None:
        for end in ends:
            if precondition is not None:
                rules.check_precondition(end[2], self._alive(end), precondition)
        self._revision += bool(begins)
        for begin, end in zip(begins, ends, strict=True):
            item = self._items[begin]
            assert item.value is not None
            self._put(end, item.value, item.expire_time_ns)
            if move:
                del self._items[begin]

    def _once(self, tenant: str, once: Once | None, run: Callable[[], T]) -> T:
        if once is None:
            return run()
        rules.check_request_id(once.request_id)
        now_ns = self._time.now_ns()
        made = self._made.get((tenant, once.request_id))
        if made is not None and made[0] + TEN_MINUTES_NS > now_ns:
            if made[1] != once.digest:
                raise request_id_reused(once.request_id)
            return made[2]
        answer = run()
        self._made[tenant, once.request_id] = (now_ns, once.digest, answer)
        return answer

    async def forget(self, limit: int) -> int:
        """See Requests.sweep."""
        now_ns = self._time.now_ns()
        ended = sorted(
            (made[0], known)
            for known, made in self._made.items()
            if made[0] + TEN_MINUTES_NS <= now_ns
        )
        for _, known in ended[:limit]:
            del self._made[known]
        return min(len(ended), limit)

    async def purge(self, tenant: str) -> Changed:
        """See Items."""
        rules.check_place(tenant, "global")
        deleted = len(self._all_alive(tenant))
        doomed = [place for place in self._items if place[0] == tenant]
        for place in doomed:
            del self._items[place]
        self._revision += bool(doomed)
        for known in [known for known in self._made if known[0] == tenant]:
            del self._made[known]
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
        sums = []
        before = self._revision, dict(self._items)
        self._revision += 1
        for write in writes:
            place = (tenant, write.scope, write.key)
            if write.delta is not None:
                try:
                    sums.append(self._add(place, write.delta))
                except ServiceError:
                    self._revision, self._items = before
                    raise
                changes += 1
            elif write.value is not None:
                ends = None if write.ttl_ns is None else self._time.now_ns() + write.ttl_ns
                self._put(place, write.value, ends)
                changes += 1
            elif self._alive(place) is not None:
                del self._items[place]
                changes += 1
                deleted += 1
        if not changes:
            self._revision -= 1
        return Changed(self._revision, deleted, tuple(sums))

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

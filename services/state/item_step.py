"""What one operation does to items, inside a step.

An item, its expiry entry and its change record are written here and nowhere else, so that they
cannot part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeGuard

import msgspec

from services.common.errors import ServiceError
from services.common.store import View
from services.state import numbers, rules
from services.state.layout import EXPIRY, ITEMS, tenant_prefix
from services.state.layout import items as layout
from services.state.layout.items import ChangeKind
from services.state.model import Changed, Check, Item, Value, Write
from services.state.numbers import Number
from services.state.step import Step


class ItemStep:
    """One transaction's items."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._txn = step.txn
        self._now_ns = step.now_ns

    def alive(self, place: bytes) -> Item | None:
        """The item that a caller sees at this place."""
        return alive_item(self._txn, place, self._now_ns)

    def run(self, tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> Changed:
        """All checks, then all writes in order.

        Raises:
            ServiceError: REVISION_MISMATCH for the first check that fails, VALUE_NOT_NUMBER for the
                first number that cannot be added to.
        """
        for check in checks:
            place = layout.item_key(tenant, check.scope, check.key)
            rules.check_precondition(check.key, self.alive(place), check.precondition)
        deleted, sums = 0, []
        for write in writes:
            place = layout.item_key(tenant, write.scope, write.key)
            if write.delta is not None:
                sums.append(self.increment(place, write.delta))
            elif write.value is None:
                deleted += self.delete(place)
            else:
                ends = None if write.ttl_ns is None else self._now_ns + write.ttl_ns
                self.put(place, write.value, ends, kind=ChangeKind.SET)
        return Changed(self._step.revision, deleted, tuple(sums))

    def increment(self, place: bytes, delta: Number) -> Number:
        """Add to an item's number; its time to live and its mark are kept.

        Raises:
            ServiceError: VALUE_NOT_NUMBER.
        """
        item = self.alive(place)
        key = layout.split_item_key(place)[2]
        number = numbers.add(key, item.value if item else None, delta)
        value = numbers.number_value(number)
        if item is not None and item.value is not None and item.value.is_sensitive:
            value = msgspec.structs.replace(value, is_sensitive=True)
        ends = item.expire_time_ns if item else None
        self.put(place, value, ends, kind=ChangeKind.INCREMENT)
        return number

    def put(
        self,
        place: bytes,
        value: Value,
        expire_time_ns: int | None,
        *,
        kind: ChangeKind,
        create_time_ns: int | None = None,
    ) -> None:
        """Write an item; the expiry entry of the one before goes with it.

        `create_time_ns`: of one that comes back; None: that of the one before, or now.
        """
        revision = self._change(kind, place)
        before = self._remove(place)
        made_ns = before.create_time_ns if self._seen(before) else self._now_ns
        item = Item(
            key=layout.split_item_key(place)[2],
            value=value,
            revision=revision,
            create_time_ns=create_time_ns or made_ns,
            update_time_ns=self._now_ns,
            expire_time_ns=expire_time_ns,
        )
        self._txn.put(ITEMS, place, layout.pack_item(item))
        if expire_time_ns is not None:
            self._txn.put(EXPIRY, layout.expiry_key(expire_time_ns, place), b"")

    def delete(self, place: bytes) -> bool:
        """Remove an item that is seen; one whose time has come is left to the sweep."""
        stored = self._stored(place)
        if not self._seen(stored):
            return False
        self._change(ChangeKind.DELETE, place)
        self._remove(place)
        return True

    def sweep(self, limit: int) -> int:
        """Remove up to `limit` items whose time has come, the earliest first; how many.

        Those of a tenant that is being restored are left to a later one.
        """
        entries = ended_entries(self._txn, self._now_ns)
        if self._step.restoring:
            entries = (
                each for each in entries if self._tenant_of(each) not in self._step.restoring
            )
        ended = list(itertools.islice(entries, limit))
        for entry in ended:
            expire_time_ns, place = layout.split_expiry_key(entry)
            if self._ends_at(place, expire_time_ns):
                self._change(ChangeKind.EXPIRE, place)
                self._txn.delete(ITEMS, place)
            self._txn.delete(EXPIRY, entry)
        return len(ended)

    def purge(self, tenant: str, limit: int) -> tuple[Changed, bool]:
        """Remove up to `limit` items of a tenant; and whether there may be more."""
        places = list(itertools.islice(self._txn.keys(ITEMS, tenant_prefix(tenant)), limit))
        if places:
            self._step.change(ChangeKind.PURGE, tenant, "", "")
        deleted = sum(self._seen(self._remove(place)) for place in places)
        return Changed(self._step.revision, deleted), len(places) == limit

    def _remove(self, place: bytes) -> Item | None:
        """Take away what is stored at a place, with its expiry entry."""
        stored = self._stored(place)
        if stored is not None:
            self._txn.delete(ITEMS, place)
            if stored.expire_time_ns is not None:
                self._txn.delete(EXPIRY, layout.expiry_key(stored.expire_time_ns, place))
        return stored

    def _change(self, kind: ChangeKind, place: bytes) -> int:
        return self._step.change(kind, *layout.split_item_key(place))

    def _stored(self, place: bytes) -> Item | None:
        """What is stored at a place, its time come or not.

        A damaged item counts as one, so that it can be overwritten and removed: there is no other
        way to be rid of it. The sweep takes the expiry entry that it may leave.
        """
        try:
            return stored_item(self._txn, place)
        except ServiceError:
            now_ns = self._now_ns
            key = layout.split_item_key(place)[2]
            return Item(
                key=key, value=None, revision=0, create_time_ns=now_ns, update_time_ns=now_ns
            )

    def _tenant_of(self, entry: bytes) -> str:
        return layout.split_item_key(layout.split_expiry_key(entry)[1])[0]

    def _ends_at(self, place: bytes, expire_time_ns: int) -> bool:
        stored = self._stored(place)
        return stored is not None and stored.expire_time_ns == expire_time_ns

    def _seen(self, item: Item | None) -> TypeGuard[Item]:
        return item is not None and item.alive_at(self._now_ns)


def stored_item(view: View, place: bytes) -> Item | None:
    """The item at a place, its time come or not.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    stored = view.get(ITEMS, place)
    return None if stored is None else layout.unpack_item(layout.split_item_key(place)[2], stored)


def alive_item(view: View, place: bytes, now_ns: int) -> Item | None:
    """The item that a caller sees at a place at a moment.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    item = stored_item(view, place)
    return item if item is not None and item.alive_at(now_ns) else None


def ended_entries(view: View, now_ns: int) -> Iterator[bytes]:
    """Keys in `expiry` whose time has come, the earliest first."""
    return itertools.takewhile(
        lambda entry: layout.split_expiry_key(entry)[0] <= now_ns, view.keys(EXPIRY, b"")
    )

"""What one operation of the embedded engine does, inside the store's writer thread.

An item, its expiry entry and its change record are written here and nowhere else, so that they
cannot part. A step takes a revision with its first change, and none where it changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from services.common.errors import ServiceError
from services.common.store import Txn, View
from services.state import rules
from services.state.engines import layout
from services.state.engines.layout import CHANGES, EXPIRY, ITEMS, ChangeKind
from services.state.model import Changed, Check, Item, Value, Write


class Step:
    """One transaction's changes."""

    def __init__(self, txn: Txn, *, now_ns: int, changes_kept: int) -> None:
        self._txn = txn
        self._now_ns = now_ns
        self._changes_kept = changes_kept
        self._revision = 0
        self._changes = 0

    def alive(self, place: bytes) -> Item | None:
        """The item that a caller sees at this place."""
        return alive_item(self._txn, place, self._now_ns)

    def run(self, tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> Changed:
        """All checks, then all writes in order.

        Raises:
            ServiceError: REVISION_MISMATCH for the first check that fails.
        """
        for check in checks:
            place = layout.item_key(tenant, check.scope, check.key)
            rules.check_precondition(check.key, self.alive(place), check.precondition)
        deleted = 0
        for write in writes:
            place = layout.item_key(tenant, write.scope, write.key)
            if write.value is None:
                deleted += self._delete(place)
            else:
                ends = None if write.ttl_ns is None else self._now_ns + write.ttl_ns
                self.put(place, write.value, ends, kind=ChangeKind.SET)
        return Changed(self.finish(), deleted)

    def put(
        self, place: bytes, value: Value, expire_time_ns: int | None, *, kind: ChangeKind
    ) -> None:
        """Write an item; the expiry entry of the one before goes with it."""
        revision = self._change(kind, place)
        before = self._remove(place)
        item = Item(
            key=layout.split_item_key(place)[2],
            value=value,
            revision=revision,
            create_time_ns=before.create_time_ns if self._seen(before) else self._now_ns,
            update_time_ns=self._now_ns,
            expire_time_ns=expire_time_ns,
        )
        self._txn.put(ITEMS, place, layout.pack_item(item))
        if expire_time_ns is not None:
            self._txn.put(EXPIRY, layout.expiry_key(expire_time_ns, place), b"")

    def sweep(self, limit: int) -> int:
        """Remove up to `limit` items whose time has come, the earliest first; how many."""
        ended = list(itertools.islice(ended_entries(self._txn, self._now_ns), limit))
        for entry in ended:
            expire_time_ns, place = layout.split_expiry_key(entry)
            if self._ends_at(place, expire_time_ns):
                self._change(ChangeKind.EXPIRE, place)
                self._txn.delete(ITEMS, place)
            self._txn.delete(EXPIRY, entry)
        self.finish()
        return len(ended)

    def purge(self, tenant: str, limit: int) -> tuple[Changed, bool]:
        """Remove up to `limit` items of a tenant; and whether there may be more."""
        prefix = layout.tenant_prefix(tenant)
        places = list(itertools.islice(self._txn.keys(ITEMS, prefix), limit))
        if places:
            self._change(ChangeKind.PURGE, layout.item_key(tenant, "", ""))
        deleted = sum(self._seen(self._remove(place)) for place in places)
        return Changed(self.finish(), deleted), len(places) == limit

    def finish(self) -> int:
        """Let go of the oldest change records; the revision after the step."""
        if self._revision == 0:
            return self._txn.revision()
        own = layout.change_key(self._revision, 0)
        while self._txn.count(CHANGES) > self._changes_kept:
            oldest = next(self._txn.keys(CHANGES, b""))
            if oldest >= own:
                break
            self._txn.delete_prefix(CHANGES, layout.revision_prefix(oldest))
        return self._revision

    def _delete(self, place: bytes) -> bool:
        """Remove an item that is seen; one whose time has come is left to the sweep."""
        stored = self._stored(place)
        if not self._seen(stored):
            return False
        self._change(ChangeKind.DELETE, place)
        self._remove(place)
        return True

    def _remove(self, place: bytes) -> Item | None:
        """Take away what is stored at a place, with its expiry entry."""
        stored = self._stored(place)
        if stored is not None:
            self._txn.delete(ITEMS, place)
            if stored.expire_time_ns is not None:
                self._txn.delete(EXPIRY, layout.expiry_key(stored.expire_time_ns, place))
        return stored

    def _change(self, kind: ChangeKind, place: bytes) -> int:
        """Leave a change record; the revision of this step."""
        if self._revision == 0:
            self._revision = self._txn.next_revision()
        key = layout.change_key(self._revision, self._changes)
        self._txn.append(CHANGES, key, layout.pack_change(kind, place))
        self._changes += 1
        return self._revision

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


def forget_changes(txn: Txn, tenant: str, after: bytes, limit: int) -> bytes | None:
    """Erase scope and key from a tenant's change records, looking at `limit` of all records.

    Returns:
        The last key looked at; None where there are no more.
    """
    blank = layout.pack_change(ChangeKind.PURGE, layout.item_key(tenant, "", ""))
    looked = list(itertools.islice(txn.scan(CHANGES, b"", after=after), limit))
    for key, stored in looked:
        if layout.unpack_change(key, stored).tenant == tenant and stored != blank:
            txn.put(CHANGES, key, blank)
    return looked[-1][0] if len(looked) == limit else None

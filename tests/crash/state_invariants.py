"""What holds in the state engine's database after every commit, whatever was asked of it."""

from __future__ import annotations

from collections import Counter

from services.common.store import View
from services.state.layout import CHANGES, EXPIRY, ITEMS, TENANTS
from services.state.layout.items import (
    ChangeKind,
    expiry_key,
    item_key,
    split_item_key,
    unpack_change,
    unpack_item,
    unpack_kept,
)

WRITES = {ChangeKind.SET, ChangeKind.INCREMENT}


def check_state(view: View) -> int:
    """Read every record, so that every checksum is verified, and compare them with each other.

    Returns:
        How many change records are kept of the tenant that has most.

    Raises:
        AssertionError: two databases contradict each other.
        ServiceError: RECORD_CORRUPT.
    """
    items = {
        place: unpack_item(split_item_key(place)[2], stored)
        for place, stored in view.scan(ITEMS, b"")
    }
    changes = [unpack_change(key, stored) for key, stored in view.scan(CHANGES, b"")]
    kept = {key.decode(): unpack_kept(stored) for key, stored in view.scan(TENANTS, b"")}
    check_expiry(view, items)
    check_kept(changes, kept)
    check_feed(changes, items, kept, view.revision())
    return max((each.count for each in kept.values()), default=0)


def check_expiry(view, items):
    """There is an expiry entry exactly where an item has that end."""
    expected = {
        expiry_key(item.expire_time_ns, place)
        for place, item in items.items()
        if item.expire_time_ns is not None
    }
    found = set(view.keys(EXPIRY, b""))
    assert not found - expected, "ends that no item has"
    assert not expected - found, "items whose end nobody will see"


def check_kept(changes, kept):
    """The count of each tenant's records is right, and what is compacted is older than they."""
    assert Counter(change.tenant for change in changes) == {
        tenant: each.count for tenant, each in kept.items() if each.count
    }
    for change in changes:
        assert change.revision > kept[change.tenant].compacted_revision


def check_feed(changes, items, kept, revision):
    """No revision is missing, and the last change of each key tells what its item says."""
    seen = {change.revision for change in changes}
    first = max((each.compacted_revision for each in kept.values()), default=0) + 1
    assert seen >= set(range(first, revision + 1)), "the feed has a gap"
    numbers = {}
    last = {}
    for change in sorted(changes, key=lambda change: (change.revision, change.number)):
        if change.revision >= first:
            assert change.number == numbers.get(change.revision, 0)
        numbers[change.revision] = change.number + 1
        if change.kind is not ChangeKind.PURGE:
            last[item_key(change.tenant, change.scope, change.key)] = change
    purged = {change.tenant for change in changes if change.kind is ChangeKind.PURGE}
    for place, item in items.items():
        tenant = split_item_key(place)[0]
        assert item.revision <= revision
        if item.revision > kept[tenant].compacted_revision:
            assert place in last, "a write without its change record"
    for place, change in last.items():
        if change.kind in WRITES and change.tenant not in purged:
            assert items[place].revision == change.revision, "a change record without its write"
        elif change.kind not in WRITES:
            assert place not in items, "an item that its change record says has gone"

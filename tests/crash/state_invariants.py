"""What holds in the state engine's database after every commit, whatever was asked of it."""

from __future__ import annotations

from services.common.store import View
from services.state.engines.layout import (
    CHANGES,
    EXPIRY,
    ITEMS,
    ChangeKind,
    expiry_key,
    item_key,
    split_item_key,
    unpack_change,
    unpack_item,
)

WRITES = {ChangeKind.SET, ChangeKind.INCREMENT}


def check_state(view: View) -> int:
    """Read every record, so that every checksum is verified, and compare them with each other.

    Returns:
        How many change records are kept.

    Raises:
        AssertionError: two databases contradict each other.
        ServiceError: RECORD_CORRUPT.
    """
    items = {
        place: unpack_item(split_item_key(place)[2], stored)
        for place, stored in view.scan(ITEMS, b"")
    }
    changes = [unpack_change(key, stored) for key, stored in view.scan(CHANGES, b"")]
    revision = view.revision()
    check_expiry(view, items)
    check_feed(changes, items, revision)
    return len(changes)


def check_expiry(view, items):
    """There is an expiry entry exactly where an item has that end."""
    expected = {
        expiry_key(item.expire_time_ns, place)
        for place, item in items.items()
        if item.expire_time_ns is not None
    }
    assert set(view.keys(EXPIRY, b"")) == expected


def check_feed(changes, items, revision):
    """No revision is missing, and the last change of each key tells what its item says."""
    seen = sorted({change.revision for change in changes})
    if revision:
        assert seen == list(range(seen[0], revision + 1)), "the feed has a gap"
    numbers = {}
    last = {}
    for change in changes:
        assert change.number == numbers.get(change.revision, 0)
        numbers[change.revision] = change.number + 1
        if change.kind is not ChangeKind.PURGE:
            last[item_key(change.tenant, change.scope, change.key)] = change
    purged = {change.tenant for change in changes if change.kind is ChangeKind.PURGE}
    for place, item in items.items():
        assert item.revision <= revision
        if item.revision >= seen[0]:
            assert place in last, "a write without its change record"
    for place, change in last.items():
        if change.kind in WRITES and change.tenant not in purged:
            assert items[place].revision == change.revision, "a change record without its write"
        elif change.kind not in WRITES:
            assert place not in items, "an item that its change record says has gone"

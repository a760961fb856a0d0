"""What holds in the state engine's database after every commit, whatever was asked of it.

Every record of every database is read, so that each checksum is verified, and those that belong
together are compared. `artifact_invariants.check_blobs` looks at the files beside the database.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from services.common.store import View
from services.state.layout import (
    CHANGES,
    EVENT_LOGS,
    EXPIRY,
    ITEMS,
    JOURNALS,
    KEYS,
    RESTORES,
    SESSION_ENDS,
    TENANTS,
    tenant_prefix,
)
from services.state.layout.events import unpack_log
from services.state.layout.items import (
    ChangeKind,
    expiry_key,
    item_key,
    split_item_key,
    unpack_change,
    unpack_item,
    unpack_kept,
)
from tests.crash import artifact_invariants, log_invariants, session_invariants

ITEM_WRITES = {ChangeKind.SET, ChangeKind.INCREMENT}
ITEM_REMOVALS = {ChangeKind.DELETE, ChangeKind.EXPIRE}


def check_state(view: View) -> int:
    """Read every record, so that every checksum is verified, and compare them with each other.

    Returns:
        How many change records are kept of the tenant that has most.

    Raises:
        AssertionError: two databases contradict each other.
        ServiceError: RECORD_CORRUPT.
    """
    for database in (KEYS, SESSION_ENDS):  # all others are read below
        for _ in view.scan(database, b""):
            pass
    assert not list(view.keys(RESTORES, b"")), "a restore has not ended"
    items = {
        place: unpack_item(split_item_key(place)[2], stored)
        for place, stored in view.scan(ITEMS, b"")
    }
    changes = [unpack_change(key, stored) for key, stored in view.scan(CHANGES, b"")]
    changes.sort(key=lambda each: (each.revision, each.number))
    kept = {key.decode(): unpack_kept(stored) for key, stored in view.scan(TENANTS, b"")}
    check_expiry(view, items)
    check_kept(changes, kept)
    published = log_invariants.check_events(view)
    check_revisions(view, changes, kept, published)
    check_feed(changes, items, kept, view.revision())
    session_invariants.check_sessions(view, changes, kept)
    artifact_invariants.check_artifacts(view, changes, kept)
    log_invariants.check_journals(view)
    log_invariants.check_requests(view)
    log_invariants.check_migrations(view)
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


def check_revisions(view, changes, kept, published):
    """The changes of a revision are numbered from 0, and no revision was given twice.

    Where nothing takes a revision without a trace, as journals and events that end do, none is
    missing from the feed.
    """
    first = max((each.compacted_revision for each in kept.values()), default=0) + 1
    numbers = defaultdict(list)
    assert not changes or changes[-1].revision <= view.revision(), "a change of the future"
    for change in changes:
        if change.revision >= first:
            numbers[change.revision].append(change.number)
    for revision, found in numbers.items():
        assert found == list(range(len(found))), f"the feed has a gap in {revision}"
    logs = [unpack_log(stored) for _, stored in view.scan(EVENT_LOGS, b"")]
    if all(log.count == log.published for log in logs) and not view.count(JOURNALS):
        seen = set(numbers) | published
        assert seen >= set(range(first, view.revision() + 1)), "the feed has a gap"


def check_feed(changes, items, kept, revision):
    """The last change of each key tells what its item says."""
    last, migrated = last_told(changes)
    for place, item in items.items():
        tenant, scope, key = split_item_key(place)
        assert item.revision <= revision
        told = {each.revision for each in migrated if is_of(each, tenant, scope, key)}
        if place in last:
            told.add(last[place].revision)
        if item.revision > kept[tenant].compacted_revision:
            assert item.revision in told, "a write without its change record"
    for place, change in last.items():
        if change.kind in ITEM_REMOVALS:
            assert place not in items, "an item that its change record says has gone"
        else:
            assert place in items, "a change record without its item"
            assert items[place].revision >= change.revision, "a change record without its write"


def last_told(changes):
    """The last change of each key since its tenant was emptied, and those that tell of many."""
    last, migrated = {}, []
    for change in changes:
        if change.kind in ITEM_WRITES | ITEM_REMOVALS:
            last[item_key(change.tenant, change.scope, change.key)] = change
        elif change.kind is ChangeKind.MIGRATED:
            migrated.append(change)
        elif change.kind in {ChangeKind.PURGE, ChangeKind.RESTORE}:
            own = tenant_prefix(change.tenant)
            last = {place: each for place, each in last.items() if not place.startswith(own)}
    return last, migrated


def is_of(change, tenant, scope, key):
    """Whether a migration told of this item."""
    return change.tenant == tenant and change.scope in {"", scope} and key.startswith(change.key)

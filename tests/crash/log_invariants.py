"""What holds of events, journals, remembered requests, schemas and migrations after a commit."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from services.state.layout import (
    EVENT_ENDS,
    EVENT_LOGS,
    EVENTS,
    JOURNAL,
    JOURNALS,
    MIGRATIONS,
    REQUEST_TIMES,
    REQUESTS,
    SCHEMAS,
    STAGED,
)
from services.state.layout import events as event_layout
from services.state.layout import journals as journal_layout
from services.state.layout import migrations as migration_layout
from services.state.layout import requests as request_layout
from services.state.layout.items import split_item_key, unpack_item
from services.state.migrations.model import Family, Migration, Schema

family_of = msgspec.json.Decoder(Family).decode
schema_of = msgspec.json.Decoder(Schema).decode
migration_of = msgspec.json.Decoder(Migration).decode


def check_events(view):
    """Batches, their ends, and what each tenant's log counts agree; batches follow each other.

    Returns:
        The revisions at which events were published.
    """
    ends, sums, batches = set(), defaultdict(lambda: (0, 0)), defaultdict(list)
    last = view.revision()
    for place, stored in view.scan(EVENTS, b""):
        tenant, revision = event_layout.split_batch_key(place)
        header = event_layout.unpack_header(stored)
        assert len(event_layout.unpack_events(stored)) == header.count, "half a batch of events"
        assert revision <= last
        ends.add(event_layout.end_key(header.end_ns, place))
        count, size = sums[tenant]
        sums[tenant] = count + header.count, size + len(stored)
        batches[tenant].append((revision, header))
    assert set(view.keys(EVENT_ENDS, b"")) == ends, "ends of other events"
    for place, stored in view.scan(EVENT_LOGS, b""):
        tenant, log = place[:-1].decode(), event_layout.unpack_log(stored)
        assert (log.count, log.size) == sums.pop(tenant, (0, 0)), f"the log of {tenant}"
        check_order(batches[tenant], log)
    assert not sums, "events without a log"
    return {revision for each in batches.values() for revision, _ in each}


def check_order(batches, log):
    """Batches are counted one after the other, and all of them by the log."""
    place = 0
    for _, header in batches:
        assert header.before >= place, "two batches count the same events"
        place = header.before + header.count
    assert place <= log.published, "events that the log does not count"
    if log.count == log.published:
        assert place == log.published, "events are missing at the end"


def check_journals(view):
    """Each is numbered from 1 on without a gap, and there are no calls of another."""
    entries = defaultdict(list)
    for place, stored in view.scan(JOURNAL, b""):
        entry = journal_layout.unpack_entry(stored)
        journal, _, _ = place[: -event_layout._U64.size].rpartition(b"\0")
        tenant, session = journal.decode().split("\0")
        assert journal_layout.entry_key(tenant, session, entry.sequence) == place
        entries[journal].append(entry.sequence)
    for place, stored in view.scan(JOURNALS, b""):
        count = journal_layout.unpack_journal(stored).count
        assert entries.pop(place, []) == list(range(1, count + 1)), f"a gap in {place!r}"
    assert not entries, "calls of no journal"


def check_requests(view):
    """Each remembered write will be forgotten: it has its place in the order of times."""
    times = {
        request_layout.time_key(request_layout.unpack_made(stored).time_ns, place)
        for place, stored in view.scan(REQUESTS, b"")
    }
    assert times <= set(view.keys(REQUEST_TIMES, b"")), "a request that is never forgotten"


def check_migrations(view):
    """Current versions are there, one migration of a tenant runs, results are items' and its."""
    families, versions = {}, defaultdict(set)
    for place, stored in view.scan(SCHEMAS, b""):
        tenant, name = place.split(b"\0")[:2]
        if migration_layout.is_family_key(place):
            families[tenant, name] = family_of(stored)
        else:
            versions[tenant, name].add(schema_of(stored).version)
    assert set(families) == set(versions), "versions of no schema, or a schema without"
    for owner, family in families.items():
        assert family.current in versions[owner], "a current version that is not there"
    migrated = [
        (migration_layout.split_migration_key(place)[0], migration_of(stored))
        for place, stored in view.scan(MIGRATIONS, b"")
    ]
    running = Counter(tenant for tenant, each in migrated if each.running)
    assert max(running.values(), default=0) <= 1, "two migrations of one tenant"
    for place, stored in view.scan(STAGED, b""):
        tenant, _, key = split_item_key(place)
        unpack_item(key, stored)
        assert tenant in {each for each, _ in migrated}, "results of no migration"

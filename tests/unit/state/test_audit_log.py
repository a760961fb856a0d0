"""Is an entry that was removed, altered, moved or cut off found out, and which?"""

from __future__ import annotations

import json

import pytest

from services.common.audit_chain import Entry, Head, Link, link, verify_lines
from services.common.clock import FakeClock
from services.state.audit import AuditLog, AuditQuery, NewEntry
from services.state.layout import AUDIT, AUDIT_HEADS, AUDIT_NAMES
from services.state.layout import audit as layout
from tests.state_engines import embedded_keeper, memory_keeper

KEY = bytes(range(32))
COUNT = 9


@pytest.fixture(params=["memory", "embedded"])
async def log(request, tmp_path):
    """A log with nine entries of two tenants, over each engine."""
    clock = FakeClock()
    keeper = memory_keeper(clock) if request.param == "memory" else embedded_keeper(tmp_path, clock)
    log = AuditLog(keeper, key=KEY)
    for number in range(1, COUNT + 1):
        tenant = ("acme", "globex")[number % 2]
        entry = Entry(time_ns=number, kind="call", tenant=tenant, method="A/B")
        await log.append([NewEntry(entry, f"key=k{number}" if number % 3 else "")])
    log.engine = keeper.engine
    yield log
    keeper.engine.close()


def stored(log, sequence):
    with log.engine.read() as view:
        return view.get(AUDIT, layout.entry_key(sequence))


async def change(log, *edits):
    """Write to the store past the log, as whoever holds its files could."""

    def operation(txn):
        for database, key, value in edits:
            if value is None:
                txn.delete(database, key)
            else:
                txn.put(database, key, value)

    await log.engine.write(operation)


async def found(log, head=None):
    finding = (await log.verify(head)).finding
    return finding and (finding.fault, finding.sequence)


async def test_whole(log):
    """What was written is whole, and its head is told."""
    verdict = await log.verify(None)
    assert (verdict.finding, verdict.count, verdict.head.sequence) == (None, COUNT, COUNT)
    assert await found(log, verdict.head) is None
    assert await found(log, Head(4, Link.unpacked(4, stored(log, 4)).hash)) is None


@pytest.mark.parametrize("sequence", [1, 5])
async def test_removed(log, sequence):
    """An entry that is gone from the middle, or from the beginning, is named."""
    await change(log, (AUDIT, layout.entry_key(sequence), None))
    assert await found(log) == ("missing", sequence)


async def test_altered(log):
    """One byte of an entry; also where its own hash was made anew, which its successor shows."""
    body = stored(log, 5).replace(b"A/B", b"A/C")
    await change(log, (AUDIT, layout.entry_key(5), body))
    assert await found(log) == ("altered", 5)
    before = Link.unpacked(4, stored(log, 4))
    forged = link(Head(4, before.hash), Entry(time_ns=5, kind="call", method="A/C"))
    await change(
        log,
        (AUDIT, layout.entry_key(5), forged.packed()),
        (AUDIT_NAMES, layout.name_key("", 5), b""),
    )
    assert await found(log) == ("unlinked", 6)


async def test_moved(log):
    """Two entries in each other's place."""
    fourth, sixth = stored(log, 4), stored(log, 6)
    await change(log, (AUDIT, layout.entry_key(4), sixth), (AUDIT, layout.entry_key(6), fourth))
    assert await found(log) == ("unlinked", 4)


async def test_cut_off(log):
    """The end is missing: the head shows it, and a head that was noted, whatever the store says."""
    noted = (await log.verify(None)).head
    await change(log, *((AUDIT, layout.entry_key(n), None) for n in (8, 9)))
    assert await found(log) == ("truncated", 8)
    seventh = Link.unpacked(7, stored(log, 7))
    forged = layout.pack_head(Head(7, seventh.hash), bytes(32))
    await change(log, (AUDIT_HEADS, layout.HEAD_KEY, forged))
    assert await found(log) == ("head", 7)
    real = layout.pack_head(Head(7, seventh.hash), log._key)
    await change(log, (AUDIT_HEADS, layout.HEAD_KEY, real))
    assert await found(log) is None
    assert await found(log, noted) == ("truncated", 8)


async def test_written_anew(log):
    """A chain that was made anew from some entry on has another head than the one noted."""
    noted = (await log.verify(None)).head
    edits = []
    head = Head(7, Link.unpacked(7, stored(log, 7)).hash)
    for number in (8, 9):
        each = link(head, Entry(time_ns=number, kind="call", tenant="acme", method="A/X"))
        edits += [
            (AUDIT, layout.entry_key(number), each.packed()),
            (AUDIT_NAMES, layout.name_key("acme", number), b""),
        ]
        head = Head(number, each.hash)
    edits.append((AUDIT_HEADS, layout.HEAD_KEY, layout.pack_head(head, log._key)))
    await change(log, *edits)
    assert await found(log) is None
    assert await found(log, noted) == ("altered", 9)


async def test_names(log):
    """What a request named cannot be changed; it can be erased, and the chain stays whole."""
    place = layout.name_key("acme", 8)
    await change(log, (AUDIT_NAMES, place, bytes(16) + b"key=other"))
    assert await found(log) == ("resource", 8)
    await log.purge("acme")
    assert await found(log) is None
    listed, _ = await log.list(AuditQuery(tenant="acme"), before=0, limit=100)
    assert {each.named.resource for each in listed} == {""}
    assert sum(each.is_erased for each in listed) == 3
    others, _ = await log.list(AuditQuery(tenant="globex"), before=0, limit=100)
    assert any(each.named.resource for each in others)


async def test_pages(log):
    """Pages go on where the last one ended, the newest first, and each tenant has its own."""
    sequences, before = [], 0
    while True:
        page, before = await log.list(AuditQuery(), before=before, limit=2)
        sequences += [each.link.sequence for each in page]
        if not before:
            break
    assert sequences == list(range(COUNT, 0, -1))
    acme, _ = await log.list(AuditQuery(tenant="acme"), before=0, limit=100)
    assert [each.link.sequence for each in acme] == [8, 6, 4, 2]


async def exported(log, tenant=""):
    chunks = [chunk async for chunk in log.export(tenant, after=0)]
    return b"".join(chunks).splitlines(keepends=True)


async def test_exports(log):
    """The same faults in an export's lines; one tenant's is verified entry by entry."""
    lines, head = await exported(log), (await log.verify(None)).head

    def told(changed, noted=None, *, excerpt=False):
        finding = verify_lines(changed, noted, excerpt=excerpt).finding
        return finding and (finding.fault, finding.sequence)

    assert told(lines, head) is None
    assert told(lines[4:]) is None
    assert told([*lines[:4], *lines[5:]]) == ("missing", 5)
    assert told([*lines[:3], lines[4], lines[3], *lines[5:]]) == ("missing", 4)
    assert told([*lines[:4], lines[4].replace(b"A/B", b"A/C"), *lines[5:]]) == ("altered", 5)
    assert told([*lines[:4], b"{}\n", *lines[5:]]) == ("altered", 5)
    assert told(lines[:-1], head) == ("truncated", 9)
    assert told([*lines[:4], lines[4].replace(b"key=k5", b"key=k6"), *lines[5:]]) == ("resource", 5)
    own = await exported(log, "acme")
    assert {json.loads(line)["entry"]["tenant"] for line in own} == {"acme"}
    assert told(own) == ("missing", 3)
    assert told(own, excerpt=True) is None
    assert told([own[1], own[0]], excerpt=True) == ("unlinked", 2)

"""What the embedded state engine does beyond the promise that all engines share."""

import asyncio
import random

import pytest

from services.common import failpoints
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.engine import ENGINES, open_engine
from services.state.layout import CHANGES, EXPIRY, ITEMS
from services.state.layout.items import (
    ChangeKind,
    expiry_key,
    item_key,
    unpack_change,
)
from services.state.model import Encoding, Value, Write
from tests.crash.state_invariants import check_state
from tests.state_engines import embedded_items

TEXT = Value(Encoding.TEXT, b"x")
SECOND_NS = 10**9


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def opened(tmp_path, clock):
    """A function that opens the engine of this test's folder."""

    def opened(**kwargs):
        return embedded_items(tmp_path, clock, **kwargs)

    return opened


@pytest.fixture
async def engine(opened):
    engine = opened(changes_kept=5, slice_size=3)
    yield engine
    with engine._engine.read() as view:
        check_state(view)
    await engine.close()


def changes(engine):
    with engine._engine.read() as view:
        kept = [unpack_change(key, stored) for key, stored in view.scan(CHANGES, b"")]
    return sorted(kept, key=lambda change: (change.revision, change.number))


def kinds(engine):
    return [(change.revision, change.number, change.kind, change.key) for change in changes(engine)]


async def test_each_change_leaves_its_record(engine, clock):
    """The feed tells each write of a call, in order, under the call's revision."""
    await engine.batch(
        "acme", [], [Write("global", "a", TEXT), Write("global", "b", TEXT, SECOND_NS)]
    )
    await engine.increment("globex", "user:u", "n", 1)
    await engine.delete("acme", "global", "a")
    clock.advance(2)
    await engine.sweep()
    assert kinds(engine) == [
        (1, 0, ChangeKind.SET, "a"),
        (1, 1, ChangeKind.SET, "b"),
        (2, 0, ChangeKind.INCREMENT, "n"),
        (3, 0, ChangeKind.DELETE, "a"),
        (4, 0, ChangeKind.EXPIRE, "b"),
    ]
    assert [change.tenant for change in changes(engine)] == ["acme"] * 2 + ["globex"] + ["acme"] * 2


async def test_call_that_changes_nothing_leaves_no_record(engine):
    """A refused write, a removal of nothing, and a read leave no trace."""
    await engine.delete("acme", "global", "a")
    with pytest.raises(ServiceError):
        await engine.increment("acme", "global", "", 1)
    await engine.get("acme", "global", "a")
    assert changes(engine) == []


async def test_feed_is_bounded(engine):
    """Only so many records are kept, whole revisions at a time, and never less than the last."""
    for number in range(10):
        await engine.set("acme", "global", f"k{number}", TEXT)
    assert [change.revision for change in changes(engine)] == [6, 7, 8, 9, 10]
    await engine.batch("acme", [], [Write("global", f"k{n}", TEXT) for n in range(3)])
    assert [change.revision for change in changes(engine)] == [9, 10, 11, 11, 11]
    await engine.batch("acme", [], [Write("global", f"k{n}", TEXT) for n in range(9)])
    assert [change.revision for change in changes(engine)] == [12] * 9
    await engine.set("acme", "global", "k", TEXT)
    assert [change.revision for change in changes(engine)] == [13]


async def test_purge_in_slices(engine):
    """A purge of more than a slice removes all, a revision a slice, and no other tenant's."""
    for number in range(7):
        await engine.set("acme", "global", f"k{number}", TEXT, ttl_ns=SECOND_NS)
    await engine.set("acme2", "global", "k", TEXT, ttl_ns=SECOND_NS)
    changed = await engine.purge("acme")
    assert (changed.deleted_count, changed.revision) == (7, 11)
    with engine._engine.read() as view:
        assert list(view.keys(ITEMS, b"")) == [item_key("acme2", "global", "k")]
        assert view.count(EXPIRY) == 1


async def test_purge_forgets_keys(opened):
    """After a purge no change record names a scope or key of the tenant; others' stay."""
    engine = opened()
    for number in range(3):
        await engine.set("acme", "user:secret", f"secret{number}", TEXT)
        await engine.set("globex", "global", f"k{number}", TEXT)
    await engine.purge("acme")
    left = [(c.kind, c.scope, c.key) for c in changes(engine) if c.tenant == "acme"]
    assert left == [(ChangeKind.PURGE, "", "")]
    assert [c.key for c in changes(engine) if c.tenant == "globex"] == ["k0", "k1", "k2"]
    await engine.close()


async def test_all_is_there_after_reopening(opened):
    """Items, their ends and the revision are there when the store is opened again."""
    engine = opened()
    await engine.set("acme", "global", "k", TEXT, ttl_ns=SECOND_NS)
    before = await engine.get("acme", "global", "k")
    await engine.close()
    assert not await engine.ready()
    engine = opened()
    assert await engine.get("acme", "global", "k") == before
    await engine.close()


def damage(engine, place):
    """Change a stored item behind the checksum's back."""

    def operation(txn):
        database = txn._databases[ITEMS]
        stored = bytearray(txn._txn.get(place, db=database))
        stored[-1] ^= 1
        txn._txn.put(place, bytes(stored), db=database)

    return engine._engine.write(operation)


async def test_damaged_item(engine, clock):
    """A damaged item is never returned, and stays until it is overwritten or removed."""
    for key in "abc":
        await engine.set("acme", "global", key, TEXT, ttl_ns=SECOND_NS)
        await damage(engine, item_key("acme", "global", key))
    for read in (
        engine.get("acme", "global", "a"),
        engine.list("acme", "global", limit=9),
        engine.increment("acme", "global", "a", 1),
    ):
        with pytest.raises(ServiceError) as info:
            await read
        assert info.value.reason == Reason.RECORD_CORRUPT
    await engine.set("acme", "global", "a", TEXT)
    assert (await engine.delete("acme", "global", "b")).deleted_count == 1
    clock.advance(2)
    assert await engine.sweep() == 3  # entries only; a's item is new, b's gone, c's in doubt
    found = await engine.get("acme", "global", "a")
    assert found.item is not None
    with pytest.raises(ServiceError):
        await engine.get("acme", "global", "c")
    assert (await engine.purge("acme")).deleted_count == 2


async def test_sweep_of_nothing_leaves_the_disk_alone(engine, monkeypatch):
    """A sweep that finds nothing commits nothing."""
    monkeypatch.setattr(failpoints, "hit", pytest.fail)
    assert await engine.sweep() == 0
    monkeypatch.undo()


async def test_a_sweep_gives_back_what_deletions_left(engine):
    """Nobody has to ask for it; the other tenant's items are still there."""
    large = Value(Encoding.RAW, random.randbytes(100_000))
    for number in range(200):
        await engine.set("acme", "global", f"k{number}", large)
    await engine.set("globex", "global", "k", TEXT)
    await engine.purge("acme")
    before = engine._engine.size_bytes()
    await engine.sweep()
    assert engine._engine.size_bytes() < before / 10
    assert (await engine.get("globex", "global", "k")).item.value == TEXT


async def test_many_callers(engine):
    """Increments by many callers at once are all counted, each at a revision of its own."""
    counted = await asyncio.gather(
        *(engine.increment("acme", "global", "n", 1) for _ in range(200))
    )
    assert sorted(count.number for count in counted) == list(range(1, 201))
    assert len({count.revision for count in counted}) == 200


async def test_long_stretch_of_expired_items(opened, clock, monkeypatch):
    """A page ends after so many items were looked at, and the next goes on behind them."""
    monkeypatch.setattr("services.state.items._LOOKED_AT_MAX", 4)
    engine = opened()
    for number in range(10):
        ttl_ns = None if number in {0, 9} else SECOND_NS
        await engine.set("acme", "global", f"k{number}", TEXT, ttl_ns=ttl_ns)
    clock.advance(1)
    pages, after = [], ""
    while after is not None:
        page = await engine.list("acme", "global", limit=9, after=after)
        pages.append([item.key for item in page.items])
        after = page.after
    assert pages == [["k0"], [], ["k9"]]
    await engine.close()


async def test_orphan_expiry_entry(engine, clock):
    """An expiry entry without its item is removed by the sweep, and nothing else is."""
    await engine.set("acme", "global", "k", TEXT)
    place = item_key("acme", "global", "k")
    await engine._engine.write(lambda txn: txn.put(EXPIRY, expiry_key(1, place), b""))
    assert await engine.sweep() == 1
    assert (await engine.get("acme", "global", "k")).item is not None
    assert await engine.revision() == 1


def test_unknown_engine(tmp_path):
    """An engine that does not exist is refused with the names of those that do."""
    with pytest.raises(ServiceError) as info:
        open_engine("etcd", tmp_path)
    assert info.value.reason == Reason.CONFIG_INVALID
    assert "embedded, memory" in info.value.message


def test_durability(tmp_path):
    """Only the engine that keeps data on disk says that it does."""
    for name in ENGINES:
        engine = open_engine(name, tmp_path)
        assert engine.durable == (name == "embedded")
        engine.close()

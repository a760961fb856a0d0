"""A store's file is made small while others read it, and is whole whatever happens meanwhile."""

import asyncio
import resource
import sys

import pytest

from services.common import failpoints
from services.common import store as store_module
from services.common.errors import Reason, ServiceError
from services.common.store import Schema, Store

SCHEMA = Schema(kind="test", version=1, databases=("a",), migrations={})
VALUE = bytes(range(256)) * 8


def opened(path):
    """A store."""

    def fatal(message):
        raise AssertionError(message)

    return Store(path, SCHEMA, on_fatal=fatal, sync=False)


async def fill(store, first, last):
    """Write so many values."""
    await store.write(
        lambda txn: [txn.put("a", b"%06d" % n, VALUE) for n in range(first, last)] and None
    )


async def empty(store, first, last):
    """Remove them."""
    await store.write(
        lambda txn: [txn.delete("a", b"%06d" % n) for n in range(first, last)] and None
    )


def count(store):
    """How many there are, each verified."""
    with store.read() as view:
        return sum(value == VALUE for _, value in view.scan("a", b""))


async def test_room_comes_back_and_nothing_is_lost(tmp_path):
    """Readers of the old file go on with it; later ones, writes and restarts see the new one."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 1_000, 20_000)
    before = store.size_bytes()
    with store.read() as view:
        assert await store.compact()
        assert sum(1 for _ in view.keys("a", b"")) == 1_000
    assert store.size_bytes() < before / 5
    assert count(store) == 1_000
    await fill(store, 30_000, 30_010)
    assert not await store.compact()
    store.close()
    store = opened(tmp_path)
    assert count(store) == 1_010
    store.close()


async def test_what_is_left_here_and_there_takes_no_more_than_if_it_had_been_alone(tmp_path):
    """Pages are full again; LMDB's own copy leaves each record of ten its half-empty page."""
    store, alone = opened(tmp_path / "many"), opened(tmp_path / "alone")
    value = VALUE[:1500]
    await store.write(lambda txn: [txn.put("a", b"%06d" % n, value) for n in range(20_000)] and 1)
    await alone.write(
        lambda txn: [txn.put("a", b"%06d" % n, value) for n in range(0, 20_000, 10)] and 1
    )
    await store.write(
        lambda txn: [txn.delete("a", b"%06d" % n) for n in range(20_000) if n % 10] and 1
    )
    assert await store.compact()
    assert store.size_bytes() < 1.05 * alone.size_bytes()
    store.close()
    alone.close()


async def test_a_copy_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """Its words say why, and the store goes on."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 100, 20_000)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="could not be copied: it ended with 1"):
        await store.compact()
    monkeypatch.undo()
    assert await store.compact()
    assert count(store) == 100
    store.close()


async def test_a_copy_that_finds_no_room_says_so(tmp_path):
    """Here under a limit of the process; the old file stays, and the store goes on."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 1_000, 20_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(ServiceError, check=lambda e: e.reason == Reason.STORAGE_FULL):
            await store.compact()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert await store.compact()
    assert count(store) == 1_000
    store.close()


async def test_tidying_gives_back_what_is_mostly_free_once_a_minute(tmp_path, monkeypatch):
    """One that is half used is left alone, was tidied a moment ago, or has no room for a copy."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 0, 8_000)
    assert not await store.tidy()
    await empty(store, 8_000, 19_000)
    with monkeypatch.context() as full:
        full.setattr(store._folder, "room_bytes", lambda: 3 * 2**20)
        assert not await store.tidy()
    assert await store.tidy()
    await fill(store, 30_000, 50_000)
    await empty(store, 30_000, 50_000)
    assert not await store.tidy()
    monkeypatch.setattr(store_module, "_TIDY_EVERY_S", 0.0)
    assert await store.tidy()
    assert count(store) == 1_000
    store.close()


async def test_tidying_that_fails_is_told_in_the_log(tmp_path, monkeypatch, caplog):
    """A loop that calls it again and again goes on."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 100, 20_000)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert not await store.tidy()
    assert "stays large" in caplog.text
    assert count(store) == 100
    store.close()


async def test_writes_that_wait_are_written_after_it(tmp_path):
    """In their order, to the new file."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 10, 20_000)
    await asyncio.gather(
        fill(store, 20, 30), store.compact(), fill(store, 30, 40), fill(store, 40, 50)
    )
    store.close()
    store = opened(tmp_path)
    assert count(store) == 40
    store.close()


def failing(monkeypatch, name):
    """An error of the disk at one instant."""

    def hit(point):
        if point == name:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(failpoints, "hit", hit)


async def test_one_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """And the store goes on with it."""
    store = opened(tmp_path)
    await fill(store, 0, 20_000)
    await empty(store, 100, 20_000)
    failing(monkeypatch, "store.before_swap")
    with pytest.raises(OSError, match="Input/output"):
        await store.compact()
    monkeypatch.undo()
    await fill(store, 200, 210)
    store.close()
    store = opened(tmp_path)
    assert count(store) == 110
    store.close()


async def test_a_name_that_may_not_last_ends_the_process(tmp_path, monkeypatch):
    """Nothing is acknowledged that the next start might not find."""
    told = []
    store = Store(tmp_path, SCHEMA, on_fatal=told.append, sync=False)
    await fill(store, 0, 20_000)
    await empty(store, 100, 20_000)
    failing(monkeypatch, "store.after_swap")
    with pytest.raises(ServiceError):
        await store.compact()
    monkeypatch.undo()
    assert told
    with pytest.raises(ServiceError):
        await fill(store, 0, 1)
    store.close()
    store = opened(tmp_path)
    assert count(store) == 100
    store.close()

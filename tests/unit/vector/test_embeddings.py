"""Embeddings kept in the engine's store."""

from services.common.clock import FakeClock
from services.vector.engines.embedded import open_store
from services.vector.engines.embeddings import StoredEmbeddings


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


def key(number):
    """A key of the right length."""
    return number.to_bytes(32, "big")


async def test_they_outlive_the_process_and_the_oldest_go_first(tmp_path):
    """A bounded number, after a restart too; putting one again changes nothing."""
    clock = FakeClock()
    store = open_store(tmp_path, on_fatal=fatal, sync=False)
    kept = StoredEmbeddings(store, clock, entries_max=4)
    assert await kept.get_many([]) == []
    await kept.put_many([(key(1), b"one"), (key(2), b"two")])
    clock.advance(1)
    await kept.put_many([(key(1), b"one"), (key(3), b"three"), (key(3), b"three")])
    store.close()

    store = open_store(tmp_path, on_fatal=fatal, sync=False)
    kept = StoredEmbeddings(store, clock, entries_max=4)
    clock.advance(1)
    await kept.put_many([(key(4), b"four"), (key(5), b"five"), (key(6), b"six")])
    found = await kept.get_many([key(n) for n in (6, 5, 4, 3, 2, 1, 0)])
    assert found == [b"six", b"five", b"four", b"three", None, None, None]
    with store.read() as view:
        assert view.revision() == 0
        assert view.count("embedding_order") == 4
    store.close()

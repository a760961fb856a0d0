"""Records that a store reads and writes together: `View.slice`, `Txn.put_slice`."""

import lmdb
import pytest

from services.common.errors import Reason, ServiceError
from services.common.store import Schema, Store
from services.common.view import Slice
from services.state.engines.memory import MemoryStore

SCHEMA = Schema(kind="test", version=1, databases=("one",), migrations={})


@pytest.fixture(params=["embedded", "memory"])
def store(request, tmp_path):
    store = MemoryStore(SCHEMA.databases)
    if request.param == "embedded":
        store = Store(tmp_path / "store", SCHEMA, on_fatal=pytest.fail)
    yield store
    store.close()


async def test_slices_go_through_a_prefix_and_no_further(store):
    """Slice by slice, each record of a prefix comes once, in order, and none beside it."""
    keys = [b"a", *(b"b%02d" % n for n in range(7)), b"c"]
    await store.write(lambda txn: txn.put_slice("one", Slice(keys, [key * 2 for key in keys])))
    seen, after = {}, b""
    with store.read() as view:
        while (part := view.slice("one", b"b", limit=3, after=after)).keys:
            seen |= dict(zip(part.keys, part.values, strict=True))
            after = part.keys[-1]
    assert seen == {key: key * 2 for key in keys[1:-1]}


async def test_other_values_under_the_same_keys(store):
    """What is written back is read again, one by one, with its checksum."""
    await store.write(lambda txn: txn.put_slice("one", Slice([b"k1", b"k2"], [b"1", b"2"])))

    def rewrite(txn):
        part = txn.slice("one", b"k", limit=10)
        txn.put_slice("one", part.with_values([b"x" + value for value in part.values]))

    await store.write(rewrite)
    with store.read() as view:
        assert dict(view.scan("one", b"")) == {b"k1": b"x1", b"k2": b"x2"}


async def test_a_failed_operation_puts_a_slice_back(store):
    """Of an operation that fails nothing is kept, whatever it wrote in slices."""
    await store.write(lambda txn: txn.put("one", b"k", b"old"))

    def fails(txn):
        txn.put_slice("one", Slice([b"k", b"l"], [b"new", b"new"]))
        raise ServiceError(Reason.REVISION_MISMATCH, "No.")

    with pytest.raises(ServiceError):
        await store.write(fails)
    with store.read() as view:
        assert dict(view.scan("one", b"")) == {b"k": b"old"}


async def test_a_flipped_bit_in_a_slice_is_not_returned(tmp_path):
    """One damaged record among many is named; the others are not given without it."""
    path = tmp_path / "store"
    store = Store(path, SCHEMA, on_fatal=pytest.fail)
    keys = [b"k%d" % n for n in range(9)]
    await store.write(lambda txn: txn.put_slice("one", Slice(keys, [b"value"] * 9)))
    store.close()
    with lmdb.open(str(path), max_dbs=4) as env:
        one = env.open_db(b"one")
        with env.begin(write=True, db=one) as txn:
            stored = bytearray(txn.get(b"k5"))
            stored[-1] ^= 1
            txn.put(b"k5", bytes(stored))
    store = Store(path, SCHEMA, on_fatal=pytest.fail)
    with store.read() as view, pytest.raises(ServiceError) as info:
        view.slice("one", b"k", limit=100)
    assert info.value.reason == Reason.RECORD_CORRUPT
    assert info.value.metadata["key"] == b"k5".hex()
    store.close()

"""What a tenant may have of vectors: counted in the write itself, on every engine."""

import asyncio

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.allowances import Allowance, Allowances
from services.vector.engines import open_engine
from services.vector.model import Isolation, MetadataChange, Metric, NewRecord

PLACE = ("acme", "global", "c")
CALLERS = 64


def _fatal(message):
    raise AssertionError(message)


@pytest.fixture(params=["memory", "embedded", "own database"])
async def world(request, tmp_path):
    """An engine and what its tenants may have; acme and globex have a collection `c` each."""
    allowances = Allowances()
    engine = open_engine(
        "memory" if request.param == "memory" else "embedded",
        tmp_path,
        clock=FakeClock(),
        exact_threshold=50,
        on_fatal=_fatal,
        allowances=allowances,
    )
    storage = engine.storage
    if request.param == "own database":
        await storage.configure_tenant("acme", Isolation.DATABASE)
    for tenant in ("acme", "globex"):
        await storage.create_collection(tenant, *PLACE[1:], dimension=2, metric=Metric.L2)
    yield storage, allowances
    await storage.close()


def record(name, text=""):
    vector = np.asarray([1.0, 2.0], np.float32)
    return NewRecord(record_id=name, vector=vector, metadata={}, text=text)


async def put(storage, *names, place=PLACE, text=""):
    await storage.upsert(*place, [record(name, text) for name in names])


async def refused(call, field):
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == Reason.TENANT_LIMIT_REACHED
    assert caught.value.metadata["field"] == field
    return caught.value.metadata


async def test_many_at_the_edge_never_go_over_nor_stick_below(world):
    """64 callers for 10 places: ten are taken, and so are five again once five are deleted."""
    storage, allowances = world
    allowances.put("acme", Allowance(vectors=10))
    names = [f"r{number}" for number in range(CALLERS)]
    done = await asyncio.gather(*(put(storage, each) for each in names), return_exceptions=True)
    taken = [name for name, error in zip(names, done, strict=True) if error is None]
    assert len(taken) == 10 == (await storage.stats("acme", None)).record_count
    assert {error.reason for error in done if error} == {Reason.TENANT_LIMIT_REACHED}
    await put(storage, *taken)  # what replaces is no more
    await storage.delete(*PLACE, taken[:5])
    await asyncio.gather(*(put(storage, f"s{each}") for each in range(5)))
    assert (await refused(put(storage, "more"), "vectors"))["got"] == "11"
    await put(storage, *names, place=("globex", *PLACE[1:]))


async def test_a_limit_holds_for_all_collections_together_and_may_be_lowered(world):
    """Nothing is taken away, nothing comes, and what goes makes room."""
    storage, allowances = world
    other = ("acme", "user:ann", "d")
    await storage.create_collection(*other, dimension=2, metric=Metric.L2)
    await put(storage, "a", "b")
    await put(storage, "c", place=other)
    allowances.put("acme", Allowance(vectors=2))
    await refused(put(storage, "e", place=other), "vectors")
    await put(storage, "a")
    await storage.delete_collection(*PLACE)
    await put(storage, "e", place=other)
    assert (await storage.stats("acme", None)).record_count == 2


async def test_bytes_count_texts_and_metadata(world):
    """A batch that would be too much is refused whole; growing metadata is too."""
    storage, allowances = world
    await put(storage, "a", text="x" * 1000)
    there = (await storage.stats("acme", None)).stored_bytes
    allowances.put("acme", Allowance(stored_bytes=there + 50))
    await refused(put(storage, "b", "c", text="y" * 20), "bytes")
    assert (await storage.stats("acme", None)).stored_bytes == there
    await put(storage, "b")
    await put(storage, "a", text="z" * 999)
    grow = MetadataChange(set={"note": "n" * 100}, remove=(), replace=False)
    await refused(storage.update_metadata(*PLACE, grow, record_ids=["a"]), "bytes")
    allowances.put("acme", Allowance())
    await put(storage, "c", text="w" * 5000)


async def test_dimensions_are_those_of_new_collections(world):
    """A longer vector's collection is not made; those that are there stay."""
    storage, allowances = world
    allowances.put("acme", Allowance(dimension=2))
    make = storage.create_collection("acme", "global", "long", dimension=3, metric=Metric.L2)
    await refused(make, "dimensions")
    await storage.create_collection("acme", "global", "short", dimension=2, metric=Metric.L2)
    await storage.create_collection("globex", "global", "long", dimension=3, metric=Metric.L2)


async def test_a_restored_snapshot_counts(world):
    """It cannot be the way round the limit."""
    storage, allowances = world
    await put(storage, "a", "b", "c")
    snapshot = await storage.create_snapshot(*PLACE)
    allowances.put("acme", Allowance(vectors=4))
    with pytest.raises(ServiceError) as caught:
        await storage.restore_snapshot("acme", snapshot.snapshot_id, collection_id="copy")
    assert caught.value.reason == Reason.TENANT_LIMIT_REACHED
    await storage.restore_snapshot("acme", snapshot.snapshot_id)
    assert (await storage.stats("acme", None)).record_count == 3

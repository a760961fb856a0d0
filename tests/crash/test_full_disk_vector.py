"""The vector engine on a full disk: refused in words, nothing lost, whole again after (T5)."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import Exactness, Metric, NewRecord, Query

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

DIMENSION, BATCH, THRESHOLD = 64, 100, 200
PLACES = [("acme", "global", "c"), ("globex", "global", "c")]
ROOM = 6 << 20
"""What the disk still has room for when the writing goes on, in bytes."""


def fatal(message):
    """A full disk is no reason to end the process."""
    raise AssertionError(message)


def vector_of(place, n):
    """A vector of its own for each record, the same in each process."""
    rng = np.random.default_rng([PLACES.index(place), n])
    return rng.normal(size=DIMENSION).astype(np.float32)


def batch(place, start):
    """`BATCH` records from number `start` on."""
    return [
        NewRecord(record_id=f"{n}", vector=vector_of(place, n), text="words " * 20)
        for n in range(start, start + BATCH)
    ]


def allow(size):
    """Let no file of this process grow past `size`, as a disk without room does."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


async def write_until_full(storage, held):
    """Add to both tenants in turn until one is refused."""
    for start in range(max(held.values()), 10**6, BATCH):
        for place in PLACES:
            try:
                await storage.upsert(*place, batch(place, start))
            except ServiceError as error:
                if error.reason is not Reason.STORAGE_FULL:
                    raise
                return
            held[place] = start + BATCH
    raise AssertionError("the disk never filled")


async def check(storage, place, kept):
    """Exactly the records `kept` are there, and each is nearest to itself on every path."""
    collection, _ = await storage.get_collection(*place)
    assert collection.record_count == len(kept), place
    asked = sorted(kept)[:: max(1, len(kept) // 20)]
    for exactness in Exactness:
        query = Query(vectors=[vector_of(place, n) for n in asked], limit=1, exactness=exactness)
        results = await storage.search(*place, query)
        assert [r.hits[0].record.record_id for r in results] == [f"{n}" for n in asked]


async def fill(folder):
    """The whole story of a disk, in a process of its own: a limit is for all of its files."""
    store = open_store(folder, on_fatal=fatal)
    storage = EmbeddedVectorStorage(store, FakeClock(), exact_threshold=THRESHOLD)
    for place in PLACES:
        await storage.create_collection(*place, dimension=DIMENSION, metric=Metric.COSINE)
        await storage.upsert(*place, batch(place, 0))
    held = dict.fromkeys(PLACES, BATCH)
    allow(store.path.joinpath("data.mdb").stat().st_size + ROOM)
    await write_until_full(storage, held)
    for place in PLACES:
        await check(storage, place, range(held[place]))
    gone = [f"{n}" for n in range(BATCH)]
    assert await storage.delete(*PLACES[0], gone)
    for place in PLACES:
        await check(storage, place, range(BATCH if place is PLACES[0] else 0, held[place]))
    allow(resource.RLIM_INFINITY)
    for place in PLACES:
        await storage.upsert(*place, batch(place, held[place]))
        held[place] += BATCH
        await storage.checkpoint(*place)
    await storage.close()
    storage = EmbeddedVectorStorage(
        open_store(folder, on_fatal=fatal), FakeClock(), exact_threshold=THRESHOLD
    )
    for place in PLACES:
        await check(storage, place, range(BATCH if place is PLACES[0] else 0, held[place]))
    await storage.close()


def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path):
    """Reads and deletes go on; with room again writes do too, and a restart finds all of it."""
    code = (
        "import asyncio, sys, pathlib; from tests.crash import test_full_disk_vector as t; "
        "asyncio.run(t.fill(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

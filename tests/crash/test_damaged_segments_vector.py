"""Segments' files are damaged in every way: searches stay right, at once and after healing (T4)."""

import os
import shutil

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import Exactness, Mask, Metric, NewRecord, Query

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

DIMENSION, COUNT, THRESHOLD = 16, 300, 50
PLACES = [("acme", "global", "c"), ("globex", "global", "c")]


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


def opened(folder):
    """The engine over a folder."""
    store = open_store(folder, on_fatal=fatal, sync=False)
    return EmbeddedVectorStorage(store, FakeClock(), exact_threshold=THRESHOLD)


def vectors(place):
    """Another set for each tenant."""
    rng = np.random.default_rng(PLACES.index(place))
    return rng.normal(size=(COUNT, DIMENSION)).astype(np.float32)


async def filled(folder):
    """Two tenants with a segment each."""
    storage = opened(folder)
    for place in PLACES:
        await storage.create_collection(*place, dimension=DIMENSION, metric=Metric.COSINE)
        records = [NewRecord(record_id=f"{n}", vector=v) for n, v in enumerate(vectors(place))]
        await storage.upsert(*place, records)
        done = await storage.checkpoint(*place)
        assert done.indexed_count == COUNT
    await storage.delete(*PLACES[0], [f"{n}" for n in range(0, COUNT, 10)])
    await storage.close()


async def check(storage):
    """Every record that is there is the nearest to itself; none that was removed is found."""
    for place in PLACES:
        for exactness in Exactness:
            query = Query(
                vectors=list(vectors(place)),
                limit=1,
                exactness=exactness,
                mask=Mask(metadata=False, text=False),
            )
            results = await storage.search(*place, query)
            found = [result.hits[0].record.record_id for result in results]
            for number, record_id in enumerate(found):
                if place == PLACES[0] and number % 10 == 0:
                    assert int(record_id) % 10
                else:
                    assert record_id == str(number)


def truncate(files):
    """Half of each is gone."""
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


def flip(files):
    """Twenty bits are other ones."""
    rng = np.random.default_rng(1)
    for file in files:
        content = bytearray(file.read_bytes())
        for place in rng.integers(0, len(content), 20):
            content[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)


def zero(files):
    """A page is empty."""
    for file in files:
        content = bytearray(file.read_bytes())
        content[8192:12288] = bytes(4096)
        file.write_bytes(content)


def garbage(files):
    """Another thing altogether."""
    for file in files:
        file.write_bytes(os.urandom(5000))


def empty(files):
    """Nothing is left."""
    for file in files:
        file.write_bytes(b"")


def remove(files):
    """They are gone."""
    for file in files:
        file.unlink()


def swap(files):
    """Each tenant has the other one's, whole and sound."""
    first, second = files
    shutil.move(first, first.with_suffix(".x"))
    shutil.move(second, first)
    shutil.move(first.with_suffix(".x"), second)


def other_release(files):
    """Sound, and written by a release that is not this one."""
    from services.vector.segments import container
    from services.vector.segments.segment import Manifest

    for file in files:
        read = container.read(file)
        head = read.head_as(Manifest)
        arrays = {name: array.copy() for name, array in read.arrays.items()}
        changed = type(head)(
            **{f: getattr(head, f) for f in head.__struct_fields__} | {"usearch": "0"}
        )
        container.write(file, changed, arrays)


@pytest.mark.parametrize(
    "damage", [truncate, flip, zero, garbage, empty, remove, swap, other_release]
)
async def test_a_damaged_segment_changes_no_answer(tmp_path, damage):
    """Not at once, when rows come from the store; not later, when there is a segment again."""
    await filled(tmp_path)
    files = sorted((tmp_path / "index").glob("*.seg"))
    assert len(files) == 2
    damage(files)
    storage = opened(tmp_path)
    await check(storage)
    for place in PLACES:
        done = await storage.checkpoint(*place)
        assert done.indexed_count == done.record_count
    await check(storage)
    await storage.close()


async def test_files_of_builds_that_were_cut_off_go(tmp_path):
    """What nothing registers is removed at the next start."""
    await filled(tmp_path)
    for name in ("0001-0002.seg", "x.new", "y.rows", "000001.hnsw"):
        (tmp_path / "index" / name).write_bytes(b"left behind")
    storage = opened(tmp_path)
    assert len(list((tmp_path / "index").iterdir())) == 2
    await check(storage)
    await storage.close()

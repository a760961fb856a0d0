"""A graph's file helps or is refused; it never makes an answer wrong."""

import math
import shutil

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.vector.engines import index
from services.vector.engines.block import Block
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.engines.index import Graph, IndexRefusedError
from services.vector.engines.layout import NEVER
from services.vector.model import Exactness, Metric, NewRecord, Query

DIMENSION = 16
PLACE = ("acme", "global", "docs")
THEIRS = ("globex", "global", "docs")


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


def records(first, count):
    """Records of random directions, the same for the same number."""
    return [
        NewRecord(
            record_id=f"{n:05}",
            vector=np.random.default_rng(n).normal(size=DIMENSION).astype(np.float32),
        )
        for n in range(first, first + count)
    ]


def engine(folder):
    """An engine that makes graphs early."""
    store = open_store(folder, on_fatal=fatal, sync=False)
    return EmbeddedVectorStorage(store, FakeClock(), exact_threshold=100)


async def started(folder, count=300):
    """An engine with a collection for each of two tenants."""
    storage = engine(folder)
    for place in (PLACE, THEIRS):
        await storage.create_collection(*place, dimension=DIMENSION, metric=Metric.COSINE)
    await storage.upsert(*PLACE, records(0, count))
    await storage.upsert(*THEIRS, records(10_000, count))
    return storage


def query(number, limit=10, exactness=Exactness.APPROXIMATE):
    """A search for the vector of a record."""
    return Query(vectors=[records(number, 1)[0].vector], limit=limit, exactness=exactness)


async def warm(storage):
    """Open both collections and wait for their graphs."""
    for place in (PLACE, THEIRS):
        await storage.search(*place, query(0))
    await storage.graphs_ready()


async def check(storage, live, rewritten=frozenset()):
    """Nothing dead is found, and the graph finds what a scan finds; returns recall@10."""
    found = 0
    for number in sorted(live)[::7]:
        [near] = await storage.search(*PLACE, query(number))
        [true] = await storage.search(*PLACE, query(number, exactness=Exactness.EXACT))
        names = {hit.record.record_id for hit in near.hits}
        assert names <= {f"{n:05}" for n in {*live, *rewritten}}
        assert len(names) == 10
        assert near.hits[0].record.record_id == f"{number:05}"
        found += len(names & {hit.record.record_id for hit in true.hits})
    return found / (10 * len(sorted(live)[::7]))


def files(folder):
    """The graphs' files, oldest collection first."""
    return sorted((folder / "index").glob("*.hnsw"))


async def indexed(storage):
    """How many records the graph covers."""
    return (await storage.get_collection(*PLACE))[0].indexed_count


async def test_a_graph_is_used_and_kept(tmp_path):
    """It answers, says so, and is loaded again instead of being built."""
    storage = await started(tmp_path)
    await warm(storage)
    [result] = await storage.search(*PLACE, query(3))
    assert not result.exact
    assert result.indexed_revision > 0
    assert await indexed(storage) == 300
    await storage.close()
    assert len(files(tmp_path)) == 2
    storage = engine(tmp_path)
    assert await indexed(storage) == 0
    await storage.search(*PLACE, query(3))
    assert await indexed(storage) == 300  # before any task of it could have run
    assert await check(storage, range(300)) >= 0.95
    await storage.close()


def keep(folder, files_before):
    """Nothing happens to the file."""


def remove(folder, files_before):
    """The file is gone."""
    files(folder)[0].unlink()


def truncate(folder, files_before):
    """The file has lost its end."""
    file = files(folder)[0]
    file.write_bytes(file.read_bytes()[:-100])


def empty(folder, files_before):
    """The file has lost everything."""
    files(folder)[0].write_bytes(b"")


def foreign(folder, files_before):
    """The file is another collection's."""
    mine, theirs = files(folder)
    shutil.copy(theirs, mine)


def older(folder, files_before):
    """The file is from before the last writes and removals."""
    files(folder)[0].write_bytes(files_before[0])


def flipped(folder, files_before):
    """One bit differs, somewhere."""
    file = files(folder)[0]
    for place in np.random.default_rng(1).integers(0, file.stat().st_size, 1):
        content = bytearray(file.read_bytes())
        content[place] ^= 4
        file.write_bytes(content)


def folder_instead(folder, files_before):
    """Something that cannot be removed stands in its place."""
    file = files(folder)[0]
    file.unlink()
    (file / "kept").mkdir(parents=True)


@pytest.mark.parametrize(
    "damage",
    [keep, remove, truncate, empty, foreign, older, flipped, folder_instead],
    ids=lambda f: f.__name__,
)
async def test_whatever_happens_to_the_file_answers_stay_right(damage, tmp_path):
    """Exact at once where the file is no use, and healed after: same keys, recall of 0.95."""
    storage = await started(tmp_path)
    await warm(storage)
    await storage.close()
    before = [file.read_bytes() for file in files(tmp_path)]
    storage = engine(tmp_path)
    await storage.upsert(*PLACE, records(300, 100))
    await storage.upsert(*PLACE, [NewRecord(record_id="00001", vector=records(900, 1)[0].vector)])
    await storage.delete(*PLACE, [f"{n:05}" for n in range(2, 300, 3)])
    await warm(storage)
    await storage.close()
    damage(tmp_path, before)

    live = (set(range(400)) - set(range(2, 300, 3))) - {1}
    storage = engine(tmp_path)
    for number in (0, 150, 399):
        [result] = await storage.search(*PLACE, query(number))
        assert result.hits[0].record.record_id == f"{number:05}"
    await storage.graphs_ready()
    assert await check(storage, live, rewritten={1}) >= 0.95
    assert await indexed(storage) == len(live) + 1
    await storage.close()


async def test_every_single_bit_matters(tmp_path):
    """A file is refused whichever of its bits differs, before usearch sees it."""
    block, graph = built(60)
    file = tmp_path / "a.hnsw"
    graph.save(file, 7, block.snapshot())
    content = file.read_bytes()
    random = np.random.default_rng(2)
    for place in [*range(60), *random.integers(60, len(content), 200).tolist()]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(IndexRefusedError, match="digest"):
            load(file, block)
    for length in (0, 7, 8, 39, 40, 44, 100, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(IndexRefusedError):
            load(file, block)


def built(count, seed=0):
    """A block and a graph over all of it."""
    block = Block(DIMENSION, Metric.COSINE)
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    names = [str(n) for n in range(count)]
    block.append(range(count), names, rows, [NEVER] * count, 1)
    graph = Graph(DIMENSION, Metric.COSINE)
    graph.add(block.snapshot(), 0, count, going_on=lambda: True)
    return block, graph


def load(file, block, *, namespace=7, metric=Metric.COSINE, next_label=1000):
    """Load as the engine does."""
    return index.load(
        file, namespace, DIMENSION, metric, snapshot=block.snapshot(), next_label=next_label
    )


def test_a_file_of_other_records_is_refused(tmp_path):
    """Of another number, metric or day, and of a store that was put back."""
    block, graph = built(60)
    file = tmp_path / "a.hnsw"
    graph.save(file, 7, block.snapshot())
    assert load(file, block).covered == 59
    with pytest.raises(IndexRefusedError, match="another collection"):
        load(file, block, namespace=8)
    with pytest.raises(IndexRefusedError, match="another collection"):
        load(file, block, metric=Metric.DOT)
    with pytest.raises(IndexRefusedError, match="never written here"):
        load(file, block, next_label=59)
    other, _ = built(60, seed=1)
    with pytest.raises(IndexRefusedError, match="other records"):
        load(file, other)
    block.remove(range(30))
    later, _ = built(60)
    graph.save(file, 7, block.snapshot())
    with pytest.raises(IndexRefusedError, match=r"lacks|other records"):
        load(file, later)
    with pytest.raises(IndexRefusedError, match="cannot be read"):
        load(tmp_path / "none.hnsw", block)


async def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """The new file is written aside; until it is whole, the old one stands."""
    block, graph = built(60)
    file = tmp_path / "a.hnsw"
    graph.save(file, 7, block.snapshot())
    before = file.read_bytes()
    monkeypatch.setitem(index.failpoints._ACTIONS, "index.before_rename", "fail")
    with pytest.raises(OSError, match="failpoint"):
        graph.save(file, 7, block.snapshot())
    assert file.read_bytes() == before


async def test_a_worn_graph_is_built_anew(tmp_path):
    """Writing the same records over and over does not fill the graph with the dead."""
    storage = await started(tmp_path)
    await warm(storage)
    for _ in range(6):
        await storage.upsert(*PLACE, records(0, 300))
        await storage.graphs_ready()
    [namespace] = [n for n in storage._opened._namespaces.values() if n.number == 1]
    assert len(namespace.graph) <= 2 * 300 + 100
    assert await check(storage, range(300)) >= 0.95
    await storage.close()


async def test_least_used_collections_leave_memory(tmp_path):
    """Beyond the limit the one unused longest goes, is saved, and comes back whole."""
    store = open_store(tmp_path, on_fatal=fatal, sync=False)
    storage = EmbeddedVectorStorage(store, FakeClock(), exact_threshold=100, memory_bytes_max=1)
    for place in (PLACE, THEIRS):
        await storage.create_collection(*place, dimension=DIMENSION, metric=Metric.COSINE)
        await storage.upsert(*place, records(0, 300))
        await storage.search(*place, query(0))
        await storage.graphs_ready()
    assert len(storage._opened._namespaces) == 1
    await storage.upsert(*PLACE, records(300, 1))
    assert await check(storage, range(301)) >= 0.95
    await storage.close()


async def test_a_dropped_collection_leaves_no_file(tmp_path):
    """Its file goes with its records."""
    storage = await started(tmp_path)
    await warm(storage)
    await storage.close()
    storage = engine(tmp_path)
    await storage.purge("acme")
    await storage.delete_collection(*THEIRS)
    while await storage.sweep():
        pass
    await storage.sweep()
    await storage.close()
    assert files(tmp_path) == []


async def test_a_file_that_cannot_be_removed_stops_no_sweep(tmp_path):
    """The records go all the same; the file is named in the log (found by fault injection)."""
    storage = await started(tmp_path)
    await warm(storage)
    await storage.close()
    folder_instead(tmp_path, None)
    storage = engine(tmp_path)
    await storage.delete_collection(*PLACE)
    while await storage.sweep():
        pass
    assert (await storage.stats("acme", None)).record_count == 0
    await storage.close()


async def test_recall_under_each_metric(tmp_path):
    """The graph's order is the metric's."""
    storage = engine(tmp_path)
    for metric in Metric:
        place = ("acme", "global", metric.value)
        await storage.create_collection(*place, dimension=DIMENSION, metric=metric)
        await storage.upsert(*place, records(0, 1500))
        await storage.search(*place, query(0))
        await storage.graphs_ready()
        hits = 0
        for number in range(0, 1500, 50):
            [near] = await storage.search(*place, query(number))
            [true] = await storage.search(*place, query(number, exactness=Exactness.EXACT))
            assert not near.exact
            assert true.exact
            found = {hit.record.record_id: hit.score for hit in near.hits}
            wanted = {hit.record.record_id: hit.score for hit in true.hits}
            hits += len(found.keys() & wanted.keys())
            for name in found.keys() & wanted.keys():
                assert math.isclose(found[name], wanted[name], rel_tol=0, abs_tol=0)
        assert hits / 300 >= 0.95, metric
    await storage.close()

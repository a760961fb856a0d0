"""Do the benches count right? A figure that flatters is worse than none."""

import mmap
import os
import sys
import threading
import time

import numpy as np
import pytest

from tests.performance import quality
from tests.performance.peers import measure
from tests.performance.peers.peer import SHARES
from tests.performance.peers.table import page

VECTORS = np.eye(6, dtype=np.float32)
QUERIES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], np.float32)


def counted(rows, allowed=range(6), limit=3):
    """What `recall` says of one answer."""
    may = np.array(allowed)
    expected = measure.nearest(VECTORS, QUERIES, may, limit)
    return measure.recall([rows], expected, vectors=VECTORS, queries=QUERIES, allowed=may)


@pytest.mark.parametrize(
    ("rows", "share"), [([0, 1, 2], 1.0), ([2, 0, 1], 1.0), ([0, 1, 5], 2 / 3), ([], 0.0)]
)
def test_recall_is_the_share_of_the_nearest(rows, share):
    """Order does not matter, and a row that is not among the nearest does not count."""
    assert counted(rows)["recall"] == pytest.approx(share)


def test_a_row_that_is_named_twice_counts_once():
    """An engine cannot fill its answer with repeats, and such an answer is short."""
    found = counted([0, 0, 0])
    assert found["recall"] == pytest.approx(1 / 3)
    assert found["short"] == 1


def test_what_the_filter_leaves_out_counts_as_foreign():
    """A nearer row that may not be there is no hit, and is told."""
    found = counted([0, 3, 4], allowed=[3, 4, 5])
    assert found["foreign"] == 1
    assert found["recall"] == pytest.approx(2 / 3)


def test_an_answer_is_short_only_where_there_is_more():
    """Two hits of two matches are all; one is short."""
    assert counted([3, 4], allowed=[3, 4])["short"] == 0
    assert counted([3], allowed=[3, 4])["short"] == 1


def test_equally_near_rows_are_equally_right():
    """Of two that are equally near, either may be in the answer."""
    queries = np.array([[1.0, 0.5, 0.5, 0, 0, 0]], np.float32)
    everything = np.arange(6)
    expected = measure.nearest(VECTORS, queries, everything, 2)
    for rows in ([0, 1], [0, 2]):
        found = measure.recall(
            [rows], expected, vectors=VECTORS, queries=queries, allowed=everything
        )
        assert found["recall"] == 1.0


def test_memory_counts_what_was_allocated():
    """Sixty-four megabytes that were written to are seen.

    They are asked of the kernel: the C library would hand out what an earlier test gave back.
    """
    before = measure.memory([os.getpid()])
    with mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        np.frombuffer(held, np.uint8)[:] = 1
        grown = measure.memory([os.getpid()])["anon_mb"] - before["anon_mb"]
    assert grown == pytest.approx(64, abs=8)


def test_mapped_vectors_do_not_count(tmp_path):
    """The data set that is mapped into a library's process is no memory of the library."""
    np.save(tmp_path / "vectors.npy", np.ones(8 * 2**20))
    before = measure.memory([os.getpid()])
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert mapped.sum() == 8 * 2**20
    assert measure.memory([os.getpid()])["rss_mb"] - before["rss_mb"] < 8


def test_a_family_has_grandchildren():
    """A server's workers count with it."""
    import subprocess

    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        stop = time.monotonic() + 20
        while len(measure.family(child.pid)) < 2 and time.monotonic() < stop:
            time.sleep(0.02)
        found = measure.family(child.pid)
        child.communicate(b"\n")
    assert found[0] == child.pid
    assert len(found) == 2


def test_a_rate_counts_no_connecting():
    """A first call that takes a quarter of a second does not slow the rate down."""
    known = set()

    def call(number):
        caller = threading.get_ident()
        time.sleep(0.01 if caller in known else 0.25)
        known.add(caller)

    assert measure.rate(call, 4, 0.5) > 200


def test_a_rate_of_calls_that_fail_is_an_error():
    """One caller that cannot start ends the measurement; nobody waits for it."""

    def call(number):
        if number == 3:
            raise ConnectionRefusedError

    with pytest.raises((ConnectionRefusedError, threading.BrokenBarrierError)):
        measure.rate(call, 4, 5.0)


def test_gain_falls_with_the_rank():
    """First of all is 1, second 1 / log2(3), and what is not found 0."""
    assert quality.ndcg([1, 1]) == 1.0
    assert quality.ndcg([2]) == pytest.approx(1 / np.log2(3))
    assert quality.ndcg([1, 0]) == 0.5
    assert quality.recall([1, 10, 0, 0]) == 0.5


def test_a_page_says_what_is_missing():
    """An engine that failed is named with the reason, and has no figure."""
    good = {"recall": 1.0, "best_rate": 5.0, "p50_ms": 1.0, "short": 3}
    ran = {
        "engine": "faiss",
        "start": {"title": "faiss 1", "durable": "nothing"},
        "ingest": {"rate": 10.0, "ingest_s": 1.0, "total_s": 2.0},
        "filtered": {str(share): good for share in SHARES},
        "deletion": {"unsupported": "it removes nothing"},
    }
    broken = {"engine": "chroma", "failure": "No module named 'chromadb'"}
    text = page([ran, broken], [["asked", "1", "2", "**missed**"]], 10, "vector")
    assert "- Chroma: No module named 'chromadb'" in text
    assert "- faiss, deletion: it removes nothing" in text
    assert "**3 short**" in text
    assert "| asked | 1 | 2 | **missed** |" in text

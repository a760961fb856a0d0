"""The main lines of what is asked of the vector service, each a ratio in one run.

Ours runs as the four processes do; beside it runs usearch in this process. `peers.asked` calls it.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from llmspell.v1 import types_pb2, vector_admin_pb2, vector_admin_pb2_grpc, vector_pb2
from llmspell.v1 import vector_pb2_grpc as stubs
from usearch.index import Index

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, read_key
from services.vector.segments.footprint import GIVE_EVERY_S

DIMENSION = 384
K = 10
WAIT_S = 600


class Ours:
    """Stubs of one process: the vector's own, or the gateway's."""

    def __init__(self, channel: grpc.Channel, metadata) -> None:
        self.vectors = stubs.VectorServiceStub(channel)
        self.admin = vector_admin_pb2_grpc.VectorAdminServiceStub(channel)
        self.metadata = metadata

    def call(self, name, request, **more):
        """One call of VectorService."""
        return getattr(self.vectors, name)(request, metadata=self.metadata, timeout=WAIT_S, **more)

    def create(self, collection, **fields):
        """Make a collection."""
        self.call(
            "CreateCollection",
            vector_pb2.CreateCollectionRequest(
                collection_id=collection, dimension=DIMENSION, **fields
            ),
        )

    def load(self, collection, vectors, first=0):
        """Import by stream; seconds until all was acknowledged."""

        def requests():
            for start in range(0, len(vectors), 1000):
                part = vectors[start : start + 1000]
                yield vector_pb2.ImportVectorsRequest(
                    collection_id=collection,
                    columns=vector_pb2.RecordColumns(
                        record_ids=[f"r{first + start + n}" for n in range(len(part))],
                        f32=part.tobytes(),
                    ),
                )

        start = time.perf_counter()
        for answer in self.call("ImportVectors", requests()):
            assert answer.sequence
        return time.perf_counter() - start

    def checkpoint(self, collection):
        """Wait until graphs are complete; the answer."""
        request = vector_admin_pb2.CheckpointIndexRequest(collection_id=collection)
        return self.admin.CheckpointIndex(request, metadata=self.metadata, timeout=WAIT_S)

    def search(self, collection, vector, **options):
        """One search, answered in columns: ids and scores, as a library answers."""
        request = vector_pb2.SearchRequest(
            collection_id=collection,
            vector=types_pb2.Vector(f32=vector.tobytes()),
            options=vector_pb2.SearchOptions(limit=K, form=vector_pb2.HIT_FORM_COLUMNS, **options),
        )
        return self.call("Search", request)

    def batch(self, collection, vectors, **options):
        """Several searches, answered likewise."""
        request = vector_pb2.BatchSearchRequest(
            collection_id=collection,
            f32=vectors.tobytes(),
            options=vector_pb2.SearchOptions(limit=K, form=vector_pb2.HIT_FORM_COLUMNS, **options),
        )
        return self.call("BatchSearch", request)

    def empty(self):
        """A relayed call that does next to nothing: counts of a scope that has no collection."""
        return self.call("GetVectorStats", vector_pb2.GetVectorStatsRequest(scope="user:nobody"))


def direct(processes, tenant="acme") -> Ours:
    """Past the gateway, with a context sealed here."""
    data = processes.place.data
    seal = Seal(read_key(data / "secrets/context.key"), SystemClock())
    context = CallContext(tenant=tenant, principal="bench", permissions=("*",))
    channel = grpc.insecure_channel(processes.children["vector"].address, options=_OPTIONS)
    return Ours(channel, ((METADATA_KEY, seal.seal(context, lifetime_s=36000)),))


def public(processes, key) -> Ours:
    """As clients do."""
    channel = grpc.insecure_channel(processes.address, options=_OPTIONS)
    return Ours(channel, (("authorization", f"Bearer {key}"),))


_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


def p50_p99(call, count=400, warm=50):
    """Milliseconds of calls one after another."""
    for number in range(warm):
        call(number)
    took = []
    for number in range(count):
        start = time.perf_counter()
        call(number)
        took.append((time.perf_counter() - start) * 1e3)
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]


def rate(call, callers, seconds=3.0):
    """Calls a second by so many callers at once."""
    with ThreadPoolExecutor(callers) as pool:
        stop = time.perf_counter() + seconds

        def work(number):
            done = 0
            while time.perf_counter() < stop:
                call(number * 1009 + done)
                done += 1
            return done

        start = time.perf_counter()
        done = sum(pool.map(work, range(callers)))
        return done / (time.perf_counter() - start)


def truth(vectors, queries, allowed=None):
    """The K nearest to each query, compared one by one."""
    scores = queries @ (vectors if allowed is None else vectors[allowed]).T
    best = np.argpartition(-scores, K, axis=1)[:, :K]
    return best if allowed is None else allowed[best]


def recall(found, expected):
    """Share of the expected that was found."""
    pairs = zip(found, expected, strict=True)
    return sum(len(set(a) & set(b.tolist())) for a, b in pairs) / expected.size


def numbers(record_ids):
    """Rows of ids."""
    return [int(each[1:]) for each in record_ids]


def memory_mb(pid, kind="RssAnon"):
    """Resident memory of a kind."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def bench_main(report, processes, ours, through, *, vectors, queries):
    """Ingest, build, recall, single, batched, 64 callers, memory."""
    pid = processes.pid("vector")
    before = memory_mb(pid), memory_mb(pid, "RssFile")
    ours.create("main")
    took = ours.load("main", vectors)
    report.asked(
        "durable, acknowledged ingest by stream",
        f"{len(vectors) / took:.0f} vectors/s",
        "20 000 vectors/s",
        len(vectors) / took >= 20_000,
    )
    found = ours.search("main", vectors[-1])
    assert found.columns.record_ids[0] == f"r{len(vectors) - 1}"
    start = time.perf_counter()
    done = ours.checkpoint("main")
    built = time.perf_counter() - start
    assert done.indexed_count == len(vectors), done
    # usearch in process, with what our graph has
    index = Index(ndim=DIMENSION, metric="ip", dtype="bf16", connectivity=16, expansion_add=128)
    start = time.perf_counter()
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=os.cpu_count())
    bare = time.perf_counter() - start
    report.asked(
        "graph built behind, against usearch's bare build",
        f"{len(vectors) / built:.0f} / {len(vectors) / bare:.0f} = {bare / built:.2f}",
        "0.9",
        bare / built >= 0.9,
    )
    expected = truth(vectors, queries)
    hits = []
    for s in range(0, len(queries), 50):
        answer = ours.batch("main", queries[s : s + 50])
        hits += [numbers(each.columns.record_ids) for each in answer.results]
    our_recall = recall(hits, expected)
    ef, their_recall = equal_recall(index, queries, expected, our_recall)
    report.line("recall@10", f"ours {our_recall:.4f}, usearch at ef {ef}: {their_recall:.4f}")
    batches = [queries[s : s + 64] for s in range(0, 640, 64)]

    def bare_batch(n):
        index.search(batches[n % 10], K, threads=os.cpu_count())

    ratios, ours_rate, theirs_rate = [], [], []
    for _ in range(5):
        theirs_rate.append(64 * rate(bare_batch, 1, 1.0))
        ours_rate.append(64 * rate(lambda n: ours.batch("main", batches[n % 10]), 2, 1.0))
        ratios.append(ours_rate[-1] / theirs_rate[-1])
    one = 64 * rate(lambda n: ours.batch("main", batches[n % 10]), 1, 2.0)
    ratio = statistics.median(ratios)
    report.asked(
        "batched search over gRPC, 64 a call, against usearch's own batch",
        f"{statistics.median(ours_rate):.0f} / {statistics.median(theirs_rate):.0f} = {ratio:.2f}"
        f" with two calls in flight; one call: {one / statistics.median(theirs_rate):.2f}",
        "0.85",
        ratio >= 0.85,
    )
    single, _ = p50_p99(lambda n: index.search(queries[n % 1000], K, threads=1))
    empty, _ = p50_p99(lambda _: through.empty())
    mine, p99 = p50_p99(lambda n: through.search("main", queries[n % 1000]))
    limit = single + 1.5 * empty
    report.asked(
        "single search through the gateway, p50",
        f"{mine:.2f} ms (p99 {p99:.2f}); usearch {single:.2f} + 1.5 x empty {empty:.2f} = "
        f"{limit:.2f} ms",
        "at most that",
        mine <= limit,
    )
    empties = statistics.median(rate(lambda _: ours.empty(), 64, 2.0) for _ in range(3))
    searches = statistics.median(
        rate(lambda n: ours.search("main", queries[n % 1000]), 64, 2.0) for _ in range(3)
    )
    report.asked(
        "64 callers, direct, against empty calls",
        f"{searches:.0f} / {empties:.0f} = {searches / empties:.2f}",
        "0.6",
        searches / empties >= 0.6,
    )
    time.sleep(2 * GIVE_EVERY_S)  # what the crowd left goes back
    anon, mapped = memory_mb(pid) - before[0], memory_mb(pid, "RssFile") - before[1]
    quantised = len(vectors) * (DIMENSION * 2 + 150) / 2**20
    total = memory_mb(pid, "VmRSS")
    report.asked(
        "memory for serving",
        f"{anon:.0f} MB own and {mapped:.0f} MB of mapped files more; "
        f"1.25 x quantised and graph: {1.25 * quantised:.0f} MB; {total:.0f} MB in all",
        "both",
        anon + mapped <= 1.25 * quantised and total < 200,
    )
    return index


def equal_recall(index, queries, expected, wanted):
    """The least width at which usearch has our recall."""
    for ef in (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 384, 512):
        index.expansion_search = ef
        found = index.search(queries, K).keys.astype(np.int64).tolist()
        reached = recall(found, expected)
        if reached >= wanted:
            break
    return ef, reached

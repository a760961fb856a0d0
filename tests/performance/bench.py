"""`make bench`: what the four processes do, each figure beside a reference of the same run.

Machines are shared and noisy, so a ratio against the reference says more than a time. Targets are
the specification's; where there is one, its row says whether it is met.
Prints a Markdown table; `docs/benchmarks.md` keeps the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from llmspell import Client
from llmspell.v1 import (
    rag_pb2,
    rag_pb2_grpc,
    script_pb2,
    script_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    types_pb2,
    vector_pb2,
    vector_pb2_grpc,
)

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, read_key
from services.common.processes import Processes, running
from services.state.engines.embedded import open_store
from services.state.items import Items
from services.state.model import Encoding, Value
from services.state.step import Keeper
from tests.integration.deployment import free_port

DIMENSION = 384
SEED = 20261121


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    figure: str
    reference: str
    ratio: str = ""
    target: str = ""


class Table:
    """Rows, printed as they come."""

    def __init__(self) -> None:
        print("| what | figure | reference, same run | ratio | specification |")
        print("| --- | --- | --- | --- | --- |")

    def add(self, row: Row) -> None:
        print(f"| {row.what} | {row.figure} | {row.reference} | {row.ratio} | {row.target} |")
        sys.stdout.flush()


def met(value: float, target: float, unit: str) -> str:
    """A target and whether it is met; less is better."""
    return f"< {target:g} {unit}: {'met' if value < target else 'MISSED'}"


@dataclass(frozen=True)
class Times:
    """What a call took, in milliseconds."""

    p50: float
    p99: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} ms, p99 {self.p99:.2f} ms"


def times(call: Callable[[int], object], count: int) -> Times:
    """Call one after another."""
    for number in range(min(count, 20)):
        call(number)
    took = []
    for number in range(count):
        start = time.perf_counter()
        call(number)
        took.append((time.perf_counter() - start) * 1e3)
    cuts = statistics.quantiles(took, n=100)
    return Times(cuts[49], cuts[98])


def rate(call: Callable[[int], object], callers: int, seconds: float = 3.0) -> float:
    """Calls a second by that many callers at once."""
    stop = time.perf_counter() + seconds
    counts = [0] * callers

    def work(number: int) -> None:
        while time.perf_counter() < stop:
            call(number * 1_000_000 + counts[number])
            counts[number] += 1

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, range(callers)))
    return sum(counts) / seconds


def realistic_vectors(count: int) -> np.ndarray:
    """float32 (count, 384), length 1: clusters on a curved surface of 25 to 30 dimensions.

    Short texts under MiniLM have a local intrinsic dimension of about 25; independent noise in all
    384 would be harder than any real data, and plain clusters easier.
    """
    chance = np.random.default_rng(SEED)
    centres = chance.normal(size=(200, 28))
    latent = centres[chance.integers(0, 200, count)] + 0.55 * chance.normal(size=(count, 28))
    first = chance.normal(size=(28, 96)) / np.sqrt(28)
    second = chance.normal(size=(96, DIMENSION)) / np.sqrt(96)
    vectors = np.tanh(latent @ first) @ second + 0.02 * chance.normal(size=(count, DIMENSION))
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def packed(vector: np.ndarray) -> types_pb2.Vector:
    """A vector as programs send it."""
    return types_pb2.Vector(f32=vector.astype("<f4").tobytes())


class Direct:
    """Calls past the gateway, as the gateway does: with a sealed context."""

    def __init__(self, processes: Processes) -> None:
        key = read_key(processes.place.secret("context.key"))
        context = CallContext(tenant="acme", principal="bench", permissions=("*",))
        sealed = Seal(key, SystemClock()).seal(context, lifetime_s=7200)
        self.metadata = ((METADATA_KEY, sealed),)
        addresses = processes.addresses()
        self.state = state_pb2_grpc.StateServiceStub(grpc.insecure_channel(addresses["state"]))
        vector = grpc.insecure_channel(addresses["vector"])
        self.vector = vector_pb2_grpc.VectorServiceStub(vector)
        self.rag = rag_pb2_grpc.RagServiceStub(vector)


class Public:
    """Calls through the gateway with a tenant's key."""

    def __init__(self, processes: Processes, api_key: str) -> None:
        channel = grpc.insecure_channel(processes.address)
        self.metadata = (("authorization", f"Bearer {api_key}"),)
        self.state = state_pb2_grpc.StateServiceStub(channel)
        self.vector = vector_pb2_grpc.VectorServiceStub(channel)
        self.script = script_pb2_grpc.ScriptServiceStub(channel)


@contextmanager
def echo_server(answer_bytes: int):
    """A callable that asks the reference server; the request has the size of a search."""
    address = f"127.0.0.1:{free_port()}"
    module = "tests.performance.echo"
    process = subprocess.Popen([sys.executable, "-m", module, address, str(answer_bytes)])
    try:
        channel = grpc.insecure_channel(address)
        call = channel.unary_unary("/Echo/Echo")
        request = bytes(4 * DIMENSION + 32)
        call(request, wait_for_ready=True, timeout=20)
        yield lambda _: call(request)
        channel.close()
    finally:
        process.terminate()
        process.wait()


def bench_calls(table: Table, direct: Direct, public: Public, vectors: np.ndarray) -> None:
    """A search, direct and through the gateway, against an echo."""
    queries = vectors[:500]

    def searching(stubs):
        def call(number: int):
            vector = packed(queries[number % len(queries)])
            request = vector_pb2.SearchRequest(collection_id="bench", vector=vector)
            return stubs.vector.Search(request, metadata=stubs.metadata)

        return call

    answer_bytes = len(searching(direct)(0).SerializeToString())
    with echo_server(answer_bytes) as echo:
        reference = times(echo, 1000)
        one = times(searching(direct), 1000)
        two = times(searching(public), 1000)
    table.add(Row("echo, same sizes", str(reference), "-", "1.00"))
    for name, measured in (("search direct", one), ("search through the gateway", two)):
        table.add(
            Row(
                f"{name}, 100 000 x 384",
                str(measured),
                f"echo p50 {reference.p50:.2f} ms",
                f"{measured.p50 / reference.p50:.2f}",
                met(measured.p50, 8, "ms"),
            )
        )


def bench_writes(table: Table, direct: Direct, public: Public, folder: Path) -> None:
    """Durable writes by 1, 16 and 64 callers, against one flush a write to a file beside it."""
    reference = _flushes(folder)
    table.add(
        Row("write + fdatasync of 4 KiB, one after another", f"{reference:.0f}/s", "-", "1.00")
    )
    for callers in (1, 16, 64):
        measured = asyncio.run(_engine_writes(folder / f"engine-{callers}", callers))
        table.add(
            Row(
                f"durable state writes in the engine, {callers} callers",
                f"{measured:.0f}/s",
                f"one flush a write: {reference:.0f}/s",
                f"{measured / reference:.2f}",
            )
        )
    payload = state_pb2.Payload(json='{"answer": 42}')

    def writing(stubs):
        def call(number: int):
            request = state_pb2.SetStateRequest(key=f"bench-{number}", value=payload)
            return stubs.state.SetState(request, metadata=stubs.metadata)

        return call

    for name, stubs in (("direct", direct), ("through the gateway", public)):
        for callers in (1, 16, 64):
            measured = rate(writing(stubs), callers)
            table.add(
                Row(
                    f"durable state writes {name}, {callers} callers",
                    f"{measured:.0f}/s",
                    f"one flush a write: {reference:.0f}/s",
                    f"{measured / reference:.2f}",
                )
            )


async def _engine_writes(folder: Path, callers: int, seconds: float = 2.0) -> float:
    """Writes a second without gRPC: what the store's group commit gives."""
    engine = Items(Keeper(open_store(folder), clock=SystemClock()))
    stop = time.perf_counter() + seconds
    value = Value(Encoding.JSON, b'{"answer": 42}')

    async def work(number: int) -> int:
        count = 0
        while time.perf_counter() < stop:
            await engine.set("acme", "global", f"{number}-{count}", value)
            count += 1
        return count

    counts = await asyncio.gather(*(work(number) for number in range(callers)))
    await engine.close()
    return sum(counts) / seconds


def _flushes(folder: Path) -> float:
    block = os.urandom(4096)
    count, stop = 0, time.perf_counter() + 2.0
    with (folder / "flushes").open("wb", 0) as target:
        while time.perf_counter() < stop:
            os.pwrite(target.fileno(), block, 0)
            os.fdatasync(target.fileno())
            count += 1
    return count / 2.0


def bench_ingest(table: Table, processes: Processes, direct: Direct, vectors: np.ndarray) -> None:
    """All vectors in, by 1000; then recall against an exact search, and the memory they take."""
    create = vector_pb2.CreateCollectionRequest(collection_id="bench", dimension=DIMENSION)
    start = time.perf_counter()
    direct.vector.CreateCollection(create, metadata=direct.metadata)
    created = (time.perf_counter() - start) * 1e3
    table.add(Row("namespace creation", f"{created:.1f} ms", "-", "", met(created, 100, "ms")))
    _load_model(direct)  # which is no part of what vectors cost
    before = memory_mb(processes.pid("vector"), "RssAnon")
    took = []
    for first in range(0, len(vectors), 1000):
        records = [
            vector_pb2.VectorRecord(record_id=f"r{first + n:06}", vector=packed(vector))
            for n, vector in enumerate(vectors[first : first + 1000])
        ]
        request = vector_pb2.UpsertVectorsRequest(collection_id="bench", records=records)
        start = time.perf_counter()
        direct.vector.UpsertVectors(request, metadata=direct.metadata, timeout=60)
        took.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(took)
    rates = f"{len(vectors) / sum(took) * 1e3:.0f} vectors/s, {median:.0f} ms per 1 000"
    numpy_ms = _numpy_copy_ms(vectors)
    table.add(
        Row(
            f"durable insert of {len(vectors)} x {DIMENSION}",
            rates,
            f"writing the same bytes to a file: {numpy_ms:.0f} ms per 1 000",
            f"{median / numpy_ms:.1f}",
            met(median, 200, "ms per 1 000"),
        )
    )
    indexed = wait_indexed(direct, "bench", len(vectors))
    table.add(Row("graph complete after the last insert", f"{indexed:.1f} s", "-"))
    own = memory_mb(processes.pid("vector"), "RssAnon") - before
    grown = own * 100_000 / len(vectors)
    mapped = memory_mb(processes.pid("vector"), "RssFile")
    flat = 100_000 * DIMENSION * 4 / 2**20
    table.add(
        Row(
            "memory per 100 000, graph and vectors",
            f"{grown:.0f} MB, and {mapped:.0f} MB of the file in the kernel's cache",
            f"the float32 alone: {flat:.0f} MB",
            f"{grown / flat:.2f}",
            met(grown, 500, "MB"),
        )
    )
    bench_recall(table, direct, vectors)


def _load_model(direct: Direct) -> None:
    documents = [rag_pb2.Document(text="The model is loaded now.")]
    request = rag_pb2.IngestDocumentsRequest(collection_id="warm", documents=documents)
    direct.rag.IngestDocuments(request, metadata=direct.metadata)


def _numpy_copy_ms(vectors: np.ndarray) -> float:
    block = vectors[:1000].tobytes()
    start = time.perf_counter()
    with tempfile.TemporaryFile() as target:
        target.write(block)
        target.flush()
        os.fdatasync(target.fileno())
    return (time.perf_counter() - start) * 1e3


def wait_indexed(direct: Direct, collection: str, count: int) -> float:
    """Seconds until the graph covers (nearly) all records."""
    start = time.perf_counter()
    query = vector_pb2.SearchRequest(
        collection_id=collection, vector=packed(np.ones(DIMENSION, np.float32))
    )
    request = vector_pb2.GetCollectionRequest(collection_id=collection)
    while True:
        direct.vector.Search(query, metadata=direct.metadata)
        answer = direct.vector.GetCollection(request, metadata=direct.metadata)
        if answer.collection.indexed_count >= 0.99 * count or time.perf_counter() - start > 300:
            return time.perf_counter() - start
        time.sleep(0.25)


def bench_recall(table: Table, direct: Direct, vectors: np.ndarray) -> None:
    """Recall@10 of the graph against an exact scan in numpy, over queries that are not stored."""
    chance = np.random.default_rng(SEED + 1)
    rows = vectors[chance.integers(0, len(vectors), 200)]
    queries = rows + 0.02 * chance.normal(size=rows.shape).astype(np.float32)
    found = 0
    scans = []
    for query in queries:
        start = time.perf_counter()
        scores = vectors @ (query / np.linalg.norm(query))
        best = set(np.argpartition(-scores, 10)[:10].tolist())
        scans.append((time.perf_counter() - start) * 1e3)
        request = vector_pb2.SearchRequest(collection_id="bench", vector=packed(query))
        answer = direct.vector.Search(request, metadata=direct.metadata)
        found += len(best & {int(hit.record_id[1:]) for hit in answer.hits})
    recall = found / (10 * len(queries))
    scan = statistics.median(scans)
    table.add(
        Row("recall@10", f"{recall:.3f}", f"exact scan in numpy ({scan:.1f} ms)", f"{recall:.3f}")
    )


def bench_small_tenant(table: Table, direct: Direct, vectors: np.ndarray) -> None:
    """A tenant with 10 000 vectors: the specification's commonest case."""
    create = vector_pb2.CreateCollectionRequest(collection_id="small", dimension=DIMENSION)
    direct.vector.CreateCollection(create, metadata=direct.metadata)
    for first in range(0, 10_000, 1000):
        records = [
            vector_pb2.VectorRecord(record_id=f"s{first + n}", vector=packed(vector))
            for n, vector in enumerate(vectors[first : first + 1000])
        ]
        request = vector_pb2.UpsertVectorsRequest(collection_id="small", records=records)
        direct.vector.UpsertVectors(request, metadata=direct.metadata, timeout=60)

    wait_indexed(direct, "small", 10_000)

    def call(number: int):
        vector = packed(vectors[number % 1000])
        request = vector_pb2.SearchRequest(collection_id="small", vector=vector)
        return direct.vector.Search(request, metadata=direct.metadata)

    measured = times(call, 500)
    scan = times(lambda n: np.argpartition(-(vectors[:10_000] @ vectors[n % 1000]), 10), 200)
    table.add(
        Row(
            "search of a tenant's 10 000 x 384, direct",
            str(measured),
            f"exact scan in numpy p50 {scan.p50:.2f} ms",
            f"{measured.p50 / scan.p50:.2f}",
            met(measured.p50, 5, "ms"),
        )
    )


def bench_script(table: Table, public: Public) -> None:
    """A script that does nothing, through the gateway: a process made, run, and ended."""
    bare = [sys.executable, "-c", "pass"]

    def run(source: str):
        def call(_: int):
            request = script_pb2.RunScriptRequest(source=source)
            return list(public.script.RunScript(request, metadata=public.metadata))

        return call

    reference = times(lambda _: subprocess.run(bare, check=True), 30)
    empty = times(run("return 1"), 200)
    state = times(run('State.save("global", "x", 1) return State.load("global", "x")'), 200)
    for name, measured in (("trivial script", empty), ("script with two calls of state", state)):
        table.add(
            Row(
                f"{name}, through the gateway",
                str(measured),
                f"a bare python process p50 {reference.p50:.1f} ms",
                f"{measured.p50 / reference.p50:.2f}",
            )
        )


def memory_mb(pid: int, kind: str) -> float:
    """Resident memory: `RssAnon` is the process's own, `RssFile` the kernel's cache of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{kind}:")]
    return int(line.split()[1]) / 1024


async def _bench(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as folder:
        address = f"127.0.0.1:{free_port()}"
        report = lambda name, what: print(f"{name} {what}", file=sys.stderr)  # noqa: E731
        async with running(Path(folder) / "data", address, report=report) as processes:
            await asyncio.to_thread(_measure, processes, Path(folder), count)


def _measure(processes: Processes, folder: Path, count: int) -> None:
    with Client(processes.address, processes.operator_key) as operator:
        operator.create_tenant("acme")
        key = operator.create_key("acme", roles=["admin"]).key
    direct, public = Direct(processes), Public(processes, key)
    vectors = realistic_vectors(count)
    table = Table()
    bench_writes(table, direct, public, folder)
    bench_script(table, public)
    bench_small_tenant(table, direct, vectors)
    bench_ingest(table, processes, direct, vectors)
    bench_calls(table, direct, public, vectors)


def main() -> None:
    """Print what machine this is, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    count = parser.parse_args().vectors
    print(
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
    )
    print(
        f"grpcio {grpc.__version__}, seed {SEED}, {threading.active_count()} thread to start with\n"
    )
    asyncio.run(_bench(count))


if __name__ == "__main__":
    main()

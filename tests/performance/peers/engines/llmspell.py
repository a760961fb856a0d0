"""Ours: the four processes, and calls straight to the vector process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from llmspell import Client
from llmspell.v1 import (
    types_pb2,
    vector_admin_pb2,
    vector_admin_pb2_grpc,
    vector_pb2,
    vector_pb2_grpc,
)

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, read_key
from services.common.processes import Processes, running
from tests.integration.deployment import free_port
from tests.performance.peers.measure import family
from tests.performance.peers.peer import DIMENSION, LINKS, WIDTH_BUILD, Condition, K, Writes

TENANT, COLLECTION = "acme", "bench"
WAIT_S = 900.0
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
Metadata = tuple[tuple[str, str], ...]


class Deployment:
    """The four processes, kept by a thread with an event loop of its own."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._ready, self._end = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self.processes: Processes
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Stop all four."""
        self._end.set()
        self._thread.join()

    def key(self) -> str:
        """A key of the tenant, which is made where it is missing."""
        with Client(self.processes.address, self.processes.operator_key) as operator:
            if TENANT not in {each.tenant_id for each in operator.list_tenants()}:
                operator.create_tenant(TENANT)
            return operator.create_key(TENANT, roles=["admin"]).key

    def _keep(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
            self._failure = error
            self._ready.set()

    async def _run(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        async with running(self._data, address, report=lambda *_: None) as self.processes:
            self._ready.set()
            await asyncio.to_thread(self._end.wait)


def sealed(processes: Processes, tenant: str = TENANT) -> Metadata:
    """What the gateway would say of a caller, for calls past it."""
    seal = Seal(read_key(processes.place.secret("context.key")), SystemClock())
    context = CallContext(tenant=tenant, principal="bench", permissions=("*",))
    return ((METADATA_KEY, seal.seal(context, lifetime_s=86400)),)


class Engine:
    """Scores and ids alone are asked for, as of the others."""

    title = "LLMSpell, gRPC to the vector process, bf16 graph, dot"
    widths = (0, 64, 96, 128, 192, 256, 384)
    durable = "a power cut: flushed before it answers"

    def start(self, folder: Path) -> None:
        self.deployment = Deployment(folder / "data")
        processes = self.deployment.processes
        address, self._metadata = self._door(processes)
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self.vectors = vector_pb2_grpc.VectorServiceStub(self._channel)
        self._admin = vector_admin_pb2_grpc.VectorAdminServiceStub(self._channel)
        self._width = 0
        self._ensure()

    def stop(self) -> None:
        self._channel.close()
        self.deployment.close()

    def pids(self) -> list[int]:
        return family(self.deployment.processes.pid("vector"))

    def ingest(self, writes: Writes) -> None:
        request = vector_pb2.ImportVectorsRequest(
            collection_id=COLLECTION, records=list(_records(writes))
        )
        for _ in self.call("ImportVectors", iter([request])):
            pass

    def build(self) -> None:
        request = vector_admin_pb2.CheckpointIndexRequest(collection_id=COLLECTION)
        self._admin.CheckpointIndex(request, metadata=self._metadata, timeout=WAIT_S)

    def widen(self, width: int) -> None:
        self._width = width

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        request = vector_pb2.SearchRequest(
            collection_id=COLLECTION,
            vector=types_pb2.Vector(f32=vector.tobytes()),
            options=self._options(below),
        )
        return _rows(self.call("Search", request))

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        request = vector_pb2.BatchSearchRequest(
            collection_id=COLLECTION, f32=vectors.tobytes(), options=self._options(below)
        )
        return [_rows(each) for each in self.call("BatchSearch", request).results]

    def delete(self, rows: np.ndarray) -> None:
        request = vector_pb2.DeleteVectorsRequest(
            collection_id=COLLECTION, record_ids=[str(row) for row in rows]
        )
        self.call("DeleteVectors", request)

    def compact(self) -> None:
        """Rebuild, wait for it, and give what follows a moment."""
        request = vector_admin_pb2.RebuildIndexRequest(collection_id=COLLECTION)
        self._admin.RebuildIndex(request, metadata=self._metadata, timeout=WAIT_S)
        self.build()
        time.sleep(2.0)

    def call(self, name: str, request: object) -> object:
        """One call of VectorService."""
        method = getattr(self.vectors, name)
        return method(request, metadata=self._metadata, timeout=WAIT_S)

    def _door(self, processes: Processes) -> tuple[str, Metadata]:
        self.deployment.key()  # makes the tenant
        return processes.children["vector"].address, sealed(processes)

    def _ensure(self) -> None:
        graph = vector_pb2.HnswSettings(m=LINKS, ef_construction=WIDTH_BUILD)
        request = vector_pb2.CreateCollectionRequest(
            collection_id=COLLECTION,
            dimension=DIMENSION,
            metric=vector_pb2.METRIC_DOT,
            hnsw=graph,
        )
        try:
            self.call("CreateCollection", request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    def _options(self, below: Condition) -> vector_pb2.SearchOptions:
        options = vector_pb2.SearchOptions(
            limit=K, form=vector_pb2.HIT_FORM_COLUMNS, expansion=self._width
        )
        if below is not None:
            bound = types_pb2.Range(lt=types_pb2.Value(int_value=below))
            condition = types_pb2.Condition(field="part", range=bound)
            options.filter.CopyFrom(types_pb2.Filter(condition=condition))
        return options


def _records(writes: Writes) -> Iterator[vector_pb2.VectorRecord]:
    for row, part, vector in zip(writes.rows, writes.parts, writes.vectors, strict=True):
        yield vector_pb2.VectorRecord(
            record_id=str(row),
            vector=types_pb2.Vector(f32=vector.tobytes()),
            metadata={"part": types_pb2.Value(int_value=int(part))},
        )


def _rows(answer: vector_pb2.SearchResponse) -> list[int]:
    return [int(each) for each in answer.columns.record_ids]

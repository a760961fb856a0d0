"""Chroma's server over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import chromadb
import numpy as np
from chromadb.config import Settings

from tests.performance.peers.measure import family
from tests.performance.peers.peer import (
    LINKS,
    THREADS,
    WIDTH_BUILD,
    Condition,
    K,
    Unsupported,
    Writes,
)

_READY_S = 60.0


class Engine:
    """`chroma run` on loopback, with its own client."""

    title = f"Chroma {chromadb.__version__}, server over HTTP, f32, inner product"
    widths = (32, 48, 64, 80, 96, 128, 192, 256, 384)
    durable = "SQLite's log before it answers"

    def start(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = Path(sys.executable).with_name("chroma")
        place = ["--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
        with (folder.parent / "chroma.log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(program), "run", *place], stdout=log, stderr=log, cwd=folder
            )
        self._client = self._connect(port)
        graph = {
            "space": "ip",
            "ef_construction": WIDTH_BUILD,
            "max_neighbors": LINKS,
            "num_threads": THREADS,
        }
        self._collection = self._client.get_or_create_collection(
            "bench", configuration={"hnsw": graph}, embedding_function=None
        )

    def _connect(self, port: int) -> chromadb.ClientAPI:
        stop = time.monotonic() + _READY_S
        quiet = Settings(anonymized_telemetry=False)
        while True:
            try:
                return chromadb.HttpClient("127.0.0.1", port, settings=quiet)
            except Exception:
                if time.monotonic() > stop or self._server.poll() is not None:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait()

    def pids(self) -> list[int]:
        return family(self._server.pid)

    def ingest(self, writes: Writes) -> None:
        self._collection.add(
            ids=[str(row) for row in writes.rows],
            embeddings=writes.vectors,
            metadatas=[{"part": int(part)} for part in writes.parts],
        )

    def build(self) -> None:
        """It builds while it writes; a search waits for the rest."""
        self._collection.query(np.zeros((1, 384), np.float32) + 0.05, n_results=K, include=[])

    def widen(self, width: int) -> None:
        self._collection.modify(configuration={"hnsw": {"ef_search": width}})

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        return self.batch(vector[None], below)[0]

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        where = None if below is None else {"part": {"$lt": below}}
        found = self._collection.query(vectors, n_results=K, where=where, include=[])
        return [[int(each) for each in ids] for ids in found["ids"]]

    def delete(self, rows: np.ndarray) -> None:
        self._collection.delete(ids=[str(row) for row in rows])

    def compact(self) -> None:
        """Its vacuum works on a stopped server."""
        raise Unsupported("`chroma vacuum` needs the server stopped, and leaves the graph alone")

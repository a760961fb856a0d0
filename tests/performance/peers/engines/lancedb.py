"""LanceDB in process, over files."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree, HnswFlat

from tests.performance.peers.peer import (
    DIMENSION,
    LINKS,
    WIDTH_BUILD,
    Condition,
    K,
    Unsupported,
    Writes,
)

_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("part", pa.int64()),
        pa.field("vector", pa.list_(pa.float32(), DIMENSION)),
    ]
)
_INDEX_MIN = 1000


class Engine:
    """One partition with a graph, and a B-tree over `part`."""

    title = f"LanceDB {lancedb.__version__}, in process, IVF_HNSW_FLAT with one partition, dot"
    widths = (32, 64, 96, 128, 192, 256, 384, 512)
    durable = "a new version of the table in files, not flushed"

    def start(self, folder: Path) -> None:
        self._database = lancedb.connect(folder)
        self._width = self.widths[0]
        self._table = self._database.create_table("bench", schema=_SCHEMA, exist_ok=True)

    def stop(self) -> None:
        self._table = None

    def pids(self) -> list[int]:
        return [os.getpid()]

    def ingest(self, writes: Writes) -> None:
        flat = pa.array(writes.vectors.reshape(-1))
        columns = [
            pa.array(writes.rows),
            pa.array(writes.parts),
            pa.FixedSizeListArray.from_arrays(flat, DIMENSION),
        ]
        self._table.add(pa.Table.from_arrays(columns, schema=_SCHEMA))

    def build(self) -> None:
        if self._table.count_rows() < _INDEX_MIN:
            return
        self._table.optimize(cleanup_older_than=timedelta(0))
        graph = HnswFlat(
            distance_type="dot", num_partitions=1, m=LINKS, ef_construction=WIDTH_BUILD
        )
        self._table.create_index("vector", config=graph)
        self._table.create_index("part", config=BTree())

    def widen(self, width: int) -> None:
        self._width = width

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot")
        query = query.limit(K).ef(self._width).nprobes(1).select(["row", "_distance"])
        if below is not None:
            query = query.where(f"part < {below}", prefilter=True)
        return query.to_arrow()["row"].to_pylist()

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        raise Unsupported("its synchronous interface takes one query at a time")

    def delete(self, rows: np.ndarray) -> None:
        self._table.delete(f"row IN ({','.join(map(str, rows.tolist()))})")

    def compact(self) -> None:
        self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

"""Making segments: rows into a file, a graph over them, and the file into the store's register."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.common.store import Store, Txn
from services.vector.engines import layout
from services.vector.engines.building import Builder, BuildFailedError
from services.vector.engines.layout import NamespaceRow, SegmentRow
from services.vector.engines.tail import Arrivals
from services.vector.model import Metric, Quantization
from services.vector.segments import container
from services.vector.segments.builder import Job, Rows
from services.vector.segments.rows import NEVER, NO_TIME, Int64s, Reach, Table, kept_rows
from services.vector.segments.segment import Segment, open_segment, pack_ids

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Merge:
    """What is to become one segment, together with the tail."""

    segments: frozenset[int]
    unfit: frozenset[int]
    """Segments that are registered and could not be opened."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of rows."""

    number: int
    segment: Segment | None
    rows: Arrivals | None
    """Where they are too few for a graph: the rows themselves."""


class Sealing:
    """Builds, registers and removes segments of every namespace."""

    def __init__(self, store: Store, pool: Executor) -> None:
        self.folder = store.path / "index"
        self._store = store
        self._pool = pool
        self._builder = Builder()
        self.threads = os.cpu_count() or 1

    async def seal(
        self,
        namespace: int,
        row: NamespaceRow,
        sources: Sequence[Table],
        *,
        small: int,
        replaces: frozenset[int],
    ) -> Sealed:
        """Make one segment of what lives in some tables; none where that is few.

        Raises:
            BuildFailedError, FileRefusedError, OSError, ServiceError: nothing has changed.
        """
        number = secrets.randbits(63)
        chosen = [kept_rows(table) for table in sources]
        living = sum(table.alive_count for table in sources)
        if living <= small or Metric(row.metric) is Metric.MANHATTAN:
            rows = await self._in_pool(_taken, sources, chosen)
            await self._register(namespace, replaces, None)
            return Sealed(number, None, rows)
        target = self.folder / f"{namespace:016x}-{number:016x}.seg"
        source = target.with_suffix(".rows")
        try:
            await self._in_pool(_write_rows, source, sources, chosen)
            digest = await self._builder.build(self._job(namespace, row, source, target))
            segment: Segment = await self._in_pool(_open, target, digest, namespace, row.dimension)
            await self._register(namespace, replaces, (number, SegmentRow(target.name, digest)))
        except BaseException:
            self.forget(target)
            raise
        finally:
            self.forget(source)
        return Sealed(number, segment, None)

    async def prepare(self) -> None:
        """Have the builder ready, while rows are still coming."""
        await self._builder.prepare()

    def forget(self, path: Path) -> None:
        """Remove a file that nothing registers any more; searches that use it go on."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the file %s cannot be removed: %s", path.name, error.strerror)

    def size_bytes(self) -> int:
        """Bytes of all files."""
        if not self.folder.is_dir():
            return 0
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def clean(self) -> None:
        """Remove files that nothing registers: of builds that were cut off, and older releases'."""
        if not self.folder.is_dir():
            return
        with self._store.read() as view:
            known = {
                layout.unpack_segment(value).file for _, value in view.scan(layout.SEGMENTS, b"")
            }
        for path in self.folder.iterdir():
            if path.name not in known:
                self.forget(path)

    def clean_namespace(self, namespace: int) -> None:
        """Remove the files of a namespace that is gone."""
        for path in self.folder.glob(f"{namespace:016x}-*"):
            self.forget(path)

    async def close(self) -> None:
        """Stop building."""
        await self._builder.close()

    def _job(self, namespace: int, row: NamespaceRow, source: Path, target: Path) -> Job:
        m, ef_construction, _, quantization = row.hnsw
        return Job(
            source=str(source),
            target=str(target),
            namespace=namespace,
            dimension=row.dimension,
            metric=Metric(row.metric),
            m=m,
            ef_construction=ef_construction,
            quantization=Quantization(quantization),
            threads=self.threads,
        )

    async def _register(
        self, namespace: int, replaces: frozenset[int], new: tuple[int, SegmentRow] | None
    ) -> None:
        def operation(txn: Txn) -> bool:
            if not txn.has(layout.NAMESPACES, layout.namespace_key(namespace)):
                return False
            for number in replaces:
                txn.delete(layout.SEGMENTS, layout.segment_key(namespace, number))
            if new is not None:
                key = layout.segment_key(namespace, new[0])
                txn.put(layout.SEGMENTS, key, layout.pack(new[1]))
            return True

        if not await self._store.write(operation):
            raise BuildFailedError("its collection is gone")

    async def _in_pool(self, work: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work, *arguments)


def _write_rows(path: Path, sources: Sequence[Table], chosen: Sequence[Int64s]) -> None:
    taken = list(zip(sources, chosen, strict=True))
    arrays = {
        "labels": np.concatenate([table.labels[rows] for table, rows in taken]),
        "ingest": np.concatenate([table.ingest_times_ns[rows] for table, rows in taken]),
        "high": np.concatenate([table.vectors.coarse(rows) for table, rows in taken]),
        "low": np.concatenate([table.vectors.low[rows] for table, rows in taken]),
    }
    event = _joined([table.event_times_ns for table in sources], chosen, NO_TIME)
    expire = _joined([table.expire_times_ns for table in sources], chosen, NEVER)
    arrays |= {} if event is None else {"event": event}
    arrays |= {} if expire is None else {"expire": expire}
    for name in ("members", "squares"):
        columns = [getattr(table, name) for table in sources]
        if all(column is not None for column in columns):
            picked = [column[rows] for column, rows in zip(columns, chosen, strict=True)]
            arrays[name] = np.concatenate(picked)
    ids = [table.record_ids[row] for table, rows in taken for row in rows.tolist()]
    arrays["ids"], arrays["id_ends"] = pack_ids(ids)
    reach = Reach()
    for table in sources:
        reach = reach.joined(table.reach)
    revision = max(table.revision for table in sources)
    head = Rows(length=reach.length, residue=reach.residue, revision=revision)
    container.write(path, head, arrays, lasting=False)


def _joined(
    columns: Sequence[Int64s | None], chosen: Sequence[Int64s], absent: int
) -> Int64s | None:
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [
            np.full(len(rows), absent) if column is None else column[rows]
            for column, rows in zip(columns, chosen, strict=True)
        ]
    )


def _open(path: Path, digest: str, namespace: int, dimension: int) -> Segment:
    return open_segment(path, digest, namespace=namespace, dimension=dimension)


def _taken(sources: Sequence[Table], chosen: Sequence[Int64s]) -> Arrivals:
    """The rows of all, in the order of their labels."""
    taken = list(zip(sources, chosen, strict=True))
    labels = np.concatenate([table.labels[rows] for table, rows in taken])
    order = np.argsort(labels, kind="stable")
    event = _joined([table.event_times_ns for table in sources], chosen, NO_TIME)
    expire = _joined([table.expire_times_ns for table in sources], chosen, NEVER)
    members = _joined([table.members for table in sources], chosen, 0)
    ids = [table.record_ids[row] for table, rows in taken for row in rows.tolist()]
    return Arrivals(
        labels=labels[order],
        record_ids=[ids[place] for place in order.tolist()],
        vectors=np.concatenate([table.vectors.exact(rows) for table, rows in taken])[order],
        ingest_times_ns=np.concatenate([table.ingest_times_ns[rows] for table, rows in taken])[
            order
        ],
        event_times_ns=np.full(len(order), NO_TIME) if event is None else event[order],
        expire_times_ns=np.full(len(order), NEVER) if expire is None else expire[order],
        members=np.zeros(len(order), np.int64) if members is None else members[order],
        revision=max((table.revision for table in sources), default=0),
    )

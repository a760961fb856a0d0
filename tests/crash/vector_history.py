"""Writes to the vector engine that can be told afterwards, and what a power cut must leave of them.

Each of several writers does one operation after another, each determined by seed, writer and
number, and prints `WRITER NUMBER REVISION` once it is acknowledged. A writer has one operation in
flight at most. So after a power cut its collection holds what its first n operations leave, where n
is what was acknowledged, or one more; anything else is a loss, a half batch, or a write never sent.

`python -m tests.crash.vector_history FOLDER SEED [nosync]` writes.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.common.clock import FakeClock
from services.common.store import View
from services.vector.engines import layout, postings
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import (
    CollectionSettings,
    Exactness,
    Mask,
    Metric,
    NewRecord,
    Query,
    Record,
)

WRITERS = 8
OPERATIONS = 50
DIMENSION = 24
THRESHOLD = 20
"""So low that graphs are built while the records are written."""
LONG_NS = 10**18
WINDOW_NS = 10**15

Contents = dict[str, tuple[bytes, str]]
Histories = Sequence[Sequence[Contents]]


@dataclass(frozen=True)
class Operation:
    """An upsert, with documents that it replaces, or a removal."""

    records: list[NewRecord]
    replaces: list[str]
    deletes: list[str]


def place_of(writer: int) -> tuple[str, str, str]:
    """Two tenants share the store."""
    return ("acme", "acme2")[writer % 2], "global", f"w{writer}"


def operation(seed: int, writer: int, number: int) -> Operation:
    """One operation."""
    rng = random.Random(f"{seed} {writer} {number}")
    document = f"d{rng.randrange(5)}#"
    if rng.random() < 0.2:
        return Operation([], [], [f"{document}{n}" for n in range(rng.randint(1, 4))])
    records = [_record(rng, f"{document}{n}") for n in range(rng.randint(1, 8))]
    return Operation(records, [document] if rng.random() < 0.5 else [], [])


def _record(rng: random.Random, record_id: str) -> NewRecord:
    return NewRecord(
        record_id=record_id,
        vector=np.array([rng.uniform(-1, 1) for _ in range(DIMENSION)], np.float32),
        metadata={"n": rng.randrange(10)},
        text="x" * rng.choice((0, 50, 3000, 20_000)),
        ttl_ns=LONG_NS if rng.random() < 0.3 else None,
    )


def history(seed: int, writer: int) -> list[Contents]:
    """What a writer's collection holds after 0, 1, 2, … operations."""
    states: list[Contents] = [{}]
    for number in range(OPERATIONS):
        done = operation(seed, writer, number)
        gone = tuple(done.replaces)
        kept = states[-1].items()
        contents = {k: v for k, v in kept if k not in done.deletes and not k.startswith(gone)}
        for record in done.records:
            contents[record.record_id] = (record.vector.tobytes(), record.text)
        states.append(contents)
    return states


def engine(
    folder: Path, clock: FakeClock, *, sync: bool = True, threshold: int = THRESHOLD
) -> EmbeddedVectorStorage:
    """The real engine, with graphs early."""
    store = open_store(folder, on_fatal=sys.exit, sync=sync)
    return EmbeddedVectorStorage(store, clock, exact_threshold=threshold)


async def write_all(folder: Path, seed: int, *, sync: bool) -> None:
    """All writers at once, beside one whose records expire and whose collections are dropped."""
    clock = FakeClock()
    storage = engine(folder, clock, sync=sync)
    for writer in range(WRITERS):
        await storage.create_collection(
            *place_of(writer),
            dimension=DIMENSION,
            metric=Metric.COSINE,
            settings=CollectionSettings(history_window_ns=WINDOW_NS if writer % 4 == 3 else 0),
        )
    os.write(1, b"seed %d\n" % seed)
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(write_one(storage, seed, writer))
        tasks.create_task(expire(storage, clock))
    await storage.close()


async def write_one(storage: EmbeddedVectorStorage, seed: int, writer: int) -> None:
    """One writer's operations, each acknowledged."""
    place = place_of(writer)
    for number in range(OPERATIONS):
        asked = operation(seed, writer, number)
        if asked.records:
            written = await storage.upsert(*place, asked.records, replace_prefixes=asked.replaces)
            revision = written.revision
        else:
            revision = (await storage.delete(*place, asked.deletes)).revision
        os.write(1, b"%d %d %d\n" % (writer, number, revision))


async def expire(storage: EmbeddedVectorStorage, clock: FakeClock) -> None:
    """Records that end and are swept, and now and then a whole tenant that is purged."""
    place = ("sweeps", "global", "c")
    for number in range(OPERATIONS):
        if number % 10 == 0:
            await storage.create_collection(*place, dimension=1, metric=Metric.DOT)
        vector = np.array([number], np.float32)
        records = [NewRecord(record_id=f"{number}", vector=vector, ttl_ns=5 * 10**9)]
        await storage.upsert(*place, records)
        clock.advance(1)
        await storage.sweep(2)
        if number % 10 == 9:
            await storage.purge("sweeps")


def checker(acknowledged: Sequence[str]) -> Callable[[Path, Sequence[str]], None]:
    """What raises unless a folder holds all that was acknowledged, and nothing by halves."""
    seed = int(acknowledged[0].removeprefix("seed "))
    histories = [history(seed, writer) for writer in range(WRITERS)]
    return lambda folder, lines: asyncio.run(_check(folder, lines, histories))


async def _check(folder: Path, lines: Sequence[str], histories: Histories) -> None:
    # Segments that the store registers are gone with the power; no new ones are waited for here.
    storage = engine(folder, FakeClock(), threshold=10_000)
    with storage._core.store.read() as view:
        check_store(view)
    if lines:
        acknowledged = [tuple(map(int, line.split())) for line in lines[1:]]
        await _check_acknowledged(storage, acknowledged, histories)
        before = (await storage.stats("acme", None)).revision
        vector = np.ones(DIMENSION, np.float32)
        one_more = [NewRecord(record_id="one more", vector=vector)]
        assert (await storage.upsert(*place_of(0), one_more)).revision == before + 1
    await storage.close()


async def _check_acknowledged(
    storage: EmbeddedVectorStorage, lines: Sequence[tuple[int, ...]], histories: Histories
) -> None:
    stats = await storage.stats("acme", None)
    assert stats.revision >= max((revision for *_, revision in lines), default=0)
    for writer, states in enumerate(histories):
        done = sum(line[0] == writer for line in lines)
        records = await _records(storage, writer)
        contents = {record.record_id: _content(record) for record in records}
        assert contents in states[done : done + 2], f"writer {writer}: {done} were acknowledged"
        await _check_search(storage, writer, records)


def _content(record: Record) -> tuple[bytes, str]:
    assert record.vector is not None
    return record.vector.tobytes(), record.text


async def _check_search(
    storage: EmbeddedVectorStorage, writer: int, records: Sequence[Record]
) -> None:
    """Index and truth agree: each record is found by its own vector, and nothing else is."""
    for exactness in (Exactness.EXACT, Exactness.APPROXIMATE):
        vectors = [record.vector for record in records if record.vector is not None]
        query = Query(vectors=vectors, limit=1, exactness=exactness, mask=Mask(text=False))
        results = await storage.search(*place_of(writer), query)
        found = [result.hits[0].record.record_id for result in results]
        missed = [
            (record.record_id, other, result.path)
            for record, other, result in zip(records, found, results, strict=True)
            if record.record_id != other
        ]
        assert not missed, (exactness, len(records), missed)


async def _records(storage: EmbeddedVectorStorage, writer: int) -> list[Record]:
    page = await storage.list_records(*place_of(writer), limit=1000, mask=Mask(vector=True))
    assert page.cursor is None
    return page.records


def check_store(view: View) -> None:
    """What holds in every state of the store, whoever wrote it; every checksum is read."""
    rows = {key: layout.unpack_row(value) for key, value in view.scan(layout.COLLECTIONS, b"")}
    members = {layout.member_key(row.namespace, row.member): key for key, row in rows.items()}
    assert dict(view.scan(layout.MEMBERS, b"")) == members
    doomed = set(view.keys(layout.DOOMED, b""))
    counts: dict[bytes, list[int]] = {member: [0, 0, 0, 0] for member in members}
    living = _check_living(view, counts, doomed)
    ended = _check_history(view, counts)
    assert not living & ended
    assert {key for key, _ in view.scan(layout.VECTORS, b"")} == living | ended
    assert set(view.keys(layout.PAYLOADS, b"")) == living | ended
    for member, found in counts.items():
        row = rows[members[member]]
        told = (row.record_count, row.stored_bytes, row.history_count, row.history_bytes)
        assert told == tuple(found), row
    for namespace in {layout.read_namespace(key) for key in (*members, *doomed)}:
        posted = postings.to_array(postings.living(view, namespace)).tolist()
        there = sorted(
            layout.read_label(key) for key in living if layout.read_namespace(key) == namespace
        )
        assert posted == there or layout.member_key(namespace, layout.OWN) in doomed


def _check_living(view: View, counts: dict[bytes, list[int]], doomed: set[bytes]) -> set[bytes]:
    labels, expiring = set(), set()
    for key, value in view.scan(layout.IDS, b""):
        entry, member = layout.unpack_entry(value), key[:16]
        namespace = layout.read_namespace(key)
        place = layout.label_key(namespace, entry.label)
        payload = layout.unpack_payload(view.get(layout.PAYLOADS, place) or b"")
        assert payload.record_id == layout.read_record_id(key)
        assert (payload.revision, payload.expire_time_ns) == (entry.revision, entry.expire_time_ns)
        labels.add(place)
        if entry.expire_time_ns != layout.NEVER:
            expiring.add(layout.due_key(entry.expire_time_ns, namespace, entry.label))
        if member in counts:
            counts[member][0] += 1
            counts[member][1] += entry.size_bytes
        else:
            assert member in doomed
    assert set(view.keys(layout.EXPIRY, b"")) == expiring
    return labels


def _check_history(view: View, counts: dict[bytes, list[int]]) -> set[bytes]:
    labels, due = set(), set()
    for key, value in view.scan(layout.ENDS, b""):
        end = layout.unpack_end(value)
        payload = layout.unpack_payload(view.get(layout.PAYLOADS, key) or b"")
        member = layout.member_key(layout.read_namespace(key), payload.member)
        labels.add(key)
        due.add(layout.due_key(end.due_ns, *layout.read_pair(key)))
        if member in counts:
            counts[member][2] += 1
            counts[member][3] += end.size_bytes
    assert set(view.keys(layout.HISTORY, b"")) == due
    return labels


if __name__ == "__main__":
    asyncio.run(write_all(Path(sys.argv[1]), int(sys.argv[2]), sync="nosync" not in sys.argv[3:]))

"""A story of the vector engine for tests/crash/faults.py: records, graphs, copies, compaction.

Two tenants take the same steps in turn. One shares a store with others and outgrows the rows that
it shares; one has a store of its own, which is opened at its first call.
"""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.common import store
from services.common.clock import FakeClock
from services.vector.engines import layout, namespace, open_engine
from services.vector.engines.embedded import EmbeddedVectorStorage
from services.vector.engines.isolated import IsolatedVectorStorage
from services.vector.model import (
    Exactness,
    Isolation,
    Mask,
    MetadataChange,
    Metric,
    NewRecord,
    Query,
)
from tests.crash.faults import Ledger, told
from tests.crash.vector_history import check_store

TENANTS = ("acme", "globex")
ISOLATIONS = dict(zip(TENANTS, (Isolation.HYBRID, Isolation.DATABASE), strict=True))
DIMENSION, THRESHOLD = 8, 20
"""So low that graphs are built of a few dozen records."""
SHORT_NS = 5 * 10**9
TEXT = "x" * 1500

Contents = dict[str, tuple[int, int]]
"""For each record which of its vectors it has, and its label."""


@dataclass(frozen=True)
class Kept:
    """What a tenant has."""

    records: Contents = field(default_factory=dict)
    copied: Contents | None = None

    def put(self, ids: Sequence[str], version: int) -> Kept:
        """With records written."""
        return replace(self, records=self.records | dict.fromkeys(ids, (version, 0)))

    def without(self, ids: Sequence[str]) -> Kept:
        """With records removed."""
        return replace(self, records={k: v for k, v in self.records.items() if k not in ids})

    def labelled(self, ids: Sequence[str]) -> Kept:
        """With another label on records."""
        changed = {k: (self.records[k][0], 1) for k in ids if k in self.records}
        return replace(self, records=self.records | changed)

    def visible(self, *, ended: bool) -> Contents:
        """What can be found of it."""
        return {k: v for k, v in self.records.items() if not (ended and k.startswith("short"))}


Act = Callable[[IsolatedVectorStorage, str], Awaitable[Any]]


@dataclass(frozen=True)
class Step:
    """A change, and what a tenant has after it."""

    act: Act
    leaves: Callable[[Kept], Kept] = lambda kept: kept


def place(tenant: str) -> tuple[str, str, str]:
    """The tenant's collection."""
    return tenant, "global", "c"


def vector_of(tenant: str, record_id: str, version: int) -> np.ndarray:
    """Another one for each tenant, record and version."""
    seed = [TENANTS.index(tenant), version, *record_id.encode()]
    return np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)


def ids(first: int, last: int) -> list[str]:
    """Ids by number."""
    return [f"{n}" for n in range(first, last)]


def put(record_ids: Sequence[str], version: int, ttl_ns: int | None = None) -> Step:
    """Write records."""

    async def act(storage: IsolatedVectorStorage, tenant: str) -> None:
        records = [
            NewRecord(
                record_id=record_id,
                vector=vector_of(tenant, record_id, version),
                metadata={"label": 0},
                text=TEXT,
                ttl_ns=ttl_ns,
            )
            for record_id in record_ids
        ]
        await storage.upsert(*place(tenant), records)

    return Step(act, lambda kept: kept.put(record_ids, version))


def remove(record_ids: Sequence[str]) -> Step:
    """Remove records."""
    return Step(
        lambda storage, tenant: storage.delete(*place(tenant), record_ids),
        lambda kept: kept.without(record_ids),
    )


def label(record_ids: Sequence[str]) -> Step:
    """Change metadata."""
    change = MetadataChange(set={"label": 1})
    return Step(
        lambda storage, tenant: storage.update_metadata(
            *place(tenant), change, record_ids=record_ids
        ),
        lambda kept: kept.labelled(record_ids),
    )


async def create(storage: IsolatedVectorStorage, tenant: str) -> None:
    """Make the collection."""
    await storage.create_collection(*place(tenant), dimension=DIMENSION, metric=Metric.COSINE)


async def put_back(storage: IsolatedVectorStorage, tenant: str) -> None:
    """Restore the newest copy, if there is one."""
    for each in (await storage.list_snapshots(tenant, None))[:1]:
        await storage.restore_snapshot(tenant, each.snapshot_id)


SEAL = Step(lambda storage, tenant: storage.checkpoint(*place(tenant)))
COPY = Step(
    lambda storage, tenant: storage.create_snapshot(*place(tenant)),
    lambda kept: replace(kept, copied=kept.records),
)
PUT_BACK = Step(
    put_back,
    lambda kept: kept if kept.copied is None else replace(kept, records=kept.copied),
)
STEPS = [
    Step(lambda storage, tenant: storage.configure_tenant(tenant, ISOLATIONS[tenant])),
    Step(create),
    put(ids(0, 12), 0),
    put(ids(10, 40), 1),
    SEAL,
    label(ids(5, 15)),
    COPY,
    put(["short1", "short2"], 0, SHORT_NS),
    remove(ids(0, 25)),
    SEAL,
    PUT_BACK,
    put(ids(38, 45), 2),
]


def opened(folder: Path, clock: FakeClock) -> IsolatedVectorStorage:
    """The engine as the service opens it, impatient, and tidy from a small file on."""
    namespace.SETTLE_S, store.COMPACT_BYTES_MIN = 0.01, 64 * 1024
    subprocess._USE_VFORK = False  # type: ignore[attr-defined]  # fork can be seen to, vfork not
    storage = open_engine("embedded", folder, clock=clock, exact_threshold=THRESHOLD).storage
    assert isinstance(storage, IsolatedVectorStorage)
    return storage


def kept_after(numbers: Sequence[int], tenant: str) -> Kept:
    """What a tenant has after some of the steps."""
    kept, mine = Kept(), TENANTS.index(tenant)
    for number in numbers:
        step, whose = divmod(number, len(TENANTS))
        if whose == mine and step < len(STEPS):
            kept = STEPS[step].leaves(kept)
    return kept


async def tell(folder: Path, ledger: Ledger) -> None:
    """All steps as two tenants in turn; what ended is swept; a restart."""
    clock = FakeClock()
    storage = opened(folder, clock)
    answered: list[int] = []
    for number in range(len(STEPS) * len(TENANTS)):
        step, whose = divmod(number, len(TENANTS))
        if await ledger.ask(number, STEPS[step].act(storage, TENANTS[whose])):
            answered.append(number)
        await compare(storage, answered, ended=False)
    clock.advance(10)
    await compare(storage, answered, ended=True)
    await ledger.ask(len(STEPS) * len(TENANTS), storage.sweep())
    await storage.close()
    storage = opened(folder, clock)
    await compare(storage, answered, ended=True)
    await storage.close()


async def compare(storage: IsolatedVectorStorage, answered: Sequence[int], *, ended: bool) -> None:
    """Each tenant has what it was told it has and nothing else, and finds all of it."""
    for tenant in TENANTS:
        expected = kept_after(answered, tenant).visible(ended=ended)
        found = await held(storage, tenant)
        assert found == expected, (tenant, answered, found.items() ^ expected.items())
        await find_all(storage, tenant, expected)


async def held(storage: IsolatedVectorStorage, tenant: str) -> Contents:
    """What a tenant lists; a vector that is none of the record's own fails."""
    if not (await storage.list_collections(tenant, None, limit=10)).collections:
        return {}
    page = await storage.list_records(*place(tenant), limit=1000, mask=Mask(vector=True))
    contents = {}
    for record in page.records:
        own = [vector_of(tenant, record.record_id, version) for version in range(3)]
        fits = [np.array_equal(record.vector, vector) for vector in own]
        contents[record.record_id] = (fits.index(True), int(record.metadata["label"]))
    return contents


async def find_all(storage: IsolatedVectorStorage, tenant: str, expected: Contents) -> None:
    """Each record is the nearest to its own vector on every path, and no other is found."""
    if not expected:
        return
    vectors = [vector_of(tenant, each, version) for each, (version, _) in expected.items()]
    for exactness in (Exactness.EXACT, Exactness.APPROXIMATE):
        query = Query(vectors=vectors, limit=len(expected) + 5, exactness=exactness)
        results = await storage.search(*place(tenant), query)
        for record_id, result in zip(expected, results, strict=True):
            found = [hit.record.record_id for hit in result.hits]
            assert found[0] == record_id, (exactness, record_id, found[:3])
            assert set(found) <= set(expected), exactness
            assert len(found) == len(expected), exactness


async def check(folder: Path, lines: Sequence[str]) -> None:
    """All that was answered is there; what was asked for last is, or nothing of it; it heals."""
    clock = FakeClock()
    clock.advance(100)
    answered, unknown = told(lines)
    storage = opened(folder, clock)
    maybe = [answered, answered if unknown is None else [*answered, unknown]]
    for tenant in TENANTS:
        found = await held(storage, tenant)
        assert found in [kept_after(each, tenant).visible(ended=True) for each in maybe], tenant
        await find_all(storage, tenant, found)
        await heal(storage, tenant, found)
    for each in (storage._shared, *storage._own.values()):
        check_tidy(each)
    await storage.close()


async def heal(storage: IsolatedVectorStorage, tenant: str, found: Contents) -> None:
    """One more write, graphs over all, and everything is found by them too."""
    if not (await storage.list_collections(tenant, None, limit=10)).collections:
        return
    await put(["one more"], 0).act(storage, tenant)
    while await storage.sweep():
        pass
    done = await storage.checkpoint(*place(tenant))
    assert done.record_count == len(found) + 1
    assert done.record_count - done.indexed_count <= THRESHOLD, done
    await find_all(storage, tenant, found | {"one more": (0, 0)})


def check_tidy(storage: EmbeddedVectorStorage) -> None:
    """Nothing is left of what was cut off: no half collection, no copy that nobody can name."""
    opened_store = storage._core.store
    with opened_store.read() as view:
        check_store(view)
        places = [layout.split_place(key) for key in view.keys(layout.COLLECTIONS, b"")]
    assert set(places) <= {place(tenant) for tenant in TENANTS}
    copies = {each.snapshot_id for t in TENANTS for each in storage._snapshots.list(t, None)}
    files = {path.name.partition(".")[0] for path in opened_store.path.glob("snapshots/*")}
    assert files == copies

"""The embedded engine against the oracle, through any sequence of calls, restarts among them."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.clock import FakeClock
from services.common.errors import ServiceError
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    CollectionChanges,
    Condition,
    Equals,
    Exactness,
    Except,
    Exists,
    In,
    IsEmpty,
    Isolation,
    Mask,
    MetadataChange,
    Metric,
    Moment,
    Nested,
    NewRecord,
    Not,
    Prefix,
    Query,
    Range,
    SnapshotInfo,
    Span,
)

DIMENSION = 3
THRESHOLD = 8
SECOND = 10**9
TENANTS = ("acme", "acme2")
SCOPES = ("global", "user:a")

MAIN = ("acme", "global", "c")

anywhere = st.tuples(
    st.sampled_from(TENANTS), st.sampled_from(SCOPES), st.sampled_from(["c", "cc"])
)
# Mostly one collection, so that it grows and is searched; the others stand around it.
places = st.integers(0, 9).flatmap(lambda n: st.just(MAIN) if n else anywhere)
# Small whole numbers: products are exact in float32, so ties are ties for both engines.
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSION, max_size=DIMENSION).filter(any)
record_ids = st.sampled_from([f"{doc}#{n}" for doc in ("a", "b", "ab") for n in range(12)])
scalars = st.sampled_from([0, 1, 1.0, 2, True, False, "x", "xy", "", None, b"x", "1970-01-01"])
maps = st.dictionaries(st.sampled_from(["d", "e"]), scalars)
metadata = st.dictionaries(
    st.sampled_from(["n", "t"]),
    scalars | st.lists(scalars | maps, max_size=2) | maps,
    max_size=2,
)
records = st.builds(
    lambda record_id, vector, metadata, ttl, event: NewRecord(
        record_id=record_id,
        vector=np.array(vector, np.float32),
        metadata=metadata,
        text=f"text of {record_id}",
        ttl_ns=ttl,
        event_time_ns=event,
    ),
    record_ids,
    vectors,
    metadata,
    st.none() | st.none() | st.integers(1, 5).map(lambda seconds: seconds * SECOND),
    st.none() | st.integers(-2, 5),
)
tests = (
    scalars.filter(lambda value: value is not None).map(Equals)
    | st.lists(scalars.filter(lambda value: value is not None), max_size=3).map(tuple).map(In)
    | st.builds(Range, gte=st.sampled_from([0, 1, 1.5]), lt=st.sampled_from([1, 2, None]))
    | st.builds(Range, gt=st.sampled_from(["w", "x"]))
    | st.booleans().map(Exists)
    | st.booleans().map(IsEmpty)
    | st.sampled_from(["x", "xy", "1970"]).map(Prefix)
    | st.lists(scalars.filter(lambda value: value is not None), max_size=2).map(tuple).map(Except)
    | st.sampled_from([0, SECOND]).map(lambda bound: Moment(gte_ns=bound))
    | st.sampled_from([SECOND, 2 * SECOND]).map(lambda bound: Moment(lt_ns=bound))
)
filters = st.recursive(
    st.builds(Condition, st.sampled_from(["n", "t", "n.d", "n[].d", "t[]", "none"]), tests)
    | st.builds(
        Nested,
        st.sampled_from(["n", "t"]),
        st.builds(Condition, st.sampled_from(["d", "e"]), tests)
        | st.builds(Condition, st.just("d"), tests).map(Not),
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(tuple).map(All)
        | st.lists(inner, max_size=2).map(tuple).map(AnyOf)
        | inner.map(Not)
        | st.lists(inner, min_size=1, max_size=3).flatmap(
            lambda parts: st.integers(1, len(parts)).map(lambda n: AtLeast(n, tuple(parts)))
        )
    ),
    max_leaves=4,
)
event_spans = st.sampled_from([None, None, Span(start_ns=0), Span(end_ns=3), Span(end_ns=-1)])
changes = st.builds(
    MetadataChange,
    set=st.dictionaries(st.sampled_from(["n", "t", "u"]), scalars, max_size=2),
    remove=st.sampled_from([(), (), ("v",)]),
    replace=st.booleans(),
).filter(lambda change: change.set or change.remove or change.replace)
row_filters = st.none() | st.none() | filters
lifetimes = st.sampled_from([None, 0, SECOND, 3 * SECOND])


COUNTS = ("collection_count", "record_count", "stored_bytes", "history_count", "history_bytes")


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


class Engines(RuleBasedStateMachine):
    """Does the same to both and compares what they say."""

    isolation = Isolation.NAMESPACE

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.snapshots = []
        self.counts_apart = self.isolation is Isolation.HYBRID  # to move rows takes a revision

    @initialize(metric=st.sampled_from(Metric))
    def open(self, metric):
        """Start with one collection of each tenant."""
        self.metric = metric
        self.oracle = self.run(self.make_oracle())
        self.engine = self.run(self.make_engine())
        for tenant in TENANTS:
            self.both("configure_tenant", tenant, self.isolation)
            self.both(
                "create_collection", tenant, "global", "c", dimension=DIMENSION, metric=metric
            )

    async def make_oracle(self):
        """The dictionary."""
        return MemoryVectorStorage(self.clock)

    async def make_engine(self):
        """The engine over the folder."""
        store = open_store(self.folder, on_fatal=fatal, sync=False)
        return EmbeddedVectorStorage(store, self.clock, exact_threshold=THRESHOLD)

    def run(self, work):
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def both(self, method, *args, **kwargs):
        """The same answer, or the same error, from both."""
        told = []
        for storage in (self.oracle, self.engine):
            try:
                told.append(self.run(getattr(storage, method)(*args, **kwargs)))
            except ServiceError as error:
                told.append((error.reason, error.message, error.metadata))
        assert self.plain(told[0]) == self.plain(told[1]), method
        return told[0]

    def plain(self, told):
        """What can be compared: a restore takes more than one revision where it has to."""
        if not self.counts_apart:
            return repr(told)
        if isinstance(told, tuple) and len(told) == 2:
            told = told[0]
        return re.sub(r"revision=\d+", "", repr(told))

    @rule(place=anywhere)
    def create(self, place):
        """Make a collection, or be refused."""
        self.both("create_collection", *place, dimension=DIMENSION, metric=self.metric)

    @rule(place=anywhere, whole_scope=st.booleans(), rarely=st.integers(0, 5))
    def drop(self, place, whole_scope, rarely):
        """Remove a collection or a scope, and make the main one again."""
        if rarely:
            return
        if whole_scope:
            self.both("delete_scope", *place[:2])
        else:
            self.both("delete_collection", *place)
        self.both("create_collection", *MAIN, dimension=DIMENSION, metric=self.metric)

    @rule(
        place=places,
        batch=st.lists(records, max_size=30),
        prefixes=st.sets(record_ids.map(lambda name: name.split("#")[0] + "#"), max_size=1),
    )
    def upsert(self, place, batch, prefixes):
        """Write."""
        self.both("upsert", *place, batch, replace_prefixes=sorted(prefixes))

    @rule(batch=st.lists(records, min_size=15, max_size=40))
    def upsert_many(self, batch):
        """Write enough that there is a graph."""
        self.both("upsert", *MAIN, batch)

    @rule(place=places, names=st.lists(record_ids, max_size=5), row_filter=row_filters)
    def delete(self, place, names, row_filter):
        """Remove by id."""
        self.both("delete", *place, names, row_filter=row_filter)

    @rule(place=places, where=filters, row_filter=row_filters)
    def delete_matches(self, place, where, row_filter):
        """Remove by filter."""
        self.both("delete", *place, where=where, row_filter=row_filter)

    @rule(
        place=places,
        change=changes,
        names=st.lists(record_ids, max_size=5),
        where=st.none() | filters,
        row_filter=row_filters,
    )
    def update_metadata(self, place, *, change, names, where, row_filter):
        """Change metadata by id or by filter; which refusal comes first is not promised."""
        told = []
        for storage in (self.oracle, self.engine):
            work = storage.update_metadata(
                *place, change, record_ids=names, where=where, row_filter=row_filter
            )
            try:
                told.append(self.run(work))
            except ServiceError as error:
                told.append(error.reason)
        assert self.plain(told[0]) == self.plain(told[1])

    @rule(
        place=places,
        default_ttl_ns=lifetimes,
        history_window_ns=st.sampled_from([None, None, 0, 3 * SECOND, 6 * SECOND]),
        ttl_ns=st.sampled_from([None, None, None, 0, 4 * SECOND]),
    )
    def update_collection(self, place, default_ttl_ns, history_window_ns, ttl_ns):
        """Change settings, the collection's own end among them."""
        changed = CollectionChanges(
            default_ttl_ns=default_ttl_ns, history_window_ns=history_window_ns, ttl_ns=ttl_ns
        )
        told = []
        for storage in (self.oracle, self.engine):
            try:
                made, revision = self.run(storage.update_collection(*place, changed))
                told.append((replace(made, indexed_count=0), revision))
            except ServiceError as error:
                told.append((error.reason, error.metadata))
        assert self.plain(told[0]) == self.plain(told[1])

    @rule(
        tenant=st.sampled_from(TENANTS),
        scope=st.sampled_from(SCOPES),
        record_ttl_ns=lifetimes,
        ttl_ns=st.sampled_from([None, None, None, 0, 5 * SECOND]),
    )
    def configure_scope(self, tenant, scope, record_ttl_ns, ttl_ns):
        """Change a scope's settings, its end among them."""
        self.both("configure_scope", tenant, scope, record_ttl_ns=record_ttl_ns, ttl_ns=ttl_ns)

    @rule(place=places)
    def snapshot(self, place):
        """Keep a copy; each engine names its own."""
        told = []
        for storage in (self.oracle, self.engine):
            try:
                told.append(self.run(storage.create_snapshot(*place)))
            except ServiceError as error:
                told.append(error.reason)
        ours, theirs = told
        if not isinstance(ours, SnapshotInfo):
            assert ours == theirs
            return
        assert (ours.record_count, ours.create_time_ns) == (
            theirs.record_count,
            theirs.create_time_ns,
        )
        self.snapshots.append((place[0], ours.snapshot_id, theirs.snapshot_id))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data(), onto=anywhere)
    def restore(self, data, onto):
        """Put a copy back, there or elsewhere in its tenant; nobody else can."""
        tenant, ours, theirs = data.draw(st.sampled_from(self.snapshots))
        self.counts_apart = True
        told = []
        for storage, snapshot_id in ((self.oracle, ours), (self.engine, theirs)):
            work = storage.restore_snapshot(
                tenant, snapshot_id, scope=onto[1], collection_id=onto[2]
            )
            told.append(self.run(work)[0])
            with pytest.raises(ServiceError):
                self.run(storage.restore_snapshot(tenant + "x", snapshot_id))
        assert told[0] == told[1]

    @rule(place=places, batch=st.lists(records, max_size=8), stale=st.booleans())
    def swap_shadow(self, place, batch, stale):
        """Fill a shadow and exchange it, or be refused where records have changed since."""
        shadow = (*place[:2], "~" + place[2])
        self.both("create_collection", *shadow, dimension=DIMENSION, metric=self.metric)
        self.both("upsert", *shadow, batch)
        told = []
        for storage in (self.oracle, self.engine):
            try:
                seen = self.run(storage.records_revision(*place)) - stale
                told.append(self.run(storage.swap_shadow(*place, records_revision=seen)) > 0)
            except ServiceError as error:
                told.append(error.reason)
        assert told[0] == told[1]

    @rule(place=places, prefix=st.sampled_from(["a", "a#", "ab#1", "zz"]))
    def delete_prefix(self, place, prefix):
        """Remove by prefix."""
        self.both("delete_prefixes", *place, [prefix])

    @rule(seconds=st.floats(0.5, 3))
    def wait(self, seconds):
        """Let time pass."""
        self.clock.advance(seconds)

    @rule()
    def sweep(self):
        """Remove what is due; the engine also erases what nobody can see."""
        self.run(self.oracle.sweep(10_000))
        while self.run(self.engine.sweep(10_000)):
            pass

    @rule()
    def let_graphs_catch_up(self):
        """The graphs take in everything."""
        self.run(self.engine.settled())

    @rule(loss=st.sampled_from(["none", "none", "removed", "flipped"]))
    def restart(self, loss):
        """Close and open again; what happens to the graphs' files changes no answer."""
        self.run(self.engine.close())
        for file in (self.folder / "index").glob("*.hnsw"):
            if loss == "removed":
                file.unlink()
            if loss == "flipped":
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(content)
        self.engine = self.run(self.make_engine())

    @rule(
        place=places,
        asked=st.lists(vectors, min_size=1, max_size=2),
        where=st.none() | filters,
        limit=st.integers(1, 12),
        exactness=st.sampled_from(Exactness),
        include_expired=st.booleans(),
        event_time=event_spans,
        ago=st.sampled_from([None, None, None, -1, 0, 0.5, 1, 2, 4]),
    )
    def search(self, place, *, asked, where, limit, exactness, include_expired, event_time, ago):
        """As many hits as the oracle's, with its scores; the same hits where it was exact."""
        query = Query(
            vectors=[np.array(vector, np.float32) for vector in asked],
            filter=where,
            limit=limit,
            exactness=exactness,
            include_expired=include_expired,
            event_time=event_time,
            as_of_ns=None if ago is None else self.clock.now_ns() - int(ago * SECOND),
            mask=Mask(vector=True),
        )
        wide = replace(query, filter=None, event_time=None, limit=1000, include_expired=True)
        try:
            expected = self.run(self.oracle.search(*place, query))
            scores = self.run(self.oracle.search(*place, wide))
        except ServiceError as error:
            reason = error.reason
            with pytest.raises(ServiceError, check=lambda other: other.reason == reason):
                self.run(self.engine.search(*place, query))
            return
        found = self.run(self.engine.search(*place, query))
        for ours, theirs, known in zip(found, expected, scores, strict=True):
            self.compare(ours, theirs, {hit.record.record_id: hit for hit in known.hits})
            assert ours.exact or exactness is not Exactness.EXACT

    def compare(self, ours, theirs, known):
        """One vector's hits."""
        assert ours.revision == theirs.revision or self.counts_apart
        assert (ours.match_count, ours.complete) == (theirs.match_count, True)
        assert len(ours.hits) == len(theirs.hits)
        if ours.exact and self.metric is not Metric.COSINE:
            assert self.plain(ours.hits) == self.plain(theirs.hits)
        for hit, best in zip(ours.hits, theirs.hits, strict=True):
            same = known[hit.record.record_id]
            assert math.isclose(hit.score, same.score, rel_tol=1e-6, abs_tol=1e-6)
            assert math.isclose(hit.distance, same.distance, rel_tol=1e-6, abs_tol=1e-6)
            assert hit.record.metadata == same.record.metadata
            assert hit.score <= best.score + 1e-6
            if ours.exact:
                assert hit.score >= best.score - 1e-6
        order = [(-hit.score, hit.record.record_id) for hit in ours.hits]
        assert order == sorted(order)

    @rule(place=places, where=st.none() | filters, after=record_ids)
    def list_records(self, place, where, after):
        """Lists agree, from any place on; where their pages end is their own affair."""
        told = []
        for storage in (self.oracle, self.engine):
            try:
                told.append(self.run(self.all_records(storage, place, where, after)))
            except ServiceError as error:
                told.append(error.reason)
        assert self.plain(told[0]) == self.plain(told[1])

    async def all_records(self, storage, place, where, after):
        """Page after page."""
        found = []
        while after is not None:
            page = await storage.list_records(*place, limit=7, after=after, where=where)
            assert len(page.records) <= 7
            found += page.records
            after = page.cursor
        return found

    @rule(place=places, names=st.lists(record_ids, max_size=5))
    def get(self, place, names):
        """Records agree to the last part."""
        self.both("get", *place, names, mask=Mask(vector=True))

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def counts_agree(self):
        """Both count the same collections, records and bytes at the same revision."""
        for tenant in TENANTS:
            ours = self.run(self.engine.stats(tenant, None))
            theirs = self.run(self.oracle.stats(tenant, None))
            for name in COUNTS:
                assert getattr(ours, name) == getattr(theirs, name), (tenant, name)
            assert ours.revision == theirs.revision or self.counts_apart

    def teardown(self):
        """Leave nothing behind."""
        if hasattr(self, "engine"):
            self.run(self.engine.close())
        self.runner.close()
        shutil.rmtree(self.folder)


class OracleTwice(Engines):
    """The oracle beside itself: shows that the rules hold where nothing differs."""

    async def make_engine(self):
        """Another oracle; what it keeps outlives a restart."""
        return getattr(self, "engine", None) or Lasting(self.clock)


class Lasting(MemoryVectorStorage):
    """An oracle that stays when it is closed, and has no graphs to wait for."""

    async def close(self):
        """Nothing is let go of."""

    async def settled(self):
        """Nothing is built."""


class Database(Engines):
    """Tenants with a file of their own."""

    isolation = Isolation.DATABASE


class Metadata(Engines):
    """Tenants that share rows."""

    isolation = Isolation.METADATA


class Hybrid(Engines):
    """Tenants that share rows until they have grown."""

    isolation = Isolation.HYBRID


def machine(kind, claim, examples):
    """A machine's test."""
    case = kind.TestCase
    case.__doc__ = claim
    case.settings = settings(max_examples=examples, stateful_step_count=40)
    return case


TestOracleTwice = machine(OracleTwice, "The rules hold between two oracles.", 20)
TestEngines = machine(Engines, "The engine answers as the oracle does.", 25)
TestDatabase = machine(Database, "So it does with a file for each tenant.", 12)
TestMetadata = machine(Metadata, "So it does with shared rows.", 15)
TestHybrid = machine(Hybrid, "So it does with rows that are shared at first.", 15)

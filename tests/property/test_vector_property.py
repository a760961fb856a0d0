"""The embedded engine against the oracle, through any sequence of calls, restarts among them."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
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
    Condition,
    Equals,
    Exactness,
    Exists,
    In,
    Mask,
    Metric,
    NewRecord,
    Not,
    Query,
    Range,
)

DIMENSION = 3
THRESHOLD = 8
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
scalars = st.sampled_from([0, 1, 1.0, 2, True, False, "x", "y", None, b"x"])
metadata = st.dictionaries(
    st.sampled_from(["n", "t"]),
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.just("d"), scalars),
    max_size=2,
)
records = st.builds(
    lambda record_id, vector, metadata, ttl: NewRecord(
        record_id=record_id,
        vector=np.array(vector, np.float32),
        metadata=metadata,
        text=f"text of {record_id}",
        ttl_ns=ttl,
    ),
    record_ids,
    vectors,
    metadata,
    st.none() | st.none() | st.integers(1, 5).map(lambda seconds: seconds * 10**9),
)
tests = (
    scalars.filter(lambda value: value is not None).map(Equals)
    | st.lists(scalars.filter(lambda value: value is not None), max_size=3).map(tuple).map(In)
    | st.builds(Range, gte=st.sampled_from([0, 1, 1.5]), lt=st.sampled_from([1, 2, None]))
    | st.builds(Range, gt=st.sampled_from(["w", "x"]))
    | st.booleans().map(Exists)
)
filters = st.recursive(
    st.builds(Condition, st.sampled_from(["n", "t", "n.d", "none"]), tests),
    lambda inner: (
        st.lists(inner, max_size=2).map(tuple).map(All)
        | st.lists(inner, max_size=2).map(tuple).map(AnyOf)
        | inner.map(Not)
    ),
    max_leaves=4,
)


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


class Engines(RuleBasedStateMachine):
    """Does the same to both and compares what they say."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = FakeClock()

    @initialize(metric=st.sampled_from(Metric))
    def open(self, metric):
        """Start with one collection of each tenant."""
        self.metric = metric
        self.oracle = self.run(self.make_oracle())
        self.engine = self.run(self.make_engine())
        for tenant in TENANTS:
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
        assert repr(told[0]) == repr(told[1]), method
        return told[0]

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

    @rule(place=places, names=st.lists(record_ids, max_size=5))
    def delete(self, place, names):
        """Remove by id."""
        self.both("delete", *place, names)

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
    )
    def search(self, place, *, asked, where, limit, exactness, include_expired):
        """As many hits as the oracle's, with its scores; the same hits where it was exact."""
        query = Query(
            vectors=[np.array(vector, np.float32) for vector in asked],
            filter=where,
            limit=limit,
            exactness=exactness,
            include_expired=include_expired,
            mask=Mask(vector=True),
        )
        wide = Query(vectors=query.vectors, limit=1000, include_expired=True)
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
        assert ours.revision == theirs.revision
        assert len(ours.hits) == len(theirs.hits)
        if ours.exact and self.metric is not Metric.COSINE:
            assert repr(ours.hits) == repr(theirs.hits)
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
        assert repr(told[0]) == repr(told[1])

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
            assert (ours.collection_count, ours.record_count, ours.stored_bytes) == (
                theirs.collection_count,
                theirs.record_count,
                theirs.stored_bytes,
            )
            assert ours.revision == theirs.revision

    def teardown(self):
        """Leave nothing behind."""
        if hasattr(self, "engine"):
            self.run(self.engine.close())
        self.runner.close()
        shutil.rmtree(self.folder)


TestEngines = Engines.TestCase
TestEngines.__doc__ = "The engine answers as the oracle does."
TestEngines.settings = settings(max_examples=60, stateful_step_count=40)

"""Every state engine against plain dictionaries, whatever is asked of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.common.clock import FakeClock
from services.common.errors import ServiceError
from services.common.expiry import ForwardTime
from services.state.items import Items
from services.state.model import (
    Address,
    Check,
    Condition,
    Encoding,
    Once,
    Precondition,
    Value,
    Write,
)
from services.state.requests import Requests
from services.state.step import _last_moment
from services.state.transfers import Transfers
from tests.crash.state_invariants import check_state
from tests.state_engines import embedded_keeper, memory_keeper
from tests.state_oracle import MemoryState

CHANGES_KEPT = 7
CHANGES_IN_A_STEP = 14
"""A move of seven keys; the last step's are never let go."""

tenants = st.sampled_from(["acme", "acme2", "globex"])
scopes = st.sampled_from(["global", "session:a", "session:ab"])
keys = st.sampled_from(["a", "ab"]) | st.sampled_from(
    ["b", "b/c", "é", "e\u0301", "\U0001f600", "", "x\0y", "__a", "a//b"]
)
"""Half of them the same two, so that one is met again."""
values = st.one_of(
    st.integers(-5, 5).map(lambda number: Value(Encoding.JSON, str(number).encode())),
    st.just(Value(Encoding.JSON, b"9223372036854775807")),
    st.sampled_from(["0.1", "1.50", "1e33"]).map(
        lambda number: Value(Encoding.JSON, number.encode())
    ),
    st.just(Value(Encoding.TEXT, b"packed " * 300)),
    st.binary(max_size=8).map(lambda content: Value(Encoding.RAW, content)),
)
ttls = st.none() | st.integers(-1, 20).map(lambda seconds: seconds * 10**9)
deltas = st.one_of(
    st.integers(-3, 3),
    st.floats(width=16),
    st.sampled_from(["0.1", "-0.10", "1e33", "7"]).map(Decimal),
)
preconditions = st.none() | st.one_of(
    st.just(Precondition(Condition.ABSENT)),
    st.just(Precondition(Condition.PRESENT)),
    st.integers(0, 30).map(lambda revision: Precondition(Condition.REVISION, revision)),
)
onces = st.none() | st.builds(
    Once, st.sampled_from(["id1", "id2", ""]), st.sampled_from([b"one", b"two"])
)
"""Few, so that ids come again: some with what they named first, some with something else."""
prefixes = st.sampled_from(["", "a", "b", "e\u0301"])
addresses = st.builds(Address, scopes, keys)
checks = st.builds(Check, scopes, keys, preconditions.filter(bool))
writes = st.builds(Write, scopes, keys, st.none() | values, ttls) | st.builds(
    Write, scopes, keys, st.none(), st.none(), deltas
)


class Answerer:
    """All that answers about items, over one keeper."""

    def __init__(self, keeper):
        self.keeper = keeper
        self.items = Items(keeper, slice_size=100)
        self.transfers = Transfers(keeper)
        self.requests = Requests(keeper)

    def __getattr__(self, name):
        return getattr(self.items if hasattr(self.items, name) else self.transfers, name)

    async def forget(self, limit):
        return await self.requests.sweep(limit)

    async def purge(self, tenant):
        changed = await self.items.purge(tenant)
        await self.requests.purge(tenant)
        return changed


class StateMachine(RuleBasedStateMachine):
    """An engine and the oracle are asked the same and must answer the same."""

    forgets = False
    """Whether a restart loses everything."""

    @initialize()
    def open(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="llmspell-state-"))
        self.clock = FakeClock()
        self.oracle = MemoryState(clock=self.clock)
        self.engine = self.opened()

    def opened(self):
        return Answerer(self.keeper())

    def keeper(self):
        raise NotImplementedError

    def teardown(self):
        if hasattr(self, "engine"):
            self.runner.run(self.engine.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def answers(self, name, *args, **kwargs):
        """What both engines answer; an error answers with its reason and metadata."""
        if kwargs.get("once"):  # a digest is of the method, too
            once = kwargs["once"]
            kwargs["once"] = Once(once.request_id, name.encode() + once.digest)

        async def ask(engine):
            try:
                return await getattr(engine, name)(*args, **kwargs)
            except ServiceError as error:
                return error.reason, error.message, error.metadata

        expected = self.runner.run(ask(self.oracle))
        assert self.runner.run(ask(self.engine)) == expected
        return expected

    @rule(tenant=tenants, scope=scopes, key=keys)
    def get(self, tenant, scope, key):
        self.answers("get", tenant, scope, key)

    @rule(
        tenant=tenants,
        address=addresses,
        value=values,
        ttl=ttls,
        precondition=preconditions,
        once=onces,
    )
    def set(self, *, tenant, address, value, ttl, precondition, once):
        how = {"ttl_ns": ttl, "precondition": precondition, "once": once}
        self.answers("set", tenant, address.scope, address.key, value, **how)

    @rule(tenant=tenants, address=addresses, precondition=preconditions, once=onces)
    def delete(self, tenant, address, precondition, once):
        how = {"precondition": precondition, "once": once}
        self.answers("delete", tenant, address.scope, address.key, **how)

    @rule(tenant=tenants, address=addresses, delta=deltas, once=onces)
    def increment(self, tenant, address, delta, once):
        self.answers("increment", tenant, address.scope, address.key, delta, once=once)

    @rule(
        tenant=tenants,
        source=addresses,
        to=addresses,
        move=st.booleans(),
        precondition=preconditions,
        once=onces,
    )
    def copy(self, *, tenant, source, to, **how):
        self.answers("copy", tenant, source, to, **how)

    @rule(
        tenant=tenants,
        source=scopes,
        to=scopes,
        prefix=prefixes,
        move=st.booleans(),
        precondition=preconditions,
        once=onces,
    )
    def copy_scope(self, *, tenant, source, to, **how):
        self.answers("copy_scope", tenant, source, to, **how)

    @rule(tenant=tenants, scope=scopes, prefix=prefixes, once=onces)
    def clear(self, tenant, scope, prefix, once):
        self.answers("clear", tenant, scope, prefix=prefix, once=once)

    @rule(
        tenant=tenants,
        checks=st.lists(checks, max_size=2),
        writes=st.lists(writes, max_size=4),
        once=onces,
    )
    def batch(self, tenant, checks, writes, once):
        self.answers("batch", tenant, checks, writes, once=once)

    @rule(tenant=tenants, scope=scopes, prefix=prefixes)
    def list(self, tenant, scope, prefix):
        after = ""
        while after is not None:
            expected, got = (
                self.runner.run(engine.list(tenant, scope, limit=2, prefix=prefix, after=after))
                for engine in (self.oracle, self.engine)
            )
            assert (got.items, got.revision) == (expected.items, expected.revision)
            # An engine may believe in one more page where only expired items are left.
            assert got.after == expected.after or expected.after is None
            after = expected.after

    @rule(tenant=tenants)
    def purge(self, tenant):
        self.answers("purge", tenant)

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit):
        self.answers("sweep", limit)

    @rule(limit=st.integers(1, 3))
    def forget_requests(self, limit):
        self.answers("forget", limit)

    @rule(seconds=st.sampled_from([0.5, 1, 5, 30, 600]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def restart(self):
        self.runner.run(self.engine.close())
        before_ns = self.oracle._time.now_ns()
        self.engine = self.opened()
        if self.forgets:
            self.oracle = MemoryState(clock=self.clock)
        known_ns = _last_moment(self.engine.keeper.engine)  # what the store knows of time
        assert known_ns <= before_ns
        self.oracle._time = ForwardTime(self.clock, not_before_ns=known_ns)

    @rule()
    def clock_is_set_back(self):
        self.clock.advance(-3600)

    @invariant()
    def database_is_sound(self):
        if hasattr(self, "engine"):
            with self.engine.keeper.engine.read() as view:
                kept = check_state(view)
            assert kept <= CHANGES_KEPT + CHANGES_IN_A_STEP


class EmbeddedMachine(StateMachine):
    """Over LMDB, and over restarts."""

    def keeper(self):
        return embedded_keeper(self.folder, self.clock, changes_kept=CHANGES_KEPT)


class MemoryMachine(StateMachine):
    """Over dictionaries in order."""

    forgets = True

    def keeper(self):
        return memory_keeper(self.clock, changes_kept=CHANGES_KEPT)


for machine in (EmbeddedMachine, MemoryMachine):
    machine.TestCase.settings = settings(
        max_examples=50,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class TestEmbeddedIsTheOracle(EmbeddedMachine.TestCase):
    """The embedded engine answers as plain dictionaries do, and its database stays sound."""


class TestMemoryIsTheOracle(MemoryMachine.TestCase):
    """The engine in memory does too."""

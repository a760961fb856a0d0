"""The embedded state engine against the dictionary one, whatever is asked of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.common.clock import FakeClock
from services.common.errors import ServiceError
from services.common.expiry import ForwardTime
from services.state.model import Check, Condition, Encoding, Precondition, Value, Write
from tests.crash.state_invariants import check_state
from tests.state_engines import embedded_items
from tests.state_oracle import MemoryState

CHANGES_KEPT = 7

tenants = st.sampled_from(["acme", "acme2", "globex"])
scopes = st.sampled_from(["global", "session:a", "session:ab"])
keys = st.sampled_from(["a", "ab", "b", "b/c", "é", "\U0001f600", "", "x\0y"])
values = st.one_of(
    st.integers(-5, 5).map(lambda number: Value(Encoding.JSON, str(number).encode())),
    st.just(Value(Encoding.JSON, b"9223372036854775807")),
    st.binary(max_size=8).map(lambda content: Value(Encoding.RAW, content)),
)
ttls = st.none() | st.integers(-1, 20).map(lambda seconds: seconds * 10**9)
preconditions = st.none() | st.one_of(
    st.just(Precondition(Condition.ABSENT)),
    st.just(Precondition(Condition.PRESENT)),
    st.integers(0, 30).map(lambda revision: Precondition(Condition.REVISION, revision)),
)
checks = st.builds(Check, scopes, keys, preconditions.filter(bool))
writes = st.builds(Write, scopes, keys, st.none() | values, ttls)


class StateMachine(RuleBasedStateMachine):
    """Both engines are asked the same and must answer the same, over restarts too."""

    @initialize()
    def open(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="llmspell-state-"))
        self.clock = FakeClock()
        self.oracle = MemoryState(clock=self.clock)
        self.engine = self.opened()

    def opened(self):
        return embedded_items(
            self.folder,
            self.clock,
            changes_kept=CHANGES_KEPT,
            slice_size=100,
        )

    def teardown(self):
        if hasattr(self, "engine"):
            self.runner.run(self.engine.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def answers(self, name, *args, **kwargs):
        """What both engines answer; an error answers with its reason and metadata."""

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
        tenant=tenants, scope=scopes, key=keys, value=values, ttl=ttls, precondition=preconditions
    )
    def set(self, *, tenant, scope, key, value, ttl, precondition):
        self.answers("set", tenant, scope, key, value, ttl_ns=ttl, precondition=precondition)

    @rule(tenant=tenants, scope=scopes, key=keys, precondition=preconditions)
    def delete(self, tenant, scope, key, precondition):
        self.answers("delete", tenant, scope, key, precondition=precondition)

    @rule(tenant=tenants, scope=scopes, key=keys, delta=st.integers(-3, 3) | st.floats(width=16))
    def increment(self, tenant, scope, key, delta):
        self.answers("increment", tenant, scope, key, delta)

    @rule(
        tenant=tenants,
        checks=st.lists(checks, max_size=2),
        writes=st.lists(writes, max_size=4),
    )
    def batch(self, tenant, checks, writes):
        self.answers("batch", tenant, checks, writes)

    @rule(tenant=tenants, scope=scopes, prefix=st.sampled_from(["", "a", "b", "é"]))
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

    @rule(seconds=st.sampled_from([0.5, 1, 5, 30]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def restart(self):
        self.runner.run(self.engine.close())
        self.engine = self.opened()
        self.oracle._time = ForwardTime(self.clock)  # over a restart the wall clock is all there is

    @rule()
    def clock_is_set_back(self):
        self.clock.advance(-3600)

    @invariant()
    def database_is_sound(self):
        if hasattr(self, "engine"):
            with self.engine._engine.read() as view:
                kept = check_state(view)
            assert kept <= CHANGES_KEPT + 4


StateMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestItemsAreTheOracle(StateMachine.TestCase):
    """The embedded engine answers as the dictionary one does, and its database stays sound."""

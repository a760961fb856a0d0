"""Sessions, checkpoints and artifacts against plain dictionaries, whatever is asked of them."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path

from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.common.clock import FakeClock
from services.common.errors import ServiceError
from services.state.artifact_model import Choice, Draft, Query
from services.state.artifacts import Artifacts
from services.state.blobs import open_blobs
from services.state.items import Items
from services.state.model import Encoding, Once, Value
from services.state.requests import Requests
from services.state.session_model import AUTOSAVE, NewSession, Status
from services.state.sessions import Sessions
from tests.crash.state_invariants import check_state
from tests.session_oracle import Made, MemorySessions
from tests.state_engines import embedded_keeper, memory_keeper

SECOND_NS = 10**9

OWNERS = tuple(itertools.product(["acme", "globex"], ["s", "s2"]))
MOST = OWNERS[0]

owners = st.sampled_from([MOST, MOST, MOST, *OWNERS])
"""Mostly the same, which there is from the beginning, so that things come together."""
keys = st.sampled_from(["a", "b", "c"])
words = st.sampled_from([b"1", b"2", b"3"])
ttls = st.none() | st.sampled_from([5, 50]).map(lambda seconds: seconds * SECOND_NS)
request_ids = st.none() | st.sampled_from(["r1", "r2"])
"""Few, so that they come again: some with what they named first, some with something else."""
checkpoint_ids = st.sampled_from(["c1", "c1", "c2", "c3", AUTOSAVE])


class Answerer:
    """All that answers about sessions, over one keeper, in the words of the oracle."""

    def __init__(self, keeper, blobs):
        self.keeper = keeper
        self.items = Items(keeper, slice_size=2)
        self.artifacts = Artifacts(keeper, blobs, slice_size=2)
        erase = (self.artifacts.delete_scope,)
        self.sessions = Sessions(keeper, slice_size=2, also_erase=erase)

    async def create(self, owner, retention_ns, auto_save_ns, once):
        new = NewSession(session_id=owner[1], retention_ns=retention_ns, auto_save_ns=auto_save_ns)
        await self.sessions.create(owner[0], new, once=once)

    async def move(self, owner, to, once):
        await self.sessions.move(*owner, to, once=once)

    async def delete(self, owner, once):
        return await self.sessions.delete(*owner, once=once)

    async def store(self, owner, name, content, keep_versions, once):
        draft = Draft(scope=f"session:{owner[1]}", name=name, keep_versions=keep_versions)
        made = (await self.artifacts.store(owner[0], draft, [content], once=once)).artifact
        return made.sequence, made.name, made.version

    async def unstore(self, owner, name, version, once):
        assert once is None
        choice = Choice(scope=f"session:{owner[1]}", name=name, version=version)
        deleted = await self.artifacts.delete(owner[0], choice, all_versions=not version)
        return deleted.deleted_count

    async def save(self, owner, once):
        return (await self.sessions.save(*owner, once=once)).checkpoint.checkpoint_id

    async def checkpoint(self, owner, once):
        taken = await self.sessions.create_checkpoint(*owner, once=once)
        return taken.checkpoint.checkpoint_id

    async def restore(self, owner, checkpoint_id, keep_present, once):
        done = await self.sessions.restore_checkpoint(
            *owner, checkpoint_id, keep_present=keep_present, once=once
        )
        before = done.before.checkpoint_id if done.before else None
        return done.changed_count, done.changed_artifact_count, before

    async def delete_checkpoint(self, owner, checkpoint_id, once):
        return await self.sessions.delete_checkpoint(*owner, checkpoint_id, once=once)

    async def seen(self, owner):
        """Items, and artifacts with their bytes, verified."""
        tenant, scope = owner[0], f"session:{owner[1]}"
        page = await self.items.list(tenant, scope, limit=1000)
        items = {each.key: (each.value.content, each.expire_time_ns) for each in page.items}
        listed = (await self.artifacts.list(tenant, Query(scope=scope), limit=1000)).artifacts
        artifacts = []
        for each in listed:
            choice = Choice(scope=scope, sequence=each.sequence)
            pieces = [piece async for _, piece in self.artifacts.read(tenant, choice)]
            artifacts.append((each.sequence, each.name, each.version, b"".join(pieces)))
        return items, artifacts

    async def told(self, owner):
        try:
            session, _ = await self.sessions.get(*owner)
        except ServiceError:
            return None
        found = await self.sessions.list_checkpoints(*owner)
        assert session.checkpoint_count == len(found)
        counts = {each.checkpoint_id: (each.item_count, each.artifact_count) for each in found}
        return session.status, counts

    async def close(self):
        await self.artifacts.close()
        await self.items.close()


class SessionMachine(RuleBasedStateMachine):
    """An engine and the oracle are asked the same, answer the same and hold the same."""

    @initialize()
    def open(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="llmspell-sessions-"))
        self.clock = FakeClock()
        self.oracle = MemorySessions(self.clock)
        self.engine = self.opened()
        self.answers("create", MOST, 0, 30 * SECOND_NS)

    def opened(self):
        raise NotImplementedError

    def teardown(self):
        if hasattr(self, "engine"):
            self.collect()
            self.runner.run(self.engine.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def answers(self, name, *args, request_id=None):
        """Ask both, as a request of this id; an error answers with its reason."""
        once = Once(request_id, repr((name, args)).encode()) if request_id else None
        try:
            expected = self.oracle.once(args[0][0], once, lambda: getattr(self.oracle, name)(*args))
        except ServiceError as error:
            expected = error.reason
        try:
            got = self.runner.run(getattr(self.engine, name)(*args, once=once))
        except ServiceError as error:
            got = error.reason
        if isinstance(expected, Made):
            expected = expected.sequence, expected.name, expected.version
        assert got == expected

    @rule(
        owner=owners,
        retention=st.sampled_from([0, 60 * SECOND_NS]),
        auto_save=st.sampled_from([0, 30 * SECOND_NS]),
        request_id=request_ids,
    )
    def create(self, owner, retention, auto_save, request_id):
        self.answers("create", owner, retention, auto_save, request_id=request_id)

    @rule(owner=st.sampled_from(OWNERS), to=st.sampled_from(list(Status)), request_id=request_ids)
    def move(self, owner, to, request_id):
        self.answers("move", owner, to, request_id=request_id)

    @rule(owner=st.sampled_from(OWNERS), request_id=request_ids)
    def delete(self, owner, request_id):
        self.answers("delete", owner, request_id=request_id)

    @rule(owner=owners, key=keys, content=words, ttl=ttls)
    def set(self, owner, key, content, ttl):
        end_ns = None if ttl is None else self.clock.now_ns() + ttl
        self.oracle.set(owner, key, content, end_ns)
        value = Value(Encoding.TEXT, content)
        scope = f"session:{owner[1]}"
        self.runner.run(self.engine.items.set(owner[0], scope, key, value, ttl_ns=ttl))

    @rule(owner=owners, key=keys)
    def unset(self, owner, key):
        self.oracle.unset(owner, key)
        self.runner.run(self.engine.items.delete(owner[0], f"session:{owner[1]}", key))

    @rule(
        owner=owners,
        name=keys,
        content=words,
        keep=st.sampled_from([0, 0, 1, 2]),
        request_id=request_ids,
    )
    def store(self, owner, name, content, keep, request_id):
        self.answers("store", owner, name, content, keep, request_id=request_id)

    @rule(owner=owners, name=keys, version=st.integers(0, 3))
    def unstore(self, owner, name, version):
        self.answers("unstore", owner, name, version)

    @rule(owner=owners, request_id=request_ids)
    def save(self, owner, request_id):
        self.answers("save", owner, request_id=request_id)

    @rule(owner=owners, request_id=request_ids)
    def checkpoint(self, owner, request_id):
        self.answers("checkpoint", owner, request_id=request_id)

    @rule(
        owner=owners,
        checkpoint_id=checkpoint_ids,
        keep_present=st.booleans(),
        request_id=request_ids,
    )
    def restore(self, owner, checkpoint_id, keep_present, request_id):
        self.answers("restore", owner, checkpoint_id, keep_present, request_id=request_id)

    @rule(owner=owners, checkpoint_id=checkpoint_ids, request_id=request_ids)
    def delete_checkpoint(self, owner, checkpoint_id, request_id):
        self.answers("delete_checkpoint", owner, checkpoint_id, request_id=request_id)

    @rule(tenant=st.sampled_from(["acme", "globex", "globex", "globex"]))
    def purge(self, tenant):
        self.oracle.purge(tenant)
        requests = Requests(self.engine.keeper)
        for area in (self.engine.items, self.engine.artifacts, self.engine.sessions, requests):
            self.runner.run(area.purge(tenant))

    @rule(seconds=st.sampled_from([1, 10, 31, 61, 601]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.oracle.sweep()
        while self.runner.run(self.engine.sessions.sweep()):
            pass

    @rule(seconds=st.sampled_from([10, 61]))
    def time_passes_unswept(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def collect(self):
        """What the collector leaves is what somebody has, and no file is nobody's."""
        collector = self.engine.artifacts.collector
        while self.runner.run(collector.sweep()):
            pass
        assert self.runner.run(collector.sweep_orphans()) == 0
        stored = set(itertools.chain.from_iterable(collector.blobs.stored()))
        assert stored == {
            (tenant, blake3(content).digest()) for tenant, content in self.oracle.contents()
        }

    @invariant()
    def both_hold_the_same(self):
        if not hasattr(self, "engine"):
            return
        for owner in OWNERS:
            assert self.runner.run(self.engine.told(owner)) == self.oracle.told(owner)
            items, artifacts = self.runner.run(self.engine.seen(owner))
            scope = self.oracle.scope(owner)
            assert items == scope.alive(self.clock.now_ns())
            assert artifacts == [
                (each.sequence, each.name, each.version, each.content) for each in scope.artifacts
            ]

    @invariant()
    def database_is_sound(self):
        if hasattr(self, "engine"):
            with self.engine.keeper.engine.read() as view:
                check_state(view)


class EmbeddedMachine(SessionMachine):
    """Over LMDB and files, and over restarts."""

    def opened(self):
        keeper = embedded_keeper(self.folder / "state", self.clock, sync=False)
        return Answerer(keeper, open_blobs("embedded", self.folder / "state"))

    @rule()
    def restart(self):
        self.runner.run(self.engine.close())
        self.engine = self.opened()


class MemoryMachine(SessionMachine):
    """Over dictionaries in order."""

    def opened(self):
        return Answerer(memory_keeper(self.clock), open_blobs("memory", self.folder))


for machine, examples in ((EmbeddedMachine, 12), (MemoryMachine, 30)):
    machine.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class TestEmbeddedSessionsAreTheOracle(EmbeddedMachine.TestCase):
    """Over LMDB sessions hold what plain dictionaries do, and no byte more or less."""


class TestMemorySessionsAreTheOracle(MemoryMachine.TestCase):
    """The engine in memory does too."""

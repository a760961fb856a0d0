"""The state process with a flaw put in: whether a test would notice.

`python -m tests.crash.broken FLAW[=VALUE] --set TABLE.KEY=VALUE …` serves as `services.state` does.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from services.common import store, view
from services.common.clock import SystemClock
from services.common.server import main
from services.common.store import Store
from services.state import requests
from services.state.artifact_step import ArtifactStep
from services.state.artifacts import Artifacts
from services.state.event_model import Published
from services.state.events import Events
from services.state.item_step import ItemStep
from services.state.items import Items
from services.state.migrations import passes
from services.state.migrations.migrations import Migrations
from services.state.server import build
from services.state.session_step import SessionStep
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.crash.broken_files import FILE_FLAWS


def answers_early(_: str) -> None:
    """Callers are told before the commit, as a server did that lost what it had answered."""
    run_all = Store._run_all

    def run_and_answer(self, parent, group):
        run_all(self, parent, group)
        store.answer(group, self.on_commit)
        time.sleep(0.002)

    Store._run_all = run_and_answer


def stale_reads(share: str) -> None:
    """Some reads give what the key held before."""
    chance, fresh = random.Random(1), Items.get
    now, before = {}, {}

    async def get(self, *place, **options):
        found = await fresh(self, *place, **options)
        if place in now and now[place].item != found.item:
            before[place] = now[place]
        now[place] = found
        return before.get(place, found) if chance.random() < float(share) else found

    Items.get = get


def half_batches(_: str) -> None:
    """Each write of a batch is a transaction of its own, as if they had been sent one by one."""
    whole = Items.batch

    async def batch(self, tenant, checks, writes, **_):
        if checks:
            await whole(self, tenant, checks, [])
        for write in writes:
            changed = await whole(self, tenant, [], [write])
        return changed

    Items.batch = batch


def cut_batches(share: str) -> None:
    """Of some batches of sessions' items the last write is answered and not done."""
    chance, whole = random.Random(1), Items.batch

    async def batch(self, tenant, checks, writes, **options):
        cut = writes[0].scope.startswith("session:") and chance.random() < float(share)
        done = writes[: max(1, len(writes) - cut)]
        return await whole(self, tenant, checks, done, **options)

    Items.batch = batch


def forgotten_requests(_: str) -> None:
    """A write that is repeated under its request id is done again."""
    requests._remembered = lambda step, place: None


def no_checksum(_: str) -> None:
    """Values are believed as they are read."""
    sound = view.open_value

    def believe(database, key, stored, *, at=0):
        return stored[at + view._CHECKSUM.size :]

    for module in list(sys.modules.values()):
        if getattr(module, "open_value", None) is sound:
            module.open_value = believe


def sweep_in_two(_: str) -> None:
    """An item goes in one transaction, and its place in the order of ends in the next."""
    whole = ItemStep.sweep

    def sweep(self, limit):
        delete = self._txn.delete
        self._txn.delete = lambda database, key: database == "expiry" or delete(database, key)
        return whole(self, limit)

    ItemStep.sweep = sweep


def record_before_blob(_: str) -> None:
    """An artifact's record is committed first, and then its bytes are put in place."""
    step, publish = Keeper.step, {}
    whole = Artifacts._keep

    async def keep(self, tenant, draft, blob, upload, *rest):
        publish[asyncio.current_task()] = upload.publish
        upload.publish = lambda: None
        return await whole(self, tenant, draft, blob, upload, *rest)

    async def step_and_publish(self, operation, **options):
        result = await step(self, operation, **options)
        late = publish.pop(asyncio.current_task(), None)
        if late is not None:
            await asyncio.sleep(0.03)
            late()
        return result

    Artifacts._keep, Keeper.step = keep, step_and_publish


def kept_references(_: str) -> None:
    """Who lets go of a blob is not counted, so that it stays for ever."""
    count = ArtifactStep._count_ref

    def count_up(self, tenant, digest, change):
        if change > 0:
            count(self, tenant, digest, change)

    ArtifactStep._count_ref = count_up


def events_answered_early(_: str) -> None:
    """Who publishes is told once the events are in the queue."""
    publish = Events.publish

    async def answer(self, tenant, events, **options):
        self.late = asyncio.ensure_future(publish(self, tenant, events, **options))
        return Published(0, len(events) - 1)

    Events.publish = answer


def half_publications(_: str) -> None:
    """Each event of a batch is a transaction of its own."""
    whole = Events.publish

    async def publish(self, tenant, events, **_):
        made = [await whole(self, tenant, [each]) for each in events]
        first = made[0].first_sequence
        return Published(first, first + len(events) - 1)

    Events.publish = publish


def half_checkpoints(_: str) -> None:
    """A checkpoint is committed first, and its items in the next transaction."""

    async def create(self, tenant, session_id, name=""):
        late = []

        def begin(checkpoints):
            put = checkpoints._txn.put

            def put_later(database, key, value):
                later = database == "checkpoint_items"
                late.append((key, value)) if later else put(database, key, value)

            checkpoints._txn.put = put_later
            try:
                return checkpoints.create(name)
            finally:
                checkpoints._txn.put = put

        saved = await self._checkpoint(tenant, session_id, begin, grows=True)
        await asyncio.sleep(0.03)
        await self._keeper.step(
            lambda step: [step.txn.put("checkpoint_items", *each) for each in late], grows=True
        )
        return saved

    Sessions.create_checkpoint = create


def stale_session_index(_: str) -> None:
    """What is due for a session stays due when it changes."""
    write = SessionStep._write

    def write_only(self, before, after):
        delete = self._txn.delete
        self._txn.delete = lambda database, key: database == "session_due" or delete(database, key)
        try:
            write(self, before, after)
        finally:
            self._txn.delete = delete

    SessionStep._write = write_only


def moved_clock(path: str) -> None:
    """No flaw, but a clock that a test moves: a file says by how many seconds, or `still`."""
    begun = time.time_ns()

    def now_ns(_self):
        text = Path(path).read_text("ascii")
        return begun if text == "still" else time.time_ns() + int(text) * 10**9

    SystemClock.now_ns = now_ns


def small_slices(_: str) -> None:
    """No flaw, but migrations go in slices, and the file is made smaller as soon as may be."""
    store.COMPACT_BYTES_MIN, store._TIDY_EVERY_S, store._TIDY_SHARE = 64 * 1024, 0.2, 0.95
    passes.STAGED_AT_A_TIME = 30
    Migrations.__init__.__kwdefaults__["items_at_once"] = 0


FLAWS = {
    flaw.__name__: flaw
    for flaw in (
        answers_early,
        cut_batches,
        events_answered_early,
        forgotten_requests,
        half_batches,
        half_checkpoints,
        half_publications,
        kept_references,
        moved_clock,
        no_checksum,
        record_before_blob,
        small_slices,
        stale_reads,
        stale_session_index,
        sweep_in_two,
    )
} | FILE_FLAWS

if __name__ == "__main__":
    name, _, value = sys.argv.pop(1).partition("=")
    FLAWS[name](value)
    sys.exit(main("state", build))

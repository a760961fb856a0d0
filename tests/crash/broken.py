"""The state process with a flaw put in: whether a test would notice.

`python -m tests.crash.broken FLAW[=VALUE] --set TABLE.KEY=VALUE …` serves as `services.state` does.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from services.common import store, view
from services.common.clock import SystemClock
from services.common.server import main
from services.common.store import Store
from services.state.item_step import ItemStep
from services.state.items import Items
from services.state.server import build


def answers_early(_: str) -> None:
    """Callers are told before the commit, as a server did that lost what it had answered."""
    run_all = Store._run_all

    def run_and_answer(self, parent, group):
        run_all(self, parent, group)
        store._answer(group, self.on_commit)
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


def moved_clock(path: str) -> None:
    """No flaw, but a clock that a test moves: a file says by how many seconds, or `still`."""
    begun = time.time_ns()

    def now_ns(_self):
        text = Path(path).read_text("ascii")
        return begun if text == "still" else time.time_ns() + int(text) * 10**9

    SystemClock.now_ns = now_ns


FLAWS = {
    flaw.__name__: flaw
    for flaw in (
        answers_early,
        half_batches,
        moved_clock,
        no_checksum,
        stale_reads,
        sweep_in_two,
    )
}

if __name__ == "__main__":
    name, _, value = sys.argv.pop(1).partition("=")
    FLAWS[name](value)
    sys.exit(main("state", build))

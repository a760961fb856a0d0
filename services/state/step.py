"""One operation inside the engine's transaction: its moment, its revision, its change records.

Everything that changes something does so in a step and says so with `change`, so that the feed of
changes cannot part from what it tells of. A step takes a revision with its first change, and none
where it changes nothing.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from services.common.clock import Clock
from services.common.correlation import correlation_id
from services.common.errors import Reason, ServiceError
from services.common.expiry import ForwardTime
from services.common.limits import CHANGES_KEPT_MAX
from services.common.store import Txn, View
from services.common.view import META
from services.state.engine import Engine
from services.state.feed import Feed
from services.state.layout import CHANGES, TENANTS, tenant_prefix
from services.state.layout import items as layout
from services.state.layout.items import Change, ChangeKind, Kept
from services.state.tallies import Tallies, Tally, most_of, reached

T = TypeVar("T")

_MOMENT_KEY = b"moment"
_MOMENT = struct.Struct(">Q")
_MARK_EVERY_NS = 10_000_000

_CHANGES_SLICE = 5_000
"""Change records that one step of a purge removes."""


class Restoring(set[str]):
    """Tenants that are being restored; of one that no longer is, nothing that was counted holds."""

    def __init__(self, tallies: Tallies) -> None:
        super().__init__()
        self._tallies = tallies

    def discard(self, tenant: object, /) -> None:
        """It is restored, or its restore was given up."""
        super().discard(str(tenant))
        self._tallies.forget(str(tenant))


class Keeper:
    """One engine, its time and its feed: what items, sessions, artifacts and events share."""

    def __init__(
        self, engine: Engine, *, clock: Clock, changes_kept: int = CHANGES_KEPT_MAX
    ) -> None:
        """`changes_kept`: a tenant's older change records are removed beyond this many."""
        self.engine = engine
        self.time = ForwardTime(clock, not_before_ns=_last_moment(engine))
        self._marked_ns = 0
        self.feed = Feed()
        self.tallies = Tallies()
        self.restoring: set[str] = Restoring(self.tallies)
        """Tenants that are being restored: what changes something of theirs is refused."""
        self._changes_kept = changes_kept
        engine.on_commit = self.feed.committed

    async def step(self, operation: Callable[[Step], T], *, grows: bool = False) -> T:
        """Run an operation in a step of its own; answer when it is kept.

        Raises:
            ServiceError: see `Engine.write`; TENANT_RESTORING.
        """

        def run(txn: Txn) -> T:
            step = Step(
                txn,
                now_ns=self.time.now_ns(),
                changes_kept=self._changes_kept,
                restoring=self.restoring,
                tallies=self.tallies,
                correlation_id=cause,
            )
            result = operation(step)
            step.finish()
            if step.has_changed:
                self._mark(txn, step.now_ns)
            tallied.update(step.tallied)
            return result

        cause = correlation_id()  # asked here: the step runs in the writer's thread
        tallied: dict[tuple[str, Tally], int] = {}
        try:
            return await self.engine.write(run, grows=grows)
        except Exception:  # what was tallied was perhaps not kept
            for tenant, _ in tallied:
                self.tallies.forget(tenant)
            raise

    def _mark(self, txn: Txn, now_ns: int) -> None:
        """Note the moment, for a start under a clock that was set back; now and then is enough."""
        if now_ns >= self._marked_ns + _MARK_EVERY_NS:
            txn.put(META, _MOMENT_KEY, _MOMENT.pack(now_ns))
            self._marked_ns = now_ns

    async def repeat(self, operation: Callable[[Step], bool]) -> None:
        """Run an operation in one step after the other, others' in between, while it says more.

        Raises:
            ServiceError: see `Engine.write`; the steps before are kept.
        """
        while await self.step(operation):
            pass

    async def purge_changes(self, tenant: str) -> None:
        """Erase what a tenant's change records name, all but the last revision's."""
        await self.repeat(lambda step: step.forget_changes(tenant, _CHANGES_SLICE))


class Step:
    """One transaction's changes."""

    def __init__(
        self,
        txn: Txn,
        *,
        now_ns: int,
        changes_kept: int,
        restoring: Collection[str] = (),
        tallies: Tallies | None = None,
        correlation_id: str = "",
    ) -> None:
        """`correlation_id`: request id of the call that is the cause."""
        self.txn = txn
        self._correlation_id = correlation_id
        self.tallied: dict[tuple[str, Tally], int] = {}
        """What this step added and removed of what is limited."""
        self._tallies = tallies or Tallies()
        self.now_ns = now_ns
        self.restoring = restoring
        """Tenants of which nothing may be changed but by their restore."""
        self._changes_kept = changes_kept
        self._revision = 0
        self._changes = 0
        self._made: dict[str, int] = {}

    @property
    def has_changed(self) -> bool:
        """Whether it has taken a revision."""
        return self._revision > 0

    @property
    def revision(self) -> int:
        """The revision of this step's changes; that of the last change before where it has none."""
        return self._revision or self.txn.revision()

    def change(self, kind: ChangeKind, tenant: str, scope: str, key: str) -> int:
        """Leave a change record; the revision of this step.

        Raises:
            ServiceError: TENANT_RESTORING.
        """
        place = layout.change_key(tenant, self.take_revision(tenant), self._changes)
        self.txn.put(CHANGES, place, self._record(kind, scope, key))
        self._changes += 1
        self._made[tenant] = self._made.get(tenant, 0) + 1
        return self._revision

    def take_revision(self, tenant: str) -> int:
        """The revision of this step, for what changes something that the feed does not tell of.

        Who waits for the tenant's changes is woken where it is named in `txn.touched`.

        Raises:
            ServiceError: TENANT_RESTORING.
        """
        if tenant in self.restoring:
            raise tenant_restoring(tenant)
        if self._revision == 0:
            self._revision = self.txn.next_revision()
        return self._revision

    def take_room(self, tenant: str, tally: Tally, amount: int = 1) -> None:
        """Count what is added of something that is limited.

        Raises:
            ServiceError: TENANT_LIMIT_REACHED.
        """
        place = tenant, tally
        pending = self.tallied.get(place, 0)
        there = self._tallies.get(self.txn, tenant, tally, pending + amount) + pending
        if there + amount > most_of(tally):
            raise reached(tally, there + amount)
        self.tallied[place] = pending + amount

    def give_room(self, tenant: str, tally: Tally, amount: int = 1) -> None:
        """Count what is removed."""
        place = tenant, tally
        self.tallied[place] = self.tallied.get(place, 0) - amount

    def finish(self) -> int:
        """Let go of the oldest change records; the revision after the step."""
        self._tallies.add(self.tallied)
        for tenant, made in self._made.items():
            kept = kept_changes(self.txn, tenant)
            self._keep(tenant, Kept(kept.compacted_revision, kept.count + made))
        self.txn.touched.update(self._made)
        self._made.clear()
        return self.revision

    def forget_changes(self, tenant: str, limit: int) -> bool:
        """Remove up to `limit` of a tenant's change records; whether there may be more.

        Those of the last revision stay, which say that all is gone.
        """
        last = last_change(self.txn, tenant)
        if last is None:
            return False
        stop = layout.change_key(tenant, last.revision, 0)
        doomed = self._older(tenant, stop, limit)
        for place in doomed:
            self.txn.delete(CHANGES, place)
        kept = kept_changes(self.txn, tenant)
        left = Kept(last.revision - 1, kept.count - len(doomed))
        self.txn.put(TENANTS, tenant.encode(), layout.pack_kept(left))
        return len(doomed) == limit

    def begin_anew(self, kind: ChangeKind, tenant: str, key: str, *, revision_min: int) -> int:
        """Leave one change record that stands for all of a tenant's; its revision.

        Older ones are gone already. The revision before it is told to nobody: whoever watched up to
        any that was told is behind what is kept, and learns so.

        Args:
            kind: What has become of the tenant.
            tenant: Whose changes begin anew.
            key: What the record names.
            revision_min: The store's revision is raised to this one where it is less.
        """
        self.txn.raise_revision(revision_min)
        untold = self.txn.next_revision()
        revision = self.txn.next_revision()
        place = layout.change_key(tenant, revision, 0)
        self.txn.put(CHANGES, place, self._record(kind, "", key))
        self.txn.put(TENANTS, tenant.encode(), layout.pack_kept(Kept(untold, 1)))
        self.txn.touched.add(tenant)
        return revision

    def _record(self, kind: ChangeKind, scope: str, key: str) -> bytes:
        return layout.pack_change(kind, self.now_ns, scope, key, self._correlation_id)

    def _keep(self, tenant: str, kept: Kept) -> None:
        """Note what is kept, and remove whole revisions from the oldest on where it is too much."""
        own = layout.change_key(tenant, self._revision, 0)
        over = kept.count - self._changes_kept
        if over > 0:
            doomed = self._older(tenant, own, over)
            revision = kept.compacted_revision
            if doomed:
                revision = layout.split_change_key(doomed[-1])[1]
                prefix = layout.revision_prefix(tenant, revision)
                doomed += self.txn.keys(CHANGES, prefix, after=doomed[-1])
            for place in doomed:
                self.txn.delete(CHANGES, place)
            kept = Kept(revision, kept.count - len(doomed))
        self.txn.put(TENANTS, tenant.encode(), layout.pack_kept(kept))

    def _older(self, tenant: str, stop: bytes, limit: int) -> list[bytes]:
        places = self.txn.keys(CHANGES, tenant_prefix(tenant))
        return list(itertools.islice(itertools.takewhile(lambda each: each < stop, places), limit))


def _last_moment(engine: Engine) -> int:
    """The moment of the last change, or shortly before; 0 where there was none."""
    with engine.read() as view:
        stored = view.get(META, _MOMENT_KEY)
    return 0 if stored is None else int(_MOMENT.unpack(stored)[0])


def tenant_restoring(tenant: str) -> ServiceError:
    """Nothing of this tenant can be read or changed until its restore has ended."""
    return ServiceError(
        Reason.TENANT_RESTORING,
        f"Tenant {tenant} is being restored from a backup; try again in some seconds.",
        tenant_id=tenant,
    )


def kept_changes(view: View, tenant: str) -> Kept:
    """Which changes of a tenant are kept."""
    return layout.unpack_kept(view.get(TENANTS, tenant.encode()))


def changes_after(view: View, tenant: str, revision: int, number: int = -1) -> Iterator[Change]:
    """A tenant's change records after a revision, or after one of its records, in order."""
    prefix = tenant_prefix(tenant)
    after = layout.change_key(tenant, revision, 2**32 - 1 if number < 0 else number)
    for place, stored in view.scan(CHANGES, prefix, after=after):
        yield layout.unpack_change(place, stored)


def last_change(view: View, tenant: str) -> Change | None:
    """A tenant's newest change record."""
    for place, stored in view.back(CHANGES, tenant_prefix(tenant)):
        return layout.unpack_change(place, stored)
    return None

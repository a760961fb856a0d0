"""What a migration does inside its transactions.

A small one is one pass in one transaction. A larger one first makes its results ready, a slice in a
transaction, beside the items; then one pass puts them, and transforms anew what was changed
meanwhile. So readers find all items of a schema at one version, or all at the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.view import Slice, Txn, View
from services.state.layout import EXPIRY, ITEMS, MIGRATIONS, STAGED, tenant_prefix
from services.state.layout import items as items_layout
from services.state.layout import migrations as layout
from services.state.layout.items import ChangeKind
from services.state.migrations.documents import Unfit
from services.state.migrations.model import Family, Migration, Status, Validation
from services.state.migrations.schemas import write_current
from services.state.migrations.transformer import Made, Transformer, UnfitAt
from services.state.step import Step, tenant_restoring

ITEMS_AT_A_TIME = 256
"""Few enough for the processor's cache."""
STAGED_AT_A_TIME = 2_000
"""Items in one transaction of the first part, so that writers wait for milliseconds."""
COUNTED_AT_A_TIME = 10_000
"""Keys, which are read in a few milliseconds."""
SCOPES_TOLD_MAX = 10_000
"""With more scopes, one change record says that all have changed."""

_DECODER = msgspec.json.Decoder(Migration)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items a schema is about, as keys."""

    begin: bytes
    """What their keys begin with."""
    inner: bytes = b""
    """What the part behind the scope begins with, where `begin` ends in a scope."""

    @classmethod
    def of(cls, tenant: str, family: Family) -> Selection:
        """That of a schema."""
        if family.scope_pattern.endswith(":*"):
            begin = tenant_prefix(tenant) + family.scope_pattern[:-1].encode()
            return cls(begin, family.key_prefix.encode())
        return cls(items_layout.item_key(tenant, family.scope_pattern, family.key_prefix))

    def read(self, view: View, after: bytes, limit: int) -> tuple[Slice, bytes]:
        """Items after a place, at most `limit`, and the last place looked at; empty at the end."""
        part = view.slice(ITEMS, self.begin, limit=limit, after=after)
        if not part.keys:
            return part, b""
        last = part.keys[-1]
        return (self._matching(part) if self.inner else part), last

    def _matching(self, part: Slice) -> Slice:
        chosen = [
            (key, value)
            for key, value in zip(part.keys, part.values, strict=True)
            if key.split(b"\0", 2)[2].startswith(self.inner)
        ]
        return Slice([key for key, _ in chosen], [value for _, value in chosen])


@dataclass(frozen=True, slots=True)
class Work:
    """A migration, with all that its transactions need."""

    tenant: str
    migration_id: str
    family: Family
    transformer: Transformer
    told: Callable[[int], None]
    """Called with the number of items done so far, inside the transaction."""

    @property
    def selection(self) -> Selection:
        """Its items."""
        return Selection.of(self.tenant, self.family)


def read_migration(view: View, tenant: str, migration_id: str) -> Migration | None:
    """A migration as it is kept."""
    stored = view.get(MIGRATIONS, layout.migration_key(tenant, migration_id))
    return None if stored is None else _DECODER.decode(stored)


def write_migration(txn: Txn, tenant: str, migration: Migration) -> Migration:
    """Keep a migration."""
    key = layout.migration_key(tenant, migration.migration_id)
    txn.put(MIGRATIONS, key, msgspec.json.encode(migration))
    return migration


def stage(step: Step, work: Work) -> Migration | None:
    """Make the next slice of results ready; None where the migration has ended meanwhile.

    Raises:
        ServiceError: MIGRATION_INVALID.
    """
    migration = read_migration(step.txn, work.tenant, work.migration_id)
    if migration is None or not migration.running:
        return None
    if migration.ready:
        return migration
    if work.tenant in step.restoring:
        raise tenant_restoring(work.tenant)
    after = bytes.fromhex(migration.cursor)
    part, last = work.selection.read(step.txn, after, STAGED_AT_A_TIME)
    made = _made(work, part, revision=0, now_ns=step.now_ns)
    ready = _left(part, made)
    failpoints.hit("migrations.in_slice")
    if not migration.dry_run:
        step.txn.put_slice(STAGED, ready)
    done = migration.items_done + len(ready.keys)
    moved = msgspec.structs.replace(migration, cursor=last.hex(), ready=not last, items_done=done)
    return write_migration(step.txn, work.tenant, moved)


def put_all(step: Step, work: Work) -> Migration | None:
    """Put all results, and make the version current; None where the migration has ended meanwhile.

    Raises:
        ServiceError: MIGRATION_INVALID.
    """
    migration = read_migration(step.txn, work.tenant, work.migration_id)
    if migration is None or not migration.running:
        return None
    revision, done = 0, 0
    if not migration.dry_run:
        revision = step.change(ChangeKind.MIGRATION, work.tenant, "", migration.migration_id)
        done = _Putting(step, work, migration, revision).run()
        write_current(step, work.tenant, migration.schema, migration.to_version)
    else:
        step.change(ChangeKind.MIGRATION, work.tenant, "", migration.migration_id)
    ended = msgspec.structs.replace(
        migration,
        status=Status.COMPLETED,
        items_done=done or migration.items_done,
        items_total=done or migration.items_done,
        end_time_ns=step.now_ns,
        revision=revision,
    )
    return write_migration(step.txn, work.tenant, ended)


def clear_staged(step: Step, tenant: str, limit: int) -> bool:
    """Remove up to `limit` results that were made ready; whether there may be more."""
    keys = step.txn.slice(STAGED, tenant_prefix(tenant), limit=limit).keys
    for key in keys:
        step.txn.delete(STAGED, key)
    return len(keys) == limit


class _Putting:
    """The pass that puts the results."""

    def __init__(self, step: Step, work: Work, migration: Migration, revision: int) -> None:
        self._step = step
        self._txn = step.txn
        self._work = work
        self._migration = migration
        self._revision = revision
        self._scopes: dict[bytes, None] = {}

    def run(self) -> int:
        selection, after, done = self._work.selection, b"", 0
        while True:
            before = after
            part, after = selection.read(self._txn, before, ITEMS_AT_A_TIME)
            if not after:
                break
            if part.keys:
                done += self._put(part, before)
                self._work.told(done)
                failpoints.hit("migrations.in_final")
        self._tell()
        return done

    def _put(self, part: Slice, before: bytes) -> int:
        if self._migration.staged:
            made = self._from_staged(part, before)
        else:
            made = _made(self._work, part, revision=self._revision, now_ns=self._step.now_ns)
        self._note_scopes(part)
        if made.ended:
            self._end(part, made)
        written = _left(part, made)
        self._txn.put_slice(ITEMS, written)
        if self._migration.validation is Validation.STRICT:
            self._compare(written)
        return len(written.keys)

    def _from_staged(self, part: Slice, before: bytes) -> Made:
        """What was made ready, where the items are still those of then; the others anew."""
        begin, limit = self._work.selection.begin, len(part.keys)
        staged = self._txn.slice(STAGED, begin, limit=limit, after=before)
        revision, now_ns = self._revision, self._step.now_ns
        if not _are_ready(staged, part):
            return self._anew(part, now_ns)
        return Made(items_layout.restamped(staged.values, revision=revision, now_ns=now_ns), [])

    def _anew(self, part: Slice, now_ns: int) -> Made:
        """Each item for itself."""
        stop = part.keys[-1] + b"\0"
        staged = dict(self._txn.between(STAGED, part.keys[0], stop))
        made = Made([], [])
        for place, stored in zip(part.keys, part.values, strict=True):
            ready = staged.get(place)
            if items_layout.ended(stored, now_ns) is not None:
                made.ended.append(len(made.values))
                made.values.append(b"")
                continue
            if ready is None or ready[items_layout.REVISION] != stored[items_layout.REVISION]:
                ready = _one(self._work, place, stored)
            made.values.extend(
                items_layout.restamped([ready], revision=self._revision, now_ns=now_ns)
            )
        return made

    def _end(self, part: Slice, made: Made) -> None:
        """Items whose time has come go, as a sweep would have them go."""
        for number in made.ended:
            place, stored = part.keys[number], part.values[number]
            expire_time_ns = items_layout.ended(stored, self._step.now_ns)
            assert expire_time_ns is not None, "that is why it is here"
            self._step.change(ChangeKind.EXPIRE, *items_layout.split_item_key(place))
            self._txn.delete(ITEMS, place)
            self._txn.delete(EXPIRY, items_layout.expiry_key(expire_time_ns, place))

    def _compare(self, written: Slice) -> None:
        for place, value in zip(written.keys, written.values, strict=True):
            if self._txn.get(ITEMS, place) != value:
                raise _invalid(place, Unfit("", "is not what was written"))

    def _note_scopes(self, part: Slice) -> None:
        """In order of key, a slice whose ends are of one scope is of one scope."""
        first, last = part.keys[0].split(b"\0", 2)[1], part.keys[-1].split(b"\0", 2)[1]
        self._scopes[first] = None
        if first != last:
            self._scopes.update(dict.fromkeys(key.split(b"\0", 2)[1] for key in part.keys))

    def _tell(self) -> None:
        tenant, prefix = self._work.tenant, self._work.family.key_prefix
        if len(self._scopes) > SCOPES_TOLD_MAX:
            self._step.change(ChangeKind.MIGRATED, tenant, "", "")
            return
        for scope in self._scopes:
            self._step.change(ChangeKind.MIGRATED, tenant, scope.decode(), prefix)


async def count_keys(view_of: Callable[[], object], selection: Selection) -> int:
    """How many items there are, ended ones included; their values are not read."""
    assert not selection.inner, "the scope alone does not say which they are"
    count, after = 0, b""
    while True:
        with view_of() as view:  # type: ignore[attr-defined]  # an engine's `read`
            part = view.key_slice(ITEMS, selection.begin, limit=COUNTED_AT_A_TIME, after=after)
        if not part:
            return count
        count, after = count + len(part), part[-1]
        await asyncio.sleep(0)


async def measure(
    view_of: Callable[[], object], selection: Selection, now_ns: Callable[[], int]
) -> tuple[int, int]:
    """How many items there are that are seen, and their bytes; other calls are served meanwhile."""
    count = size = 0
    after = b""
    while True:
        with view_of() as view:  # type: ignore[attr-defined]  # an engine's `read`
            part, after = selection.read(view, after, STAGED_AT_A_TIME)
        if not after:
            return count, size
        moment = now_ns()
        alive = [each for each in part.values if items_layout.ended(each, moment) is None]
        count += len(alive)
        size += sum(map(len, alive))
        await asyncio.sleep(0)


def _made(work: Work, part: Slice, *, revision: int, now_ns: int) -> Made:
    try:
        return work.transformer.all_stored(part.values, revision=revision, now_ns=now_ns)
    except UnfitAt as error:
        raise _invalid(part.keys[error.number], error.unfit) from None


def _left(part: Slice, made: Made) -> Slice:
    """What was made of a slice, without the items whose time has come."""
    if not made.ended:
        return part.with_values(made.values)
    ended = set(made.ended)
    left = [number for number in range(len(part.keys)) if number not in ended]
    values = [made.values[number] for number in left]
    return Slice([part.keys[number] for number in left], values)


def _are_ready(staged: Slice, part: Slice) -> bool:
    """Whether there is a result for each item as it is, and none of them ends."""
    number, at, never = items_layout.REVISION, items_layout.NEVER_ENDS_AT, items_layout.NEVER_ENDS
    return staged.keys == part.keys and all(
        ready[number] == stored[number] and stored[at] == never
        for ready, stored in zip(staged.values, part.values, strict=True)
    )


def _one(work: Work, place: bytes, stored: bytes) -> bytes:
    try:
        return work.transformer.stored(stored)
    except Unfit as unfit:
        raise _invalid(place, unfit) from None


def _invalid(place: bytes, unfit: Unfit) -> ServiceError:
    _, scope, key = items_layout.split_item_key(place)
    what = f"{unfit.path!r} of item {key!r}" if unfit.path else f"item {key!r}"
    return ServiceError(
        Reason.MIGRATION_INVALID,
        f"{what} in {scope} {unfit.rule}. Nothing was changed.",
        scope=scope,
        key=key,
        field=unfit.path,
        rule=unfit.rule,
    )

"""What backups promise over any engine. Two tenants always: the other one is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.state import areas
from services.state.backup.folder import BackupFolder
from services.state.backup.retention import Retention
from services.state.backup.service import Backups
from services.state.event_model import NewEvent
from services.state.events import Events
from services.state.items import Items
from services.state.layout import EXPIRY, tenant_prefix
from services.state.model import Encoding, Value, Write
from services.state.session_ends import SessionEnds
from services.state.session_model import NewSession, Status
from services.state.session_step import SessionStep
from services.state.sessions import Sessions
from services.state.step import Keeper, changes_after, kept_changes

SCOPE = "session:s"


class World:
    """Items and backups of one keeper."""

    def __init__(self, keeper: Keeper, clock: FakeClock, root: Path, **settings) -> None:
        self.keeper = keeper
        self.clock = clock
        self.root = root
        self.items = Items(keeper)
        self.backups = Backups(keeper, BackupFolder(root), **settings)

    async def put(self, tenant: str, key: str, content: bytes = b"1", ttl_ns: int | None = None):
        await self.items.set(tenant, SCOPE, key, Value(Encoding.RAW, content), ttl_ns=ttl_ns)

    async def fill(self, tenant: str, count: int, content: bytes = b"x" * 300):
        """Many items, in batches."""
        value = Value(Encoding.RAW, content)
        writes = [Write(SCOPE, f"fill-{number:06}", value) for number in range(count)]
        for begin in range(0, count, 200):
            await self.items.batch(tenant, [], writes[begin : begin + 200])

    def state(self, tenant: str) -> dict[str, dict[bytes, bytes]]:
        """All records and index entries of a tenant, byte for byte."""
        prefix = tenant_prefix(tenant)
        with self.keeper.engine.read() as view:
            found = {each.database: dict(view.scan(each.database, prefix)) for each in areas.KEPT}
            for name in {index for each in areas.KEPT for index in each.indexes}:
                entries = view.scan(name, b"")
                found[name] = {key: value for key, value in entries if _owned(key, prefix)}
        return found

    async def refusal(self, call) -> ServiceError:
        with pytest.raises(ServiceError) as info:
            await call
        return info.value


def _owned(key: bytes, prefix: bytes) -> bool:
    """Whether a tenant's prefix stands where an entry has one: first, or after a time (and a kind).

    Anywhere else it is chance: the bytes of a time may read like a short tenant.
    """
    return any(key.startswith(prefix, offset) for offset in (0, 8, 9))


async def a_restore_brings_back_every_byte(world: World) -> None:
    """What was changed, removed and added since is undone; the other tenant keeps what it has."""
    for tenant in ("a", "b"):
        await world.put(tenant, "kept")
        await world.put(tenant, "changed", b"old")
        await world.put(tenant, "ends", b"old", ttl_ns=10**12)
        await world.put(tenant, "removed")
    before = world.state("a")
    manifest = await world.backups.create("a")
    for tenant in ("a", "b"):
        await world.put(tenant, "changed", b"new")
        await world.put(tenant, "ends", b"new", ttl_ns=10**13)
        await world.put(tenant, "added", ttl_ns=10**12)
        await world.items.delete(tenant, SCOPE, "removed")
    other = world.state("b")
    assert world.state("a") != before
    done = await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert world.state("a") == before
    assert world.state("b") == other
    (delta,) = (each for each in done.tenants[0].databases if each.database == "items")
    assert (delta.added, delta.changed, delta.removed, delta.unchanged) == (1, 2, 1, 1)


async def a_dry_run_tells_and_changes_nothing(world: World) -> None:
    """It counts what a restore then does."""
    await world.put("a", "one")
    manifest = await world.backups.create("a")
    await world.put("a", "one", b"new")
    await world.put("a", "two")
    before = world.state("a")
    told = await world.backups.restore("a", manifest.backup_id, any_tenant=False, dry_run=True)
    assert world.state("a") == before
    done = await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert told.tenants == done.tenants
    assert told.safety_backup_id == ""


async def a_restore_can_be_undone(world: World) -> None:
    """The backup that was made before it has what was there."""
    await world.put("a", "one")
    manifest = await world.backups.create("a")
    await world.put("a", "two")
    before = world.state("a")
    done = await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    await world.backups.restore("a", done.safety_backup_id, any_tenant=False)
    assert world.state("a") == before


async def the_next_backup_writes_what_is_new(world: World) -> None:
    """Of thousands of records one is changed: the next backup writes a fraction, a full one all."""
    await world.fill("a", 12_000)
    first = await world.backups.create("a")
    assert len(first.tenants[0].databases[0].chunks) > 2
    again = await world.backups.create("a")
    assert again.written_bytes == 0
    await world.put("a", "fill-006000", b"new")
    third = await world.backups.create("a")
    assert 0 < third.written_bytes < first.written_bytes / 2
    full = await world.backups.create("a", full=True)
    assert full.written_bytes == full.stored_bytes()


async def a_new_record_changes_few_chunks(world: World) -> None:
    """A record more at the beginning leaves nearly all chunks what they were."""
    await world.fill("a", 12_000)
    first = await world.backups.create("a")
    await world.put("a", "aaa")
    second = await world.backups.create("a")
    names = [
        {chunk.name for chunk in each.tenants[0].databases[0].chunks} for each in (first, second)
    ]
    assert len(names[1] - names[0]) <= 2


async def a_tenant_sees_its_own_backups_only(world: World) -> None:
    """Another tenant's backup is as absent as none; the operator sees and uses every one."""
    await world.put("a", "one")
    await world.put("b", "one")
    mine = await world.backups.create("a")
    everybodys = await world.backups.create("")
    backups = world.backups
    assert [each.backup_id for _, each in await backups.listed("b", any_tenant=False)] == []
    for call in (
        backups.verify("b", mine.backup_id, any_tenant=False),
        backups.restore("b", mine.backup_id, any_tenant=False),
        backups.restore("a", everybodys.backup_id, any_tenant=False),
        backups.restore("b", "../../all/x", any_tenant=False),
    ):
        assert (await world.refusal(call)).reason == Reason.BACKUP_NOT_FOUND
    assert not await backups.delete("b", mine.backup_id, any_tenant=False)
    ids = [each.backup_id for _, each in await backups.listed("", any_tenant=True)]
    assert ids == [everybodys.backup_id, mine.backup_id]
    await world.put("a", "two")
    await backups.restore("a", everybodys.backup_id, any_tenant=True)
    assert len(world.state("a")["items"]) == 1


async def a_backup_of_all_restores_all(world: World) -> None:
    """Each tenant is what it was; one that came since is left alone."""
    await world.put("a", "one")
    await world.put("b", "one")
    before = [world.state(tenant) for tenant in ("a", "b")]
    manifest = await world.backups.create("")
    for tenant in ("a", "b", "c"):
        await world.put(tenant, "two")
    await world.backups.restore("", manifest.backup_id, any_tenant=True)
    assert [world.state(tenant) for tenant in ("a", "b")] == before
    assert len(world.state("c")["items"]) == 1


async def listed(world: World, *tenants: str) -> None:
    """The gateway's list of tenants says that these are there, and no others."""
    found = await world.items.list(SYSTEM_TENANT, TENANTS_SCOPE, limit=100)
    for each in found.items:
        await world.items.delete(SYSTEM_TENANT, TENANTS_SCOPE, each.key)
    for tenant in tenants:
        await world.items.set(SYSTEM_TENANT, TENANTS_SCOPE, tenant, Value(Encoding.JSON, b"{}"))


async def who_the_tenants_are_is_restored_on_request(world: World) -> None:
    """Unasked, keys that were revoked since stay so, and deleted tenants stay deleted."""
    await listed(world, "a", "b")
    await world.items.set(SYSTEM_TENANT, "custom:keys", "key", Value(Encoding.JSON, b"{}"))
    for tenant in ("a", "b"):
        await world.put(tenant, "one")
    before = [world.state(tenant) for tenant in ("a", "b", SYSTEM_TENANT)]
    manifest = await world.backups.create("")
    await world.items.delete(SYSTEM_TENANT, "custom:keys", "key")
    await listed(world, "a")
    await world.items.delete("b", SCOPE, "one")
    for tenant in ("a", "c"):
        await world.put(tenant, "two")
    now = [world.state(tenant) for tenant in ("b", "c", SYSTEM_TENANT)]
    done = await world.backups.restore("", manifest.backup_id, any_tenant=True)
    assert [each.tenant for each in done.tenants] == ["a"]
    assert world.state("a") == before[0]
    assert [world.state(tenant) for tenant in ("b", "c", SYSTEM_TENANT)] == now
    await world.backups.restore("", manifest.backup_id, any_tenant=True, include_system=True)
    assert [world.state(tenant) for tenant in ("a", "b", SYSTEM_TENANT)] == before


async def ends_follow_a_restore(world: World) -> None:
    """What a restore ended is told as ended, what it undid no more; another tenant's ends stay."""
    sessions, ends = Sessions(world.keeper), SessionEnds(world.keeper)
    for tenant in ("a", "b"):
        for name in ("ends-later", "ended", "goes-on"):
            await sessions.create(tenant, NewSession(session_id=name))
        await sessions.move(tenant, "ended", Status.COMPLETED)
    manifest = await world.backups.create("a")
    world.clock.advance(5)
    for tenant in ("a", "b"):
        await sessions.move(tenant, "ends-later", Status.COMPLETED)
        await sessions.create(tenant, NewSession(session_id="begins-later"))
        await sessions.delete(tenant, "ended")
        await sessions.create(tenant, NewSession(session_id="ended"))
    told = await ends.list(0, limit=100)
    await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    new = await ends.list(told[-1].revision, limit=100)
    assert {(end.tenant, end.session_id, end.end_time_ns) for end in new} == {
        ("a", "begins-later", world.clock.now_ns()),
        ("a", "ended", world.clock.now_ns()),
    }
    now = {(end.tenant, end.session_id) for end in await ends.list(0, limit=100)}
    assert ("a", "ends-later") not in now
    assert {("b", "ends-later"), ("b", "ended")} <= now
    again = await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert await ends.list(new[-1].revision, limit=100) == []
    assert again.revision > new[-1].revision


async def what_was_being_erased_is_erased(world: World) -> None:
    """Of a session that was deleted before a backup, and erased after it, a restore leaves none."""
    sessions = Sessions(world.keeper, slice_size=3)
    for tenant in ("a", "b"):
        await sessions.create(tenant, NewSession(session_id="s"))
        await world.fill(tenant, 20)
        await sessions.create_checkpoint(tenant, "s")
    other = world.state("b")
    await world.keeper.step(lambda step: SessionStep(step, "a").delete("s"))
    manifest = await world.backups.create("a")
    assert manifest.tenants[0].erasing == ["s"]
    while await sessions.sweep():
        pass
    empty = world.state("a")
    await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert len(world.state("a")["items"]) == 20
    while await sessions.sweep():
        pass
    assert world.state("a") == empty
    assert world.state("b") == other


async def an_empty_tenant_is_backed_up_as_such(world: World) -> None:
    """Its restore empties it."""
    manifest = await world.backups.create("a")
    await world.put("a", "one", ttl_ns=10**12)
    await world.put("b", "one", ttl_ns=10**12)
    await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert world.state("a") == {"items": {}, EXPIRY: {}} | {name: {} for name in world.state("a")}
    assert len(world.state("b")[EXPIRY]) == 1


async def who_watched_learns_of_a_restore(world: World) -> None:
    """No revision that was told before can be gone on from, and revisions go forward."""
    await world.put("a", "one")
    manifest = await world.backups.create("a")
    await world.put("a", "two")
    told = await world.items.revision()
    done = await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    with world.keeper.engine.read() as view:
        kept = kept_changes(view, "a")
        (change,) = changes_after(view, "a", 0)
    assert told < kept.compacted_revision < change.revision == done.revision
    await world.put("a", "three")
    with world.keeper.engine.read() as view:
        assert len(list(changes_after(view, "a", 0))) == kept_changes(view, "a").count == 2


async def a_tenant_in_restore_is_refused(world: World) -> None:
    """Writes fail with TENANT_RESTORING until it has ended; those of others do not."""
    await world.put("a", "one")
    world.keeper.restoring.add("a")
    assert (await world.refusal(world.put("a", "two"))).reason == Reason.TENANT_RESTORING
    assert (await world.refusal(world.backups.create("a"))).reason == Reason.TENANT_RESTORING
    await world.put("b", "two")
    world.keeper.restoring.discard("a")
    await world.put("a", "two")


async def what_has_ended_is_left_alone_in_restore(world: World) -> None:
    """The sweep takes other tenants' ended items meanwhile, and these afterwards."""
    await world.put("a", "one", ttl_ns=1)
    await world.put("b", "one", ttl_ns=1)
    world.clock.advance(1)
    world.keeper.restoring.add("a")
    assert await world.items.sweep(1) == 1
    assert await world.items.sweep(1) == 0
    assert [len(world.state(tenant)["items"]) for tenant in ("a", "b")] == [1, 0]
    world.keeper.restoring.discard("a")
    assert await world.items.sweep() == 1


async def a_deleted_backup_leaves_what_others_share(world: World) -> None:
    """The other backup restores; with the last one nothing is left in the folder."""
    await world.fill("a", 8_000)
    before = world.state("a")
    first = await world.backups.create("a")
    await world.put("a", "fill-000001", b"new")
    second = await world.backups.create("a")
    assert await world.backups.delete("a", second.backup_id, any_tenant=False)
    assert not await world.backups.delete("a", second.backup_id, any_tenant=False)
    assert not (await world.backups.verify("a", first.backup_id, any_tenant=False)).damages
    await world.backups.restore("a", first.backup_id, any_tenant=False, backup_current=False)
    assert world.state("a") == before
    await world.backups.delete("a", first.backup_id, any_tenant=False)
    assert [path for path in world.root.rglob("*") if path.is_file()] == [world.root / "LOCK"]


async def retention_goes_by_number_age_and_size(world: World) -> None:
    """Old backups go by themselves; the newest stays whatever the bounds are."""
    backups = world.backups
    backups.retention = Retention(count=2)
    await world.put("b", "one")
    others = await backups.create("b")
    for number in range(4):
        await world.put("a", f"{number}", bytes(range(256)) * 40)
        await backups.create("a")
        world.clock.advance(3600)
    assert len(await backups.listed("a", any_tenant=False)) == 2
    backups.retention = Retention(days=0.05)
    told = await backups.clean_up("a", any_tenant=False, dry_run=True)
    assert len(told.backup_ids) == 1
    assert len(await backups.listed("a", any_tenant=False)) == 2
    assert await backups.clean_up("a", any_tenant=False, dry_run=False) == told
    backups.retention = Retention(total_bytes=1)
    await backups.sweep()
    assert len(await backups.listed("a", any_tenant=False)) == 1
    assert [each.backup_id for _, each in await backups.listed("b", any_tenant=False)] == [
        others.backup_id
    ]


async def usage_counts_what_is_shared_once(world: World) -> None:
    """Two backups of the same take the room of one, but for the manifest."""
    await world.fill("a", 4_000)
    await world.backups.create("a")
    one = await world.backups.usage("a", any_tenant=False)
    await world.backups.create("a")
    two = await world.backups.usage("a", any_tenant=False)
    assert (one.backup_count, two.backup_count) == (1, 2)
    assert two.file_count == one.file_count
    assert two.stored_bytes < one.stored_bytes * 1.1
    assert two.plain_bytes == 2 * one.plain_bytes
    assert (await world.backups.usage("b", any_tenant=False)).backup_count == 0


async def a_purged_tenant_has_no_backups(world: World) -> None:
    """Its own are gone with their files; the operator's and other tenants' stay."""
    await world.put("a", "one")
    await world.put("b", "one")
    await world.backups.create("a")
    await world.backups.create("b")
    everybodys = await world.backups.create("")
    await world.backups.purge("a")
    assert await world.backups.listed("a", any_tenant=False) == []
    assert len(await world.backups.listed("b", any_tenant=False)) == 1
    found = await world.backups.verify("", everybodys.backup_id, any_tenant=True)
    assert not found.damages


async def published_events_come_back(world: World) -> None:
    """Events and what is known of a tenant's are as in the backup; more can be published."""
    events = Events(world.keeper)
    for tenant in ("a", "b"):
        await events.publish(tenant, [NewEvent("t", "1")])
    before = world.state("a")
    assert before["events"]
    assert before["event_ends"]
    assert before["event_logs"]
    manifest = await world.backups.create("a")
    for tenant in ("a", "b"):
        await events.publish(tenant, [NewEvent("t", "2")])
    other = world.state("b")
    await world.backups.restore("a", manifest.backup_id, any_tenant=False)
    assert world.state("a") == before
    assert world.state("b") == other
    await events.publish("a", [NewEvent("t", "3")])


CLAIMS = (
    published_events_come_back,
    a_restore_brings_back_every_byte,
    a_dry_run_tells_and_changes_nothing,
    a_restore_can_be_undone,
    the_next_backup_writes_what_is_new,
    a_new_record_changes_few_chunks,
    a_tenant_sees_its_own_backups_only,
    a_backup_of_all_restores_all,
    who_the_tenants_are_is_restored_on_request,
    ends_follow_a_restore,
    what_was_being_erased_is_erased,
    an_empty_tenant_is_backed_up_as_such,
    who_watched_learns_of_a_restore,
    a_tenant_in_restore_is_refused,
    what_has_ended_is_left_alone_in_restore,
    a_deleted_backup_leaves_what_others_share,
    retention_goes_by_number_age_and_size,
    usage_counts_what_is_shared_once,
    a_purged_tenant_has_no_backups,
)

"""Artifacts in backups: records and bytes, of both engines, two tenants."""

import os

import pytest

from services.common import limits
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.artifacts import Artifacts
from services.state.backup.blobs import BlobCare
from services.state.blobs import open_blobs
from services.state.engine import ENGINES, open_engine
from services.state.session_model import NewSession
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.contract.artifact_suite import content, named, put
from tests.contract.backup_suite import World

TENANTS = ("acme", "globex")
LARGE = os.urandom(2_500_000)


@pytest.fixture(params=sorted(ENGINES))
async def world(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock)
    artifacts = Artifacts(keeper, open_blobs(request.param, tmp_path / "state"))
    collector = artifacts.collector
    care = BlobCare(collector.blobs, collector.pins)
    world = World(keeper, clock, tmp_path / "backups", care=care)
    world.artifacts = artifacts
    for tenant in TENANTS:
        await put(artifacts, "large", LARGE, tenant=tenant)
        await put(artifacts, "small", b"old", tenant=tenant)
        await put(artifacts, "empty", b"", tenant=tenant)
    yield world
    await world.backups.close()
    await artifacts.close()
    await world.items.close()


async def collected(world):
    while await world.artifacts.sweep():
        pass


async def test_bytes_come_back(world):
    """Artifacts that were erased are there again, bytes and all; newer ones go, bytes and all."""
    before = world.state("acme")
    made = await world.backups.create("acme")
    await world.artifacts.purge("acme")
    await collected(world)
    await put(world.artifacts, "new", b"new bytes")
    new = await world.artifacts.get("acme", named("new"))
    await world.backups.restore("acme", made.backup_id, any_tenant=False, backup_current=False)
    assert world.state("acme") == before
    await collected(world)
    collector = world.artifacts.collector
    assert await collector.sweep_orphans() == 0
    for name, expected in (("large", LARGE), ("small", b"old"), ("empty", b"")):
        assert await content(world.artifacts, named(name)) == expected
        assert await content(world.artifacts, named(name), tenant="globex") == expected
    with pytest.raises(FileNotFoundError):
        collector.blobs.open("acme", new.digest)
    assert world.state("acme") == before


async def test_checkpoints_come_back_with_their_bytes(world):
    """What only a checkpoint held when the backup was made, it brings back from the backup."""
    sessions = Sessions(world.keeper)
    scope = "session:s"
    for tenant in TENANTS:
        await sessions.create(tenant, NewSession(session_id="s"))
        await put(world.artifacts, "plan", b"of " + tenant.encode(), tenant=tenant, scope=scope)
        await sessions.create_checkpoint(tenant, "s")
        await world.artifacts.delete(tenant, named("plan", scope=scope), all_versions=True)
    before = world.state("acme")
    made = await world.backups.create("acme")
    await sessions.delete_checkpoint("acme", "s", "c1")
    await world.artifacts.purge("acme")
    await sessions.purge("acme")
    await collected(world)
    await world.backups.restore("acme", made.backup_id, any_tenant=False, backup_current=False)
    assert world.state("acme") == before
    await collected(world)
    for tenant in TENANTS:
        await sessions.restore_checkpoint(tenant, "s", "c1")
        stored = await content(world.artifacts, named("plan", scope=scope), tenant=tenant)
        assert stored == b"of " + tenant.encode()


async def test_what_is_limited_is_counted_anew(world, monkeypatch):
    """After a restore a tenant may have as many sessions as it may, those restored counted."""
    sessions = Sessions(world.keeper)
    for number in range(3):
        await sessions.create("acme", NewSession(session_id=f"s{number}"))
    made = await world.backups.create("acme")
    for number in range(2):
        await sessions.delete("acme", f"s{number}")
    await world.backups.restore("acme", made.backup_id, any_tenant=False, backup_current=False)
    monkeypatch.setattr(limits, "SESSIONS_PER_TENANT_MAX", 4)
    await sessions.create("acme", NewSession())
    with pytest.raises(ServiceError) as refused:
        await sessions.create("acme", NewSession())
    assert refused.value.reason == Reason.TENANT_LIMIT_REACHED
    await sessions.create("globex", NewSession())


async def test_bytes_that_are_there_are_not_written_again(world):
    """The next backup writes what is new; deleting the first leaves the second whole."""
    first = await world.backups.create("acme")
    assert first.written_bytes > len(LARGE)
    assert (await world.backups.create("acme")).written_bytes == 0
    await put(world.artifacts, "more", b"more bytes")
    third = await world.backups.create("acme")
    assert 0 < third.written_bytes < 100_000
    await world.backups.delete("acme", first.backup_id, any_tenant=False)
    found = await world.backups.verify("acme", third.backup_id, any_tenant=False)
    assert not found.damages
    assert found.blob_count == 4


async def test_a_damaged_piece_is_found(world):
    """A bit of an artifact's bytes that differs in the backup refuses it whole."""
    made = await world.backups.create("acme")
    largest = max(world.root.rglob("*"), key=lambda path: path.stat().st_size)
    flipped = bytearray(largest.read_bytes())
    flipped[1000] ^= 1
    largest.write_bytes(flipped)
    error = await world.refusal(
        world.backups.restore("acme", made.backup_id, any_tenant=False, backup_current=False)
    )
    assert error.reason == Reason.BACKUP_CORRUPT

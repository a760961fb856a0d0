"""Backups of an encrypted store are encrypted, and open under the master key that made them."""

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.state.keyring import Keyring
from services.state.master_key import MasterKey, MasterKeys
from tests.contract.backup_suite import World
from tests.state_engines import memory_keeper

OLD, NEW, OTHER = (MasterKey(bytes([number]) * 32) for number in (1, 2, 3))
SECRET = b"the kettle stands in the cupboard" * 20


@pytest.fixture
async def world(tmp_path):
    clock = FakeClock()
    ring = Keyring(MasterKeys(OLD), clock=clock)
    world = World(memory_keeper(clock), clock, tmp_path / "backups", ring=ring)
    world.ring = ring
    for tenant in ("a", "b"):
        await world.fill(tenant, 500, SECRET)
    yield world
    await world.backups.close()


def content(world):
    return b"".join(path.read_bytes() for path in world.root.rglob("*") if path.is_file())


async def test_nothing_is_readable(world):
    """No content, no key of an item is in any file; a restore brings all of it back."""
    before = world.state("a")
    made = await world.backups.create("a")
    assert b"kettle" not in content(world)
    assert b"fill-" not in content(world)
    assert all(part.sealed_key for part in made.tenants)
    await world.put("a", "new")
    await world.backups.restore("a", made.backup_id, any_tenant=False)
    assert world.state("a") == before


async def test_backups_share_what_is_the_same(world):
    """The next backup has the same key, and so writes nothing where nothing has changed."""
    await world.backups.create("a")
    assert (await world.backups.create("a")).written_bytes == 0
    everybodys = await world.backups.create("")
    names = {part.tenant: part.sealed_key for part in everybodys.tenants}
    assert names["a"] != names["b"]
    again = await world.backups.create("")
    assert again.written_bytes == 0


async def test_another_master_key_is_told(world):
    """With another one, or none, verifying and restoring say which is needed; nothing changes."""
    made = await world.backups.create("a")
    before = world.state("a")
    for masters, reason in (
        (MasterKeys(OTHER), Reason.MASTER_KEY_WRONG),
        (MasterKeys(), Reason.MASTER_KEY_MISSING),
    ):
        world.ring.masters = masters
        for call in (
            world.backups.verify("a", made.backup_id, any_tenant=False),
            world.backups.restore("a", made.backup_id, any_tenant=False),
        ):
            assert (await world.refusal(call)).reason == reason
    assert world.state("a") == before
    world.ring.masters = MasterKeys(OTHER)
    again = await world.backups.create("a")  # a key of its own
    assert again.written_bytes > 0
    assert not (await world.backups.verify("a", again.backup_id, any_tenant=False)).damages


async def test_a_rotated_master_key(world):
    """After a sweep under both keys a backup opens with the new one alone."""
    made = await world.backups.create("a")
    world.ring.masters = MasterKeys(NEW, OLD)
    await world.backups.sweep()
    world.ring.masters = MasterKeys(NEW)
    assert not (await world.backups.verify("a", made.backup_id, any_tenant=False)).damages
    assert (await world.backups.create("a")).written_bytes == 0


async def test_a_store_that_was_encrypted_later(world):
    """Backups from before are not encrypted and stay of use; later ones are."""
    world.ring.masters = MasterKeys()
    plain = await world.backups.create("a")
    world.ring.masters = MasterKeys(NEW)
    sealed = await world.backups.create("a")
    assert sealed.written_bytes > 0
    for made in (plain, sealed):
        assert not (await world.backups.verify("a", made.backup_id, any_tenant=False)).damages

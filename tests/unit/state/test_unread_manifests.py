"""A manifest that cannot be read, for now or for good: what it names is not taken for nobody's."""

from services.common.clock import FakeClock
from tests.contract.backup_suite import World
from tests.state_engines import embedded_keeper


def files_of(world, tenant):
    return sorted(path for _, _, path in world.backups.folder.files(tenant))


async def test_files_of_a_backup_whose_manifest_is_damaged_stay(tmp_path):
    """A sweep takes none of them, nor does a backup made meanwhile; others' are still removed."""
    clock = FakeClock()
    world = World(embedded_keeper(tmp_path / "state", clock), clock, tmp_path / "backups")
    for tenant in ("a", "b"):
        await world.put(tenant, "one")
    manifest = await world.backups.create("a")
    other = await world.backups.create("b")
    path = world.backups.folder.manifest_path("a", manifest.backup_id)
    whole, files = path.read_bytes(), files_of(world, "a")
    path.write_bytes(whole.replace(b"a", b"b", 1))
    await world.put("a", "two")
    await world.backups.create("a")
    await world.backups.delete("b", other.backup_id, any_tenant=False)
    await world.backups.sweep()
    assert set(files_of(world, "a")) > set(files)
    assert files_of(world, "b") == []
    path.write_bytes(whole)
    verified = await world.backups.verify("a", manifest.backup_id, any_tenant=False)
    assert not verified.damages
    await world.backups.close()
    await world.items.close()


async def test_with_the_operators_unread_nothing_is_removed(tmp_path):
    """It may name files of any tenant; once it is deleted they go."""
    clock = FakeClock()
    world = World(embedded_keeper(tmp_path / "state", clock), clock, tmp_path / "backups")
    await world.put("a", "one")
    manifest = await world.backups.create("")
    path = world.backups.folder.manifest_path("", manifest.backup_id)
    path.write_bytes(b"nothing")
    await world.backups.sweep()
    assert files_of(world, "a")
    await world.backups.delete("", manifest.backup_id, any_tenant=True)
    assert files_of(world, "a") == []
    await world.backups.close()
    await world.items.close()

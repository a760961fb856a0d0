"""A process is killed while it makes, restores or removes a backup: old or new (T10).

Each failpoint of the way is a test; the other tenant is compared byte for byte every time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from services.common.clock import SystemClock
from services.state.backup.transfer import Transfer
from tests.contract.backup_suite import World
from tests.crash.recorder import ROOT
from tests.state_engines import embedded_keeper, memory_keeper
from tests.state_world import contents

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

POINTS = {
    "create": (
        "backup.chunk_written",
        "backup.before_manifest",
        "backup.after_manifest",
    ),
    "restore": (
        "store.before_commit",
        "store.after_commit",
        "restore.marked",
        "restore.slice_written",
        "restore.finished",
    ),
    "import": (
        "backup.chunk_written",
        "backup.after_manifest",
        "restore.marked",
        "restore.slice_written",
        "restore.finished",
    ),
    "delete": ("backup.manifest_removed", "backup.chunk_removed"),
    "retain": ("backup.manifest_removed", "backup.chunk_removed"),
}


def world_of(folder) -> World:
    clock = SystemClock()
    keeper = embedded_keeper(folder / "state", clock)
    return World(keeper, clock, folder / "backups")


async def closed(world):
    await world.backups.close()
    await world.items.close()


async def begun(folder):
    """Two tenants, a backup of `a` and a newer one, and changes since; what is there."""
    world = world_of(folder)
    for tenant in ("a", "b"):
        await world.fill(tenant, 3000)
        await world.put(tenant, "ends", ttl_ns=10**15)
    then = world.state("a")
    first = await world.backups.create("a")
    await world.fill("a", 2000, b"y" * 400)
    await world.items.delete("a", "session:s", "fill-002500")
    await world.put("a", "zzz", ttl_ns=10**16)
    await world.backups.create("a")
    await world.put("a", "last")
    now, other = world.state("a"), world.state("b")
    await closed(world)
    return first.backup_id, then, now, other


async def archived(folder, backup_id):
    """An export of the tenant as it was in the backup, in a file; the path."""
    world = World(memory_keeper(SystemClock()), SystemClock(), folder / "backups")
    await world.backups.restore("a", backup_id, any_tenant=False, backup_current=False)
    transfer = Transfer(world.backups)
    with transfer.aside() as aside:
        await transfer.export_tenant("a", aside)
        (folder / "a.tar").write_bytes(contents(aside))
    await closed(world)
    return str(folder / "a.tar")


def crash(folder, action, backup_id, point):
    """Run the story until it is killed at a point."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.backup_story", str(folder), action, backup_id],
        cwd=ROOT,
        env=os.environ | {"LLMSPELL_FAILPOINTS": f"{point}=crash" if point else ""},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (-signal.SIGKILL if point else 0), done.stderr.decode()


async def looked_at(folder):
    """Start again as the process does; what is there then."""
    world = world_of(folder)
    world.backups.recover()
    cut_off = bool(world.keeper.restoring)
    await world.backups.sweep()
    assert not world.keeper.restoring
    found = [each.backup_id for _, each in await world.backups.listed("a", any_tenant=False)]
    for backup_id in found:
        assert not (await world.backups.verify("a", backup_id, any_tenant=False)).damages
    assert world.backups.folder.remove_unnamed() == 0
    assert not list((folder / "backups").glob("aside/*"))
    await world.put("a", "works")
    await world.items.delete("a", "session:s", "works")
    state, other = world.state("a"), world.state("b")
    await closed(world)
    return cut_off, found, state, other


@pytest.mark.parametrize(
    ("action", "point"), [(action, point) for action in POINTS for point in POINTS[action]]
)
def test_killed_at(tmp_path, reached, action, point):
    """After the next start a backup is whole or gone, a tenant as before or as in the backup."""
    backup_id, then, now, other_before = asyncio.run(begun(tmp_path))
    if action == "import":
        backup_id = asyncio.run(archived(tmp_path, backup_id))
    crash(tmp_path, action, backup_id, point)
    cut_off, found, state, other = asyncio.run(looked_at(tmp_path))
    assert other == other_before
    is_restore = action in {"restore", "import"}
    cut = "a restore without resume" if is_restore else ""
    seen = "as before" if state == now else "as in the backup" if state == then else "neither"
    reached("T10", f"state: {action} killed at {point}", "old or new, whole", seen, cut)
    if not is_restore:
        assert state == now
        expected = {
            "backup.after_manifest": 3,
            "backup.manifest_removed": 1,
            "backup.chunk_removed": 1,
        }
        assert len(found) == expected.get(point, 2)
        return
    before = {"store.before_commit", "backup.chunk_written", "backup.after_manifest"}
    before |= {"store.after_commit"}  # of what waits for those who were under way
    assert cut_off == (point not in before | {"restore.finished"})
    assert state == (now if point in before else then)


def test_a_restore_without_resume_is_caught(tmp_path):
    """Teeth: what a cut-off restore leaves is neither the old nor the new state by itself."""
    backup_id, then, now, _ = asyncio.run(begun(tmp_path))
    crash(tmp_path, "restore", backup_id, "restore.slice_written")
    world = world_of(tmp_path)
    assert world.state("a") not in (then, now)
    asyncio.run(closed(world))

"""Backups under writers are each one prefix of what was written, and refused whole if cut (T10).

Four writers of two tenants never stop: items set and deleted, artifacts stored and removed, files
collected. Each of twenty backups is restored, into a store that is empty and into one that has
something else, and compared with what was there at its revision, bytes of artifacts included.
"""

import asyncio
import random
import time
from contextlib import suppress

import pytest

from services.common.errors import Reason, ServiceError
from services.state.backup.aside import Aside
from services.state.backup.service import Backups
from services.state.backup.transfer import Transfer
from tests.crash import scale
from tests.crash.backup_writers import KEYS, TENANTS, World, Writer, at
from tests.crash.conftest import seed_of
from tests.state_world import contents, fill

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

BACKUPS, EMPTY = scale.count(8, 20), scale.count(3, 20)
CUTS = scale.count(30, 1500)
REFUSALS = {Reason.BACKUP_CORRUPT, Reason.FIELD_INVALID}


def writers_of(world, seed):
    """Two for each tenant; no two write the same place."""
    return [
        Writer(world, TENANTS[n % 2], random.Random(f"{seed} {n}"), KEYS[n // 2 :: 2])
        for n in range(4)
    ]


async def twenty_under_writers(folder, seed):
    """Manifests of backups made while four write and files are collected; and the writers."""
    world = World(folder / "state", folder / "backups")
    writers = writers_of(world, seed)
    made = []
    tasks = [asyncio.ensure_future(writer.run()) for writer in writers]
    for number in range(BACKUPS):
        before = sum(len(writer.log) for writer in writers)
        while sum(len(writer.log) for writer in writers) < before + 10:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        tenant = ("a", "b", "")[number % 3]
        made.append(await world.backups.create(tenant, full=number % 5 == 4))
        await world.artifacts.sweep()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.1)  # calls that were under way come to their end
    await world.close()
    return made, writers


async def restored(folder, target, manifests, writers):
    """How many of the backups are exactly what was there; one store takes them one by one."""
    world = World(target, folder / "backups")
    exact = 0
    for manifest in manifests:
        owner = manifest.owner
        await world.backups.restore(
            owner, manifest.backup_id, any_tenant=True, backup_current=False
        )
        mine = [owner] if owner else TENANTS
        with suppress(ServiceError):  # an artifact without its bytes, say
            found = [await world.state(tenant) for tenant in mine]
            exact += found == [at(manifest.revision, writers, tenant) for tenant in mine]
    await world.close()
    return exact


async def test_twenty_backups_under_writers_are_prefixes(tmp_path, reached):
    """20 of 20, in an empty store and over one that has something else."""
    seed = seed_of("LLMSPELL_CRASH_SEED")
    made, writers = await twenty_under_writers(tmp_path, seed)
    written = sum(len(writer.log) for writer in writers)
    over = await restored(tmp_path, tmp_path / "target", made, writers)
    empty = sum(
        [
            await restored(tmp_path, tmp_path / f"empty{number}", [each], writers)
            for number, each in enumerate(made[-EMPTY:])
        ]
    )
    reached(
        "T10",
        f"state: {BACKUPS} backups under {len(writers)} writers, {written} writes",
        f"{BACKUPS} of {BACKUPS} one prefix",
        f"{over} of {BACKUPS} over something, {empty} of {EMPTY} into nothing",
        "records of another moment than their view",
    )
    assert (over, empty) == (BACKUPS, EMPTY), f"LLMSPELL_CRASH_SEED={seed}"
    assert written >= 10 * BACKUPS, "too little was written for a verdict"


async def test_a_backup_of_another_moment_is_seen(tmp_path, monkeypatch):
    """Teeth: records that are read a moment later than the revision are no prefix up to it."""
    whole = Backups._copy_tenant

    def later(self, maker, view, tenant, keys):
        time.sleep(0.03)
        with self.keeper.engine.read() as now:
            return whole(self, maker, now, tenant, keys)

    monkeypatch.setattr(Backups, "_copy_tenant", later)
    made, writers = await twenty_under_writers(tmp_path, 1)
    assert await restored(tmp_path, tmp_path / "target", made, writers) < BACKUPS


@pytest.fixture
async def small(tmp_path):
    """A world with a little of everything, a backup of it, and an archive."""
    world = World(tmp_path / "state", tmp_path / "backups")
    (writer,) = writers_of(world, 3)[:1]
    for _ in range(60):
        await writer._write()
    manifest = await world.backups.create("a")
    archive = Aside(tmp_path / "archive")
    await Transfer(world.backups).export_tenant("a", archive)
    yield world, manifest, contents(archive)
    await world.close()


def cuts_of(size, count):
    """So many lengths that are less than all, the ends of it among them."""
    some = random.Random(size).sample(range(size), min(size, count))
    return sorted({0, 1, size - 1, *some})


async def refused(world, manifest, path, length):
    """Whether verify and restore refuse a backup with a file cut to a length; it is whole again."""
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    try:
        before = await world.state("a")
        told = await world.backups.verify("a", manifest.backup_id, any_tenant=False)
        with pytest.raises(ServiceError) as info:
            await world.backups.restore("a", manifest.backup_id, any_tenant=False)
        assert await world.state("a") == before
    finally:
        path.write_bytes(whole)
    return bool(told.damages) and info.value.reason in REFUSALS


async def test_a_backup_cut_at_any_byte_is_refused_whole(small, tmp_path, reached):
    """Its manifest, and each file that it names: nothing is restored, nothing has changed."""
    world, manifest, _ = small
    folder = world.backups.folder
    paths = [folder.manifest_path("a", manifest.backup_id)]
    paths += {folder.file_path("a", "chunks", each.name) for each in manifest.tenants[0].files()}
    tried = done = 0
    for path in paths:
        for length in cuts_of(path.stat().st_size, CUTS // len(paths)):
            tried += 1
            done += await refused(world, manifest, path, length)
    assert not (await world.backups.verify("a", manifest.backup_id, any_tenant=False)).damages
    reached(
        "T10",
        f"state: {len(paths)} files of a backup, cut at {tried} bytes",
        "refused whole",
        f"{done} of {tried}",
        "",
    )
    assert done == tried


async def test_an_archive_cut_at_any_byte_is_refused_whole(small, tmp_path, reached):
    """An import takes all of it or nothing; the tenant stays empty, no backup is left of it."""
    world, _, whole = small
    transfer, cut = Transfer(world.backups), Aside(tmp_path / "cut")
    lengths = cuts_of(len(whole.rstrip(b"\0")), CUTS)  # a tar ends with zeros that say nothing
    for length in lengths:
        fill(cut, whole[:length])
        with pytest.raises(ServiceError) as info:
            await transfer.import_tenant("c", cut, replace=False, dry_run=False)
        assert info.value.reason in REFUSALS, (length, info.value)
        assert await world.state("c") == ({}, {})
        assert not await world.backups.listed("c", any_tenant=False)
    world.backups.folder.remove_unnamed()
    fill(cut, whole)
    await transfer.import_tenant("c", cut, replace=False, dry_run=False)
    assert await world.state("c") == await world.state("a")
    reached(
        "T10",
        f"state: an archive of {len(whole)} bytes, cut at {len(lengths)}",
        "refused whole",
        f"{len(lengths)} of {len(lengths)}",
        "",
    )

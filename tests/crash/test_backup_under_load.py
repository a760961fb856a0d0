"""A backup made while writers never stop is the state of its revision, byte for byte by export.

Writers of all areas and two tenants know what each of their answers left and at which revision. The
backup is restored in three ways (into a store that has nothing, beside another engine; into the
running one; from an export of what was restored): all exports are the same bytes, and every writer
finds in them exactly what it had at the backup's revision.
"""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.load_writers import TENANTS, swept, writers_of
from tests.state_world import FullWorld, unpacked

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

BACKUPS = scale.count(2, 6)
FILL = scale.count(1500, 40_000)
EACH = scale.count(1, 3)


def lines_of(archive):
    """The lines of an export, by database."""
    return {
        name.removesuffix(".jsonl"): [json.loads(line) for line in content.splitlines()]
        for name, content in unpacked(archive).items()
        if name.endswith(".jsonl")
    }


async def all_answered(writers, count):
    """Wait until each of them has so many answers."""
    while min(writer.answers for writer in writers) < count:  # noqa: ASYNC110  (they tell nobody)
        await asyncio.sleep(0.005)


async def under_load(world, seed, *, made=BACKUPS):
    """Backups made while all write; the writers, which have stopped then."""
    for tenant in TENANTS:
        await world.fill(tenant, FILL)
        await world.store(tenant, "large", bytes(range(256)) * 8000)
    writers, stop = writers_of(world, seed, each=EACH), asyncio.Event()
    backups = []
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.run(stop))
        tasks.create_task(swept(world, stop))
        for _ in range(made):
            await all_answered(writers, 3 * (len(backups) + 1))
            before = [writer.answers for writer in writers]
            backups.append(await world.backups.create(""))
            after = [writer.answers for writer in writers]
            assert all(map(int.__lt__, before, after)), "a writer stood still meanwhile"
        stop.set()
    return backups, writers


async def elsewhere(folder, root, backup_id, engine):
    """Restore all of a copy of the backups into a store that has nothing; its exports."""
    shutil.copytree(root, folder / "backups")
    (folder / "backups" / "LOCK").unlink()
    world = FullWorld(engine, folder, clock=SystemClock())
    try:
        await world.backups.restore("", backup_id, any_tenant=True, backup_current=False)
        return {tenant: await world.exported(tenant) for tenant in TENANTS}
    finally:
        await world.close()


async def taken_in(folder, archives):
    """Import exports into a store that has nothing; its exports."""
    world = FullWorld("memory", folder, clock=SystemClock())
    try:
        for tenant, archive in archives.items():
            await world.taken_in(tenant, archive)
        return {tenant: await world.exported(tenant) for tenant in TENANTS}
    finally:
        await world.close()


def check_all(writers, archives, revision):
    """Every writer finds what it had at a revision."""
    lines = {tenant: lines_of(archive) for tenant, archive in archives.items()}
    for writer in writers:
        writer.check(lines[writer.tenant], revision)


async def test_a_backup_under_load_is_the_state_of_its_revision(tmp_path, reached):
    """Restored into another engine, into the running store and through an export: the same."""
    seed = seed_of("LLMSPELL_BACKUP_SEED")
    world = FullWorld("embedded", tmp_path / "one", clock=SystemClock())
    backups, writers = await under_load(world, seed)
    for number, manifest in enumerate(backups):
        backup_id, revision = manifest.backup_id, manifest.revision
        folder = tmp_path / f"place{number}"
        engine = ("memory", "embedded")[number % 2]
        archives = await elsewhere(folder, world.root, backup_id, engine)
        check_all(writers, archives, revision)
        assert await taken_in(tmp_path / f"again{number}", archives) == archives
    await world.backups.restore("", backups[0].backup_id, any_tenant=True, backup_current=False)
    first = {tenant: await world.exported(tenant) for tenant in TENANTS}
    check_all(writers, first, backups[0].revision)
    assert await elsewhere(tmp_path / "last", world.root, backups[0].backup_id, "memory") == first
    while await world.artifacts.sweep():
        pass
    assert {tenant: await world.exported(tenant) for tenant in TENANTS} == first
    await world.close()
    answers = sum(writer.answers for writer in writers)
    words = f"{len(backups)} backups, {answers} writes meanwhile (seed {seed})"
    reached("T10", "state: backup under load", "exactly its revision", words, "reads as it goes")


async def test_a_tenant_is_restored_while_others_write(tmp_path):
    """Of a backup of all one tenant is restored; no answer of the other's writers is lost."""
    world = FullWorld("embedded", tmp_path / "one", clock=SystemClock())
    backups, writers = await under_load(world, seed_of("LLMSPELL_BACKUP_SEED"), made=1)
    mine = [writer for writer in writers if writer.tenant == "a"]
    others = [writer for writer in writers if writer.tenant == "b"]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for writer in others:
            tasks.create_task(writer.run(stop))
        await world.backups.restore("a", backups[0].backup_id, any_tenant=True)
        stop.set()
    check_all(mine, {"a": await world.exported("a")}, backups[0].revision)
    check_all(others, {"b": await world.exported("b")}, 2**60)
    await world.close()


async def test_what_came_before_a_restore_is_in_the_safety_backup(tmp_path):
    """Whoever writes until he is refused finds every answer in the backup that was made before."""
    world = FullWorld("embedded", tmp_path / "one", clock=SystemClock())
    backups, writers = await under_load(world, seed_of("LLMSPELL_BACKUP_SEED"), made=1)
    mine = [writer for writer in writers if writer.tenant == "a"]
    async with asyncio.TaskGroup() as tasks:
        for writer in mine:
            tasks.create_task(until_refused(writer))
        await all_answered(mine, min(writer.answers for writer in mine) + 2)
        done = await world.backups.restore("a", backups[0].backup_id, any_tenant=True)
    await world.backups.restore("a", done.safety_backup_id, any_tenant=False)
    check_all(mine, {"a": await world.exported("a")}, 2**60)
    await world.close()


async def until_refused(writer):
    """Write until the tenant is being restored."""
    while True:
        try:
            await writer.write()
        except ServiceError as error:
            if error.reason != Reason.TENANT_RESTORING:
                raise
            return


class ReadingAsItGoes:
    """A broken build's snapshot: each database is read as it is when its turn comes."""

    def __init__(self, engine):
        self._engine = engine
        with engine.read() as view:
            self._revision = view.revision()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def revision(self):
        """That of when it was made."""
        return self._revision

    def scan(self, database, prefix, **options):
        """What there is when the first is asked for."""
        with self._engine.read() as now:
            rows = list(now.scan(database, prefix, **options))
        yield from rows

    def slice(self, database, prefix, **options):
        """The next of what there is now."""
        with self._engine.read() as now:
            return now.slice(database, prefix, **options)

    def keys(self, database, prefix, **options):
        """What there is now."""
        with self._engine.read() as now:
            return iter(list(now.keys(database, prefix, **options)))


async def test_a_backup_that_reads_as_it_goes_is_caught(tmp_path):
    """Teeth: without one snapshot for all, some writer finds what it had later."""
    world = FullWorld("embedded", tmp_path / "one", clock=SystemClock())
    engine = world.keeper.engine
    engine.snapshot = lambda: ReadingAsItGoes(engine)
    backups, writers = await under_load(world, seed_of("LLMSPELL_BACKUP_SEED"), made=1)

    async def look():
        place, made = tmp_path / "place", backups[0]
        archives = await elsewhere(place, world.root, made.backup_id, "memory")
        check_all(writers, archives, made.revision)

    with pytest.raises((AssertionError, ServiceError), match=r"at revision|they are missing"):
        await look()
    await world.close()

"""Exports of an encrypted store, and imports into one: at rest nothing is readable; two engines."""

import asyncio

import pytest

from services.common.clock import FakeClock
from services.state.backup.transfer import Transfer
from services.state.blob_seal import BlobSeal
from services.state.engine import ENGINES
from tests.contract.test_export_contract import as_of, furnish_secrets, named
from tests.state_engines import sealing_ring
from tests.state_world import BYTES, FullWorld, unpacked

CLEAR = (b"the kettle", BYTES[:256], b"answer" * 20)


@pytest.fixture(params=sorted(ENGINES))
async def world(request, tmp_path):
    clock = FakeClock()
    ring = sealing_ring(clock)
    world = FullWorld(request.param, tmp_path, clock=clock, ring=ring, seal=BlobSeal)
    await world.furnish("a")
    await furnish_secrets(world, "a")
    yield world
    await world.close()


def on_disk(folder):
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_what_is_taken_in_is_sealed(world, tmp_path):
    """Records, blobs and the backup that an import leaves are sealed with the new tenant's keys."""
    archive = await world.exported("a")
    assert all(any(clear in file for file in unpacked(archive).values()) for clear in CLEAR[:2])
    await world.taken_in("c", archive)
    assert as_of(world.state("c"), "c", "a") == world.state("a")
    read = world.artifacts.read("c", named("large"))
    assert b"".join([piece async for _, piece in read]) == BYTES
    there = await asyncio.to_thread(on_disk, tmp_path)
    assert there
    assert not any(clear in there for clear in CLEAR)


async def test_nothing_is_readable_meanwhile(world, tmp_path):
    """An archive that came is not in clear on the disk, nor is one that is on its way out."""
    seen = []
    real = world.backups.restorer.compare

    async def looking(*arguments):
        seen.append(await asyncio.to_thread(on_disk, tmp_path))
        return await real(*arguments)

    archive = await world.exported("a")
    world.backups.restorer.compare = looking
    await world.taken_in("c", archive, dry_run=True)
    transfer = Transfer(world.backups)
    with transfer.aside() as aside:
        await transfer.export_tenant("a", aside, in_clear=True)
        assert aside.size > len(BYTES)
        seen.append(await asyncio.to_thread(on_disk, tmp_path))
    assert len(seen) == 2
    assert not any(clear in each for each in seen for clear in CLEAR)

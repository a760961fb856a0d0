"""A backup that is not what it was: found, named, refused whole."""

import asyncio
import random

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.backup import chunks
from services.state.model import Encoding, Value, Write
from tests.contract.backup_suite import SCOPE, World
from tests.state_engines import embedded_keeper, memory_keeper

SEED = 20261127


@pytest.fixture
async def world(tmp_path):
    clock = FakeClock()
    world = World(memory_keeper(clock), clock, tmp_path / "backups")
    for tenant in ("a", "b"):
        await world.fill(tenant, 2500)
    yield world
    await world.backups.close()


def files_of(world):
    return [
        path for path in sorted(world.root.rglob("*")) if path.is_file() and path.name != "LOCK"
    ]


async def check_refused(world, backup_id, file):
    """Verifying names the file, restoring changes nothing."""
    before = world.state("a")
    found = await world.backups.verify("a", backup_id, any_tenant=False)
    assert [damage.file for damage in found.damages] == [str(file.relative_to(world.root))]
    with pytest.raises(ServiceError) as info:
        await world.backups.restore("a", backup_id, any_tenant=False)
    assert info.value.reason == Reason.BACKUP_CORRUPT
    assert info.value.metadata["file"] == found.damages[0].file
    assert world.state("a") == before
    assert not world.keeper.restoring


async def test_one_flipped_bit(world):
    """In each file of a backup, wherever it is, one bit is found and the backup refused whole."""
    rng = random.Random(SEED)
    made = await world.backups.create("a")
    await world.put("a", "new")
    files = files_of(world)
    assert len(files) >= 2
    for file in files:
        content = file.read_bytes()
        places = [0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(20))]
        for place in places:
            flipped = bytearray(content)
            flipped[place] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            await check_refused(world, made.backup_id, file)
        file.write_bytes(content)
    assert not (await world.backups.verify("a", made.backup_id, any_tenant=False)).damages


async def test_cut_at_any_byte(world):
    """A file that ends early, wherever, or is gone, is found and the backup refused whole."""
    rng = random.Random(SEED)
    made = await world.backups.create("a")
    for file in files_of(world):
        content = file.read_bytes()
        for length in [0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(20))]:
            file.write_bytes(content[:length])
            await check_refused(world, made.backup_id, file)
        file.write_bytes(content)
    chunk = next(file for file in files_of(world) if file.suffix != ".json")
    chunk.unlink()
    await check_refused(world, made.backup_id, chunk)


async def test_a_full_backup_heals(world):
    """A full backup writes anew what a damaged file held; the older one is sound again."""
    made = await world.backups.create("a")
    chunk = next(file for file in files_of(world) if file.suffix != ".json")
    chunk.write_bytes(b"x")
    await world.backups.create("a", full=True)
    assert not (await world.backups.verify("a", made.backup_id, any_tenant=False)).damages


async def test_under_writers_it_is_of_one_revision(tmp_path):
    """Twenty backups under writers: each restores to the writes up to its revision (T10)."""
    clock = FakeClock()
    world = World(embedded_keeper(tmp_path / "state", clock), clock, tmp_path / "backups")
    history: dict[int, tuple[str, bytes]] = {}
    stop = asyncio.Event()
    for tenant in ("a", "b"):
        await world.fill(tenant, 1500)

    async def write(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            keys = [f"w{number}-{turn % 50}", f"w{number}-pair-{turn % 50}"]
            content = f"{number} {turn}".encode()
            writes = [Write(SCOPE, key, Value(Encoding.RAW, content)) for key in keys]
            changed = await world.items.batch("a", [], writes)
            for key in keys:
                history[changed.revision, key] = content

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    made = []
    for _ in range(20):
        made.append(await world.backups.create("a"))
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*writers)
    assert len(history) > 100
    other = world.state("b")
    for manifest in made:
        done = await world.backups.restore(
            "a", manifest.backup_id, any_tenant=False, backup_current=False
        )
        assert done.revision > manifest.revision
        expected = {}
        for (revision, key), content in sorted(history.items()):
            if revision <= manifest.revision:
                expected[key] = content
        page = await world.items.list("a", SCOPE, limit=1000, prefix="w")
        assert {item.key: item.value.content for item in page.items} == expected
    assert world.state("b") == other
    await world.backups.close()
    await world.items.close()


def test_chunks_are_read_as_they_were_written():
    """Whatever records there are, with a key or without; another key opens nothing."""
    rng = random.Random(SEED)
    records = sorted(
        (rng.randbytes(rng.randrange(1, 400)), rng.randbytes(rng.choice([0, 5, 70_000])))
        for _ in range(400)
    )
    tenant = b"a\0"
    read = []
    pieces = list(chunks.cut([(tenant + key, value) for key, value in records], len(tenant)))
    assert len(pieces) > 3
    for parts, count in pieces:
        plain = b"".join(parts)
        for key in (None, bytes(32)):
            name = chunks.name_of(plain, key)
            stored = chunks.write_chunk(name, plain, key)
            assert chunks.read_chunk(name, stored, key) == plain
        with pytest.raises(chunks.UnsoundError, match="another key"):
            chunks.read_chunk(name, stored, bytes(31) + b"1")
        rows = list(chunks.read_records(plain))
        assert len(rows) == count
        read += rows
    assert read == records

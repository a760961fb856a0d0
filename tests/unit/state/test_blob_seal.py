"""The files of artifacts where the store is encrypted."""

import asyncio

import pytest

from services.common.clock import FakeClock
from services.common.errors import ServiceError
from services.state.blob_format import Damaged
from services.state.blob_seal import BlobSeal
from services.state.keyring import Keyring
from services.state.vault import Vault
from tests.state_engines import embedded_keeper, sealing_ring

SECRET = b"the kettle stands in the cupboard above the sink"


@pytest.fixture
async def stage(tmp_path):
    """A keeper, its ring, and what seals files."""
    ring = sealing_ring(FakeClock())
    keeper = embedded_keeper(tmp_path, FakeClock(), cipher=ring, sync=False)
    yield keeper, ring, BlobSeal(keeper.engine, ring, asyncio.get_running_loop())
    keeper.engine.close()


async def sealed(seal, tenant, context=b"file 1"):
    return await asyncio.to_thread(seal.seal_chunk, tenant, context, SECRET)


async def test_each_tenant_has_a_key(stage):
    """What one has sealed the other's does not open, nor elsewhere, nor with a bit changed."""
    _, _, seal = stage
    mine, theirs = await sealed(seal, "acme"), await sealed(seal, "globex")
    assert SECRET not in mine + theirs
    assert seal.open_chunk("acme", b"file 1", mine) == SECRET
    assert seal.open_chunk("globex", b"file 1", theirs) == SECRET
    for tenant, context, chunk in (
        ("acme", b"file 1", theirs),
        ("acme", b"file 2", mine),
        ("acme", b"file 1", mine[:-1] + bytes([mine[-1] ^ 1])),
        ("nobody", b"file 1", mine),
    ):
        with pytest.raises(Damaged):
            seal.open_chunk(tenant, context, chunk)


async def test_the_key_stays_over_rotations_and_goes_with_the_tenant(stage):
    """It counts as no version; once the tenant is erased its files do not open."""
    keeper, ring, seal = stage
    chunk, other = await sealed(seal, "acme"), await sealed(seal, "globex")
    vault = Vault(keeper, ring, read_masters=lambda: ring.masters)
    await vault.rotate_tenant("acme")
    while await vault.sweep():
        pass
    assert [each.number for each in (await vault.status("acme")).versions] == [1]
    assert seal.open_chunk("acme", b"file 1", chunk) == SECRET
    await vault.destroy("acme")
    with pytest.raises(Damaged):
        seal.open_chunk("acme", b"file 1", chunk)
    assert seal.open_chunk("globex", b"file 1", other) == SECRET


async def test_files_of_before_encryption_are_read(stage):
    """They have checksums; without a master key new ones do too."""
    keeper, _, seal = stage
    plain = BlobSeal(keeper.engine, Keyring(), asyncio.get_running_loop())
    chunk = await sealed(plain, "acme")
    assert SECRET in chunk
    await sealed(seal, "acme")
    assert seal.open_chunk("acme", b"file 1", chunk) == SECRET
    with pytest.raises(Damaged):
        seal.open_chunk("acme", b"file 1", chunk[:-1] + bytes([chunk[-1] ^ 1]))


async def test_a_store_that_closes_says_so(stage):
    """An upload that needs a first key then is an error, not a wait without end."""
    keeper, _, seal = stage
    keeper.engine.close()
    with pytest.raises(ServiceError):
        await sealed(seal, "acme")

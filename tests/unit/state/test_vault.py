"""Rotation of keys, encryption switched on later, and the end of a tenant's keys."""

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.expiry import sweep_all
from services.state.engines.embedded import open_store
from services.state.items import Items
from services.state.keyring import Keyring, read_master
from services.state.layout import ITEMS
from services.state.layout import vault as layout
from services.state.layout.items import item_key
from services.state.master_key import MasterKeys
from services.state.model import Encoding, Value
from services.state.vault import Vault
from tests.state_engines import embedded_keeper, master_key, memory_keeper, sealing_ring

TENANTS = ("acme", "globex")
COUNT = 300
"""Items of a tenant: more than a slice."""


def content(tenant, number):
    return f"what {tenant} keeps as number {number}".encode()


async def fill(items, count=COUNT):
    for tenant in TENANTS:
        for number in range(count):
            value = Value(Encoding.TEXT, content(tenant, number))
            await items.set(tenant, "global", f"k{number:04}", value)


async def check(items, tenants=TENANTS, count=COUNT):
    """Everything is there and right."""
    for tenant in tenants:
        page = await items.list(tenant, "global", limit=1000)
        assert [item.value.content for item in page.items] == [
            content(tenant, number) for number in range(count)
        ]


def kept(keeper, tenant):
    """The data keys' versions under which a tenant's values lie; None: not sealed."""
    with keeper.engine.read() as view:
        found = view.stored(ITEMS, tenant.encode() + b"\0")
        return {layout.sealed_version(stored) for _, stored in found}


def vault_over(keeper, ring, masters=None):
    return Vault(keeper, ring, read_masters=lambda: masters or ring.masters)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["embedded", "memory"])
async def stage(request, tmp_path, clock):
    """A keeper, a ring and a vault, over either engine."""
    ring = sealing_ring(clock)
    if request.param == "memory":
        keeper = memory_keeper(clock, cipher=ring)
    else:
        keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    yield keeper, ring, vault_over(keeper, ring)
    keeper.engine.close()


async def test_a_rotated_key_moves_all_and_is_destroyed(stage):
    """New values at once, older ones with the sweep; the other tenant's are not touched."""
    keeper, _, vault = stage
    items = Items(keeper)
    await fill(items)
    assert await vault.rotate_tenant("acme") == 2
    await items.set("acme", "global", "k0000", Value(Encoding.TEXT, content("acme", 0)))
    assert kept(keeper, "acme") == {1, 2}
    await check(items)
    status = await vault.status("acme")
    assert [(each.number, status.current_version) for each in status.versions] == [(1, 2), (2, 2)]
    await sweep_all(vault)
    assert kept(keeper, "acme") == {2}
    assert kept(keeper, "globex") == {1}
    await check(items)
    status = await vault.status("acme")
    assert (status.data_key_count, status.older_count) == (2, 0)
    assert [each.number for each in status.versions] == [2]
    assert await vault.sweep() == 0


async def test_a_rotation_amid_a_sweep_is_followed_by_another(stage):
    """What the first pass has moved the second moves again; nothing is lost meanwhile."""
    keeper, _, vault = stage
    items = Items(keeper)
    await fill(items)
    await vault.rotate_tenant("acme")
    for _ in range(3):
        await vault.sweep(50)
    await vault.rotate_tenant("acme")
    await check(items)
    await sweep_all(vault)
    assert kept(keeper, "acme") == {3}
    assert [each.number for each in (await vault.status("acme")).versions] == [3]
    await check(items)


async def test_a_sweep_that_a_crash_ends_is_done_by_the_next_process(tmp_path, clock):
    """A vault that knows nothing of the rotation finds it in the store."""
    keeper = embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock), sync=False)
    await fill(Items(keeper))
    vault = vault_over(keeper, sealing_ring(clock))
    await vault.rotate_tenant("acme")
    await vault.sweep(50)
    keeper.engine.close()
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await sweep_all(vault_over(keeper, ring))
    assert kept(keeper, "acme") == {2}
    await check(Items(keeper))
    keeper.engine.close()


async def test_a_damaged_value_keeps_its_key(stage):
    """The sweep goes past it, moves the rest, and removes no key for which one value may wait."""
    keeper, _, vault = stage
    items = Items(keeper)
    await fill(items, 5)
    place = item_key("acme", "global", "k0002")

    def damage(txn):
        stored = bytearray(dict(txn.stored(ITEMS, place))[place])
        stored[-1] ^= 1
        txn._txn.put(place, bytes(stored), db=txn._databases[ITEMS])

    await keeper.engine.write(damage)
    await vault.rotate_tenant("acme")
    await sweep_all(vault)
    assert kept(keeper, "acme") == {1, 2}
    assert [each.number for each in (await vault.status("acme")).versions] == [1, 2]
    assert (await items.get("acme", "global", "k0003")).item.value.content == content("acme", 3)


async def test_encryption_is_switched_on_later(tmp_path, clock):
    """New values are sealed at once, old ones read, then sealed; from then on all must be."""
    items = Items(embedded_keeper(tmp_path, clock, sync=False))
    await fill(items)
    await items.close()
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    items, vault = Items(keeper), vault_over(keeper, ring)
    await items.set("acme", "global", "k0000", Value(Encoding.TEXT, content("acme", 0)))
    assert kept(keeper, "acme") == {None, 1}
    assert (await vault.status()).plain_left
    await check(items)
    await sweep_all(vault)
    assert kept(keeper, "acme") == kept(keeper, "globex") == {1}
    await check(items)
    assert not (await vault.status()).plain_left
    assert ring.plain_refused
    await items.close()
    with pytest.raises(ServiceError) as error:
        open_store(tmp_path)
    assert error.value.reason == Reason.MASTER_KEY_MISSING


async def test_a_store_of_version_1_is_sealed_too(tmp_path, clock):
    """Whose values did not say how they are kept."""
    import lmdb

    keeper = embedded_keeper(tmp_path, clock, sync=False)
    await fill(Items(keeper), 3)
    await keeper.engine.write(lambda txn: txn.restore(ITEMS, lambda _, stored: stored[1:]))
    await keeper.engine.write(lambda txn: txn.put("meta", b"schema", b"state 1"))
    keeper.engine.close()
    with lmdb.open(str(tmp_path), max_dbs=20) as env, env.begin() as txn:
        first = txn.get(item_key("acme", "global", "k0000"), db=env.open_db(b"items", txn=txn))
    assert first.endswith(content("acme", 0))
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await check(Items(keeper), count=3)
    await sweep_all(vault_over(keeper, ring))
    assert kept(keeper, "acme") == {1}
    await check(Items(keeper), count=3)
    keeper.engine.close()


async def test_the_master_key_is_replaced_while_it_serves(tmp_path, clock):
    """All data keys move under the new one; then the old one is not needed any more."""
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    items = Items(keeper)
    await fill(items, 5)
    vault = vault_over(keeper, ring, MasterKeys(master_key(2), master_key(1)))
    assert await vault.rotate_master() == master_key(2).key_id
    assert (await vault.status()).previous_count == 2
    await check(items, count=5)
    await sweep_all(vault)
    assert (await vault.status()).previous_count == 0
    await check(items, count=5)
    await items.set("acme", "global", "k0000", Value(Encoding.TEXT, content("acme", 0)))
    await items.close()
    items = Items(embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock, current=2)))
    await check(items, count=5)
    await items.close()
    with pytest.raises(ServiceError) as error:
        open_store(tmp_path, cipher=sealing_ring(clock))
    assert error.value.reason == Reason.MASTER_KEY_WRONG


async def test_a_rotation_needs_the_key_before_at_hand(tmp_path, clock):
    """A crash in between could lose data keys for ever: it is refused and nothing changes."""
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await fill(Items(keeper), 2)
    for found in (MasterKeys(master_key(2)), MasterKeys(master_key(2), master_key(3))):
        with pytest.raises(ServiceError) as error:
            await vault_over(keeper, ring, found).rotate_master()
        assert error.value.reason == Reason.MASTER_KEY_MISSING
    with keeper.engine.read() as view:
        assert read_master(view).master_id == master_key(1).key_id
    keeper.engine.close()


async def test_a_crash_amid_a_rotation_needs_both_keys(tmp_path, clock):
    """With both the next process goes on; with the new one alone it refuses to start."""
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await fill(Items(keeper), 2)
    vault = vault_over(keeper, ring, MasterKeys(master_key(2), master_key(1)))
    await vault.rotate_master()
    await vault.sweep(1)
    assert (await vault.status()).previous_count == 1
    keeper.engine.close()
    with pytest.raises(ServiceError) as error:
        open_store(tmp_path, cipher=sealing_ring(clock, current=2))
    assert error.value.reason == Reason.MASTER_KEY_MISSING
    ring = sealing_ring(clock, current=2, previous=1)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await sweep_all(vault_over(keeper, ring))
    await check(Items(keeper), count=2)
    keeper.engine.close()
    open_store(tmp_path, cipher=sealing_ring(clock, current=2)).close()


async def test_a_start_with_both_keys_begins_the_rotation(tmp_path, clock):
    """For a deployment whose master key comes from the environment."""
    keeper = embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock), sync=False)
    await fill(Items(keeper), 2)
    keeper.engine.close()
    ring = sealing_ring(clock, current=2, previous=1)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await sweep_all(vault_over(keeper, ring))
    keeper.engine.close()
    keeper = embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock, current=2), sync=False)
    await check(Items(keeper), count=2)
    keeper.engine.close()


async def test_an_erased_tenants_keys_are_destroyed(tmp_path, clock):
    """An old copy of the file does not open with the ring that is left; the other's does."""
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    items, vault = Items(keeper), vault_over(keeper, ring)
    await fill(items, 3)
    place = {name: item_key(name, "global", "k0001") for name in TENANTS}
    with keeper.engine.read() as view:
        old = {name: dict(view.stored(ITEMS, place[name]))[place[name]] for name in TENANTS}
    await items.purge("acme")
    assert await vault.destroy("acme") == 1
    assert await vault.destroy("acme") == 0
    with keeper.engine.read() as view:
        assert {each.tenant for each in ring.versions(view)} == {"globex"}
        with pytest.raises(ServiceError) as error:
            ring.open(view, ITEMS, place["acme"], old["acme"])
        assert error.value.reason == Reason.RECORD_CORRUPT
        assert ring.open(view, ITEMS, place["globex"], old["globex"]).endswith(b"number 1")
    await check(items, ["globex"], count=3)
    await fill(items, 3)
    with keeper.engine.read() as view, pytest.raises(ServiceError):
        ring.open(view, ITEMS, place["acme"], old["acme"])
    await items.close()


async def test_what_was_written_while_a_tenant_was_erased_is_not_lost(stage):
    """Its key is replaced instead of destroyed, so that older copies do not open all the same."""
    keeper, _, vault = stage
    items = Items(keeper)
    await fill(items, 3)
    assert await vault.destroy("acme") == 0
    await check(items, count=3)
    await sweep_all(vault)
    assert kept(keeper, "acme") == {2}
    assert [each.number for each in (await vault.status("acme")).versions] == [2]
    await check(items, count=3)


async def test_without_a_master_key_there_is_nothing_to_do(clock):
    """Nothing to rotate is an error that names what is missing; nothing to destroy is none."""
    keeper = memory_keeper(clock)
    vault = vault_over(keeper, Keyring())
    for rotate in (lambda: vault.rotate_tenant("acme"), vault.rotate_master):
        with pytest.raises(ServiceError) as error:
            await rotate()
        assert error.value.reason == Reason.MASTER_KEY_MISSING
    assert await vault.destroy("acme") == 0
    assert await vault.sweep() == 0
    assert not (await vault.status("acme")).is_encrypted


async def test_a_second_rotation_waits_for_the_first(tmp_path, clock):
    """Of the master key: three at once would be needed."""
    ring = sealing_ring(clock)
    keeper = embedded_keeper(tmp_path, clock, cipher=ring, sync=False)
    await fill(Items(keeper), 2)
    await vault_over(keeper, ring, MasterKeys(master_key(2), master_key(1))).rotate_master()
    with pytest.raises(ServiceError) as error:
        await vault_over(keeper, ring, MasterKeys(master_key(3), master_key(2))).rotate_master()
    assert error.value.reason == Reason.FIELD_INVALID
    await check(Items(keeper), count=2)
    keeper.engine.close()

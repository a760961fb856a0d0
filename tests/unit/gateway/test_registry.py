"""Tenants and keys in state: what is remembered, for how long, and what happens in between."""

import asyncio

import pytest

from services.common import tenants as tenants_module
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.scopes import SYSTEM_TENANT
from services.common.tenants import CACHE_S, TenantRecord
from services.gateway.registry import KeyRecord, Registry
from tests.fakes import FakeState

KEYS, INDEX, TENANTS = "custom:keys", "custom:tenant-keys", "custom:tenants"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def state():
    return FakeState()


@pytest.fixture
def registry(state, clock):
    return Registry(state, clock)


def tenant(tenant_id="acme"):
    return TenantRecord(tenant_id=tenant_id, display_name="", create_ns=1)


def key(key_id, tenant_id="acme"):
    return KeyRecord(
        key_id=key_id,
        tenant_id=tenant_id,
        digest="00" * 32,
        roles=("writer",),
        display_name="",
        create_ns=1,
    )


async def refused(call, reason):
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == reason


@pytest.fixture
async def two(registry):
    """Two tenants with two keys each."""
    for tenant_id in ("acme", "globex"):
        await registry.create_tenant(tenant(tenant_id))
        await registry.create_key(key(f"{tenant_id}1", tenant_id))
        await registry.create_key(key(f"{tenant_id}2", tenant_id))


async def test_what_is_kept_is_read(registry, two):
    """Tenants and keys come back as they were given."""
    assert await registry.tenant("acme") == tenant("acme")
    assert await registry.key("globex1") == key("globex1", "globex")
    assert await registry.tenant("nobody") is None
    assert await registry.key("nobody") is None


async def test_everything_is_the_system_tenants(registry, state, two):
    """Nothing is read or written as any other tenant."""
    await registry.list_tenants(0, "")
    await registry.list_keys("acme", 0, "")
    assert {context.tenant for _, context in state.calls} == {SYSTEM_TENANT}
    assert {context.permissions for _, context in state.calls} == {("state.read", "state.write")}
    assert not any(context.any_tenant for _, context in state.calls)


@pytest.mark.parametrize("text", ["", SYSTEM_TENANT, "_x", "Acme", "a/b", "a\x00b", "a" * 64, "é"])
async def test_what_is_no_tenants_id_is_not_looked_up(registry, state, text):
    """Such a tenant is not there, and nobody is asked."""
    assert await registry.tenant(text) is None
    assert state.calls == []


async def test_a_look_up_is_remembered_for_a_second(registry, state, clock, two):
    """Hits cost one read a second."""
    before = state.count("GetState")
    for _ in range(5):
        await registry.key("acme1")
    assert state.count("GetState") == before + 1
    clock.advance(CACHE_S)
    await registry.key("acme1")
    assert state.count("GetState") == before + 2


async def test_a_miss_is_remembered_too(registry, state):
    """A key that is not there costs one read a second as well."""
    for _ in range(5):
        assert await registry.key("nobody") is None
    assert state.count("GetState") == 1


async def test_a_new_key_works_at_once(registry):
    """Having been asked for before it was made does not hurt it."""
    await registry.create_tenant(tenant())
    assert await registry.key("k1") is None
    await registry.create_key(key("k1"))
    assert await registry.key("k1") == key("k1")


async def test_a_new_tenant_is_there_at_once(registry):
    """Likewise for a tenant."""
    assert await registry.tenant("acme") is None
    await registry.create_tenant(tenant())
    assert await registry.tenant("acme") == tenant()


async def test_a_revoked_key_ends_at_once_here_and_within_a_second_elsewhere(
    state, clock, registry, two
):
    """The gateway that revokes forgets; another one asks again after a second."""
    elsewhere = Registry(state, clock)
    assert await elsewhere.key("acme1") is not None
    assert await registry.key("acme1") is not None
    assert await registry.revoke_key("acme1")
    assert await registry.key("acme1") is None
    clock.advance(CACHE_S - 0.01)
    assert await elsewhere.key("acme1") is not None
    clock.advance(0.01)
    assert await elsewhere.key("acme1") is None


async def test_a_read_that_was_slow_is_not_remembered_for_longer(state, clock, registry, two):
    """What was read before a revocation ends a second after it, however slow the read."""

    async def slow():
        clock.advance(CACHE_S)

    state.before["GetState"] = slow
    await registry.key("acme1")
    await Registry(state, clock).revoke_key("acme1")
    assert await registry.key("acme1") is None


async def test_what_is_remembered_is_bounded(state, clock, registry, monkeypatch):
    """Guessed ids cannot fill the memory."""
    monkeypatch.setattr(tenants_module, "CACHE_ENTRIES_MAX", 10)
    for number in range(100):
        await registry.key(f"k{number}")
    assert len(registry._keys._entries) <= 10


async def test_an_outage_is_not_remembered(registry, state, two):
    """A state process that is away is asked again at once."""
    state.fail_next = ["GetState"]
    await refused(registry.key("acme1"), Reason.SERVICE_UNAVAILABLE)
    assert await registry.key("acme1") is not None


async def test_a_tenant_exists_once(registry, two):
    """The second one of an id is refused and changes nothing."""
    twin = TenantRecord(tenant_id="acme", display_name="twin", create_ns=9)
    await refused(registry.create_tenant(twin), Reason.TENANT_EXISTS)
    assert await registry.tenant("acme") == tenant("acme")


async def test_a_failed_creation_is_not_called_a_twin(registry, state):
    """Other errors stay what they are."""
    state.fail_next = ["SetState"]
    await refused(registry.create_tenant(tenant()), Reason.SERVICE_UNAVAILABLE)


async def test_a_key_needs_a_tenant(registry, state):
    """No key without one, and nothing is written."""
    await refused(registry.create_key(key("k1", "nobody")), Reason.TENANT_NOT_FOUND)
    assert state.items == {}


async def test_a_tenant_that_is_being_deleted_is_gone(registry, two):
    """Marked means refused: no key for it, not in the list, not found."""
    await registry.begin_deletion("acme")
    assert await registry.tenant("acme") is None
    await refused(registry.create_key(key("k9")), Reason.TENANT_NOT_FOUND)
    records, _ = await registry.list_tenants(0, "")
    assert [record.tenant_id for record in records] == ["globex"]
    await refused(registry.create_tenant(tenant("acme")), Reason.TENANT_EXISTS)


async def test_a_key_made_while_its_tenant_is_deleted_is_refused(registry, state, two):
    """A deletion that begins between check and write leaves no key behind (found in review)."""

    async def meanwhile():
        await registry.begin_deletion("acme")

    state.before["BatchState"] = meanwhile
    await refused(registry.create_key(key("late")), Reason.TENANT_NOT_FOUND)
    assert "late" not in state.system(KEYS)


async def test_keys_are_listed_by_tenant(registry, state, two):
    """Nobody else's, in pages, without any that has gone."""
    await registry.create_tenant(tenant("acme-2"))
    await registry.create_key(key("other", "acme-2"))
    first, token = await registry.list_keys("acme", 1, "")
    second, end = await registry.list_keys("acme", 1, token)
    assert [record.key_id for record in first + second] == ["acme1", "acme2"]
    assert end == ""


async def test_revoking_is_repeatable(registry, state, two):
    """The second time there is nothing to end; index and key go together."""
    assert await registry.revoke_key("acme1")
    assert not await registry.revoke_key("acme1")
    assert state.system(INDEX) == ["acme/acme2", "globex/globex1", "globex/globex2"]


async def test_all_keys_of_a_tenant_end(registry, state, two):
    """All of one tenant's, none of another's."""
    assert await registry.key("acme1") is not None
    assert await registry.revoke_keys_of("acme") == 2
    assert await registry.key("acme1") is None
    assert state.system(KEYS) == ["globex1", "globex2"]
    assert await registry.revoke_keys_of("acme") == 0


async def test_more_keys_than_a_page_end(registry, state):
    """Pages do not matter."""
    await registry.create_tenant(tenant())
    for number in range(205):
        await registry.create_key(key(f"k{number:03}"))
    assert await registry.revoke_keys_of("acme") == 205
    assert state.system(KEYS) == []


async def test_index_entries_without_a_key_do_not_stop_a_deletion(registry, state, two):
    """A page of entries whose keys are missing neither loops nor hides keys that are alive."""
    for number in range(150):
        await registry.create_key(key(f"a{number:03}"))
        del state.items[SYSTEM_TENANT, KEYS, f"a{number:03}"]
    await asyncio.wait_for(registry.revoke_keys_of("acme"), 10)
    assert state.system(INDEX) == ["globex/globex1", "globex/globex2"]
    assert state.system(KEYS) == ["globex1", "globex2"]


async def test_a_deletion_marks_ends_and_forgets(registry, state, two):
    """None where there is no such tenant; repeatable until it has ended."""
    assert await registry.begin_deletion("nobody") is None
    assert (await registry.begin_deletion("acme")).tenant_id == "acme"
    assert (await registry.begin_deletion("acme")).deleting
    await registry.end_deletion("acme")
    assert await registry.begin_deletion("acme") is None
    assert state.system(TENANTS) == ["globex"]

"""TenantService: what the operator may ask for, and what a deletion leaves."""

import pytest
from llmspell.v1 import state_pb2, tenant_pb2

from services.common.clock import FakeClock
from services.common.context import SYSTEM_TENANT, CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.gateway.keys import digest_of, read_credential
from services.gateway.registry import Registry
from services.gateway.servicers.tenant import TenantServicer
from tests.fakes import FakeState

OPERATOR = CallContext(
    tenant="", principal="operator", permissions=("*",), any_tenant=True, request_id="r1"
)


class Asked:
    """The servicer, called by method name and fields."""

    def __init__(self):
        self.state = FakeState()
        self.clock = FakeClock()
        self.registry = Registry(self.state, self.clock)
        self.servicer = TenantServicer(self.registry, self.state, self.clock)

    async def __call__(self, name, **fields):
        set_context(OPERATOR)
        request = getattr(tenant_pb2, f"{name}Request")(**fields)
        return await getattr(self.servicer, name)(request, None)


@pytest.fixture
def ask():
    return Asked()


@pytest.fixture
async def two(ask):
    for tenant_id in ("acme", "globex"):
        await ask("CreateTenant", tenant_id=tenant_id, display_name=tenant_id.title())
        await ask("CreateApiKey", tenant_id=tenant_id)
        item = state_pb2.Item(key="k")
        ask.state.items[tenant_id, "global", "k"] = item


async def refused(call, reason, field=None):
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == reason
    if field:
        assert caught.value.metadata["field"] == field
    return caught.value


async def test_a_tenant_is_made_shown_and_listed(ask, two):
    """With its name and the time at which it was made."""
    shown = (await ask("GetTenant", tenant_id="acme")).tenant
    assert shown.display_name == "Acme"
    assert shown.create_time.ToNanoseconds() == ask.clock.now_ns()
    listed = (await ask("ListTenants")).tenants
    assert [tenant.tenant_id for tenant in listed] == ["acme", "globex"]
    assert listed[0] == shown


async def test_tenants_are_listed_in_pages(ask, two):
    """A page at a time, each tenant once."""
    first = await ask("ListTenants", page_size=1)
    second = await ask("ListTenants", page_size=1, page_token=first.next_page_token)
    ids = [tenant.tenant_id for tenant in (*first.tenants, *second.tenants)]
    assert ids == ["acme", "globex"]
    assert not second.next_page_token


TAKES_A_TENANT = (
    "CreateTenant",
    "GetTenant",
    "DeleteTenant",
    "CreateApiKey",
    "ListApiKeys",
)
NO_IDS = ("_system", "_", "Acme", "a b", "a/b", "a\x00", "a\n", "é", "-a", "a" * 64, "*", "..")


@pytest.mark.parametrize("method", TAKES_A_TENANT)
@pytest.mark.parametrize("text", NO_IDS)
async def test_what_is_no_tenants_id_is_refused_everywhere(ask, method, text):
    """The system's tenant and everything that could be taken for two names; nobody is asked."""
    await refused(ask(method, tenant_id=text), Reason.FIELD_INVALID, "tenant_id")
    assert ask.state.calls == []


@pytest.mark.parametrize("method", TAKES_A_TENANT)
async def test_a_tenant_must_be_named(ask, method):
    """An empty id is said to be missing."""
    await refused(ask(method), Reason.FIELD_REQUIRED, "tenant_id")


@pytest.mark.parametrize("method", TAKES_A_TENANT[1:])
async def test_a_tenant_that_is_not_there(ask, method):
    """Is not found, and nothing is written."""
    await refused(ask(method, tenant_id="nobody"), Reason.TENANT_NOT_FOUND)
    assert ask.state.items == {}


async def test_a_tenant_exists_once(ask, two):
    """The second of an id is refused."""
    await refused(ask("CreateTenant", tenant_id="acme"), Reason.TENANT_EXISTS)


@pytest.mark.parametrize("method", ["CreateTenant", "CreateApiKey"])
async def test_a_display_name_has_a_limit_in_bytes(ask, two, method):
    """256 bytes, not characters."""
    fields = {"tenant_id": "third" if method == "CreateTenant" else "acme"}
    error = await refused(ask(method, display_name="é" * 129, **fields), Reason.LIMIT_EXCEEDED)
    assert error.metadata == {"field": "display_name", "got": "258", "limit": "256"}
    await ask(method, display_name="é" * 128, **fields)


async def test_a_key_is_shown_once_and_kept_as_a_digest(ask, two):
    """The answer has the key; nothing that is stored has its secret."""
    answer = await ask("CreateApiKey", tenant_id="acme", roles=["reader"], display_name="ci")
    credential = read_credential(answer.key)
    assert credential.key_id == answer.api_key.key_id
    record = await ask.registry.key(credential.key_id)
    assert credential.matches(bytes.fromhex(record.digest))
    assert record.roles == ("reader",)
    secret = answer.key.rpartition("_")[2]
    stored = b"".join(item.SerializeToString() for item in ask.state.items.values())
    assert secret.encode() not in stored
    listed = await ask("ListApiKeys", tenant_id="acme")
    assert answer.api_key in listed.api_keys
    assert secret not in str(listed)
    assert digest_of(answer.key).hex() not in str(listed)


async def test_a_key_without_roles_is_an_admins(ask, two):
    """The default is said in the answer."""
    assert (await ask("CreateApiKey", tenant_id="acme")).api_key.roles == ["admin"]


async def test_a_key_with_an_unknown_role_is_refused(ask, two):
    """And nothing is kept of it."""
    before = dict(ask.state.items)
    await refused(ask("CreateApiKey", tenant_id="acme", roles=["king"]), Reason.FIELD_INVALID)
    assert ask.state.items == before


async def test_keys_are_listed_for_their_tenant_only(ask, two):
    """A tenant's keys, and nobody else's."""
    for tenant_id in ("acme", "globex"):
        keys = (await ask("ListApiKeys", tenant_id=tenant_id)).api_keys
        assert {key.tenant_id for key in keys} == {tenant_id}


async def test_a_key_is_revoked_by_its_id_or_as_a_whole(ask, two):
    """Whoever pastes the whole key means that one; the second time there is none."""
    by_id = await ask("CreateApiKey", tenant_id="acme")
    whole = await ask("CreateApiKey", tenant_id="acme")
    for text in (by_id.api_key.key_id, whole.key):
        assert (await ask("RevokeApiKey", key_id=text)).revoked_count == 1
        assert (await ask("RevokeApiKey", key_id=text)).revoked_count == 0


async def test_one_key_goes_and_the_others_stay(ask, two):
    """Only the one named."""
    gone = (await ask("CreateApiKey", tenant_id="acme")).api_key.key_id
    await ask("RevokeApiKey", key_id=gone)
    assert len((await ask("ListApiKeys", tenant_id="acme")).api_keys) == 1
    assert len((await ask("ListApiKeys", tenant_id="globex")).api_keys) == 1


@pytest.mark.parametrize(
    "text", ["llms_", "llms_a", "_", "a_b", "A", "a b", "x" * 33, "acme/k", "\x00", "llms_a_secret"]
)
async def test_what_is_no_key_id_is_refused(ask, two, text):
    """Half a key is not guessed at, and not repeated in the answer."""
    error = await refused(ask("RevokeApiKey", key_id=text), Reason.FIELD_INVALID, "key_id")
    assert "secret" not in error.message
    await refused(ask("RevokeApiKey"), Reason.FIELD_REQUIRED, "key_id")


async def test_a_deleted_tenant_is_gone_with_all_it_had(ask, two):
    """Items, records, keys and the name; nothing of the other tenant's."""
    others = {place: item for place, item in ask.state.items.items() if "globex" in str(place)}
    answer = await ask("DeleteTenant", tenant_id="acme")
    assert answer.deleted_item_count == 1
    assert answer.deleted_record_count == 7
    assert answer.deleted_key_count == 1
    kept = {place for place in ask.state.items if place[1] != "custom:keys"}
    assert kept == {place for place in others if place[1] != "custom:keys"}
    assert len(ask.state.system("custom:keys")) == 1
    await refused(ask("GetTenant", tenant_id="acme"), Reason.TENANT_NOT_FOUND)
    await refused(ask("DeleteTenant", tenant_id="acme"), Reason.TENANT_NOT_FOUND)
    await ask("CreateTenant", tenant_id="acme")


async def test_a_purge_may_purge_and_nothing_else(ask, two):
    """The context for it names the tenant, and holds that one permission."""
    ask.state.calls.clear()
    await ask("DeleteTenant", tenant_id="acme")
    purges = [context for name, context in ask.state.calls if name.startswith("Purge")]
    assert len(purges) == 2
    for context in purges:
        assert context.tenant == "acme"
        assert context.permissions == ("tenant.purge",)
        assert not context.any_tenant
        assert (context.principal, context.request_id) == ("operator", "r1")


STEPS = ["SetState", "ListState", "BatchState", "PurgeState", "PurgeVectors", "DeleteState"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_deletion_that_was_interrupted_can_be_repeated(ask, two, step):
    """Wherever it broke off: before it is finished the tenant is refused, afterwards gone."""
    ask.state.fail_next = [step]
    await refused(ask("DeleteTenant", tenant_id="acme"), Reason.SERVICE_UNAVAILABLE)
    if step != "SetState":
        await refused(ask("GetTenant", tenant_id="acme"), Reason.TENANT_NOT_FOUND)
        await refused(ask("CreateApiKey", tenant_id="acme"), Reason.TENANT_NOT_FOUND)
        await refused(ask("CreateTenant", tenant_id="acme"), Reason.TENANT_EXISTS)
    await ask("DeleteTenant", tenant_id="acme")
    assert not any("acme" in place for place in ask.state.items)
    assert ask.state.system("custom:tenants") == ["globex"]
    assert len(ask.state.system("custom:keys")) == 1


async def test_who_am_i(ask):
    """What the gateway made of the credential."""
    answer = await ask("WhoAmI")
    assert (answer.principal, answer.tenant_id, list(answer.permissions)) == ("operator", "", ["*"])
    assert ask.state.calls == []


async def test_everything_of_the_registry_is_the_systems(ask, two):
    """No tenant's own store holds a trace of keys or tenants."""
    scopes = {scope for tenant, scope, _ in ask.state.items if tenant != SYSTEM_TENANT}
    assert scopes == {"global"}

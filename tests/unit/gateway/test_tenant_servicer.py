"""TenantService: what the operator may ask for, and what a deletion leaves."""

import pytest
from llmspell.v1 import state_pb2, tenant_pb2, types_pb2, vector_admin_pb2

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.scopes import SYSTEM_TENANT
from services.common.tenants import SystemItems
from services.gateway.key_uses import KeyUses
from services.gateway.keys import Digests, read_credential
from services.gateway.registry import CLAIM_S, Registry
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
        self.digests = Digests(b"p" * 32)
        self.uses = KeyUses(SystemItems(self.state, principal="gateway"), self.clock)
        self.servicer = TenantServicer(
            self.registry, self.state, self.clock, self.digests, self.uses
        )

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
    "UpdateTenant",
    "SuspendTenant",
    "ResumeTenant",
    "FreezeTenant",
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
    assert ask.digests.fits(credential, [record.digest])
    assert record.roles == ("reader",)
    secret = answer.key.split("_", 2)[2]  # it may hold an underscore itself
    stored = b"".join(item.SerializeToString() for item in ask.state.items.values())
    assert secret.encode() not in stored
    listed = await ask("ListApiKeys", tenant_id="acme")
    assert answer.api_key in listed.api_keys
    assert secret not in str(listed)
    assert ask.digests.of(answer.key) not in str(listed)


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
    apart = {"custom:keys", "custom:tenant-receipts"}
    kept = {place for place in ask.state.items if place[1] not in apart}
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
    assert len(purges) == 4
    for context in purges:
        assert context.tenant == "acme"
        assert context.permissions == ("tenant.purge", "tenant.end")
        assert not context.any_tenant
        assert (context.principal, context.request_id) == ("operator", "r1")


PURGES = ["PurgeFiles", "PurgeUsage", "PurgeVectors", "PurgeState"]
STEPS = ["SetState", "ListState", "BatchState", *PURGES, "DeleteState"]


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
    receipts = ask.state.system("custom:tenant-receipts")
    assert all(key.startswith("acme/") for key in receipts)
    assert (await ask("GetDeletionReceipt", tenant_id="acme")).receipt.complete
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


async def test_isolation_is_told_kept_and_shown(ask, two):
    """The vector process hears it between purge and opening; the default is told as well."""
    ask.state.calls.clear()
    made = await ask("CreateTenant", tenant_id="third", isolation="ISOLATION_HYBRID")
    names = [name for name, _ in ask.state.calls]
    steps = ["SetState", *PURGES, "ConfigureVectorTenant", "SetState"]
    assert [name for name in names if name != "GetState"] == steps
    assert ask.state.isolation["third"] == vector_admin_pb2.ISOLATION_HYBRID
    assert ask.state.isolation["acme"] == vector_admin_pb2.ISOLATION_NAMESPACE
    shown = [made.tenant, (await ask("GetTenant", tenant_id="third")).tenant]
    assert [tenant.isolation for tenant in shown] == [vector_admin_pb2.ISOLATION_HYBRID] * 2
    listed = {tenant.tenant_id: tenant.isolation for tenant in (await ask("ListTenants")).tenants}
    assert listed == {"acme": 1, "globex": 1, "third": 4}


async def test_an_unknown_isolation_is_refused(ask, two):
    """And the id stays free."""
    error = await refused(
        ask("CreateTenant", tenant_id="third", isolation=99), Reason.FIELD_INVALID, "isolation"
    )
    assert "namespace, database, metadata, hybrid" in error.message
    await ask("CreateTenant", tenant_id="third")


MAKING_STEPS = ["SetState", *PURGES, "ConfigureVectorTenant"]


@pytest.mark.parametrize("step", MAKING_STEPS)
async def test_a_creation_that_failed_can_be_repeated_at_once(ask, two, step):
    """The tenant is not there in between, and what is made in the end is what was asked last."""
    ask.state.fail_next = [step]
    await refused(ask("CreateTenant", tenant_id="third"), Reason.SERVICE_UNAVAILABLE)
    await refused(ask("GetTenant", tenant_id="third"), Reason.TENANT_NOT_FOUND)
    await refused(ask("CreateApiKey", tenant_id="third"), Reason.TENANT_NOT_FOUND)
    answer = await ask("CreateTenant", tenant_id="third", isolation="ISOLATION_METADATA")
    assert answer.tenant.isolation == vector_admin_pb2.ISOLATION_METADATA
    await ask("CreateApiKey", tenant_id="third")


class KilledError(BaseException):
    """The gateway died here."""


@pytest.mark.parametrize("step", MAKING_STEPS[1:])
async def test_a_creation_that_died_can_be_repeated_after_a_while(ask, two, step):
    """Until then another call might be at it; afterwards the id is free, and only this id."""

    async def die():
        raise KilledError

    ask.state.before[step] = die
    with pytest.raises(KilledError):
        await ask("CreateTenant", tenant_id="third")
    await refused(ask("GetTenant", tenant_id="third"), Reason.TENANT_NOT_FOUND)
    ask.clock.advance(CLAIM_S - 1)
    await refused(ask("CreateTenant", tenant_id="third"), Reason.TENANT_EXISTS)
    ask.clock.advance(1)
    await ask("CreateTenant", tenant_id="third")
    await refused(ask("CreateTenant", tenant_id="acme"), Reason.TENANT_EXISTS)


async def test_who_lost_an_id_opens_nothing(ask, two):
    """A maker that was held up finds its tenant made by another, and leaves it as it is."""

    async def be_overtaken():
        ask.clock.advance(CLAIM_S)
        await ask("CreateTenant", tenant_id="third", display_name="second")

    ask.state.before["ConfigureVectorTenant"] = be_overtaken
    late = ask("CreateTenant", tenant_id="third", display_name="first")
    await refused(late, Reason.TENANT_EXISTS)
    assert (await ask("GetTenant", tenant_id="third")).tenant.display_name == "second"


async def test_a_tenant_that_is_deleted_while_it_is_made_stays_deleted(ask, two):
    """The maker does not bring it back."""

    async def be_deleted():
        await ask("DeleteTenant", tenant_id="third")

    ask.state.before["ConfigureVectorTenant"] = be_deleted
    await refused(ask("CreateTenant", tenant_id="third"), Reason.TENANT_EXISTS)
    await refused(ask("GetTenant", tenant_id="third"), Reason.TENANT_NOT_FOUND)


def condition(field="team", **test):
    return types_pb2.Filter(condition=types_pb2.Condition(field=field, **test))


def text(value):
    return types_pb2.Value(string_value=value)


async def test_a_row_filter_is_kept_and_shown(ask, two):
    """With its key and no other; the same filter is the same bytes."""
    rule = condition(equals=text("red"))
    made = (await ask("CreateApiKey", tenant_id="acme", row_filter=rule)).api_key
    assert made.row_filter == rule
    listed = (await ask("ListApiKeys", tenant_id="acme")).api_keys
    assert [key.row_filter for key in listed if key.HasField("row_filter")] == [rule]
    record = await ask.registry.key(made.key_id)
    assert types_pb2.Filter.FromString(record.row_filter) == rule


def deep(levels):
    rule = condition(exists=True)
    for _ in range(levels - 1):
        rule = types_pb2.Filter(**{"not": rule})
    return rule


def listed(kind, *filters):
    return types_pb2.Filter(**{kind: types_pb2.FilterList(filters=filters)})


UNFIT = {
    "row_filter must be all": types_pb2.Filter(),
    "row_filter.any[1] must be all": listed("any", condition(exists=True), types_pb2.Filter()),
    "row_filter must have a test": condition(),
    "row_filter.field must name": condition("a..b", exists=True),
    "row_filter.equals must not be null": condition(equals=types_pb2.Value()),
    "row_filter.prefix must not be empty": condition(prefix=""),
    "row_filter.range must have a bound": condition(range=types_pb2.Range()),
    "row_filter.range must not mix": condition(
        range=types_pb2.Range(gt=types_pb2.Value(int_value=1), lt=text("a"))
    ),
    "row_filter.time must have a bound": condition(time=types_pb2.TimeBounds()),
    "row_filter.not.not.not.not.not.not.not.not is nested deeper": deep(9),
    "row_filter has 65 conditions": listed("all", *[condition(exists=True)] * 65),
    "row_filter.min_should must be at most 1": types_pb2.Filter(
        clauses=types_pb2.Clauses(should=[condition(exists=True)], min_should=2)
    ),
}


@pytest.mark.parametrize(("words", "rule"), UNFIT.items(), ids=UNFIT)
async def test_an_unfit_row_filter_makes_no_key(ask, two, words, rule):
    """It is refused when the key is made, and the message says where it is wrong."""
    before = dict(ask.state.items)
    call = ask("CreateApiKey", tenant_id="acme", row_filter=rule)
    error = await refused(call, Reason.FILTER_INVALID)
    assert error.message.startswith(words)
    assert ask.state.items == before


async def test_a_row_filter_has_a_limit_in_bytes_and_levels(ask, two):
    """At the limit it is kept, one over it is not."""
    await ask("CreateApiKey", tenant_id="acme", row_filter=deep(8))
    room = 4096 - condition(equals=text("x" * 4000)).ByteSize() + 4000
    await ask("CreateApiKey", tenant_id="acme", row_filter=condition(equals=text("x" * room)))
    large = condition(equals=text("x" * (room + 1)))
    error = await refused(
        ask("CreateApiKey", tenant_id="acme", row_filter=large), Reason.LIMIT_EXCEEDED
    )
    assert error.metadata == {"field": "row_filter", "got": "4097", "limit": "4096"}

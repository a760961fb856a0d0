"""From a credential to a context: what is accepted, and what a refusal tells."""

import hmac

import grpc
import pytest
from llmspell.v1 import tenant_pb2, tenant_pb2_grpc

from services.common.access import METHODS
from services.common.clock import FakeClock
from services.common.context import REQUEST_ID_KEY, TENANT_KEY, CallContext, current_context
from services.common.door import Door
from services.common.errors import Reason, ServiceError
from services.common.status import DETAILS_KEY
from services.common.telemetry import Counts
from services.common.tenants import CACHE_S, SystemItems, TenantRecord
from services.common.tokens import Token, Tokens
from services.gateway import keys as keys_module
from services.gateway.auth import AUTHORIZATION_KEY, Authenticator
from services.gateway.grants import Grants
from services.gateway.key_uses import KeyUses
from services.gateway.keys import Digests, new_key
from services.gateway.operator import Operator
from services.gateway.registry import KeyRecord, Registry
from tests.fakes import FakeState
from tests.servers import calling

METHOD = METHODS["/llmspell.v1.StateService/GetState"]
OPERATOR_KEY = new_key("operator")[1]


class World:
    """Two tenants with a key each, and an operator."""

    def __init__(self):
        self.clock = FakeClock()
        self.state = FakeState()
        self.registry = Registry(self.state, self.clock)
        self.items = SystemItems(self.state, principal="gateway")
        self.digests = Digests(b"p" * 32)
        self.tokens = Tokens(b"k" * 32, self.clock)
        self.uses = KeyUses(self.items, self.clock)
        self.grants = Grants(self.items, self.clock)
        self.authenticate = self.knowing(OPERATOR_KEY)
        self.keys = {}

    def knowing(self, operator_key, own=()):
        operator = Operator(
            operator_key, self.registry, self.grants, self.digests, own_tenants=frozenset(own)
        )
        return Authenticator(
            self.registry, operator, self.digests, self.tokens, self.clock, uses=self.uses
        )

    async def add(self, tenant_id, *roles, row_filter=b"", **more):
        record = TenantRecord(tenant_id=tenant_id, display_name="", create_ns=0)
        await self.registry.create_tenant(record)
        key_id, key = new_key()
        digest = self.digests.of(key)
        await self.registry.create_key(
            KeyRecord(
                key_id=key_id,
                tenant_id=tenant_id,
                digest=digest,
                roles=roles,
                display_name="",
                create_ns=0,
                row_filter=row_filter,
                **more,
            )
        )
        self.keys[tenant_id] = key

    async def ask(self, *metadata):
        return await self.authenticate(metadata, METHOD)

    async def as_key(self, key, tenant=None, *more):
        named = () if tenant is None else ((TENANT_KEY, tenant),)
        return await self.ask((AUTHORIZATION_KEY, f"Bearer {key}"), *named, *more)


@pytest.fixture
async def world():
    world = World()
    await world.add("acme", "writer")
    await world.add("globex", "reader")
    return world


async def refusal(call):
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


async def test_a_tenants_key_speaks_for_its_tenant(world):
    """Tenant, principal and permissions come from the key's record alone."""
    context = await world.as_key(world.keys["acme"])
    assert context.tenant == "acme"
    assert context.principal == world.keys["acme"].split("_")[1]
    assert "state.write" in context.permissions
    assert not context.any_tenant
    assert len(context.request_id) == 32
    reader = await world.as_key(world.keys["globex"])
    assert "state.write" not in reader.permissions


async def test_its_own_tenant_may_be_named(world):
    """Naming what is so changes nothing; an empty name is none."""
    plain = await world.as_key(world.keys["acme"], None, (REQUEST_ID_KEY, "r"))
    for named in ("acme", ""):
        assert await world.as_key(world.keys["acme"], named, (REQUEST_ID_KEY, "r")) == plain


@pytest.mark.parametrize(
    "named", ["globex", "nobody", "_system", "*", "Acme", "acme ", "acme,globex", "acme\x00", "%61"]
)
async def test_no_other_tenant_may_be_named(world, named):
    """One refusal, in the same words, whether the other tenant exists or not; nobody is asked."""
    error = await refusal(world.as_key(world.keys["acme"], named))
    assert error.reason == Reason.PERMISSION_DENIED
    assert error.message == "This key may not act for the tenant that was named."
    assert error.metadata == {}


async def test_the_operator_names_a_tenant_or_none(world):
    """To manage it; which tenant, it says."""
    metadata = ((AUTHORIZATION_KEY, f"Bearer {OPERATOR_KEY}"),)
    method = METHODS["/llmspell.v1.UsageService/SetBudget"]
    context = await world.authenticate(metadata, method)
    assert (context.tenant, context.principal) == ("", "operator")
    assert context.any_tenant
    assert not {"*", "state.read", "vector.read", "script.run"} & set(context.permissions)
    named = (*metadata, (TENANT_KEY, "globex"))
    assert (await world.authenticate(named, method)).tenant == "globex"


@pytest.mark.parametrize(
    "named", ["nobody", "_system", "_", "ACME", "Acme", "acme ", "a" * 10_000, "acme\x00", "a/b"]
)
async def test_the_operator_cannot_name_what_is_no_tenant(world, named):
    """Neither the system's own tenant, nor one that does not exist, nor a look-alike."""
    error = await refusal(world.as_key(OPERATOR_KEY, named))
    assert error.reason == Reason.TENANT_NOT_FOUND
    assert len(error.message) < 200


async def test_a_tenant_that_is_gone_does_not_lock_the_operator_out(world):
    """A profile may still name it; what needs no tenant is answered as if none were named."""
    metadata = ((AUTHORIZATION_KEY, f"Bearer {OPERATOR_KEY}"), (TENANT_KEY, "gone"))
    method = METHODS["/llmspell.v1.TenantService/ListTenants"]
    assert (await world.authenticate(metadata, method)).tenant == ""


async def test_the_system_tenant_stays_closed_even_if_it_has_a_record(world):
    """Should a record of that name ever be there, the name is still refused."""
    record = TenantRecord(tenant_id="_system", display_name="", create_ns=0)
    await world.registry.create_tenant(record)
    error = await refusal(world.as_key(OPERATOR_KEY, "_system"))
    assert error.reason == Reason.TENANT_NOT_FOUND


def bad_credentials():
    secret = "x" * 43
    return [
        f"Bearer llms_nobody_{secret}",
        f"Bearer llms_operator_{secret}",
        f"Bearer llms__{secret}",
        f"Bearer {secret}",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        OPERATOR_KEY,
        f"Bearer{OPERATOR_KEY}",
        f"Bearer Bearer {OPERATOR_KEY}",
        f"Bearer {OPERATOR_KEY}x",
        f"Bearer {OPERATOR_KEY[:-1]}",
        f"Bearer {OPERATOR_KEY.upper()}",
        f"Bearer {OPERATOR_KEY},{OPERATOR_KEY}",
        "Bearer " + "x" * 1_000_000,
        "Bearer \x00\r\n",
    ]


@pytest.mark.parametrize("value", bad_credentials(), ids=range(len(bad_credentials())))
async def test_a_bad_credential_is_refused_in_the_same_words(world, value):
    """Unknown, wrong, malformed, of another scheme: the same answer, and nothing of it shown."""
    error = await refusal(world.ask((AUTHORIZATION_KEY, value)))
    assert error.reason == Reason.CREDENTIAL_INVALID
    assert error.message == "The API key is not valid; it may have been revoked."
    assert error.metadata == {}


@pytest.mark.parametrize(
    "value", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "]
)
async def test_the_scheme_has_no_case_and_spaces_do_not_matter(world, value):
    """As RFC 9110 has it."""
    key = world.keys["acme"]
    assert (await world.ask((AUTHORIZATION_KEY, value.format(key)))).tenant == "acme"


@pytest.mark.parametrize("metadata", [(), ((AUTHORIZATION_KEY, ""),), (("x-api-key", "x"),)])
async def test_no_credential_is_said_to_be_missing(world, metadata):
    """And where to put it."""
    error = await refusal(world.ask(*metadata))
    assert error.reason == Reason.CREDENTIAL_MISSING
    assert "authorization" in error.message


@pytest.mark.parametrize("name", [AUTHORIZATION_KEY, TENANT_KEY])
async def test_nothing_may_be_named_twice(world, name):
    """Two credentials or two tenants are refused even where both are the same."""
    entries = {AUTHORIZATION_KEY: f"Bearer {world.keys['acme']}", TENANT_KEY: "acme"}
    error = await refusal(world.ask(*entries.items(), (name, entries[name])))
    assert error.reason == Reason.CREDENTIAL_INVALID
    assert error.metadata == {"field": name}


async def test_another_tenants_secret_does_not_fit(world):
    """The id of one key with the secret of another is no key."""
    first, second = world.keys["acme"], world.keys["globex"]
    mixed = first[: len(first) - 43] + second[-43:]
    error = await refusal(world.as_key(mixed))
    assert error.reason == Reason.CREDENTIAL_INVALID


async def test_without_an_operator_nobody_is_one(world):
    """Where no operator's key is configured, none fits; not even an empty one."""
    closed = world.knowing("")
    for key in (OPERATOR_KEY, "llms_operator_" + "\x00" * 43, "llms_operator_" + "0" * 43):
        error = await refusal(closed(((AUTHORIZATION_KEY, f"Bearer {key}"),), METHOD))
        assert error.reason == Reason.CREDENTIAL_INVALID


async def test_an_unknown_key_costs_what_a_wrong_secret_costs(world, monkeypatch):
    """One look-up and one comparison in constant time, for both."""
    compared = []

    def compare(first, second):
        compared.append((len(first), len(second)))
        return hmac_compare(first, second)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    costs = []
    known = world.keys["acme"]
    for key in (f"llms_{'0' * 16}_{'x' * 43}", known[: len(known) - 43] + "x" * 43):
        world.clock.advance(CACHE_S)
        compared.clear()
        before = world.state.count("GetState")
        await refusal(world.as_key(key))
        costs.append((world.state.count("GetState") - before, tuple(compared)))
    assert costs == [(1, ((32, 32), (32, 32)))] * 2


async def test_a_wrong_secret_is_refused_while_the_right_one_is_remembered(world):
    """What is remembered is the record, never the verdict."""
    key = world.keys["acme"]
    await world.as_key(key)
    for _ in range(2):
        error = await refusal(world.as_key(key[:-1] + ("x" if key[-1] != "x" else "y")))
        assert error.reason == Reason.CREDENTIAL_INVALID
        await world.as_key(key)


async def test_a_revoked_key_is_refused_at_once(world):
    """By the gateway that revoked it."""
    key = world.keys["acme"]
    await world.as_key(key)
    await world.registry.revoke_key(key.split("_")[1])
    assert (await refusal(world.as_key(key))).reason == Reason.CREDENTIAL_INVALID


async def test_keys_of_a_tenant_that_is_being_deleted_are_refused(world):
    """From the mark on, even before its keys have been ended (found in review)."""
    key = world.keys["acme"]
    await world.as_key(key)
    await world.registry.begin_deletion("acme")
    assert (await refusal(world.as_key(key))).reason == Reason.CREDENTIAL_INVALID
    assert (await refusal(world.as_key(OPERATOR_KEY, "acme"))).reason == Reason.TENANT_NOT_FOUND
    await world.as_key(world.keys["globex"])


async def test_when_state_is_away_nobody_gets_in(world):
    """An outage is told as one; it is not taken for a wrong key, nor for a right one."""
    world.state.fail_next = ["GetState"]
    error = await refusal(world.as_key(world.keys["acme"]))
    assert error.reason == Reason.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("sent", ["abc", "A-b_9", "x" * 64])
async def test_a_plain_request_id_is_kept(world, sent):
    """So that a caller finds its call in the log."""
    context = await world.as_key(world.keys["acme"], None, (REQUEST_ID_KEY, sent))
    assert context.request_id == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "é", "a\n", '"', "\u0661", "a\x9b"])
async def test_any_other_request_id_is_replaced(world, sent):
    """Nothing of the caller's reaches a log line or a trailer but what cannot do harm there."""
    context = await world.as_key(world.keys["acme"], None, (REQUEST_ID_KEY, sent))
    assert len(context.request_id) == 32
    assert context.request_id != sent


async def test_two_request_ids_are_none(world):
    """Which of them it would be, nobody could tell."""
    twice = ((REQUEST_ID_KEY, "a"), (REQUEST_ID_KEY, "b"))
    context = await world.as_key(world.keys["acme"], None, *twice)
    assert context.request_id not in {"a", "b"}


class WhoAmI(tenant_pb2_grpc.TenantServiceServicer):
    """Tells whom the door let in."""

    async def WhoAmI(self, request, context):  # noqa: N802
        caller = current_context()
        return tenant_pb2.WhoAmIResponse(principal=caller.principal, tenant_id=caller.tenant)


@pytest.fixture
async def public(world):
    """The authenticator behind a real door and a real transport."""
    door = Door(world.authenticate, Counts(), calls_at_once=10)
    server = grpc.aio.server(interceptors=(door,))
    tenant_pb2_grpc.add_TenantServiceServicer_to_server(WhoAmI(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with calling(f"127.0.0.1:{port}") as channel:
        yield tenant_pb2_grpc.TenantServiceStub(channel).WhoAmI
    await server.stop(0)


async def test_over_the_wire_a_key_is_known(world, public):
    """The same through the transport, which writes names in small letters."""
    metadata = ((AUTHORIZATION_KEY, f"Bearer {world.keys['acme']}"),)
    assert (await public(tenant_pb2.WhoAmIRequest(), metadata=metadata)).tenant_id == "acme"


@pytest.mark.parametrize(
    "metadata",
    [
        ((AUTHORIZATION_KEY, "Bearer " + "x" * 4000),),
        ((AUTHORIZATION_KEY, "Bearer ~!@#$%^&*()"),),
        ((AUTHORIZATION_KEY, OPERATOR_KEY), (AUTHORIZATION_KEY, OPERATOR_KEY)),
        (("authorization-bin", OPERATOR_KEY.encode()),),
        (("llmspell-context-bin", b"x"),),
    ],
)
async def test_over_the_wire_a_bad_credential_is_refused(public, metadata):
    """Long, odd, doubled or under another name: UNAUTHENTICATED with a reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await public(tenant_pb2.WhoAmIRequest(), metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert DETAILS_KEY in dict(caught.value.trailing_metadata())
    assert OPERATOR_KEY not in repr(caught.value)


async def test_a_keys_row_filter_is_in_its_calls():
    """The rule of a key travels with each call; another tenant's key has none of it."""
    world = World()
    await world.add("acme", "reader", row_filter=b"rule")
    await world.add("globex", "reader")
    assert (await world.as_key(world.keys["acme"])).row_filter == b"rule"
    assert (await world.as_key(world.keys["globex"])).row_filter == b""
    world.authenticate = world.knowing(OPERATOR_KEY, own=["acme"])
    assert (await world.as_key(OPERATOR_KEY, "acme")).row_filter == b""


async def test_a_token_of_an_issuer_is_held_to_tenants_that_are_there(world):
    """Its reader says who calls; that the tenant is there and no other is named is seen to."""

    class Reader:
        async def read(self, text):
            tenant = text.split(".")[0]
            return CallContext(tenant=tenant, principal="corp/anna", permissions=("state.read",))

    world.authenticate._issuers = Reader()
    assert (await world.as_key("acme.x.y")).principal == "corp/anna"
    assert len((await world.as_key("acme.x.y")).request_id) == 32
    assert (await refusal(world.as_key("nobody.x.y"))).reason == Reason.CREDENTIAL_INVALID
    assert (await refusal(world.as_key("acme.x.y", "globex"))).reason == Reason.PERMISSION_DENIED


async def test_without_issuers_no_such_token_is_taken(world):
    """The default."""
    assert (await refusal(world.as_key("acme.x.y"))).reason == Reason.CREDENTIAL_INVALID


async def test_a_token_stands_and_falls_with_its_key(world):
    """Exchanged for a key: until that is revoked, or the token's own end."""
    key_id = world.keys["acme"].split("_")[1]
    context = CallContext(
        tenant="acme",
        principal=key_id,
        permissions=("state.read",),
        expires_ns=world.clock.now_ns() + 60 * 10**9,
    )
    text = world.tokens.write(Token(context=context, key_id=key_id))
    assert (await world.as_key(text)).permissions == ("state.read",)
    assert (await refusal(world.as_key(text, "globex"))).reason == Reason.PERMISSION_DENIED
    await world.registry.revoke_key(key_id)
    assert (await refusal(world.as_key(text))).reason == Reason.CREDENTIAL_INVALID


async def test_uses_are_kept_once_a_minute_and_not_for_keys_that_are_gone(world):
    """Not in the call; a revoked key leaves nothing behind."""
    key = world.keys["acme"]
    key_id = key.split("_")[1]
    before = world.state.count("BatchState")
    for _ in range(3):
        await world.as_key(key)
    await world.uses.keep()
    await world.uses.keep()
    assert world.state.count("BatchState") == before + 1
    assert await world.uses.last(key_id) == world.clock.now_ns()
    world.clock.advance(60)
    await world.as_key(key)
    await world.registry.revoke_key(key_id)
    await world.uses.keep()
    assert world.state.system("custom:key-uses") == []

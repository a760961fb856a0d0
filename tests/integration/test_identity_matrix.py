"""Every RPC with credentials that must not work, and every Lua function with foreign scopes.

The rows are those of `test_isolation_matrix`, which fails until a new method has one.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from llmspell import Client

from services.common.access import METHODS
from services.common.clock import SystemClock
from services.common.context import CallContext, read_key
from services.common.tokens import Token, Tokens
from services.gateway.roles import OPERATOR_MANAGES, OPERATOR_READS_DATA, ROLES
from tests.house import tree
from tests.integration.test_isolation_matrix import (
    OPERATOR_ONLY,
    OWNERS,
    Caller,
    key,
    plant,
    requests_for,
)

HELD_S = 10
SURFACE = json.loads((tree.ROOT / "tests" / "scripts" / "surface.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def caller(deployment):
    caller = Caller(deployment.address)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def acme_data(deployment, caller):
    """Acme has a session, an item, a document and an artifact that tell a secret."""
    return plant(deployment, caller)


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


def bearer(text):
    return (("authorization", f"Bearer {text}"),)


def until_refused(call, metadata, reason):
    """Ask who it is until the refusal is there: what is remembered lasts a second."""
    deadline = time.monotonic() + HELD_S
    while call("/llmspell.v1.StateService/GetState", None, metadata)[1] != reason:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def request_of(path):
    """The row's own request for a thing of acme's, where there is one."""
    name = path.removeprefix("/llmspell.v1.")
    if name in OPERATOR_ONLY:
        return OPERATOR_ONLY[name]("acme")
    return ROWS.get(name)


ROWS = requests_for("secret")


def refused_everywhere(call, metadata, code, reason, paths=METHODS):
    """Every method answers the same, and tells nothing of anybody's data."""
    for path in sorted(paths):
        answer = call(path, request_of(path), metadata)
        assert (answer[0], answer[1], answer[3]) == (code, reason, b""), path
        assert "cats" not in answer[2]


def test_a_revoked_key_is_refused_by_every_method(deployment, operator, caller):
    """From a second after its end on."""
    made = operator.create_key("acme")
    metadata = bearer(made.key)
    assert caller("/llmspell.v1.TenantService/WhoAmI", None, metadata)[0] == "OK"
    operator.revoke_key(made.api_key.key_id)
    until_refused(caller, metadata, "CREDENTIAL_INVALID")
    refused_everywhere(caller, metadata, "UNAUTHENTICATED", "CREDENTIAL_INVALID")


def test_an_expired_key_is_refused_by_every_method(deployment, operator, caller):
    """At its second, though it was remembered as good."""
    end = datetime.now(UTC) + timedelta(seconds=1)
    metadata = bearer(operator.create_key("acme", expire_time=end).key)
    caller("/llmspell.v1.TenantService/WhoAmI", None, metadata)
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()))
    refused_everywhere(caller, metadata, "UNAUTHENTICATED", "CREDENTIAL_INVALID")


def test_a_suspended_tenant_is_refused_by_every_method(deployment, operator, caller):
    """Its key still may what it may, and nothing of it is answered."""
    deployment.tenant("shut")
    operator.suspend_tenant("shut", note="unpaid")
    try:
        metadata = key(deployment, "shut")
        until_refused(caller, metadata, "TENANT_SUSPENDED")
        mine = [p for p, m in METHODS.items() if m.permission in ROLES["admin"]]
        assert len(mine) > 100
        refused_everywhere(caller, metadata, "FAILED_PRECONDITION", "TENANT_SUSPENDED", mine)
        others = [path for path in METHODS if path not in mine]
        refused_everywhere(caller, metadata, "PERMISSION_DENIED", "PERMISSION_DENIED", others)
    finally:
        operator.resume_tenant("shut")


@pytest.mark.parametrize("role", ["reader", "writer", "admin", "narrow"])
def test_a_role_is_refused_by_every_method_that_it_may_not(deployment, operator, caller, role):
    """And by no other for that reason: what it may read is answered."""
    roles, scopes = ([role], []) if role != "narrow" else (["admin"], ["state.read"])
    made = operator.create_key("acme", roles=roles, scopes=scopes)
    held = {"self.read", "state.read"} if role == "narrow" else ROLES[role]
    metadata = bearer(made.key)
    refused = [path for path, method in METHODS.items() if method.permission not in held]
    refused_everywhere(caller, metadata, "PERMISSION_DENIED", "PERMISSION_DENIED", refused)
    for name in ("StateService/ListState", "TenantService/WhoAmI"):
        assert caller(f"/llmspell.v1.{name}", None, metadata)[0] == "OK"
    operator.revoke_key(made.api_key.key_id)


def test_the_operator_is_refused_by_every_method_that_sees_data(deployment, caller, operator):
    """Until it is let in; what it manages does not ask for that."""
    for grant in operator.list_grants("acme"):
        operator.end_grant("acme", grant.grant_id)
    metadata = (*bearer(deployment.operator_key), ("llmspell-tenant", "acme"))
    data = [
        path
        for path, method in METHODS.items()
        if not method.tenantless
        and (method.permission not in OPERATOR_MANAGES or path in OPERATOR_READS_DATA)
    ]
    assert len(data) > 100
    refused_everywhere(caller, metadata, "PERMISSION_DENIED", "GRANT_REQUIRED", data)


def tokens_of(deployment):
    """Tokens that no process may take for acme's."""
    clock = SystemClock()
    right = read_key(deployment.data / "secrets" / "context.key")
    context = CallContext(
        tenant="acme",
        principal="x",
        permissions=("*",),
        any_tenant=True,
        expires_ns=clock.now_ns() + 60 * 10**9,
    )
    good = Tokens(right, clock).write(Token(context=context))
    past = replace(context, expires_ns=clock.now_ns() - 1)
    return {
        "forged": Tokens(bytes(32), clock).write(Token(context=context)),
        "expired": Tokens(right, clock).write(Token(context=past)),
        "for another": Tokens(right, clock).write(Token(context=context, audience=("nobody",))),
        "cut": good[:-1],
        "longer": good + "A",
    }


@pytest.mark.parametrize("place", ["gateway", "runtime", "vector", "state"])
def test_a_bad_token_is_refused_by_every_method_of_every_process(deployment, place):
    """Forged, expired, for another process, damaged: at the gateway and past it."""
    address = deployment.address if place == "gateway" else deployment.inner_address(place)
    call = Caller(address)
    paths = [p for p, m in METHODS.items() if place == "gateway" or OWNERS.get(m.service) == place]
    assert paths
    for text in tokens_of(deployment).values():
        refused_everywhere(call, bearer(text), "UNAUTHENTICATED", "CREDENTIAL_INVALID", paths)
    call.close()


def test_two_credentials_are_refused_by_every_method(deployment, caller):
    """Twice the same, two tenants' keys, a key and a token: exactly one is taken."""
    acme, globex = key(deployment, "acme"), key(deployment, "globex")
    token = bearer(tokens_of(deployment)["forged"])
    for metadata in ((*globex, *globex), (*globex, *acme), (*globex, *token)):
        refused_everywhere(caller, metadata, "UNAUTHENTICATED", "CREDENTIAL_INVALID")


FOREIGN = (
    "tenant:acme",
    "tenant:acme:session:s",
    "acme",
    "session:s@acme",
    "acme/session:s",
    "Session:s",
    "session:S",
    "SESSION:s",
    "ѕession:s",  # noqa: RUF001  (a Cyrillic letter, on purpose)
    "session:s\u200b",
    "session:s:",
    "session:../s",
    "session::s",
    " session:s",
    "session:s%00",
    "session:" + "s" * 5000,
)
LEFT_OUT = frozenset(
    {"receive", "pull", "yield", "schedules.once", "schedules.interval", "schedules.cron",
     "restore_backup", "cleanup_backups", "execute", "invoke", "replay", "stackTrace"}
)  # fmt: skip
"""What waits for something, or restores what other tests have made."""
LUA = """
local scope, names = JSON.parse(ARGS.scope), JSON.parse(ARGS.names)
local told = {}
for _, name in ipairs(names) do
  local f = _G
  for part in name:gmatch("[^.]+") do f = f and f[part] end
  local shapes = {
    {scope, "secret"},
    {"secret", scope},
    {{scope = scope, key = "secret", name = "secret", tenant_id = "acme", tenant = "acme"}},
    {"secret", {scope = scope, collection = "secret", tenant_id = "acme"}},
  }
  for _, shape in ipairs(shapes) do
    local ok, answer = pcall(f, table.unpack(shape))
    local _, text = pcall(JSON.stringify, answer)
    told[#told + 1] = name .. " " .. tostring(text)
  end
end
return told
"""


NAMES = [
    f"{owner.partition(' ')[0]}.{function}"
    for owner, rows in SURFACE.items()
    if owner in {"State", "RAG", "Session", "Artifact", "Event", "Agent", "Workflow"}
    for function in rows["functions"]
    if function not in LEFT_OUT
]


def tried(deployment, tenant, scope, names):
    """What every function says of a scope, in whichever argument it is named."""
    with Client(deployment.address, deployment.keys[tenant], timeout_s=60) as client:
        named = {"scope": json.dumps(scope), "names": json.dumps(names)}
        *_, result = client.run(LUA, named=named)
    assert len(result.value) == 4 * len(names)
    return [text for text in result.value if "cats can fly" in text or " 41" in text]


@pytest.mark.parametrize("scope", FOREIGN, ids=range(len(FOREIGN)))
def test_no_lua_function_reaches_another_tenant(deployment, acme_data, scope):
    """Whatever scope, and whatever tenant, a script of a stranger names in whichever argument."""
    tenant = deployment.tenant("stranger")  # it makes things, which others look for at globex
    assert tried(deployment, tenant, scope, NAMES) == []


def test_its_own_tenant_is_told_by_the_same_calls(deployment, acme_data):
    """The test above fails for the right reason: acme's own script sees what is looked for."""
    reads = ["State.load", "State.get", "Artifact.get", "Artifact.list"]
    assert tried(deployment, "acme", "session:s", reads)

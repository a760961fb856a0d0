"""Policies of a running deployment: what they take away, from whom, on every path, and how soon."""

from __future__ import annotations

import time

import pytest
from llmspell import Client, NotFound, PermissionDenied, Record
from llmspell.errors import Conflict, InvalidArgument
from llmspell.types import Policy

SETTLE_S = 1.0
"""Within this a policy holds everywhere; with one gateway it does at once."""


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


@pytest.fixture
def tenants(deployment, operator):
    """Two tenants with a writer each; what is set of the first is gone afterwards."""
    first, second = deployment.tenant("policed"), deployment.tenant("free")
    key = operator.create_key(first, roles=["writer"])
    with (
        Client(deployment.address, deployment.keys[first]) as admin,
        Client(deployment.address, key.key) as writer,
        Client(deployment.address, deployment.keys[second]) as other,
    ):
        yield first, admin, writer, other
    for policy in list(operator.list_policies()):
        operator.delete_policy(policy.tenant_id, policy.subject)


def put(operator, tenant, subject="role:writer", **rules):
    return operator.set_policy(
        Policy(tenant_id=tenant, subject=subject, **({"allow": ["*"]} | rules))
    )


def denied(call, *args, **kwargs):
    with pytest.raises(PermissionDenied) as refused:
        call(*args, **kwargs)
    assert refused.value.reason == "POLICY_DENIED"
    return refused.value


def ran(client, source, **kwargs):
    """What a script returns."""
    return list(client.run(source, **kwargs))[-1].value


def test_operations(operator, tenants):
    """Only what is allowed is let through, deny wins, others are not concerned, for no longer."""
    tenant, admin, writer, other = tenants
    writer.set_state("a", 1)
    put(operator, tenant, allow=["state.*"], deny=["StateService/Set*"])
    error = denied(writer.set_state, "a", 2)
    assert error.metadata["policy"].startswith(f"{tenant}/role:writer@")
    assert error.metadata["rule"] == "deny[0] StateService/Set*"
    assert writer.get_state("a").value == 1
    denied(lambda: list(writer.list_sessions()))
    assert writer.who_am_i().tenant_id == tenant
    admin.set_state("a", 3)
    other.set_state("a", 4)
    operator.delete_policy(tenant, "role:writer")
    writer.set_state("a", 5)


def test_a_policy_gives_nothing(operator, tenants):
    """What a role may not, no policy lets it do."""
    tenant, _, writer, _ = tenants
    put(operator, tenant, allow=["*"])
    with pytest.raises(PermissionDenied) as refused:
        writer.rotate_tenant_key()
    assert refused.value.reason == "PERMISSION_DENIED"


def test_scopes_that_may_not_be_seen_are_not_there(operator, tenants):
    """Reading one answers as an empty one does; listing leaves it out; writing is refused."""
    tenant, admin, writer, _ = tenants
    admin.set_state("k", 1, scope="user:alice")
    admin.set_state("k", 2, scope="user:alice2")
    put(operator, tenant, scopes=["user:alice", "session:*"])
    assert writer.get_state("k", scope="user:alice").value == 1
    assert writer.get_state("k", scope="user:alice2") is None
    assert writer.get_state("k", scope="user:nobody") is None
    assert list(writer.list_state(scope="user:alice2")) == []
    assert writer.get_state("k") is None
    denied(writer.set_state, "k", 3, scope="user:alice2")
    denied(writer.delete_state, "k", scope="global")
    denied(writer.set_state, "k", 3)
    denied(writer.copy_state, "k", "k", source_scope="user:alice2", scope="user:alice")
    assert admin.get_state("k", scope="user:alice2").value == 2


def test_sessions_of_others(operator, tenants):
    """Sessions that may not be seen are not listed, got, changed or made."""
    tenant, admin, writer, _ = tenants
    for name in ("mine", "theirs"):
        admin.create_session(session_id=f"p-{name}")
    put(operator, tenant, scopes=["session:p-mine"])
    assert [session.session_id for session in writer.list_sessions()] == ["p-mine"]
    with pytest.raises(NotFound):
        writer.get_session("p-theirs")
    denied(writer.complete_session, "p-theirs")
    denied(writer.create_session)
    denied(writer.create_backup)


def test_vectors(operator, tenants):
    """Collections out of sight are not there; rows are filtered; dimensions are limited."""
    tenant, admin, writer, _ = tenants
    for scope in ("user:v1", "user:v2"):
        admin.create_collection("c", dimension=2, scope=scope)
        admin.upsert(
            "c",
            [
                Record(record_id=lang, vector=[1.0, 0.5], metadata={"lang": lang})
                for lang in ("en", "de")
            ],
            scope=scope,
        )
    put(
        operator,
        tenant,
        scopes=["user:v1"],
        row_filter={"lang": "en"},
    )
    found = writer.search("c", [1.0, 0.5], k=5, scope="user:v1")
    assert [hit.record_id for hit in found] == ["en"]
    with pytest.raises(NotFound):
        writer.search("c", [1.0, 0.5], k=5, scope="user:v2")
    listed = {each.scope for each in writer.list_collections(scope="*")}
    assert listed == {"user:v1"}
    put(operator, tenant, "role:admin", max_dimension=3)
    admin.create_collection("small", dimension=3)
    error = denied(admin.create_collection, "big", dimension=4)
    assert error.metadata["got"] == "4"
    denied(admin.ensure_document_collection, "documents")


def test_scripts_are_under_the_same_rules(operator, tenants):
    """What a key may not see or do, its scripts may not."""
    tenant, admin, writer, _ = tenants
    admin.set_state("s", "theirs", scope="user:bob")
    admin.set_state("s", "mine", scope="user:alice")
    put(operator, tenant, scopes=["user:alice"], deny=["StateService/DeleteState"])
    source = """
        local reasons = {}
        for _, attempt in ipairs({
          function() State.save("user:bob", "s", 1) end,
          function() State.delete("user:alice", "s") end,
        }) do
          local ok, err = pcall(attempt)
          reasons[#reasons + 1] = ok and "done" or err.reason or tostring(err)
        end
        return {mine = State.load("user:alice", "s"), theirs = State.load("user:bob", "s"),
                reasons = reasons}
    """
    result = ran(writer, source)
    assert result["mine"] == "mine"
    assert "theirs" not in result
    assert all("POLICY_DENIED" in reason for reason in result["reasons"]), result
    assert admin.get_state("s", scope="user:bob").value == "theirs"


def test_sessions_beside_ones_own(operator, tenants):
    """With `own`, a script that runs in a session sees no other; with `read`, it changes none."""
    tenant, admin, writer, _ = tenants
    for name in ("x1", "x2"):
        admin.create_session(session_id=name)
        admin.set_state("n", name, scope=f"session:{name}")
    read = 'return {State.load("session:x1", "n"), State.load("session:x2", "n") or "none"}'
    write = 'State.save("session:x2", "n", "changed")'
    put(operator, tenant, cross_session="read")
    assert ran(writer, read, session="x1") == ["x1", "x2"]
    assert "POLICY_DENIED" in str(_failure(writer, write, "x1"))
    put(operator, tenant, cross_session="own")
    assert ran(writer, read, session="x1") == ["x1", "none"]
    denied(writer.copy_state, "n", "n", source_scope="session:x1", scope="session:x2")


def _failure(client, source, session):
    try:
        ran(client, source, session=session)
    except Exception as error:  # noqa: BLE001  (the test looks at what it says)
        return error
    return None


def test_events_and_watches(operator, tenants):
    """Changes of scopes that may not be seen are told to nobody who may not see them."""
    tenant, admin, writer, _ = tenants
    put(operator, tenant, scopes=["user:alice"])
    before = next(iter(writer.subscribe_events("state.*", progress=True))).sequence
    admin.set_state("secret-name", 1, scope="user:bob")
    admin.set_state("open-name", 1, scope="user:alice")
    told = [event.data for event in writer.list_events("state.set", after=before)]
    assert [data["key"] for data in told] == ["open-name"]


def test_versions_and_dry_runs(deployment, operator, tenants):
    """Each version is kept; a stale writer is refused; `test` says what would be, and why."""
    tenant, _, writer, _ = tenants
    first = put(operator, tenant, allow=["state.read"])
    second = put(operator, tenant, allow=["state.read", "state.write"], description="more")
    assert second.version == first.version + 1
    with pytest.raises(Conflict) as stale:
        operator.set_policy(first, expected_version=first.version)
    assert stale.value.reason == "POLICY_CHANGED"
    kept = operator.get_policy(tenant, "role:writer", version=first.version)
    assert list(kept.allow) == ["state.read"]
    history = deployment.cli_json("policy", "history", tenant, "role:writer")
    assert [each["version"] for each in history][-2:] == [first.version, second.version]

    verdict = operator.test_policy(tenant, "SessionService/GetSession", roles=["writer"])
    assert verdict.decision == "deny"
    assert "allow has neither session.read" in verdict.reason
    candidate = Policy(tenant_id=tenant, subject="role:writer", allow=["*"], scopes=["user:a"])
    verdict = operator.test_policy(
        tenant, "SessionService/GetSession", roles=["writer"], candidate=candidate
    )
    assert verdict.decision == "allow_with_filters"
    denied(lambda: list(writer.list_sessions()))
    done = deployment.cli(
        "policy", "test", "SessionService/GetSession", "--tenant", tenant, "--role", "writer"
    )
    assert done.returncode == 1
    assert done.stdout.startswith("deny")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"allow": []}, "policy.allow"),
        ({"allow": ["state"]}, "policy.allow[0]"),
        ({"allow": ["State*"]}, "policy.allow[0]"),
        ({"scopes": ["user:al*"]}, "policy.scopes[0]"),
        ({"scopes": ["user:\u0430lice"]}, "policy.scopes[0]"),
        ({"scopes": ["tenant:acme"]}, "policy.scopes[0]"),
        ({"subject": "role:king"}, "policy.subject"),
        ({"tenant_id": "_system"}, "policy.tenant_id"),
    ],
)
def test_bad_policies(operator, change, field):
    """What is no rule is refused, and named."""
    fields = {"tenant_id": "acme", "subject": "*", "allow": ["*"]} | change
    with pytest.raises(InvalidArgument) as refused:
        operator.set_policy(Policy(**fields))
    assert refused.value.metadata["field"] == field


def test_it_is_in_the_audit_log(operator, tenants):
    """Who set a policy, and whom it refused."""
    tenant, admin, writer, _ = tenants
    put(operator, tenant, allow=["state.read"])
    denied(writer.set_state, "x", 1)
    entry = next(operator.list_audit(method="PolicyService/SetPolicy"))
    assert (entry.principal, entry.decision, entry.tenant_id) == ("operator", "allowed", tenant)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = [e.reason for e in admin.list_audit(decision="denied")]
        if "POLICY_DENIED" in found:
            break
        time.sleep(0.1)
    assert "POLICY_DENIED" in found


def test_streams_end_where_their_policies_change(operator, tenants):
    """Who watches is not left with what it may no longer see; others go on."""
    tenant, _, writer, _ = tenants
    told = writer.subscribe_events("state.*", progress=True)
    next(told)
    put(operator, tenant, deny=["event.*"])
    begin = time.monotonic()
    with pytest.raises((Conflict, PermissionDenied)) as ended:
        list(told)
    assert ended.value.reason in {"POLICY_CHANGED", "POLICY_DENIED"}
    assert time.monotonic() < begin + 2 * SETTLE_S


def test_too_much_to_carry(operator, tenants):
    """Policies travel with each call: one that is too large is refused, and too many deny."""
    tenant, _, writer, _ = tenants
    scopes = [f"user:{'x' * 40}{number}" for number in range(90)]
    with pytest.raises(InvalidArgument) as refused:
        put(operator, tenant, scopes=scopes)
    assert refused.value.reason == "LIMIT_EXCEEDED"
    for subject, whose in (("*", tenant), ("role:writer", tenant), ("role:writer", "*")):
        put(operator, whose, subject, scopes=["*", *scopes[:40]])
    assert "together" in denied(writer.set_state, "a", 1).metadata["rule"]


def test_policies_end_with_their_tenant(deployment, operator):
    """Nothing of what they said is left, and the receipt says so; a namesake begins without."""
    tenant = deployment.tenant("policed-gone")
    put(operator, tenant, "*", description="planted-words")
    put(operator, tenant, "*", allow=["state.read"])
    deleted = operator.delete_tenant(tenant)
    del deployment.keys[tenant]
    assert "policies" in str(deleted)
    assert [policy.subject for policy in operator.list_policies(tenant)] == []
    with pytest.raises(NotFound):
        list(operator.list_policy_versions(tenant, "*"))
    with pytest.raises(NotFound):
        put(operator, "no-such-tenant")


def test_levels_of_tools(operator, tenants):
    """A policy may take levels of tools away and leave the harmless ones."""
    tenant, admin, _, _ = tenants
    put(operator, tenant, "role:admin", deny=["tool.restricted", "tool.privileged"])
    asked = {"operation": "write", "path": "a.txt", "input": "x"}
    assert denied(admin.execute_tool, "file-operations", asked).metadata["rule"].startswith("deny")
    admin.execute_tool("uuid-generator", {})

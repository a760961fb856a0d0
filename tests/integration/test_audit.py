"""The audit log of a running deployment: what is in it, who sees it, and whether it is whole."""

from __future__ import annotations

import json
import time

import pytest
from llmspell import Client, PermissionDenied

WAIT_S = 10


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


def client_of(deployment, tenant):
    return Client(deployment.address, deployment.keys[deployment.tenant(tenant)])


def awaited(list_, wanted):
    """The first entry that fulfils `wanted`; entries of ordinary calls come within a second."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for entry in list_():
            if wanted(entry):
                return entry
        time.sleep(0.1)
    raise AssertionError("there is no such entry")


def test_managing_is_there_before_the_answer(deployment, operator):
    """When a key has been made, intent and outcome are in the log, with who and what; no secret."""
    tenant = deployment.tenant("audit-a")
    made = operator.create_key(tenant, roles=["reader"], display_name="sk-" + "q7" * 20)
    with Client(deployment.address, deployment.operator_key, tenant=tenant) as inside:
        found = list(inside.list_audit(method="TenantService/CreateApiKey"))[:2]
    assert [e.kind for e in found] == ["outcome", "intent"]
    assert {(e.principal, e.tenant_id, e.peer) for e in found} == {
        ("operator", tenant, "127.0.0.1")
    }
    assert found[0].decision == "allowed"
    assert found[0].request_id == found[1].request_id
    assert "roles=reader" in found[0].resource
    lines = b"".join(operator.export_audit())
    secret = made.key.split("_", 2)[2]
    assert secret.encode() not in lines
    assert b"q7q7q7" not in lines  # no hexadecimal, so never a part of a hash


def test_a_key_pasted_whole_is_not_kept(deployment, operator):
    """Whoever revokes a key by pasting all of it leaves no secret in the log."""
    tenant = deployment.tenant("audit-a")
    made = operator.create_key(tenant)
    operator.revoke_key(made.key)
    secret = made.key.split("_", 2)[2]
    assert secret.encode() not in b"".join(operator.export_audit())


def test_writes_and_denials_come_within_a_second(deployment, operator):
    """A data write has an entry with its scope and key and not its value; a denial says why."""
    tenant = deployment.tenant("audit-a")
    reader = operator.create_key(tenant, roles=["reader"])
    with client_of(deployment, tenant) as writer, Client(deployment.address, reader.key) as other:
        writer.set_state("theme", "planted-value", scope="user:alice")
        with pytest.raises(PermissionDenied):
            other.set_state("theme", 1, scope="user:alice")
        wrote = awaited(
            writer.list_audit,
            lambda e: "user:alice" in e.resource and e.decision == "allowed",
        )
        denied = awaited(
            lambda: writer.list_audit(decision="denied"),
            lambda e: e.principal == reader.api_key.key_id,
        )
    assert (wrote.resource, wrote.tenant_id) == ("scope=user:alice key=theme", tenant)
    assert wrote.method == "StateService/SetState"
    assert (denied.reason, denied.method) == ("PERMISSION_DENIED", "StateService/SetState")
    assert b"planted-value" not in b"".join(operator.export_audit())


def test_many_alike_share_an_entry(deployment):
    """Calls that differ in their moment only are one entry with their number."""
    tenant = deployment.tenant("audit-b")
    with client_of(deployment, tenant) as client:
        for number in range(20):
            client.set_state("n", number, scope="user:bob")
        deadline, counted = time.monotonic() + WAIT_S, 0
        while counted < 20 and time.monotonic() < deadline:
            time.sleep(0.1)
            entries = [e for e in client.list_audit() if e.resource == "scope=user:bob key=n"]
            counted = sum(entry.call_count for entry in entries)
    assert counted == 20
    assert len(entries) < counted / 2  # one a second, however slowly this machine calls


def test_entries_are_apart(deployment, operator):
    """A tenant's admin sees its own entries only, listed and exported; it may not verify."""
    for tenant in ("audit-a", "audit-b"):
        with client_of(deployment, tenant) as client:
            client.set_state("mine", 1)
            awaited(client.list_audit, lambda e: "mine" in e.resource)
            assert {entry.tenant_id for entry in client.list_audit()} == {tenant}
            lines = b"".join(client.export_audit()).splitlines()
            assert {json.loads(line)["entry"]["tenant"] for line in lines} == {tenant}
            with pytest.raises(PermissionDenied):
                client.verify_audit()
    assert {"audit-a", "audit-b", ""} <= {entry.tenant_id for entry in operator.list_audit()}


def test_nobody_writes_to_it(deployment):
    """Not even the operator, who may everything else."""
    done = deployment.cli("rpc", "call", "AuditService/AppendAudit", "--json", "{}")
    assert done.returncode != 0


def test_the_commands(deployment, operator, tmp_path):
    """List, verify and export; an export that was changed is found out, entry and all."""
    check = deployment.cli_json("audit", "verify")
    assert check["fault"] is None
    head = f"{check['head']['sequence']}:{check['head']['hash']}"
    assert deployment.cli("audit", "verify", "--head", head).returncode == 0
    file = tmp_path / "audit.jsonl"
    assert deployment.cli("audit", "export", str(file)).returncode == 0
    assert deployment.cli("audit", "verify", str(file), "--head", head).returncode == 0
    lines = file.read_bytes().splitlines(keepends=True)
    del lines[1]
    file.write_bytes(b"".join(lines))
    done = deployment.cli("audit", "verify", str(file))
    assert done.returncode == 1
    assert "Entry 2 is missing" in done.stderr
    listed = deployment.cli_json("audit", "list", "--limit", "5")
    assert len(listed) == 5
    listed = deployment.cli_json("audit", "list", "--method", "TenantService/*")
    assert listed
    assert all("TenantService/" in entry["method"] for entry in listed)


def test_a_deleted_tenants_names_are_erased(deployment, operator):
    """Its entries stay, without what its requests named; the chain is whole."""
    tenant = deployment.tenant("audit-gone")
    with client_of(deployment, tenant) as client:
        client.set_state("planted-key", 1)
        awaited(client.list_audit, lambda e: "planted-key" in e.resource)
        client.set_state("planted-late", 1)  # its entry may come when the tenant is gone
    operator.delete_tenant(tenant)
    with Client(deployment.address, deployment.operator_key) as client:
        found = [e for e in client.list_audit() if e.tenant_id == tenant]
    assert any(entry.resource_erased for entry in found)
    time.sleep(1.2)
    lines = b"".join(operator.export_audit())
    assert b"planted-" not in lines
    assert operator.verify_audit().fault is None
    del deployment.keys[tenant]

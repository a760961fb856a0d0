"""A tenant that is deleted is nowhere: a marker that it planted is looked for in every file."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from llmspell import Client, NotFound
from llmspell.types import AgentSpec, Document, Record, SchemaField

PLANT = """
State.save("global", ARGS[1] .. "-script", ARGS[1])
Session.create({name = ARGS[1] .. "-lua"})
RAG.ingest({text = "A script read of " .. ARGS[1], metadata = {seen = ARGS[1]}})
print(ARGS[1])
"""
STORES = ("state", "vector", "runtime")


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


def plant(client: Client, marker: str) -> None:
    """Write a marker through every way in which a tenant can store something."""
    client.set_state(f"{marker}-key", {"value": marker})
    client.set_state("deleted-before", marker)
    client.delete_state("deleted-before")
    client.set_state("x", marker, scope=f"custom:{marker}", ttl_s=3600)
    session = client.create_session(marker, description=marker, tags=[marker])
    client.set_state("in-session", marker, scope=session.scope)
    client.create_checkpoint(session.session_id, marker)
    client.put_artifact(f"{marker}.txt", f"bytes of {marker}".encode() * 50, tags=[marker])
    client.publish_event(f"planted.{marker}", {"text": marker})
    client.create_collection("planted", 2, scope=f"user:{marker}")
    record = Record(f"r-{marker}", [1.0, 2.0], {"mark": marker}, text=marker)
    client.upsert("planted", [record], scope=f"user:{marker}")
    client.create_snapshot("planted", scope=f"user:{marker}")
    client.create_collection("gone", 2)
    client.upsert("gone", [record])
    client.delete_collection("gone")
    client.ingest([Document(f"All about {marker}.", document_id=marker, metadata={"m": marker})])
    client.execute_tool(
        "file-operations", {"operation": "write", "path": f"{marker}.txt", "input": marker}
    )
    client.create_agent(AgentSpec(name=f"a-{marker}", type="basic", system_prompt=marker))
    step = {"name": "s", "tool": "calculator", "input": {"input": "1 + 1"}}
    client.create_workflow({"name": f"w-{marker}", "description": marker, "steps": [step]})
    client.execute_workflow(f"w-{marker}")
    client.set_budget(f"agent:a-{marker}", limit_usd=1.0)
    fields = [SchemaField(marker, "string")]
    client.put_schema(f"s.{marker}", "1.0.0", fields=fields, scope_pattern=f"custom:{marker}")
    list(client.run(PLANT, args=[marker], session=session.session_id))
    client.create_backup()


def holding(root: Path, marker: str) -> list[str]:
    """Files beneath a folder that have the marker in their name or their bytes."""
    found = []
    for path in root.rglob("*"):
        if marker in path.name:
            found.append(str(path.relative_to(root)))
        elif path.is_file():
            try:
                if marker.encode() in path.read_bytes():
                    found.append(str(path.relative_to(root)))
            except FileNotFoundError:  # a file that was made anew meanwhile
                continue
    return found


def test_nothing_of_a_deleted_tenant_is_found_in_any_file(deployment, operator):
    """Whatever it wrote, by whatever way, is in no file, backups of all tenants among them.

    Its neighbour and the backups keep what is theirs; the receipt says what was erased.
    """
    marker = "m" + secrets.token_hex(12)
    planted, beside = (f"{name}-{secrets.token_hex(4)}" for name in ("erased", "neighbour"))
    operator.create_tenant(planted, display_name=marker, metadata={"about": marker})
    operator.create_tenant(beside)
    key = operator.create_key(planted, display_name=marker).key
    beside_key = operator.create_key(beside).key
    with Client(deployment.address, key) as client, Client(deployment.address, beside_key) as other:
        other.set_state("mine", "stays")
        plant(client, marker)
        whole = operator.create_backup()
        other.set_state("mine", "changed")
        before = holding(deployment.data, marker)
        for store in STORES:
            assert any(each.startswith(store) for each in before), (store, before)
        receipt = operator.delete_tenant(planted).receipt
        assert holding(deployment.data, marker) == []
        assert holding(deployment.data, f"{planted}.") == []
        with Client(deployment.address, deployment.operator_key, tenant=beside) as acting:
            assert not acting.verify_backup(whole.backup_id).damages
            acting.restore_backup(whole.backup_id)
        assert other.get_state("mine").value == "stays"
    assert receipt.complete
    erased = {(part.process, part.what): part.erased_count for part in receipt.parts}
    for part in receipt.parts:
        assert part.left_count == 0, part
    for what in ("items", "sessions", "checkpoints", "artifacts", "events", "schemas"):
        assert erased["state", what] > 0, what
    assert erased["state", "parts in backups of all tenants"] == 1
    assert erased["state", "backups of its own"] == 1
    assert erased["vector", "snapshots"] == 1
    assert erased["runtime", "files and folders of tools"] >= 1
    assert erased["runtime", "usage and budgets"] >= 1
    assert erased["gateway", "API keys"] == 1
    assert operator.get_deletion_receipt(planted) == receipt
    with pytest.raises(NotFound):
        operator.get_deletion_receipt(beside)
    operator.create_tenant(planted)
    operator.delete_tenant(planted)
    assert operator.get_deletion_receipt(planted, receipt.receipt_id) == receipt
    done = deployment.cli("tenant", "receipt", planted, receipt.receipt_id)
    assert done.returncode == 0
    assert "nothing is left" in done.stderr
    operator.delete_tenant(beside)

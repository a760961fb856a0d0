"""A tenant as a folder: out of one tenant and into another, state and vectors together."""

from __future__ import annotations

import json

import pytest
from llmspell import Client, Record


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


@pytest.fixture(scope="module")
def filled(deployment, operator):
    """A tenant with some of everything that a bundle has, and its key."""
    operator.create_tenant("original", display_name="First", limits={"vectors": 50})
    key = operator.create_key("original").key
    with Client(deployment.address, key) as client:
        client.set_state("answer", {"is": 42})
        client.put_artifact("notes.txt", b"some bytes")
        client.create_collection("own", 2, metric="l2", scope="user:ann")
        records = [Record(f"r{each}", [each, 1.0], {"even": each % 2 == 0}) for each in range(5)]
        client.upsert("own", records, scope="user:ann")
        client.ingest(["Herons stand still in shallow water.", "Bread is baked in the morning."])
        yield client


def check(client):
    """It has what the original has."""
    assert client.get_state("answer").value == {"is": 42}
    assert b"".join(client.read_artifact("notes.txt")) == b"some bytes"
    found = client.search("own", [3.0, 1.0], k=1, scope="user:ann")
    assert found.hits[0].record_id == "r3"
    assert len(list(client.list_vectors("own", filter={"even": True}, scope="user:ann"))) == 3
    assert "Herons" in client.retrieve("which bird waits for fish", k=1).hits[0].text


def test_a_tenant_is_cloned(deployment, operator, filled):
    """With its limits; the copy goes its own way, and nobody is let in any more."""
    done = deployment.cli_json("tenant", "clone", "original", "twin")
    assert done["record_count"] == 7
    made = operator.get_tenant("twin")
    assert (made.display_name, made.limits.vectors) == ("First", 50)
    assert all(each.ended for each in operator.list_grants("twin"))
    key = operator.create_key("twin").key
    with Client(deployment.address, key) as twin:
        check(twin)
        twin.set_state("answer", "another")
    check(filled)
    operator.delete_tenant("twin")


def test_a_bundle_goes_out_and_in(deployment, operator, filled, tmp_path):
    """A tenant's own admin may do it; a file that was changed is refused before anything is."""
    operator.create_tenant("moved")
    for tenant in ("original", "moved"):
        operator.grant_access(tenant, reason="a move", roles=["admin"])
    folder = tmp_path / "bundle"
    done = deployment.cli("tenant", "export", "original", str(folder), "--whole")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["tenant"]["limits"]["vectors"] == 50
    assert "API keys" in manifest["left_out"]
    vectors = folder / manifest["collections"][0]["file"]
    whole = vectors.read_bytes()
    vectors.write_bytes(whole.replace(b"r1", b"r9"))
    done = deployment.cli("tenant", "import", "moved", str(folder), "--whole")
    assert done.returncode != 0
    assert "is not what it was" in done.stderr
    vectors.write_bytes(whole)
    done = deployment.cli("tenant", "import", "moved", str(folder), "--whole")
    assert done.returncode == 0, done.stderr
    with Client(deployment.address, operator.create_key("moved").key) as moved:
        check(moved)
    operator.delete_tenant("moved")

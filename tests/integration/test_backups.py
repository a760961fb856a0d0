"""Backups through all four processes, as a client makes them."""

from __future__ import annotations

import time

import pytest
from llmspell import Client
from llmspell.errors import NotFound, PermissionDenied

FOLLOWS_S = 30


@pytest.fixture
def clients(deployment):
    """A client of each of two tenants, and the operator's."""
    first, second = deployment.tenant("backup-a"), deployment.tenant("backup-b")
    with (
        Client(deployment.address, deployment.keys[first]) as a,
        Client(deployment.address, deployment.keys[second]) as b,
        Client(deployment.address, deployment.operator_key) as operator,
    ):
        yield a, b, operator


def values(client, scope):
    return {item.key: item.value for item in client.list_state(scope=scope)}


def test_a_restore_through_the_gateway(clients):
    """A tenant goes back to its backup; the other keeps what it has and sees no backup of it."""
    a, b, operator = clients
    for client in (a, b):
        client.set_state("one", 1, scope="session:r")
    made = a.create_backup()
    for client in (a, b):
        client.set_state("one", 2, scope="session:r")
        client.set_state("two", 2, scope="session:r")
    assert a.verify_backup(made.backup_id).valid
    assert made.backup_id in [each.backup_id for each in a.list_backups()]
    assert made.backup_id not in [each.backup_id for each in b.list_backups()]
    with pytest.raises(NotFound):
        b.restore_backup(made.backup_id)
    told = a.restore_backup(made.backup_id, dry_run=True)
    assert values(a, "session:r") == {"one": 2, "two": 2}
    done = a.restore_backup(made.backup_id)
    assert told.deltas == done.deltas
    assert values(a, "session:r") == {"one": 1}
    assert values(b, "session:r") == {"one": 2, "two": 2}
    assert a.delete_backup(made.backup_id)
    everybodys = operator.create_backup()
    assert everybodys.tenant_count > 2
    assert everybodys.backup_id in [each.backup_id for each in operator.list_backups()]
    with pytest.raises(NotFound):
        a.verify_backup(everybodys.backup_id)
    for include_system in (False, True):
        told = operator.restore_backup(
            everybodys.backup_id, dry_run=True, include_system=include_system
        )
        assert ("_system" in {each.tenant_id for each in told.deltas}) == include_system
    assert operator.delete_backup(everybodys.backup_id)


def test_vectors_follow_a_restore(clients):
    """What a session that a restore took away had in vectors goes; another tenant's stays."""
    a, b, _ = clients
    made = a.create_backup()
    for client in (a, b):
        client.create_session("later", session_id="after-backup")
        client.create_collection("c", 2, scope="session:after-backup")
    a.restore_backup(made.backup_id)
    end = time.monotonic() + FOLLOWS_S
    while list(a.list_collections(scope="session:after-backup")):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(list(b.list_collections(scope="session:after-backup"))) == 1


def test_only_admins_restore(deployment, clients):
    """A writer makes backups; restoring and removing them is refused."""
    a, _, _ = clients
    key = deployment.cli_json("key", "create", "--tenant", "backup-a", "--role", "writer")["key"]
    with Client(deployment.address, key) as writer:
        made = writer.create_backup()
        for call in (writer.restore_backup, writer.delete_backup):
            with pytest.raises(PermissionDenied):
                call(made.backup_id)
    assert a.backup_usage().backup_count >= 1
    assert a.clean_up_backups(dry_run=True).backup_ids == []


def test_the_command_line_makes_and_restores(deployment):
    """Every command of the group does what its help says, and speaks JSON."""
    deployment.tenant("backup-cli")

    def cli(*arguments):
        return deployment.cli_json(*arguments, tenant="backup-cli")

    cli("state", "set", "one", "1")
    made = cli("backup", "create")
    cli("state", "set", "one", "2")
    assert cli("backup", "list")[0]["backup_id"] == made["backup_id"]
    assert cli("backup", "verify", made["backup_id"])["valid"]
    told = cli("backup", "restore", made["backup_id"], "--dry-run")
    done = cli("backup", "restore", made["backup_id"])
    assert told["deltas"] == done["deltas"]
    assert cli("state", "get", "one")["value"] == 1
    assert cli("backup", "usage")["backup_count"] == 2
    assert cli("backup", "cleanup", "--dry-run")["backup_ids"] == []
    assert cli("backup", "delete", made["backup_id"])["deleted"]
    human = deployment.cli("backup", "restore", done["safety_backup_id"], tenant="backup-cli")
    assert human.returncode == 0
    assert "What was there before is backup" in human.stderr
    gone = deployment.cli("backup", "verify", made["backup_id"], tenant="backup-cli")
    assert gone.returncode == 5


def test_export_and_import(deployment, tmp_path):
    """A tenant is exported, and another one made of it; both exports have the same records."""
    for tenant in ("backup-from", "backup-to"):
        deployment.tenant(tenant)
    deployment.cli("state", "set", "one", '{"a": 1}', tenant="backup-from")
    deployment.cli("session", "create", "--id", "trip", tenant="backup-from")
    (tmp_path / "bytes").write_bytes(b"bytes of it")
    stored = deployment.cli("artifact", "put", str(tmp_path / "bytes"), tenant="backup-from")
    assert stored.returncode == 0, stored.stderr
    files = [tmp_path / name for name in ("first.tar", "second.tar")]
    refused = deployment.cli("tenant", "export", "backup-from", str(files[0]))
    assert "was let in" in refused.stderr
    let_in = ("--role", "admin", "--scope", "backup.admin", "--reason", "it moves")
    for tenant in ("backup-from", "backup-to"):
        deployment.cli_json("grant", "create", tenant, *let_in)
    done = deployment.cli("tenant", "export", "backup-from", str(files[0]))
    assert done.returncode == 0, done.stderr
    assert files[0].stat().st_mode & 0o077 == 0
    told = deployment.cli_json("tenant", "import", "backup-to", str(files[0]), "--dry-run")
    assert deployment.cli_json("state", "list", tenant="backup-to") == []
    made = deployment.cli_json("tenant", "import", "backup-to", str(files[0]))
    assert told["deltas"] == made["deltas"]
    assert deployment.cli_json("state", "get", "one", tenant="backup-to")["value"] == {"a": 1}
    with Client(deployment.address, deployment.keys["backup-to"]) as client:
        assert client.get_session("trip").session_id == "trip"
        (artifact,) = client.list_artifacts()
        assert artifact.size_bytes == len(b"bytes of it")
        copy = tmp_path / "copy"
        got = deployment.cli("artifact", "get", "bytes", "--output", str(copy), tenant="backup-to")
        assert got.returncode == 0, got.stderr
        assert copy.read_bytes() == b"bytes of it"
    refused = deployment.cli("tenant", "import", "backup-to", str(files[0]))
    assert refused.returncode == 8
    stranger = deployment.cli("tenant", "export", "backup-from", "-", tenant="backup-to")
    assert stranger.returncode == 4
    deployment.cli("tenant", "export", "backup-to", str(files[1]))
    second = files[1].read_bytes().replace(b'"backup-to"', b'"backup-from"')
    assert b"backup-from" not in second.replace(b'"backup-from"', b"")
    assert '{"a": 1}' in second.decode() or '{\\"a\\": 1}' in second.decode()

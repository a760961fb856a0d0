"""Encryption at rest through the four processes: set up, rotated, refused, destroyed."""

import json
import re
import secrets
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from llmspell import Client, FailedPrecondition, PermissionDenied

from services.state.master_key import read_master_keys
from tests.integration.deployment import deployed

PAGE = Path(__file__).resolve().parents[2] / "docs/guide/encryption.md"
SECRET = "the kettle stands in the cupboard above the sink"
OTHER = "the spare key lies under the third stone"
TENANTS = (("acme", SECRET), ("globex", OTHER))


def write_key(file, text):
    file.touch(mode=0o600)
    file.write_text(text + "\n")


@pytest.fixture
def sealed(tmp_path):
    """A deployment with a master key, and a writer's secret in each tenant."""
    old = secrets.token_hex(32)
    write_key(tmp_path / "master.key", old)
    settings = tmp_path / "llmspell.toml"
    settings.write_text(
        f'[state]\nmaster_key_file = "{tmp_path}/master.key"\n'
        f'previous_master_key_file = "{tmp_path}/previous.key"\n'
    )
    with deployed(tmp_path, "--config", str(settings)) as up:
        for tenant, content in TENANTS:
            with Client(up.address, up.keys[tenant]) as client:
                client.set_state("where", content, scope="session:s")
        yield up


def read(up):
    """What each tenant reads."""
    found = []
    for tenant, _ in TENANTS:
        with Client(up.address, up.keys[tenant]) as client:
            found.append(client.get_state("where", scope="session:s").value)
    return found


def until(up, holds, *arguments):
    """Wait until the vault's status says so."""
    deadline = time.monotonic() + 20
    while not holds(status := up.cli_json("vault", "status", *arguments)):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def log(up):
    lines = (up.data / "logs" / "state.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_sealed_deployment(sealed, tmp_path):
    """Values are nowhere in the file; both keys rotate while it serves; the log says all."""
    assert read(sealed) == [SECRET, OTHER]
    with Client(sealed.address, sealed.keys["acme"]) as client:
        client.put_artifact("plan", SECRET.encode())
        assert client.get_artifact("plan").name == "plan"
    files = [file for file in (sealed.data / "state").rglob("*") if file.is_file()]
    assert any("blobs" in file.parts for file in files)
    data = b"".join(file.read_bytes() for file in files)
    assert SECRET.encode() not in data
    assert OTHER.encode() not in data

    assert sealed.cli_json("vault", "rotate", tenant="acme") == {"version": "2"}
    status = until(sealed, lambda told: told["older_count"] == 0, "--tenant", "acme")
    theirs = sealed.cli_json("vault", "status", "--tenant", "globex")["versions"]
    assert [key["version"] for key in theirs] == [1]
    assert [key["version"] for key in status["versions"]] == [2]
    assert read(sealed) == [SECRET, OTHER]

    (tmp_path / "master.key").rename(tmp_path / "previous.key")
    write_key(tmp_path / "master.key", secrets.token_hex(32))
    rotated = sealed.cli_json("vault", "rotate", "--master")["master_key_id"]
    assert rotated != status["master_key_id"]
    until(sealed, lambda told: told["previous_wrapped_count"] == 0)
    assert read(sealed) == [SECRET, OTHER]
    (tmp_path / "previous.key").unlink()
    sealed.kill("state")
    deadline = time.monotonic() + 20
    while sealed.cli("health").returncode:
        assert time.monotonic() < deadline
    assert read(sealed) == [SECRET, OTHER]
    encrypted = [line for line in log(sealed) if line["event"].endswith("is encrypted")]
    assert encrypted[-1]["master_key_id"] == rotated


def test_a_deleted_tenants_key_is_destroyed(sealed):
    """With all that it had; the other tenant reads on."""
    before = sealed.cli_json("vault", "status", "--tenant", "acme")
    assert len(before["versions"]) == 1
    sealed.cli_json("tenant", "delete", "acme", "--yes")
    after = sealed.cli_json("vault", "status")
    assert after["data_key_count"] == before["data_key_count"] - 1
    with Client(sealed.address, sealed.keys["globex"]) as client:
        assert client.get_state("where", scope="session:s").value == OTHER


def test_the_page_runs(sealed, tmp_path):
    """Each command of the guide that needs no second key, and its program, as they stand."""
    page = PAGE.read_text("utf-8")
    commands = [line for line in page.splitlines() if line.startswith("llmspell vault")]
    assert len(commands) == 3
    for command in commands:
        done = sealed.cli(*shlex.split(command, comments=True)[1:])
        assert done.returncode == 0, done.stderr
    program = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=sealed.environment("globex"),
    )
    assert done.stdout == "4711 True\n"
    with Client(sealed.address, sealed.keys["acme"]) as client:
        assert client.get_state("door", scope="user:ann") is None
    shell = re.search(r"^\(umask.*$", page, re.MULTILINE)[0]
    subprocess.run(["sh", "-c", shell], cwd=tmp_path / "data", check=True)
    assert (tmp_path / "data" / "master.key").stat().st_mode & 0o777 == 0o600
    assert read_master_keys(str(tmp_path / "data" / "master.key"), "", {}).current is not None


def test_tenants_do_not_operate(deployment):
    """Its own key a tenant's administrator may rotate; what concerns all is the operator's."""
    with Client(deployment.address, deployment.keys["acme"]) as client:
        with pytest.raises(FailedPrecondition) as info:
            client.rotate_tenant_key()
        assert info.value.reason == "MASTER_KEY_MISSING"
        for refused in (client.rotate_master_key, client.vault_status):
            with pytest.raises(PermissionDenied):
                refused()
    assert deployment.cli_json("vault", "status")["encrypted"] is False
    told = [line["event"] for line in log(deployment)]
    assert "what tenants keep is not encrypted: no master key is given" in told


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LLMSPELL_MASTER_KEY": "ab" * 32}, r"another\s+one\s+is\s+given"),
        ({}, r"no\s+master\s+key\s+is\s+given"),
    ],
)
def test_a_wrong_master_key(tmp_path, variables, reason):
    """The deployment does not start, and says why; only the state process knew the right one."""
    right = {"LLMSPELL_MASTER_KEY": "cd" * 32}
    with deployed(tmp_path, variables=right) as up:
        keys = up.keys
        with Client(up.address, keys["acme"]) as client:
            client.set_state("where", SECRET)
        environ = Path(f"/proc/{up.pid('gateway')}/environ").read_bytes()
        assert b"LLMSPELL_MASTER_KEY" not in environ
    (tmp_path / "profile.toml").unlink()
    with pytest.raises(AssertionError, match=reason), deployed(tmp_path, variables=variables):
        pass

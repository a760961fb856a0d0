"""An operator's afternoon, by the commands of the guides and in their order."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.deployment import free_port

LLMSPELL = (sys.executable, "-m", "services.gateway.cli.main")
SLOW = """
for number = 1, 300 do State.set("word" .. number % 5, { number = number }) end
return State.get("word1").number
"""
PATIENCE_S = 60


class Desk:
    """A terminal of the operator, and what each tenant was given."""

    def __init__(self, folder):
        self.data, self.profile, self.port = folder / "data", folder / "profile.toml", free_port()
        self.log, self.running = folder / "up.log", None
        self.keys = {}

    def environment(self, tenant=None):
        """A shell's; as a tenant, or as the operator."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")}
        clean |= {"LLMSPELL_PROFILE": str(self.profile), "COLUMNS": "80"}
        return clean | ({"LLMSPELL_API_KEY": self.keys[tenant]} if tenant else {})

    @contextlib.contextmanager
    def up(self):
        """`llmspell up --tls`, until the block ends."""
        command = (*LLMSPELL, "up", "--tls", "--data", str(self.data), "--port", str(self.port))
        self.profile.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self.environment()
            )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not self.profile.exists():
                assert self.running.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)
            yield
        finally:
            self.running.send_signal(signal.SIGTERM)
            assert self.running.wait(PATIENCE_S) == 0, self.log.read_text()

    def try_to(self, *words, tenant=None, environment=None):
        """One command; whether it succeeded, and what it printed."""
        done = subprocess.run(
            [*LLMSPELL, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=environment or self.environment(tenant),
        )
        return done.returncode == 0, done.stdout + done.stderr

    def do(self, *words, tenant=None):
        """One command that succeeds; what it printed."""
        succeeded, said = self.try_to(*words, tenant=tenant)
        assert succeeded, (words, said)
        return said

    def until_refused(self, reason, *words, tenant):
        """Say it again until it is refused for this reason, as it is within moments."""
        deadline = time.monotonic() + PATIENCE_S
        while reason not in (said := self.try_to(*words, tenant=tenant)[1]):
            assert time.monotonic() < deadline, said

    def read(self, *words, tenant=None):
        """One command with `--json`, read."""
        return json.loads(self.do(*words, "--json", tenant=tenant))


@pytest.fixture
def desk(tmp_path):
    """A machine on which nothing was started yet."""
    return Desk(tmp_path)


def test_an_afternoon(desk):
    """Tenants and keys, TLS, policies, `top`, a slow trace, a key, backup, upgrade, restore.

    Whatever is done to one tenant the other does not notice.
    """
    with desk.up():
        begin(desk)
        rule(desk)
        look(desk)
        rotate(desk)
        backup = desk.read("backup", "create", tenant="acme")["backup_id"]
    with desk.up():  # as after an upgrade: other programs, the same folder
        assert desk.read("state", "get", "plan", tenant="acme")["value"] == "first"
        desk.do("state", "set", "plan", "spoiled", tenant="acme")
        desk.do("state", "set", "plan", "its own", tenant="globex")
        desk.do("backup", "restore", backup, tenant="acme")
        assert desk.read("state", "get", "plan", tenant="acme")["value"] == "first"
        assert desk.read("state", "get", "plan", tenant="globex")["value"] == "its own"
        recall(desk)


def begin(desk):
    """Two tenants with a key each, over an encrypted port."""
    assert "serving" in desk.do("health").lower()
    for tenant in ("acme", "globex"):
        desk.do("tenant", "create", tenant, "--limit", "requests_per_minute=5000")
        made = desk.read("key", "create", "--tenant", tenant, "--name", "first", "--expires", "30d")
        desk.keys[tenant] = made["key"]
    desk.do("state", "set", "plan", "first", tenant="acme")
    assert not desk.try_to("state", "get", "plan", tenant="globex")[0]
    plaintext = desk.environment("acme") | {
        "LLMSPELL_PROFILE": str(desk.data / "none"),
        "LLMSPELL_ADDRESS": f"127.0.0.1:{desk.port}",
    }
    assert not desk.try_to("state", "get", "plan", environment=plaintext)[0]


def rule(desk):
    """A policy is tried without being set, then set; it holds within moments, for one tenant."""
    words = ("StateService/DeleteState", "--tenant", "acme", "--role", "admin")
    assert desk.read("policy", "test", *words)["decision"] == "allow"
    desk.do("policy", "set", "acme", "*", "--allow", "*", "--deny", "StateService/Delete*")
    desk.until_refused("policy", "state", "delete", "x", tenant="acme")
    assert desk.read("state", "get", "plan", tenant="acme")["value"] == "first"
    desk.do("state", "set", "x", "1", tenant="globex")
    desk.do("state", "delete", "x", tenant="globex")


def look(desk):
    """The busy tenant is in `top`, and its slow run is found as a trace through the processes."""
    desk.do("exec", SLOW, tenant="acme")
    page, deadline = "", time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(1) as pool:
        while "acme" not in page:
            assert time.monotonic() < deadline, page
            busy = [pool.submit(desk.do, "state", "set", "n", "1", tenant="acme") for _ in range(3)]
            page = desk.do("top", "--once")
            for call in busy:
                call.result()
    assert max(map(len, page.splitlines())) <= 80, page
    for word in ("gateway", "runtime", "vector", "state"):
        assert word in page, page
    folder = ("--folder", str(desk.data / "traces"))
    deadline = time.monotonic() + PATIENCE_S
    while not (slow := desk.read("trace", "list", "--slow", "--tenant", "acme", *folder)):
        assert time.monotonic() < deadline
    assert "RunScript" in json.dumps(slow[0]), slow[0]
    tree = desk.do("trace", "show", slow[0]["trace_id"], *folder)
    for word in ("RunScript", "SetState", "gateway", "runtime", "state"):
        assert word in tree, tree


def rotate(desk):
    """A key gets a new secret; the one before ends when it is said to."""
    key_id = desk.read("key", "list", "--tenant", "acme")[0]["key_id"]
    before = desk.keys["acme"]
    desk.keys["acme"] = desk.read("key", "rotate", key_id, "--overlap", "0")["key"]
    assert desk.read("state", "get", "plan", tenant="acme")["value"] == "first"
    after, desk.keys["acme"] = desk.keys["acme"], before
    desk.until_refused("is not valid", "state", "list", tenant="acme")
    desk.keys["acme"] = after


def recall(desk):
    """All of it is in the audit log, which is whole."""
    said = json.dumps(desk.read("audit", "list", "--limit", "500"))
    for method in ("CreateTenant", "CreateApiKey", "SetPolicy", "RotateApiKey", "RestoreBackup"):
        assert method in said, method
    assert "POLICY_DENIED" in said
    assert not any(key in said for key in desk.keys.values())
    desk.do("audit", "verify")

"""Sessions through the gateway: two tenants, scripts, ends that vectors follow, and restarts."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from llmspell import Client, FailedPrecondition, NotFound, Unavailable

SECONDS = 30
PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "sessions.md"


@pytest.fixture(scope="module")
def acme(deployment):
    with Client(deployment.address, deployment.keys["acme"]) as client:
        yield client


@pytest.fixture(scope="module")
def globex(deployment):
    with Client(deployment.address, deployment.keys["globex"]) as client:
        yield client


def until(holds, within_s=SECONDS):
    """Wait until something holds; calls that nobody answers meanwhile are tried again."""
    end = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except Unavailable:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


def run(client, source, **given):
    """What a script returns."""
    return list(client.run(source, **given))[-1].value


def collections(client, session):
    return [each.collection_id for each in client.list_collections(scope=session.scope)]


def test_tenants_sessions_are_apart(acme, globex):
    """Two tenants' sessions of one id know nothing of each other."""
    mine = acme.create_session("mine", session_id="same", tags=["x"], metadata={"n": 1})
    theirs = globex.create_session("theirs", session_id="same")
    acme.set_state("k", "mine", scope=mine.scope)
    acme.save_session("same")
    globex.complete_session("same")
    assert [each.name for each in acme.list_sessions(status="active", tags=["x"])] == ["mine"]
    assert globex.list_checkpoints("same") == []
    assert globex.get_state("k", scope=theirs.scope) is None
    assert globex.delete_session("same") is True
    assert acme.get_session("same").metadata == {"n": 1}
    assert acme.get_state("k", scope=mine.scope).value == "mine"


def test_vectors_go_with_their_session(acme, globex):
    """The end of a session drops its collections, its own tenant's and of its own scope alone."""
    mine, other = acme.create_session(), acme.create_session()
    theirs = globex.create_session(session_id=mine.session_id)
    for client, session in ((acme, mine), (acme, other), (globex, theirs)):
        client.create_collection("c", 2, scope=session.scope)
    acme.complete_session(mine.session_id)
    until(lambda: collections(acme, mine) == [])
    assert collections(acme, other) == collections(globex, theirs) == ["c"]


def test_a_new_session_of_an_old_id_keeps_its_vectors(acme):
    """Notes that are read again do not touch what was made after the end that they tell of."""
    acme.create_session(session_id="again")
    acme.delete_session("again")
    anew = acme.create_session(session_id="again")
    acme.create_collection("new", 2, scope=anew.scope)
    done = acme.create_session()
    acme.create_collection("c", 2, scope=done.scope)
    acme.complete_session(done.session_id)
    until(lambda: collections(acme, done) == [])  # so the note before was followed as well
    assert collections(acme, anew) == ["new"]


STORY = """
local id = Session.builder():name("talk"):tag("a"):tags({"a", "b"}):description("d"):build()
assert(Session.get_current() == nil)
Session.set_current(id)
assert(Session.get_current() == id)
local session = Session.get(id)
assert(session.name == "talk" and session.status == "active" and session.description == "d")
State.save("session", id, "x")
State.save("session:" .. id, "step", 1)
assert(Session.save(id))
State.save("session:" .. id, "step", 2)
assert(Session:restore(id) == 1)
assert(State.load("session:" .. id, "step") == 1)
assert(Session.suspend(id))
assert(#Session.list{status = "suspended", tags = {"b"}} == 1)
assert(#Session.list{status = "active", tags = {"b"}} == 0)
assert(Session.load(id) == id)
assert(Session.get(id).status == "active")
local child = Session.create{name = "child", parent = id}
assert(Session.get(child).parent_session_id == id)
assert(Session.complete(id))
local ok, why = pcall(Session.set_current, id)
assert(not ok and why.reason == "SESSION_ENDED")
ok, why = pcall(Session.resume, id)
assert(not ok and why.reason == "SESSION_TRANSITION_ILLEGAL" and why.metadata.legal == "archived")
assert(Session.delete(id) and not Session.delete(id))
return Session.get_current()
"""


def test_scripts_have_sessions(acme):
    """The global `Session` does what its names promise."""
    source = STORY.replace('State.save("session", id, "x")\n', "")
    assert run(acme, source) is None


def test_a_run_has_a_current_session(deployment, acme, globex):
    """A run that names a session begins in it; one that is not there or has ended is refused."""
    session = acme.create_session("current")
    source = "return Session.get_current()"
    assert run(acme, source) is None
    assert run(acme, source, session=session.session_id) == session.session_id
    with pytest.raises(NotFound):
        run(globex, source, session=session.session_id)
    acme.complete_session(session.session_id)
    with pytest.raises(FailedPrecondition) as refused:
        run(acme, source, session=session.session_id)
    assert refused.value.reason == "SESSION_ENDED"


def test_the_command_line_has_sessions(deployment):
    """`llmspell session …` makes, shows, lists, saves, restores and ends."""

    def cli(*words):
        done = deployment.cli("session", *words, tenant="acme")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    session = cli("create", "by hand", "--tag", "cli", "--timeout", "8h", "--metadata", '{"n": 1}')
    assert cli("save", session) == f"{session} is saved, with 0 items."
    assert cli("checkpoint", session, "one") == "c1"
    assert "one" in cli("checkpoints", session)
    assert "c2" in cli("restore", session, "c1", "--keep")
    assert "changed" in cli("update", session, "--name", "renamed")
    assert session in cli("list", "--tag", "cli", "--status", "active", "--name", "RENAMED")
    assert "renamed" in cli("show", session)
    for verb in ("suspend", "resume", "complete", "archive"):
        cli(verb, session)
    shown = json.loads(cli("show", session, "--json"))
    assert (shown["status"], shown["timeout_s"]) == ("archived", 8 * 3600)
    assert cli("delete", session, "--yes") == f"{session} is removed."


@pytest.mark.parametrize(
    "block",
    re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL),
    ids=lambda block: hashlib.sha256(block.encode()).hexdigest()[:8],
)
def test_the_pages_examples_run(deployment, tmp_path, block):
    """The Python examples of the guide run as they stand."""
    script = tmp_path / "example.py"
    script.write_text(block)
    environment = deployment.environment("globex")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def kill_all(up):
    """Kill all four at once and wait until others serve in their places."""
    before = {name: up.pid(name) for name in ("gateway", "runtime", "vector", "state")}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(up.pid(name) != pid for name, pid in before.items()))


def test_a_sessions_story(fresh_deployment):
    """Create, write, checkpoint, suspend, kill all processes, resume, restore, complete: all of it.

    And vectors of a session that ended while their process was away go once it is back.
    """
    up = fresh_deployment
    with Client(up.address, up.keys["acme"]) as acme:
        session = acme.create_session("story", tags=["t"], metadata={"chapter": 1})
        for number in range(20):
            acme.set_state(f"k{number}", number, scope=session.scope)
        acme.create_collection("c", 2, scope=session.scope)
        paper = os.urandom(300_000)
        acme.put_artifact("paper", paper, scope=session.scope, tags=["draft"])
        kept = acme.create_checkpoint(session.session_id, "twenty")
        acme.set_state("k0", "changed", scope=session.scope)
        acme.set_state("extra", 1, scope=session.scope)
        acme.delete_state("k1", scope=session.scope)
        acme.put_artifact("paper", b"spoilt", scope=session.scope, keep_versions=1)
        acme.put_artifact("later", b"later", scope=session.scope)
        rests = acme.suspend_session(session.session_id)
        kill_all(up)
        until(lambda: acme.get_session(session.session_id) == rests)
        until(lambda: collections(acme, session) == ["c"])
        assert acme.get_state("k0", scope=session.scope).value == "changed"
        assert acme.fetch_artifact("paper", offset=0, scope=session.scope) == b"spoilt"
        acme.resume_session(session.session_id)
        restored = acme.restore_checkpoint(session.session_id, kept.checkpoint_id)
        assert (restored.checkpoint, restored.changed_count) == (kept, 3)
        assert (kept.artifact_count, restored.changed_artifact_count) == (1, 3)
        assert b"".join(acme.read_artifact("paper", scope=session.scope)) == paper
        assert [each.name for each in acme.list_artifacts(scope=session.scope)] == ["paper"]
        items = {each.key: each.value for each in acme.list_state(scope=session.scope)}
        assert items == {f"k{number}": number for number in range(20)}
        up.kill("vector")
        assert acme.complete_session(session.session_id).status == "completed"
        until(lambda: collections(acme, session) == [])
        with pytest.raises(FailedPrecondition):
            acme.save_session(session.session_id)
        assert acme.list_checkpoints(session.session_id) == [kept]
        assert acme.get_artifact("paper", scope=session.scope).tags == ("draft",)
        acme.delete_session(session.session_id)
        assert list(acme.list_artifacts(scope=session.scope)) == []

"""`llmspell login`, `logout`, `profile`: what is kept where, and what is used then."""

import json
import stat
import sys
import types

import pytest
from llmspell._profile import named_path, profile_path, read_profile
from llmspell.errors import FailedPrecondition, InvalidArgument
from typer.testing import CliRunner

from services.gateway.cli.main import app
from tests.fake_deployment import KEY, Deployment, serving


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folder, and no keyring."""
    for name in ("LLMSPELL_PROFILE", "LLMSPELL_ADDRESS", "LLMSPELL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keyring", None)
    return tmp_path / "llmspell"


@pytest.fixture
def address():
    with serving(Deployment()) as where:
        yield where


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, arguments, input=stdin)


def keyring(monkeypatch):
    """A keyring in memory."""
    kept = {}
    ring = types.ModuleType("keyring")
    backend = type("Backend", (), {"__module__": "keyring.backends.SecretService"})
    ring.get_keyring = backend
    ring.set_password = lambda service, name, key: kept.update({(service, name): key})
    ring.get_password = lambda service, name: kept.get((service, name))
    ring.delete_password = lambda service, name: kept.pop((service, name))
    monkeypatch.setitem(sys.modules, "keyring", ring)
    return kept


def test_a_login_is_kept_and_used(home, address):
    """In a file of the owner's alone; commands use it without being told."""
    done = run("--address", address, "login", "--name", "prod", "--key-stdin", stdin=f"{KEY}\n")
    assert done.exit_code == 0, done.output
    assert KEY not in done.output
    file = home / "profiles" / "prod.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert profile_path() == file
    assert read_profile(file).api_key == KEY
    assert run("state", "list").exit_code == 0


def test_a_wrong_key_is_not_kept(home, address):
    """It is tried first."""
    done = run("--address", address, "login", "--key-stdin", stdin="llms_wrong_key\n")
    assert done.exit_code != 0
    assert not home.exists()


def test_profiles_are_listed_chosen_and_forgotten(home, address):
    """By name; of two, the one in use is marked, and a forgotten one is used no more."""
    for name in ("one", "two"):
        run("--address", address, "login", "--name", name, "--key-stdin", stdin=KEY)
    listed = json.loads(run("profile", "list", "--json").stdout)
    assert [(each["name"], each["in_use"]) for each in listed] == [("one", False), ("two", True)]
    assert run("profile", "use", "one").exit_code == 0
    assert profile_path().stem == "one"
    assert run("--profile", "two", "state", "list").exit_code == 0
    assert run("logout").exit_code == 0
    assert profile_path() == home / "profile.toml"
    assert [each["name"] for each in json.loads(run("profile", "list", "--json").stdout)] == ["two"]
    for arguments in (("profile", "use", "one"), ("logout", "one"), ("logout",)):
        assert run(*arguments).exit_code == 2
    shown = run("profile", "show", "two")
    assert address in shown.stdout
    assert KEY not in shown.stdout


def test_a_keyring_has_the_key(home, address, monkeypatch):
    """The file has none then; what is forgotten is forgotten there too."""
    kept = keyring(monkeypatch)
    done = run("--address", address, "login", "--name", "ring", "--key-stdin", stdin=KEY)
    assert "keyring" in done.output
    assert kept == {("llmspell", "ring"): KEY}
    assert KEY not in (home / "profiles" / "ring.toml").read_text()
    assert run("state", "list").exit_code == 0
    assert read_profile(profile_path()).api_key == KEY
    run("logout")
    assert kept == {}


def test_a_keyring_that_lost_the_key_is_told(home, address, monkeypatch):
    """With what to do; nothing else is sent."""
    kept = keyring(monkeypatch)
    run("--address", address, "login", "--name", "ring", "--key-stdin", stdin=KEY)
    kept.clear()
    with pytest.raises(FailedPrecondition, match="log in again"):
        read_profile(profile_path())


@pytest.mark.parametrize("name", ["../x", "X", "a/b", "a" * 33, ".hidden"])
def test_a_name_is_no_path(home, address, name):
    """Nothing is written outside the folder of profiles."""
    done = run("--address", address, "login", "--name", name, "--key-stdin", stdin=KEY)
    assert done.exit_code != 0
    assert not home.exists()
    with pytest.raises(InvalidArgument):
        named_path(name)

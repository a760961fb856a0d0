"""The supervisor's parts: secrets, locks, settings, last words. Not the four themselves.

That they run, die and come back is tests/integration.
"""

import asyncio
import json
import os
import re
import stat
from pathlib import Path

import pytest

from services.common import processes as module
from services.common.config import load_settings
from services.common.context import read_key
from services.common.errors import Reason, ServiceError
from services.common.processes import (
    NAMES,
    Place,
    Processes,
    _answers,
    _cannot_start,
    _Child,
    _environment,
    _hold,
    _operator_key,
    _secret,
    _start,
    _stop,
    _supervise,
    _words,
    _write_run_file,
)
from services.gateway.keys import OPERATOR_ID, read_credential


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "data")
    lock = _hold(place)
    yield place
    os.close(lock)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folders_are_the_owners_alone(place):
    """Stores, secrets and logs are nobody else's business."""
    for folder in (place.data, place.data / "secrets", place.data / "logs"):
        assert mode(folder) == 0o700


def test_a_folder_has_one_supervisor(place):
    """The second one is told what to do; when the first has ended, the next may."""
    with pytest.raises(ServiceError) as caught:
        _hold(place)
    assert caught.value.reason == Reason.STORE_LOCKED
    assert str(place.data) in caught.value.message
    assert "--data" in caught.value.message


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """Such as one under a file."""
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError) as caught:
        _hold(Place(tmp_path / "file" / "data"))
    assert caught.value.reason == Reason.STORE_NOT_WRITABLE
    assert str(tmp_path / "file") in caught.value.message


def test_a_secret_is_made_once_and_kept(place):
    """For its owner alone, and the same at the next start."""
    first = _secret(place, "x.key", lambda: "one")
    assert first == "one"
    assert _secret(place, "x.key", lambda: "two") == "one"
    assert mode(place.secret("x.key")) == 0o600
    assert [path.name for path in place.secret("x").parent.iterdir()] == ["x.key"]


def test_a_secret_is_whole_or_not_there(place, monkeypatch):
    """A crash in the midst of making it does not leave half a key for ever (found in review)."""

    def crash(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        _secret(place, "x.key", lambda: "half")
    monkeypatch.undo()
    assert not place.secret("x.key").exists()
    assert _secret(place, "x.key", lambda: "whole") == "whole"


def test_a_secret_that_cannot_be_written_is_named(place):
    """The file, and no trace."""
    place.secret("x.key").mkdir()
    with pytest.raises(ServiceError) as caught:
        _secret(place, "x.key", lambda: "x")
    assert caught.value.reason == Reason.STORE_NOT_WRITABLE
    assert "x.key" in caught.value.message


def test_the_operators_key_is_one():
    """As the gateway reads it."""
    assert read_credential(_operator_key()).key_id == OPERATOR_ID


@pytest.fixture
def processes(place):
    _secret(place, "context.key", lambda: "ab" * 32)
    return Processes(place, "127.0.0.1:50060", "key")


def test_the_four_find_each_other(processes, place, monkeypatch):
    """The environment is a configuration that the loader takes, and everyone's addresses meet."""
    monkeypatch.setenv("LLMSPELL__GATEWAY__LISTEN", "elsewhere:1")
    environment = _environment(processes, Path("/run/x"), None)
    settings = load_settings(None, environment)
    assert settings.gateway.listen == "127.0.0.1:50060"
    for name in ("runtime", "vector", "state"):
        listen = getattr(settings, name).listen
        assert listen == f"unix:/run/x/{name}.sock"
        assert getattr(settings.gateway, name) == listen
    assert settings.runtime.vector == settings.vector.listen
    assert settings.runtime.state == settings.state.listen
    assert settings.vector.data != settings.state.data
    assert settings.vector.data.startswith(str(place.data))
    assert read_key(Path(settings.deployment.context_key_file)) == bytes.fromhex("ab" * 32)
    assert set(processes.addresses()) == set(NAMES)


def test_traces_are_kept_unless_the_operator_says_where(processes, tmp_path, monkeypatch):
    """In the data folder; a settings file or the environment may say otherwise."""
    name = "LLMSPELL__TELEMETRY__TRACES"
    environment = _environment(processes, Path("/run/x"), None)
    assert environment[name] == str(processes.place.data / "traces")
    config = tmp_path / "llmspell.toml"
    config.write_text('[telemetry]\ntraces = ""\n')
    assert name not in _environment(processes, Path("/run/x"), config)
    config.write_text("[gateway]\nreflection = false\n")
    assert name in _environment(processes, Path("/run/x"), config)
    monkeypatch.setenv(name, "/elsewhere")
    assert _environment(processes, Path("/run/x"), config)[name] == "/elsewhere"


def test_no_secret_is_in_the_environment(processes):
    """It can be read by whoever may list processes; only paths of secrets are in it."""
    environment = _environment(processes, Path("/run/x"), Path("llmspell.toml"))
    values = " ".join(environment.values())
    assert "ab" * 32 not in values
    assert Path(environment["LLMSPELL_CONFIG"]).is_absolute()


@pytest.fixture
def child(place):
    return _Child("nobody", f"unix:{place.data}/nobody.sock")


def event(**fields):
    return json.dumps(fields) + "\n"


def test_last_words_are_found_in_the_log(place, child):
    """The reason and the sentence of the process itself, whatever was written around it."""
    words = event(event="cannot start", reason="SCHEMA_TOO_NEW", why="Too new.")
    place.log("nobody").write_text(event(event="x") + words + "Fatal: not JSON\n[1]\n")
    error = _cannot_start(child, place)
    assert (error.reason, error.message) == (Reason.SCHEMA_TOO_NEW, "Too new.")


def test_the_words_of_an_earlier_process_are_not_its_words(place, child):
    """Yesterday's reason is not today's (found in review)."""
    log = place.log("nobody")
    log.write_text(event(event="cannot start", reason="SCHEMA_TOO_NEW", why="Too new."))
    child.log_start = log.stat().st_size
    error = _cannot_start(child, place)
    assert error.reason == Reason.INTERNAL
    assert str(log) in error.message


async def test_a_process_that_ends_while_it_starts_is_told(place, child):
    """At once, not after the time that a start may take; with the place of its log."""
    await _start(child, place, dict(os.environ))
    with pytest.raises(ServiceError) as caught:
        await asyncio.wait_for(_answers(child, place), 20)
    assert caught.value.metadata["service"] == "nobody"
    assert "No module named services.nobody" in place.log("nobody").read_text()


async def test_a_large_log_makes_room(place, child, monkeypatch):
    """The old one is kept beside it."""
    monkeypatch.setattr(module, "_LOG_BYTES_MAX", 10)
    place.log("nobody").write_text("x" * 11)
    await _start(child, place, dict(os.environ))
    await child.process.wait()
    assert place.log("nobody").with_suffix(".log.1").read_text() == "x" * 11
    assert child.log_start == 0


async def test_a_process_that_keeps_dying_is_tried_ever_more_slowly(processes, child, monkeypatch):
    """So is one that cannot even be started; the supervisor never gives up (found in review)."""
    waits, reports = [], []
    enough = asyncio.Event()

    async def start(child, place, environment):
        if len(reports) % 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        raise ServiceError(Reason.INTERNAL, "It ended.")

    class Dead:
        returncode = -9

        async def wait(self):
            return -9

    async def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2000:
            enough.set()
            await asyncio.Event().wait()

    child.process = Dead()
    monkeypatch.setattr(module, "_start", start)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    task = asyncio.create_task(
        _supervise(child, processes, {}, lambda name, what: reports.append(what))
    )
    await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits == sorted(waits)
    assert waits[-1] == module._RESTART_DELAY_MAX_S
    assert any("signal 9" in report for report in reports)


def test_how_it_ended_is_said_in_words():
    """A signal or an exit code."""
    assert _words(-9) == "signal 9"
    assert _words(78) == "exit code 78"


def test_the_run_file_is_replaced_whole(processes, place):
    """Process ids and addresses, as JSON; a reader never sees half of it."""
    processes.children = {"state": _Child("state", "unix:/x")}
    _write_run_file(processes)
    assert json.loads(place.run_file.read_text()) == {"state": {"pid": 0, "address": "unix:/x"}}
    assert not list(place.data.glob("*.tmp"))


async def test_the_gateway_stops_first_and_the_stores_last(processes):
    """Nothing new arrives while the rest ends; one that is dead already is no matter."""
    stopped = []

    class Process:
        returncode = None

        def __init__(self, name):
            self.name = name

        def terminate(self):
            stopped.append(self.name)
            if self.name == "vector":
                raise ProcessLookupError

        async def wait(self):
            return 0

    processes.children = {name: _Child(name, "", process=Process(name)) for name in NAMES}
    processes.children["runtime"].process.returncode = 1
    await _stop(processes)
    assert stopped == ["gateway", "vector", "state"]


def test_names_are_modules():
    """Each of the four can be run."""
    root = Path(module.__file__).parents[1]
    assert all((root / name / "__main__.py").is_file() for name in NAMES)
    assert all(re.fullmatch("[a-z]+", name) for name in NAMES)

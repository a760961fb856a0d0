"""`llmspell artifact` against servers of the contract: bytes in and out, what is said, and bars."""

import json
import os
import pty
import subprocess
import sys

import pytest
from blake3 import blake3
from typer.testing import CliRunner

from services.gateway.cli.main import app
from services.gateway.cli.output import ExitCode
from tests.fake_deployment import KEY, Deployment, serving

LARGE = os.urandom(5 * 1024 * 1024 + 3)


@pytest.fixture
def deployment():
    """What the fake servers share."""
    return Deployment()


@pytest.fixture
def environment(deployment, tmp_path):
    """What a person would have set."""
    with serving(deployment) as address:
        yield {
            "LLMSPELL_ADDRESS": address,
            "LLMSPELL_API_KEY": KEY,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "COLUMNS": "160",
        }


@pytest.fixture
def run(environment):
    """Run `llmspell artifact …`; its result."""

    def invoke(*arguments, given=None):
        named = ["artifact", *(str(one) for one in arguments)]
        return CliRunner().invoke(app, named, input=given, env=environment)

    return invoke


@pytest.fixture
def file(tmp_path):
    """A large file with a telling name."""
    path = tmp_path / "plan.json"
    path.write_bytes(LARGE)
    return path


def test_a_file_goes_in_and_comes_out(run, file, tmp_path):
    """The bytes of a file are the artifact's, and those of the file that it is written to."""
    stored = run("put", file)
    assert (stored.exit_code, stored.stdout.strip()) == (0, blake3(LARGE).hexdigest())
    assert "plan.json is stored as version 1: 5.0 MiB." in stored.stderr
    target = tmp_path / "again"
    got = run("get", "plan.json", "-o", target)
    assert (got.exit_code, got.stdout) == (0, "")
    assert target.read_bytes() == LARGE
    assert sorted(path.name for path in tmp_path.glob("again*")) == ["again"]
    assert run("get", "plan.json").stdout_bytes == LARGE
    assert run("get", "--digest", blake3(LARGE).hexdigest()).stdout_bytes == LARGE


def test_stdin_and_all_that_is_said_of_it(run):
    """What comes from stdin is stored under its name with all that the options say."""
    stored = run(
        *("put", "-", "--name", "note.txt", "--scope", "session:s", "--type", "note"),
        *("--description", "words", "--tag", "a", "--tag", "b", "--metadata", '{"n": [1]}'),
        "--json",
        given=b"\xff\x00",
    )
    told = json.loads(stored.stdout)
    assert told["mime_type"] == "text/plain"
    assert (told["tags"], told["metadata"], told["size_bytes"]) == (["a", "b"], {"n": [1]}, 2)
    assert run("get", "note.txt", "--scope", "session:s").stdout_bytes == b"\xff\x00"
    shown = run("show", "note.txt", "--scope", "session:s")
    for words in ("note.txt", "session:s", "text/plain", "words", "a, b", '{"n": [1]}'):
        assert words in shown.stdout
    known = json.loads(run("show", "note.txt", "--scope", "session:s", "--json").stdout)
    assert known == told
    assert run("show", "note.txt").exit_code == ExitCode.NOT_FOUND


def test_lists_and_versions(run, deployment):
    """All pages are listed; options reach the request; versions are numbered."""
    for name in ("a", "b", "b", "c"):
        run("put", "-", "--name", name, "--type", f"type-{name}", given=name)
    listed = json.loads(run("list", "--json").stdout)
    assert [(each["name"], each["version"]) for each in listed] == [
        ("a", 1),
        ("b", 1),
        ("b", 2),
        ("c", 1),
    ]
    assert run("list", "b*", "--limit", "1").stdout.splitlines()[1].startswith("b ")
    assert [each["version"] for each in json.loads(run("versions", "b", "--json").stdout)] == [1, 2]
    sizes = ("--min-size", "0", "--max-size", "9")
    run("list", *sizes, "--tag", "x", "--since", "2026-01-02", "--newest-only", "--newest-first")
    asked = deployment.requests[-1]
    assert (asked.size_bytes_min, asked.size_bytes_max, list(asked.tags)) == (0, 9, ["x"])
    assert asked.HasField("size_bytes_min")
    assert asked.created_after.ToJsonString() == "2026-01-02T00:00:00Z"
    assert not asked.HasField("created_before")
    assert (asked.newest_only, asked.newest_first) == (True, True)
    empty = run("list", "--type", "none")
    assert (empty.stdout, empty.stderr) == ("", "There are no such artifacts in global.\n")
    assert "There is no artifact" in run("versions", "none").stderr


def test_deletion(run):
    """A version or all of them go; what is not there is no error."""
    for content in "xyz":
        run("put", "-", "--name", "n", given=content)
    assert run("delete", "n", "--version", "1").stdout == "1 artifact deleted.\n"
    gone = run("delete", "n", "--all-versions", "--json")
    assert json.loads(gone.stdout) == {"scope": "global", "deleted_count": 2}
    assert run("delete", "n", "--version", "1").stdout == "There was none.\n"


def test_tenants_are_apart(run):
    """`--tenant` says whose; another's is not found."""
    run("put", "-", "--name", "n", "--tenant", "globex", given="x")
    assert run("get", "n").exit_code == ExitCode.NOT_FOUND
    assert run("get", "n", "--tenant", "globex").stdout == "x"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["put", "-"], ExitCode.USAGE, "--name"),
        (["put", "absent.txt"], ExitCode.INVALID, "cannot be read"),
        (["put", "-", "--name", "n", "--metadata", "[1]"], ExitCode.INVALID, "JSON object"),
        (["put", "-", "--name", "n", "--metadata", "{"], ExitCode.INVALID, "is not JSON"),
        (["get", "absent"], ExitCode.NOT_FOUND, "no artifact"),
        (["list", "--since", "soon"], ExitCode.USAGE, "no time"),
    ],
)
def test_mistakes(run, arguments, code, words):
    """Each has its exit code and says what is wrong, on stderr only."""
    failed = run(*arguments)
    assert failed.exit_code == code
    assert failed.stdout == ""
    assert words in failed.stderr


def test_a_file_that_cannot_be_written(run, tmp_path):
    """The place that is not there is named; nothing else is made."""
    run("put", "-", "--name", "n", given="x")
    failed = run("get", "n", "-o", tmp_path / "absent" / "file")
    assert failed.exit_code == ExitCode.INVALID
    assert "absent/file cannot be written" in failed.stderr


@pytest.mark.parametrize(("size", "seen"), [(len(LARGE), True), (10, False)])
def test_a_bar_on_a_terminal(environment, file, size, seen):
    """What is large has a bar on a terminal; what is small has none."""
    file.write_bytes(LARGE[:size])
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "services.gateway.cli.main", "artifact", "put", str(file)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=child,
        env={**os.environ, **environment, "TERM": "xterm"},
    ) as process:
        os.close(child)
        shown = bytearray()
        try:
            while block := os.read(parent, 4096):
                shown += block
        except OSError:  # the terminal's other end is closed
            pass
        printed = process.stdout.read()
    os.close(parent)
    assert process.returncode == 0
    assert printed.decode().strip() == blake3(LARGE[:size]).hexdigest()
    assert (b"storing plan.json" in shown) == seen
    assert b"is stored as version 1" in shown

"""`llmspell config` and `version`, and what every command has."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from services.common.config import load_settings
from services.gateway.cli.main import app
from services.gateway.cli.output import ExitCode, clean, to_plain

COMMANDS = {
    "tls init",
    "tls renew",
    "tls show",
    "up",
    "login",
    "logout",
    "profile list",
    "profile use",
    "profile show",
    "run script",
    "run list",
    "run show",
    "run cancel",
    "run delete",
    "run replay",
    "run resume",
    "repl",
    "tool categories",
    "tool exec",
    "tool list",
    "tool show",
    "exec",
    "health",
    "top",
    "metrics",
    "trace list",
    "trace show",
    "rag ingest",
    "rag search",
    "rag stats",
    "rag list",
    "rag delete",
    "rag reembed",
    "vector collections",
    "vector create",
    "vector update",
    "vector drop",
    "vector import",
    "vector search",
    "vector delete",
    "vector rebuild",
    "vector checkpoint",
    "vector snapshot create",
    "vector snapshot list",
    "vector snapshot restore",
    "vector snapshot delete",
    "session create",
    "session list",
    "session show",
    "session update",
    "session save",
    "session suspend",
    "session resume",
    "session complete",
    "session fail",
    "session archive",
    "session delete",
    "session checkpoint",
    "session checkpoints",
    "session restore",
    "session journal",
    "session journals",
    "state get",
    "state set",
    "state delete",
    "state list",
    "state watch",
    "artifact put",
    "artifact get",
    "artifact list",
    "artifact versions",
    "artifact show",
    "artifact delete",
    "migrate cancel",
    "migrate plan",
    "migrate run",
    "migrate status",
    "schema delete",
    "schema list",
    "schema put",
    "schema show",
    "backup create",
    "backup list",
    "backup verify",
    "backup restore",
    "backup delete",
    "backup usage",
    "backup cleanup",
    "vault status",
    "vault rotate",
    "audit list",
    "audit verify",
    "audit export",
    "policy delete",
    "policy history",
    "policy list",
    "policy set",
    "policy show",
    "policy test",
    "tenant export",
    "tenant import",
    "tenant create",
    "tenant list",
    "agent chat",
    "agent create",
    "agent delete",
    "agent list",
    "agent run",
    "agent show",
    "budget delete",
    "budget list",
    "budget set",
    "estimate agent",
    "estimate ingestion",
    "estimate workflow",
    "model info",
    "model list",
    "model pull",
    "provider list",
    "provider test",
    "quota show",
    "template info",
    "template list",
    "template run",
    "usage",
    "workflow cancel",
    "workflow create",
    "workflow delete",
    "workflow list",
    "workflow resume",
    "workflow run",
    "workflow runs",
    "workflow show",
    "workflow validate",
    "tenant show",
    "tenant update",
    "tenant clone",
    "tenant receipt",
    "tenant suspend",
    "tenant resume",
    "tenant freeze",
    "tenant delete",
    "key create",
    "key list",
    "key revoke",
    "key rotate",
    "token",
    "grant create",
    "grant list",
    "grant end",
    "rpc list",
    "rpc call",
    "config show",
    "config check",
    "config example",
    "version",
    "event list",
    "event publish",
    "event tail",
    "state clear",
    "state copy",
    "state increment",
    "state move",
    "state resolve",
}
WITHOUT_JSON = {
    "up",
    "logout",
    "profile use",
    "repl",
    "run cancel",
    "run delete",
    "artifact get",
    "schema show",
    "tenant export",
    "audit export",
    "metrics",
    "workflow cancel",
    "workflow delete",
    "rpc call",
    "config check",
    "config example",
}
"""They print no data, or JSON anyway, or a file."""
FOR_A_TENANT = {
    name
    for name in COMMANDS
    if name.split()[0]
    in {
        *("rag", "vector", "state", "artifact", "backup", "run", "repl", "tool", "exec", "agent"),
        *("workflow", "provider", "model", "template", "usage", "budget", "estimate", "quota"),
    }
}


def run(*arguments, **environment):
    """Run a command; its result."""
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)


def commands():
    """Every command with the names of its options."""
    found = {}

    def walk(command, path):
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*path, name])
        if not hasattr(command, "commands"):
            options = {option for one in command.params for option in one.opts}
            found[" ".join(path)] = (options, command.help)

    walk(typer.main.get_command(app), [])
    return found


def test_commands_are_these():
    """A command that comes or goes is meant to."""
    assert set(commands()) == COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_has_help_and_json(name):
    """Each command says what it does; what prints data prints it as JSON too."""
    options, text = commands()[name]
    assert text
    assert ("--json" in options) == (name not in WITHOUT_JSON)
    if name in FOR_A_TENANT or name == "rpc call":
        assert "--tenant" in options


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_command(name):
    """`--help` works without a server, a profile or a key."""
    shown = run(*name.split(), "--help")
    assert shown.exit_code == 0
    assert "Usage" in shown.stdout


def test_version():
    """The release, for people and for programs."""
    release = metadata.version("llmspell-services")
    assert run("version").stdout == f"llmspell {release}\n"
    assert json.loads(run("version", "--json").stdout) == {"version": release}


def test_config_example_is_a_good_file(tmp_path):
    """What `config example` prints is TOML that `config check` accepts, lines uncommented too."""
    text = run("config", "example").stdout
    plain = "".join(
        line.removeprefix("# ") + "\n"
        for line in text.splitlines()
        if not line.startswith("# ") or " = " in line
    )
    file = tmp_path / "llmspell.toml"
    file.write_text(text + "\n", "utf-8")
    assert run("config", "check", file).exit_code == 0
    assert set(tomllib.loads(plain)) == {
        "deployment",
        "providers",
        "telemetry",
        "gateway",
        "quotas",
        "runtime",
        "vector",
        "state",
        "tools",
        "hooks",
        "events",
    }


def test_config_show_is_a_good_file(tmp_path):
    """What `config show` prints loads to the same settings, from file, environment and --set."""
    file = tmp_path / "llmspell.toml"
    file.write_text("[vector]\nexact_threshold = 5\n", "utf-8")
    environment = {"LLMSPELL_CONFIG": str(file), "LLMSPELL__STATE__ENGINE": "memory"}
    shown = run("config", "show", "--set", "vector.engine=memory", **environment)
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout, "utf-8")
    expected = load_settings(file, {"LLMSPELL__STATE__ENGINE": "memory"}, ["vector.engine=memory"])
    assert load_settings(again, {}) == expected
    tables = json.loads(run("config", "show", "--json", **environment).stdout)
    assert tables["vector"]["exact_threshold"] == 5
    assert tables["state"]["engine"] == "memory"


def test_config_show_masks_credentials():
    """A password in an address is not shown."""
    url = "https://user:secret@host/v1"
    shown = run("config", "show", LLMSPELL__VECTOR__OPENAI_BASE_URL=url)
    assert "https://***@host/v1" in shown.stdout
    assert "secret@" not in shown.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[vector]\nlisen = 'x'\n", ["vector.lisen", "listen"]),
        ("[vectr]\n", ["vectr", "vector"]),
        ("[vector]\nexact_threshold = 'x'\n", ["vector.exact_threshold", "whole number"]),
        ("[vector\n", ["TOML"]),
    ],
)
def test_config_check_names_file_and_key(tmp_path, content, words):
    """A mistake names the file, the key and the nearest known one."""
    file = tmp_path / "llmspell.toml"
    file.write_text(content, "utf-8")
    failed = run("config", "check", file)
    assert failed.exit_code == ExitCode.PRECONDITION
    assert failed.stdout == ""
    for word in [str(file), *words]:
        assert word in failed.stderr


def test_config_check_of_no_file(tmp_path):
    """A file that is not there is named."""
    failed = run("config", "check", tmp_path / "absent.toml")
    assert failed.exit_code == ExitCode.PRECONDITION
    assert "absent.toml" in failed.stderr


@pytest.mark.parametrize("arguments", ["bogus", "--bogus", "rag search", "state bogus"])
def test_usage_mistakes(arguments):
    """A wrong command line is exit code 2."""
    assert run(*arguments.split()).exit_code == ExitCode.USAGE


def test_quick_commands_load_no_grpc():
    """Help and version wait for neither grpc nor the client."""
    code = (
        "import sys\n"
        "from services.gateway.cli.main import app\n"
        "app(['version'], standalone_mode=False)\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert not {"grpc", "llmspell.client", "numpy", "rich.progress"} & loaded


def test_clean_keeps_lines_and_tabs():
    """Line ends, tabs and letters stay; what commands a terminal does not."""
    assert clean("a\tb\nü\x1b[31m\x7f\x85") == "a\tb\nü�[31m��"


def test_plain_values():
    """Bytes, mappings and sequences become what JSON can write."""
    assert to_plain({"a": (b"\xff", [1]), 2: None}) == {"a": [{"base64": "/w=="}, [1]], "2": None}

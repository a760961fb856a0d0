"""The commands against servers of the contract: what they print, where, and their exit codes."""

import json
import os
import pty
import signal
import subprocess
import sys

import grpc
import pytest
from llmspell._profile import write_profile
from llmspell.v1 import process_pb2
from typer.testing import CliRunner

from services.gateway.cli.admin import _duration
from services.gateway.cli.main import app
from services.gateway.cli.output import ExitCode
from tests.fake_deployment import KEY, Deployment, serving


@pytest.fixture
def deployment():
    """What the fake servers share."""
    return Deployment()


@pytest.fixture
def address(deployment):
    """Where they serve."""
    with serving(deployment) as where:
        yield where


@pytest.fixture
def environment(address, tmp_path):
    """What a person would have set."""
    return {
        "LLMSPELL_ADDRESS": address,
        "LLMSPELL_API_KEY": KEY,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "COLUMNS": "100",
    }


@pytest.fixture
def run(environment):
    """Run a command; its result."""

    def invoke(*arguments, given=None, **changes):
        names = {**environment, **changes}
        return CliRunner().invoke(app, [str(one) for one in arguments], input=given, env=names)

    return invoke


@pytest.fixture
def docs(tmp_path):
    """Two documents and one that cannot be read."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "kettle.MD").write_text("# The kettle\nIt is above the sink.\n", "utf-8")
    (folder / "lamp.html").write_text("<title>Lamp</title><p>It is on the desk.</p>", "utf-8")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    return folder


def test_state_round_trip(run):
    """JSON comes back as JSON, text as text, bytes as bytes."""
    assert run("state", "set", "a", '{"x": [1, 2.5]}').exit_code == 0
    assert json.loads(run("state", "get", "a").stdout) == {"x": [1, 2.5]}
    run("state", "set", "b", "hello world")
    assert run("state", "get", "b").stdout == "hello world\n"
    run("state", "set", "c", "-5")
    assert run("state", "get", "c").stdout == "-5\n"
    run("state", "set", "d", "-", given=b"\xff\x00")
    assert run("state", "get", "d").stdout_bytes == b"\xff\x00"
    run("state", "set", "e", "-", given="[1]\n")
    assert run("state", "get", "e", "--json").stdout.count("json") == 1
    run("state", "set", "f", "NaN")
    assert run("state", "get", "f").stdout == "NaN\n"


def test_state_json(run):
    """With --json the item has its key, value, encoding and times."""
    run("state", "set", "a", "text", "--ttl", 60)
    item = json.loads(run("state", "get", "a", "--json").stdout)
    assert (item["value"], item["encoding"]) == ("text", "text")
    assert item["expire_time"] == "2023-11-14T22:14:20Z"
    run("state", "set", "b", "-", given=b"\xff")
    assert json.loads(run("state", "get", "b", "--json").stdout)["value"] == {"base64": "/w=="}
    assert json.loads(run("state", "set", "c", "1", "--json").stdout)["revision"] == 3
    assert json.loads(run("state", "delete", "c", "--json").stdout)["deleted"] is True


def test_state_list(run):
    """A list shows keys in order, values cut short, and no more than the limit."""
    for key in ("b", "a", "c"):
        run("state", "set", key, "x" * 200)
    shown = run("state", "list").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["key", "a", "b", "c"]
    assert "…" in shown[1]
    assert not any(line.endswith(" ") for line in shown)
    assert len(json.loads(run("state", "list", "--json", "--limit", 2).stdout)) == 2
    assert [item["key"] for item in json.loads(run("state", "list", "b", "--json").stdout)] == ["b"]


def test_state_of_another_tenant(run):
    """--tenant names whose items are meant."""
    run("state", "set", "a", "1")
    missing = run("state", "get", "a", "--tenant", "globex")
    assert missing.exit_code == ExitCode.NOT_FOUND
    assert missing.stdout == ""
    assert "'a'" in missing.stderr
    empty = run("state", "list", "--tenant", "globex")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert json.loads(run("state", "list", "--tenant", "globex", "--json").stdout) == []


def test_state_delete(run):
    """Deleting says whether there was something; both are fine."""
    run("state", "set", "a", "1")
    assert run("state", "delete", "a").stdout == "a is deleted.\n"
    again = run("state", "delete", "a")
    assert (again.exit_code, again.stdout) == (0, "a was not there.\n")


def test_ingest_names_what_it_skips(run, docs):
    """Documents get in; a file that cannot be read is named, and the exit code is 1."""
    done = run("rag", "ingest", docs, docs / "absent.MD", "--json")
    assert done.exit_code == ExitCode.PARTIAL
    report = json.loads(done.stdout)
    assert (report["document_count"], report["chunk_count"]) == (2, 2)
    assert [os.path.basename(file["path"]) for file in report["skipped"]] == [  # noqa: PTH119
        "absent.MD",
        "latin.txt",
    ]
    assert "not UTF-8" in done.stderr
    assert "2 skipped" in done.stderr


def test_ingest_carries_its_options(run, docs, deployment):
    """Collection, scope, chunking, provider and tenant reach the service."""
    options = ["--collection", "c", "--scope", "user:a", "--provider", "p", "--tenant", "globex"]
    chunking = ["--chunk-unit", "tokens", "--chunk-size", "64", "--overlap", "0"]
    done = run("rag", "ingest", docs / "kettle.MD", *options, *chunking)
    assert done.exit_code == 0
    assert done.stdout.startswith("1 document in 1 chunk, ")
    (request,) = deployment.requests
    assert (request.collection_id, request.scope, request.provider) == ("c", "user:a", "p")
    assert (request.chunking.size, request.chunking.HasField("overlap")) == (64, True)
    assert deployment.tenants_seen == ["globex"]
    (document,) = request.documents
    assert document.document_id == "kettle.MD"
    assert document.metadata["title"].string_value == "The kettle"


def test_ingest_of_nothing(run, tmp_path):
    """A folder without documents is told of, with exit code 1."""
    empty = run("rag", "ingest", tmp_path)
    assert empty.exit_code == ExitCode.PARTIAL
    assert "nothing to ingest" in empty.stderr


def test_ingest_that_stops_says_how_far_it_came(run, tmp_path, deployment):
    """Where the service goes away in the middle, what is in already is told."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x" * 40_000, "utf-8")
    deployment.fail_next("IngestDocuments", 4, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    deployment.failures["IngestDocuments"].insert(0, lambda _: None)
    stopped = run("rag", "ingest", tmp_path / "a.txt", tmp_path / "b.txt", "--json")
    assert stopped.exit_code == ExitCode.UNREACHABLE
    assert stopped.stdout == ""
    assert "1 of 2 documents are in" in stopped.stderr


def test_ingest_on_a_terminal_shows_a_bar(environment, docs):
    """A person sees a bar with documents, bytes, rate and time left; stdout has the result only."""
    screen, terminal = pty.openpty()
    names = {**environment, "TERM": "xterm"}
    arguments = ["rag", "ingest", str(docs / "kettle.MD"), "--json"]
    with command(names, *arguments, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while part := _read_screen(screen):
            shown += part
        report, _ = process.communicate(timeout=30)
    os.close(screen)
    assert process.returncode == 0
    assert json.loads(report)["document_count"] == 1
    assert b"ingesting" in shown
    assert b"1/1 documents" in shown


def _read_screen(screen):
    """What a terminal got; empty at its end, which Linux tells by an error."""
    try:
        return os.read(screen, 65536)
    except OSError:
        return b""


def test_search_shows_passages(run, docs):
    """Rank, score, source and title stand above the passage; --json has everything."""
    run("rag", "ingest", docs)
    shown = run("rag", "search", "above", "-k", 3)
    assert shown.exit_code == 0
    first, second, *_ = shown.stdout.splitlines()
    assert first == f" 1  0.750  {docs / 'kettle.MD'}  The kettle"
    assert second == "    # The kettle It is above the sink."
    found = json.loads(run("rag", "search", "above", "--json").stdout)
    assert found["passages"][0]["metadata"]["title"] == "The kettle"
    assert found["passages"][0]["score"] == 0.75


def test_search_without_passages(run, docs):
    """No passages are said to be none; another tenant has none of ours."""
    run("rag", "ingest", docs)
    none = run("rag", "search", "above", "--tenant", "globex")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "No passages" in none.stderr
    found = json.loads(run("rag", "search", "above", "--tenant", "globex", "--json").stdout)
    assert found["passages"] == []


def test_search_cannot_command_the_terminal(run, tmp_path):
    """Control characters of a document are replaced before they are printed."""
    (tmp_path / "evil.txt").write_bytes("above \x1b]0;pwned\x07 \x9b31m\r".encode())
    run("rag", "ingest", tmp_path / "evil.txt")
    shown = run("rag", "search", "above").stdout
    assert "pwned" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}


@pytest.mark.parametrize("filter_text", ["{", "[1]", '{"a": {"above": 1}}', "[" * 100_000])
def test_search_filter_mistakes(run, filter_text):
    """A filter that is no JSON, or no filter, is exit code 6 and one sentence."""
    wrong = run("rag", "search", "x", "--filter", filter_text)
    assert wrong.exit_code == ExitCode.INVALID
    assert "filter" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_stats(run):
    """Collections as a table and as JSON."""
    assert run("rag", "stats").stdout.splitlines()[1].split()[:3] == ["a", "global", "3"]
    stats = json.loads(run("rag", "stats", "--json").stdout)
    assert (stats["record_count"], len(stats["collections"])) == (21, 3)


def test_run_prints_output_then_result(run, tmp_path, deployment):
    """What the script prints comes first, its value on a line of its own; arguments travel."""
    script = tmp_path / "job.lua"
    script.write_text("print(1)", "utf-8")
    done = run("run", script, "--arg", "k=v=w", "--", "a", "--b")
    assert (done.exit_code, done.stdout) == (0, "print(1)\n3\n")
    (request,) = deployment.requests
    assert list(request.positional_arguments) == ["a", "--b"]
    assert dict(request.named_arguments) == {"k": "v=w"}
    assert request.name == str(script)


def test_run_json(run):
    """With --json output and result are one object."""
    done = run("exec", "print(1)", "--json")
    assert json.loads(done.stdout) == {"result": None, "output": "print(1)", "elapsed_s": 1.5}


def test_a_run_s_log_is_beside_what_it_prints(run):
    """On stderr, with level, module and data; with --json it and the metrics are in the answer."""
    done = run("exec", "log")
    assert done.stdout == "log\n"
    assert done.stderr == 'warn db: low {"n": 1}\n'
    shown = json.loads(run("exec", "log", "--json").stdout)
    line = {"level": "warn", "message": "low", "module": "db", "data": {"n": 1}}
    assert shown["logs"] == [line]
    assert shown["metrics"] == {"counters": {"jobs": 2}, "gauges": {}, "histograms": {}}


def test_run_without_result(run):
    """A script that returns nothing prints nothing of its own."""
    assert run("exec", "print(1)\n").stdout == "print(1)\n"


def test_run_reads_stdin(run, deployment):
    """A script may come from stdin."""
    assert run("run", "-", given="print(2)").stdout == "print(2)\n"
    assert deployment.requests[0].name == "stdin"


@pytest.mark.parametrize(
    ("source", "code", "line", "message"),
    [
        ("fail\nlocal x = y.z", ExitCode.PRECONDITION, "2 | local x = y.z", "index a nil value"),
        ("syntax error", ExitCode.INVALID, "1 | syntax error", "syntax error near"),
    ],
)
def test_run_shows_the_line_that_failed(run, source, code, line, message):
    """An error of a script shows file, line and the source line."""
    failed = run("run", "-", given=source)
    assert failed.exit_code == code
    shown = failed.stderr.splitlines()
    assert shown[0].startswith("error: ")
    assert message in shown[0]
    assert shown[1].strip().startswith("--> stdin:")
    assert line in shown


def test_run_failure_keeps_the_output(run):
    """What was printed before the error is on stdout, in whole lines; with --json nothing is."""
    failed = run("exec", "fail\nnow")
    assert failed.stdout == "fail\nnow\n"
    assert run("exec", "fail\nnow", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "/absent.lua"], ExitCode.NOT_FOUND),
        (["run", "/proc"], ExitCode.INVALID),
        (["run", "/bin/sh"], ExitCode.INVALID),
        (["run", "-", "--arg", "k"], ExitCode.USAGE),
        (["run"], ExitCode.USAGE),
        (["exec"], ExitCode.USAGE),
    ],
)
def test_run_mistakes(run, arguments, code):
    """A file that is not there, no file, or no text, and a wrong --arg."""
    assert run(*arguments).exit_code == code


def test_tenants(run):
    """Tenants are made, listed, shown and removed."""
    assert "acme" in run("tenant", "create", "acme", "--name", "Acme").stdout
    again = run("tenant", "create", "acme")
    assert again.exit_code == ExitCode.PRECONDITION
    assert json.loads(run("tenant", "create", "globex", "--json").stdout)["tenant_id"] == "globex"
    assert "Acme" in run("tenant", "list").stdout
    assert len(json.loads(run("tenant", "list", "--json").stdout)) == 2
    run("key", "create", "--tenant", "acme")
    assert json.loads(run("tenant", "show", "acme", "--json").stdout)["keys"][0]["key_id"] == "k0"
    assert "k0" in run("tenant", "show", "acme").stdout
    missing = run("tenant", "show", "nobody")
    assert missing.exit_code == ExitCode.NOT_FOUND
    assert "llmspell tenant list" in missing.stderr


def test_tenant_delete_wants_a_yes(run, deployment):
    """Nobody's data goes by a slip: without someone to ask, --yes is needed."""
    run("tenant", "create", "acme")
    assert run("tenant", "delete", "acme").exit_code == ExitCode.USAGE
    assert "acme" in deployment.tenants
    assert json.loads(run("tenant", "delete", "acme", "--yes", "--json").stdout)["item_count"] == 3
    assert "acme" not in deployment.tenants


def test_keys(run):
    """A key is shown once, as `key`; lists have no secret; ending it twice is no error."""
    created = json.loads(
        run("key", "create", "--tenant", "acme", "--role", "reader", "--json").stdout
    )
    assert (created["key"], created["roles"]) == ("llms_k0_secret", ["reader"])
    assert run("key", "create", "--tenant", "acme").stdout == "llms_k1_secret\n"
    listed = run("key", "list", "--tenant", "acme")
    assert "k1" in listed.stdout
    assert "secret" not in listed.stdout
    assert len(json.loads(run("key", "list", "--tenant", "acme", "--json").stdout)) == 2
    assert run("key", "list", "--tenant", "globex").stdout == ""
    assert run("key", "revoke", "k0").exit_code == 0
    assert json.loads(run("key", "revoke", "k0", "--json").stdout)["revoked"] is False


def test_lists_of_nothing(run):
    """An empty list is said to be empty, on stderr."""
    for arguments in (["tenant", "list"], ["key", "list", "--tenant", "acme"]):
        empty = run(*arguments)
        assert (empty.exit_code, empty.stdout) == (0, "")
        assert "llmspell" in empty.stderr
    assert "no key nope" in run("key", "revoke", "nope").stdout


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_uptime_is_told_in_two_units(seconds, shown):
    """A length of time reads as a person would say it."""
    assert _duration(seconds) == shown


def test_health(run, deployment):
    """Four that serve are exit code 0; one that does not is 1."""
    shown = run("health")
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        [name, "SERVING"] for name in ("gateway", "runtime", "vector", "state")
    ]
    assert json.loads(run("health", "--json").stdout)["status"] == "SERVING"
    deployment.process_status = process_pb2.SERVING_STATUS_UNREACHABLE
    broken = run("health", "--json")
    assert broken.exit_code == ExitCode.PARTIAL
    assert json.loads(broken.stdout)["status"] == "NOT_SERVING"


def test_health_without_a_key(run):
    """Without a key the process still says whether it serves; that is what a container asks."""
    shown = run("health", LLMSPELL_API_KEY="")
    assert (shown.exit_code, shown.stdout) == (0, "SERVING\n")
    assert "not shown" in shown.stderr


def test_rpc_list(run):
    """Every service of the server is listed with its methods."""
    shown = run("rpc", "list").stdout
    assert "llmspell.v1.ScriptService/RunScript(RunScriptRequest) → stream" in shown
    methods = json.loads(run("rpc", "list", "--json").stdout)
    assert {"grpc.health.v1.Health", "llmspell.v1.RagService"} <= {
        method["service"] for method in methods
    }


def test_rpc_without_reflection(run, deployment):
    """A server that does not describe itself is said not to."""
    with serving(deployment, reflected=False) as silent:
        failed = run("--address", silent, "rpc", "list")
    assert failed.exit_code == ExitCode.NOT_FOUND
    assert "reflection" in failed.stderr


@pytest.mark.parametrize(
    "method",
    [
        "StateService/GetState",
        "StateService.GetState",
        "llmspell.v1.StateService/GetState",
        "/llmspell.v1.StateService/GetState",
        "llmspell.v1.StateService.GetState",
    ],
)
def test_rpc_call(run, method):
    """A method is found by each way to write it; the answer is JSON with the contract's names."""
    run("state", "set", "a", "[1]", "--tenant", "globex")
    done = run("rpc", "call", method, '{"key": "a", "scope": "global"}', "--tenant", "globex")
    assert json.loads(done.stdout)["item"]["value"] == {"json": "[1]"}


def test_rpc_call_streams_a_line_each(run):
    """A stream's answers are one JSON a line."""
    done = run("rpc", "call", "ScriptService/RunScript", "-", given='{"source": "print(1)"}')
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(line)) for line in lines] == ["started", "output", "result"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["StateService/Nothing"], ExitCode.NOT_FOUND),
        (["Nothing/GetState"], ExitCode.NOT_FOUND),
        (["nothing"], ExitCode.NOT_FOUND),
        (["StateService/GetState", "{"], ExitCode.INVALID),
        (["StateService/GetState", '{"kez": 1}'], ExitCode.INVALID),
        (["StateService/GetState", '{"key": "absent"}'], ExitCode.NOT_FOUND),
        (["ScriptService/RunScript", '{"source": "fail"}'], ExitCode.PRECONDITION),
    ],
)
def test_rpc_call_mistakes(run, arguments, code):
    """Mistakes are one sentence and a code, as everywhere."""
    failed = run("rpc", "call", *arguments)
    assert failed.exit_code == code
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        ("UNAUTHENTICATED", "CREDENTIAL_INVALID", ExitCode.REFUSED),
        ("PERMISSION_DENIED", "PERMISSION_DENIED", ExitCode.REFUSED),
        ("NOT_FOUND", "TENANT_NOT_FOUND", ExitCode.NOT_FOUND),
        ("INVALID_ARGUMENT", "SCOPE_INVALID", ExitCode.INVALID),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", ExitCode.LIMIT),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", ExitCode.LIMIT),
        ("FAILED_PRECONDITION", "TENANT_REQUIRED", ExitCode.PRECONDITION),
        ("ABORTED", "REVISION_MISMATCH", ExitCode.PRECONDITION),
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", ExitCode.UNREACHABLE),
        ("INTERNAL", "INTERNAL", ExitCode.INTERNAL),
        ("DATA_LOSS", "RECORD_CORRUPT", ExitCode.INTERNAL),
    ],
)
def test_failures_have_their_exit_codes(run, deployment, status, reason, code):
    """Each family of errors has its code; the message is one line on stderr, stdout is empty."""
    deployment.fail_next("ListState", 3, grpc.StatusCode[status], reason)
    failed = run("state", "list", "--json")
    assert failed.exit_code == code
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: It was asked to fail.")
    assert failed.stderr.count("\n") == 1


def test_options_before_the_command(run, address):
    """--address and --api-key before the command are stronger than the environment."""
    named = ["--address", address, "--api-key", KEY]
    assert run(*named, "state", "list", LLMSPELL_ADDRESS="127.0.0.1:1").exit_code == 0
    assert run("--api-key", "wrong", "state", "list").exit_code == ExitCode.REFUSED


def test_profile(run, address, tmp_path):
    """The profile that `up` writes is found; --profile names another; an open one is refused."""
    unset = {"LLMSPELL_ADDRESS": "", "LLMSPELL_API_KEY": ""}
    usual = tmp_path / "config" / "llmspell" / "profile.toml"
    assert run("state", "list", **unset).exit_code == ExitCode.UNREACHABLE
    write_profile(usual, address=address, api_key=KEY, tenant="globex")
    assert run("state", "set", "a", "1", **unset).exit_code == 0
    assert run("state", "get", "a", "--tenant", "globex").exit_code == 0
    usual.rename(tmp_path / "other.toml")
    assert run("--profile", tmp_path / "other.toml", "state", "list", **unset).exit_code == 0
    (tmp_path / "other.toml").chmod(0o644)
    refused = run("--profile", tmp_path / "other.toml", "state", "list", **unset)
    assert refused.exit_code == ExitCode.PRECONDITION
    assert "chmod 600" in refused.stderr


def test_nothing_there(run):
    """Where nothing answers, the message says how to start something."""
    failed = run("health", LLMSPELL_ADDRESS="127.0.0.1:1")
    assert failed.exit_code == ExitCode.UNREACHABLE
    assert "127.0.0.1:1" in failed.stderr
    assert "llmspell up" in failed.stderr


# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
HEEDS_INTERRUPTS = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("services.gateway.cli.main", run_name="__main__", alter_sys=True)
"""


def command(environment, *arguments, **options):
    """The command as a process of its own."""
    names = {**os.environ, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", HEEDS_INTERRUPTS, *arguments],
        env=names,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_reader_that_leaves(environment, deployment):
    """When whoever reads the output goes away, the command ends quietly."""
    process = command(environment, "exec", "print(1)")
    process.stdout.close()
    assert process.wait(30) == ExitCode.PIPE_CLOSED
    assert process.stderr.read() == b""
    process.stderr.close()


def test_interrupt(environment, deployment):
    """Ctrl-C kills the run and ends the command with a word and code 130, without a traceback."""
    with command(environment, "exec", "wait") as process:
        assert process.stdout.read(4) == b"wait"
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert shown == b"Interrupted.\n"
    assert deployment.run_left.wait(30)


def test_argument_that_is_no_text(environment):
    """An argument that is not UTF-8 is a mistake of the caller, not a crash."""
    with command(environment, "state", "set", "a", b"\xff") as process:
        _, shown = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INVALID
    assert shown == b"error: An argument is not UTF-8 text.\n"

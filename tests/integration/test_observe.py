"""Metrics, traces, logs and the live view of four real processes, for two tenants."""

import json
import os
import re
import secrets
import shlex
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from llmspell import Client
from llmspell.v1 import script_pb2, script_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from services.common.access import METHODS
from services.common.config import load_settings
from services.common.healthcheck import check
from services.gateway.cli import top
from services.gateway.cli.main import app
from tests.integration.deployment import deployed, free_port

RUNNER = CliRunner()
ROOT = Path(__file__).parents[2]
SECRETS = ("sk-proj-Zq8mPlantedPlantedPlanted0001", "password=hunterPlanted0002")
PAYLOAD = "zebraPayloadPlanted0003"
SCRIPT = f"""
RAG.ingest({{{{text = "{PAYLOAD} sleeps", id = "d1"}}}})
local found = RAG.search("{PAYLOAD}")
State.set("{PAYLOAD}", "{PAYLOAD}")
Tool.execute("calculator", {{expression = "1 + 1"}})
local reply = JSON.stringify{{replies = {{{{text = "{PAYLOAD} answer"}}}}}}
local agent = Agent.builder():name("watched"):model("scripted/inline")
  :base_url("data:application/json," .. reply):build()
agent:execute("{PAYLOAD} question")
print(#found)
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives spans as an OpenTelemetry collector does."""

    def __init__(self):
        self.spans = []

    def Export(self, request, context):  # noqa: N802
        """Remember what comes, with the process that sent it."""
        for each in request.resource_spans:
            names = {a.key: a.value.string_value for a in each.resource.attributes}
            process = names["service.name"].removeprefix("llmspell-")
            self.spans += [(process, span) for scope in each.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace_id, *, processes=4):
        """The spans of a trace, once so many processes have told theirs."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [each for each in list(self.spans) if each[1].trace_id.hex() == trace_id]
            if len({process for process, _ in found}) >= processes:
                time.sleep(1.2)  # the rest of what is sent once a second
                return [each for each in list(self.spans) if each[1].trace_id.hex() == trace_id]
            time.sleep(0.05)
        raise AssertionError(f"only {[(p, s.name) for p, s in found]}")


@pytest.fixture(scope="module")
def collector():
    """A server of the real protocol."""
    received = Collector()
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)
        received.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield received
        server.stop(0).wait()


@pytest.fixture(scope="module")
def observed(tmp_path_factory, collector):
    """Four processes that tell all they can."""
    port = free_port()
    variables = {
        "LLMSPELL__TELEMETRY__TRACES_COLLECTOR": collector.address,
        "LLMSPELL__TELEMETRY__TRACES_A_SECOND": "1000",
        "LLMSPELL__TELEMETRY__LOG_LEVEL": "debug",
        "LLMSPELL__GATEWAY__METRICS_LISTEN": f"127.0.0.1:{port}",
    }
    with deployed(tmp_path_factory.mktemp("observed"), variables=variables) as up:
        up.metrics_page = f"http://127.0.0.1:{port}"
        yield up


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """`top` looks twice, a moment apart."""
    monkeypatch.setattr(top, "_ONCE_S", 0.3)


def run_script(up, tenant, trace_id):
    """Run the script as a client that has a trace of its own."""
    metadata = (
        ("authorization", f"Bearer {up.keys[tenant]}"),
        ("traceparent", f"00-{trace_id}-{'1' * 16}-01"),
    )
    with grpc.insecure_channel(up.address) as channel:
        stub = script_pb2_grpc.ScriptServiceStub(channel)
        request = script_pb2.RunScriptRequest(source=SCRIPT.encode(), name="watched")
        answers = list(stub.RunScript(request, metadata=metadata, timeout=60))
    assert answers


@pytest.fixture(scope="module")
def traced(observed, collector):
    """The spans of one run for each tenant."""
    ids = {tenant: secrets.token_hex(16) for tenant in ("acme", "globex")}
    for tenant, trace_id in ids.items():
        run_script(observed, tenant, trace_id)
    return {tenant: collector.trace(trace_id) for tenant, trace_id in ids.items()}


def cli(up, *arguments, tenant=None):
    """Run a command in this process: starting another takes longer than the command."""
    return RUNNER.invoke(app, [*arguments], env=up.environment(tenant))


def cli_json(up, *arguments):
    """Run it with --json and read what it printed."""
    done = cli(up, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def attributes(span):
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_one_trace_goes_through_all_four_processes(traced):
    """Each span but the client's own has its parent in the trace; calls, host calls and a tool."""
    for spans in traced.values():
        assert {process for process, _ in spans} == {"gateway", "runtime", "vector", "state"}
        ids = {span.span_id for _, span in spans} | {b"\x11" * 8}
        ours = [(p, s) for p, s in spans if attributes(s).get("llmspell.principal") != "runtime"]
        assert not [span.name for _, span in ours if span.parent_span_id not in ids]
        names = {(process, span.name) for process, span in spans}
        assert ("gateway", "llmspell.v1.ScriptService/RunScript") in names
        assert ("runtime", "call llmspell.v1.StateService/SetState") in names
        assert ("state", "llmspell.v1.StateService/SetState") in names
        assert ("vector", "llmspell.v1.RagService/RetrieveDocuments") in names
        assert ("vector", "search by meaning") in names
        assert ("runtime", "execute_tool calculator") in names


def test_spans_say_what_was_done_and_not_with_what(traced):
    """Semantic names, the way of the search, and neither payloads nor what the script said."""
    spans = traced["acme"]
    told = [attributes(span) for _, span in spans]
    search = next(each for each in told if "llmspell.search.path" in each)
    assert search["llmspell.search.path"] == "scan"
    tool = next(each for each in told if each.get("gen_ai.operation.name") == "execute_tool")
    assert tool["gen_ai.tool.name"] == "calculator"
    turn = next(each for each in told if each.get("gen_ai.operation.name") == "invoke_agent")
    assert turn["gen_ai.agent.name"] == "watched"
    chat = next(each for each in told if each.get("gen_ai.operation.name") == "chat")
    assert (chat["gen_ai.provider.name"], chat["gen_ai.request.model"]) == ("scripted", "inline")
    assert chat["gen_ai.usage.input_tokens"] > 0
    assert chat["gen_ai.usage.output_tokens"] > 0
    assert all(each["rpc.system"] == "grpc" for each in told if "rpc.method" in each)
    assert PAYLOAD not in str(spans)


def test_no_span_of_a_tenant_names_another(traced):
    """Whatever a span says, it says of its own tenant."""
    for tenant, other in (("acme", "globex"), ("globex", "acme")):
        text = str(traced[tenant])
        assert tenant in text
        assert other not in text


def test_a_trace_is_found_on_the_command_line(observed, traced):
    """By the beginning of its id, as a tree with times; slow ones first; JSON for programs."""
    folder = str(observed.data / "traces")
    listed = cli_json(observed, "trace", "list", "--slow", "--folder", folder, "--limit", "1000")
    took = [each["elapsed_s"] for each in listed]
    assert took == sorted(took, reverse=True)
    run = next(each for each in listed if each["name"].endswith("RunScript"))
    shown = cli(observed, "trace", "show", run["trace_id"][:12], "--folder", folder)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert run["trace_id"] in lines[0]
    assert "4 processes" in lines[0]
    assert f"request {run['request_id']}  tenant {run['tenant']}" == lines[1]
    assert re.match(r" +[0-9.]+ (µs|ms|s) [█·]{20} gateway ScriptService/RunScript", lines[2])
    assert any("vector RagService/RetrieveDocuments" in line for line in lines)
    assert cli(observed, "trace", "show", run["request_id"], "--folder", folder).stdout
    missing = cli(observed, "trace", "show", "ffffffff", "--folder", folder)
    assert (missing.exit_code, missing.stdout) == (5, "")
    mine = cli_json(observed, "trace", "list", "--tenant", "globex", "--folder", folder)
    assert {each["tenant"] for each in mine} == {"globex"}


def test_top_shows_processes_methods_and_tenants(observed, traced):
    """A page of 80 columns, and the same as JSON; not for a tenant's key."""
    with Client(observed.address, observed.keys["acme"]) as client:
        client.set_state("k", 1)
    page = cli(observed, "top", "--once")
    assert page.exit_code == 0, page.stderr
    assert "4 of 4 ready" in page.stdout
    assert max(len(line) for line in page.stdout.splitlines()) <= 80
    told = cli_json(observed, "top")
    assert [each["name"] for each in told["processes"]] == ["gateway", "runtime", "vector", "state"]
    assert all(each["is_ready"] and each["memory_bytes"] > 10**7 for each in told["processes"])
    assert "ProcessService/GetMetrics" in [each["name"] for each in told["methods"]]
    assert cli(observed, "top", "--once", tenant="acme").exit_code == 4
    assert cli(observed, "metrics", tenant="acme").exit_code == 4


def names_of(text):
    """The names of all series."""
    families = text_string_to_metric_families(text)
    return {sample.name for family in families for sample in family.samples}


def test_prometheus_gets_one_process_or_all(observed, traced):
    """Each series says whose it is; tenants have theirs; the command prints the same."""
    with urllib.request.urlopen(f"{observed.metrics_page}/metrics", timeout=10) as page:
        own = page.read().decode()
    assert set(re.findall(r'process="(\w+)"', own)) == {"gateway"}
    with urllib.request.urlopen(f"{observed.metrics_page}/metrics/deployment", timeout=10) as page:
        everything = page.read().decode()
    assert set(re.findall(r'process="(\w+)"', everything)) == {
        "gateway",
        "runtime",
        "vector",
        "state",
    }
    assert 'llmspell_tenant_calls_total{process="gateway",tenant="globex"}' in everything
    assert 'llmspell_searches_total{kind="text",path="scan",process="vector"}' in everything
    assert 'llmspell_model_tokens_total{direction="output",model="inline"' in everything
    assert names_of(cli(observed, "metrics").stdout) == names_of(everything)


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(observed, traced):
    """Every metric that the files under deploy/ name is one that the processes export."""
    told = cli(observed, "metrics").stdout
    known = names_of(told) | set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    files = [ROOT / "deploy/grafana/llmspell.json", ROOT / "deploy/prometheus/alerts.yml"]
    for file in files:
        named = set(re.findall(r"\b(?:llmspell|grpc_server|process)_[a-z_]+\b", file.read_text()))
        assert len(named) > 5
        assert not named - known, file.name


def fill(message, text, depth=0):
    """Every text, everywhere in a message."""
    for field in message.DESCRIPTOR.fields:
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        value = getattr(message, field.name)
        is_text = field.type == FieldDescriptor.TYPE_STRING
        if (
            field.is_repeated
            and field.type == FieldDescriptor.TYPE_MESSAGE
            and hasattr(value, "keys")
        ):
            continue
        if is_text and field.is_repeated:
            value.append(text)
        elif is_text:
            setattr(message, field.name, text)
        elif depth < 3:
            fill(value.add() if field.is_repeated else value, text, depth + 1)
            if not field.is_repeated:
                value.SetInParent()
    return message


def plant(channel, method, metadata, text):
    """Call a method with a secret in every text that it has; whatever comes of it."""
    request = fill(message_factory.GetMessageClass(method.descriptor.input_type)(), text)
    data = request.SerializeToString()
    if method.request_streams:
        answers = channel.stream_stream(method.path)(iter([data]), metadata=metadata, timeout=3)
    elif method.streams:
        answers = channel.unary_stream(method.path)(data, metadata=metadata, timeout=3)
    else:
        answers = [channel.unary_unary(method.path).future(data, metadata=metadata, timeout=3)]
    try:
        for answer in answers:
            if not method.streams:
                answer.result()
    except grpc.RpcError:
        return


def test_secrets_reach_neither_logs_nor_traces(observed, collector, traced):
    """Planted in every text of every method, and in metadata; each log line is one JSON object."""
    methods = [m for m in METHODS.values() if m.descriptor.name != "Interact"]
    with grpc.insecure_channel(observed.address) as channel, ThreadPoolExecutor(8) as threads:
        for tenant, secret in zip(("acme", "globex"), SECRETS, strict=True):
            metadata = (
                ("authorization", f"Bearer {observed.keys[tenant]}"),
                ("llmspell-request-id", SECRETS[0]),
                ("traceparent", f"00-{secret}-{'1' * 16}-01"),
                ("x-api-key", secret),
            )
            list(threads.map(lambda m, s=secret, t=metadata: plant(channel, m, t, s), methods))
        bad = (("authorization", f"Bearer {SECRETS[0]}"),)
        plant(channel, METHODS["/llmspell.v1.StateService/GetState"], bad, SECRETS[0])
        plant(
            channel,
            METHODS["/llmspell.v1.StateService/GetState"],
            (("llmspell-tenant", SECRETS[0]),),
            "x",
        )
    time.sleep(1.5)
    lines = 0
    for name in ("gateway", "runtime", "vector", "state"):
        text = (observed.data / "logs" / f"{name}.log").read_text()
        for line in text.splitlines():
            told = json.loads(line)
            assert {"time", "level", "process", "event"} <= told.keys()
            assert line.isprintable()
            assert line.isascii()
            lines += 1
            if told["event"] == "call":
                assert {"request_id"} <= told.keys()
        assert "Planted0001" not in text, name
        assert "Planted0002" not in text, name
        assert PAYLOAD not in text, name
        assert '"trace_id"' in text, name
        traces = (observed.data / "traces" / f"{name}.jsonl").read_text()
        assert "Planted" not in traces, name
        for key in (*observed.keys.values(), observed.operator_key):
            assert key not in text + traces, name
    assert lines > 300
    assert "Planted" not in str(collector.spans)


def test_log_lines_and_traces_meet(observed, traced):
    """A call's line in each process has the trace's id, so that one leads to the other."""
    trace_id = traced["acme"][0][1].trace_id.hex()
    for name in ("gateway", "runtime", "vector", "state"):
        text = (observed.data / "logs" / f"{name}.log").read_text()
        assert f'"trace_id": "{trace_id}"' in text, name


def test_processes_say_that_they_are_ready(observed):
    """The status has it; nothing is missing in a whole deployment."""
    with Client(observed.address, observed.operator_key) as client:
        processes = client.processes()
    assert [(each.name, each.ready, each.not_ready_reasons) for each in processes] == [
        (name, True, ()) for name in ("gateway", "runtime", "vector", "state")
    ]


PAGE = ROOT / "docs/guide/observe.md"


def blocks(kind):
    """The guide's blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_guide_run(observed, traced, tmp_path, monkeypatch):
    """Each ends well, with the traces where `llmspell up` has them without --data."""
    (tmp_path / "llmspell").symlink_to(observed.data)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    trace_id = traced["globex"][0][1].trace_id.hex()
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        done = cli(observed, *shlex.split(line.replace("TRACE", trace_id))[1:])
        assert done.exit_code == 0, (line, done.stderr)


def test_the_python_of_the_guide_runs(observed, monkeypatch, capsys):
    """It prints all four processes, ready."""
    for name, value in observed.environment().items():
        monkeypatch.setenv(name, value)
    exec(compile("".join(blocks("python")), str(PAGE), "exec"), {})
    assert capsys.readouterr().out.count("True") == 4


def test_the_settings_of_the_guide_are_settings(tmp_path):
    """The processes would take them."""
    for text in blocks("toml"):
        (tmp_path / "llmspell.toml").write_text(text)
        load_settings(tmp_path / "llmspell.toml", {})


def test_the_guide_names_what_there_is(observed, traced):
    """Every metric of its table is exported."""
    told = cli(observed, "metrics").stdout
    known = names_of(told) | set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    named = set(re.findall(r"`((?:llmspell|grpc_server|process)_[a-z_]+)`", PAGE.read_text()))
    assert len(named) > 25
    assert not named - known


def test_a_process_that_hangs_is_seen_and_forgotten(observed, traced):
    """While vector stands still, gateway and runtime are live and not ready, and say why."""

    def statuses():
        asked = ("", "llmspell.ready", "llmspell.v1.VectorService", "llmspell.v1.StateService")
        return [check(observed.address, service=each) for each in asked]

    pid = observed.pid("vector")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: check(observed.address, service="llmspell.ready") == "NOT_SERVING")
        assert statuses() == ["SERVING", "NOT_SERVING", "NOT_SERVING", "SERVING"]
        shown = cli(observed, "health")
        assert "gateway is not ready: the vector process does not answer." in shown.stdout
        with Client(observed.address, observed.keys["acme"]) as client:
            client.set_state("k", 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: check(observed.address, service="llmspell.ready") == "SERVING")
    assert set(statuses()) == {"SERVING"}


def until(condition, seconds=20):
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

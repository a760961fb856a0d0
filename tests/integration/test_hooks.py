"""A deployment with all built-in hooks: what they do, for whom, and what is told of it."""

import json

import pytest
from llmspell import Client, InvalidArgument, ResourceExhausted
from llmspell.types import RunOutput, RunResult, RunStarted

from services.runtime.hooks.built_in import BUILT_IN
from tests.integration.deployment import deployed

ORDER = ("logging", "metrics", "debugging", "cost", "security", "rate_limit", "caching", "retry")
SETTINGS = {
    "LLMSPELL__TELEMETRY__LOG_LEVEL": "debug",
    "LLMSPELL__HOOKS__ORDER": ", ".join(ORDER),
    "LLMSPELL__HOOKS__CACHING_SLOWER_THAN_S": "0.000001",
    "LLMSPELL__HOOKS__CACHING_TOOLS": "base64-encoder",
    "LLMSPELL__HOOKS__RATE_LIMIT_PER_MINUTE": "1",
    "LLMSPELL__HOOKS__RATE_LIMIT_BURST": "40",
    "LLMSPELL__HOOKS__METRICS_INTERVAL_S": "0.000001",
    "LLMSPELL__HOOKS__SECURITY_PARAMETER_BYTES": "1000",
    "LLMSPELL__EVENTS__EMIT_TIMING_EVENTS": "true",
}


REPLAYED = """
print(Hook.register("BeforeStateWrite", function(context)
  print(context.correlation_id, context.timestamp)
  return {type = "fork", operations = {{
    id = "f", operation_type = "StateService/SetState",
    parameters = {scope = "global", key = "forked", value = {json = "1"}},
  }}}
end):id())
State.save("global", "k", os.time())
print(JSON.stringify(Hook.join()))
Hook.register("AfterStateRead", function(context)
  return {type = "retry", delay_ms = 5, max_attempts = 3}
end)
print(State.load("k"), os.clock())
local slow = Hook.register("Custom(slow)", function()
  for i = 1, 6000000 + math.random(8000000) do end
end)
for _ = 1, 3 do Hook.fire("slow", {math.random()}) end
Hook.register("Custom(broken)", function() error("boom" .. math.random()) end)
for _ = 1, 4 do Hook.fire("broken") end
for id, stats in pairs(Hook.stats()) do print(id, JSON.stringify(stats)) end
Hook.register("SystemShutdown", function(context) print("over", os.clock()) end)
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """Four processes with every hook there is."""
    folder = tmp_path_factory.mktemp("hooked")
    with deployed(folder, variables=SETTINGS) as up:
        yield up


def run(up, tenant, source, **how):
    """A run's id and its value."""
    with Client(up.address, up.keys[up.tenant(tenant)]) as client:
        events = list(client.run(source, **how))
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    (result,) = [event for event in events if isinstance(event, RunResult)]
    return started.run_id, result.value


def told(up, tenant, run_id, *, wanted):
    """Events of a run by type, waited for until `wanted` is among them."""
    with Client(up.address, up.keys[up.tenant(tenant)]) as client:
        for _ in range(50):
            events = [e for e in client.list_events() if e.correlation_id == run_id]
            if any(event.type == wanted for event in events):
                return {event.type: event for event in events}
            client.poll_events(after=client.poll_events().sequence, wait_s=0.2)
    raise AssertionError(f"no {wanted} of {run_id}")


def logged(up, **wanted):
    """Log lines that have these fields."""
    lines = [json.loads(line) for line in log_text(up).splitlines() if line.startswith("{")]
    return [line for line in lines if wanted.items() <= line.items()]


def log_text(up):
    """What the processes have logged."""
    return "".join(file.read_text() for file in sorted((up.data / "logs").glob("*.log*")))


def hooks(up):
    """The runtime's hooks by name, as every process tells of itself."""
    processes = up.cli_json("health")["processes"]
    (runtime,) = [process for process in processes if process["name"] == "runtime"]
    return {hook["name"]: hook for hook in runtime["hooks"]}


ENCODE = 'Tool.execute("base64-encoder", {operation = "encode", input = "%s"}).result.output'


def test_a_run_is_told_of_with_one_id_in_all_four_processes(up):
    """Events of the run, state's own events and the log lines of each process have its id."""
    source = f'State.save("global", "k", 1) pcall(RAG.search, "q") return {ENCODE % "one"}'
    run_id, value = run(up, "told", source, name="told.lua")
    assert value == "b25l"
    events = told(up, "told", run_id, wanted="run.completed")
    assert {"run.started", "tool.executed", "state.set", "run.completed"} <= set(events)
    assert events["run.completed"].data["call_count"] == 3
    assert events["tool.executed"].data["tool"] == "base64-encoder"
    assert (events["state.set"].own, events["run.started"].source) == (True, "runtime")
    processes = {line["process"] for line in logged(up, request_id=run_id)}
    assert processes == {"gateway", "runtime", "vector", "state"}
    with Client(up.address, up.keys[up.tenant("bystander")]) as other:
        assert list(other.list_events()) == []


def test_failures_are_told_by_what_they_are(up):
    """A refusal, a limit, a failed hook and the run's own end are events of their own types."""
    source = """
      Hook.register("BeforeStateRead", function() error("boom") end)
      pcall(State.load, "tenant:bystander", "k")
      pcall(State.save, "global", "k", ("x"):rep(1200000))
      pcall(Tool.execute, "no-such-tool", {})
      error("the end")
    """
    assert up.cli("exec", source, tenant=up.tenant("failing")).returncode != 0
    with Client(up.address, up.keys["failing"]) as client:
        failed = next(client.events("run.failed", after=1))
    events = told(up, "failing", failed.correlation_id, wanted="run.failed")
    assert events["security.violation"].data["reason"] == "PERMISSION_DENIED"
    assert events["limit.hit"].data["reason"] == "LIMIT_EXCEEDED"
    assert events["tool.failed"].data["reason"] == "TOOL_NOT_FOUND"
    assert events["hook.failed"].data["point"] == "BeforeStateRead"
    assert "boom" in events["hook.failed"].data["message"]
    assert failed.data["reason"] == "SCRIPT_FAILED"
    assert "the end" in failed.data["message"]


def test_a_bucket_is_of_one_tenant(up):
    """Who has made too many calls is refused by name; another tenant goes on."""
    source = """
      for i = 1, 60 do
        local ok, problem = pcall(State.load, "k")
        if not ok then return {i, problem.reason, problem.metadata.limit} end
      end
    """
    _, (count, reason, limit) = run(up, "greedy", source)
    assert (count, reason, limit) == (41, "RATE_LIMITED", "1 a minute")
    _, value = run(up, "modest", 'return State.load("k") == nil')
    assert value is True
    assert logged(up, event="rate limit is near", tenant="greedy")
    assert not logged(up, event="rate limit is near", tenant="modest")


def test_a_tools_long_argument_is_refused_and_audited(up):
    """`security` refuses it before the tool is asked; the decision is logged with the run's id."""
    source = f"local ok, e = pcall(function() return {ENCODE % ('x' * 2000)} end) return e.reason"
    run_id, reason = run(up, "lengthy", source)
    assert reason == "LIMIT_EXCEEDED"
    (line,) = logged(up, event="call refused", request_id=run_id)
    assert (line["tenant"], line["method"]) == ("lengthy", "ToolService/ExecuteTool")


def test_a_client_that_executes_a_tool_itself_passes_the_same_hooks(up):
    """Refused by `security`, and told of, whether a script or the client itself makes the call."""
    with Client(up.address, up.keys[up.tenant("direct")]) as client:
        with pytest.raises(InvalidArgument) as refused:
            client.execute_tool("base64-encoder", {"operation": "encode", "input": "x" * 2000})
        assert refused.value.reason == "LIMIT_EXCEEDED"
        done = client.execute_tool("base64-encoder", {"operation": "encode", "input": "one"})
        assert done.result["output"] == "b25l"
        event = next(client.events("tool.executed", after=1))
    assert event.data["tool"] == "base64-encoder"
    (line,) = logged(up, event="call refused", tenant="direct")
    assert line["method"] == "ToolService/ExecuteTool"


def test_calls_are_logged_without_secrets(up):
    """`logging` has method, tenant and run of each call, and no credential or sensitive value."""
    source = """
      State.save("global", "k", {password = "hunter2-not-told"})
      State.save("global", "s", "entirely-private", {sensitive = true})
    """
    run_id, _ = run(up, "discreet", source)
    lines = logged(up, event="call", request_id=run_id, process="runtime")
    lines = [line for line in lines if "elapsed_ms" in line]
    assert [line["method"] for line in lines] == ["StateService/SetState"] * 2
    assert all(line["tenant"] == "discreet" and line["ok"] for line in lines)
    text = log_text(up)
    assert "hunter2-not-told" not in text
    assert "entirely-private" not in text


def test_calls_before_a_failure_are_shown(up):
    """`debugging` logs what the run did before a call that failed."""
    source = 'State.save("global", "k", 1) pcall(State.load, "a b", "k")'
    run_id, _ = run(up, "puzzled", source)
    (line,) = logged(up, event="calls before a failure", request_id=run_id)
    assert [call.split()[0] for call in line["calls"]] == [
        "StateService/SetState", "StateService/GetState",
    ]  # fmt: skip
    assert "SCOPE_INVALID" in line["calls"][1]


def test_tokens_are_added_up(up):
    """`cost` has the tokens of what was ingested, by tenant."""
    run_id, _ = run(up, "thrifty", 'return RAG.ingest({id = "a", text = "Ten words of text."})')
    (line,) = logged(up, event="cost", request_id=run_id)
    assert (line["tenant"], line["input_count"] > 0) == ("thrifty", True)


def test_calls_are_counted_by_method(up):
    """`metrics` logs a tenant's calls, their failures by reason and their times, by method."""
    run(up, "measured", 'State.load("k") State.load("k") pcall(State.save, "a b", "k", 1)')
    line = logged(up, event="metrics", tenant="measured")[-1]
    read, write = (line["methods"][f"StateService/{name}"] for name in ("GetState", "SetState"))
    assert (read["calls"], read["failures"]) == (2, {"ITEM_NOT_FOUND": 2})
    assert (write["calls"], write["failures"]) == (1, {"SCOPE_INVALID": 1})
    assert sum(read["times"].values()) == 2
    assert read["mean_ms"] > 0


def test_an_event_of_a_script_has_what_scripts_of_old_read(up):
    """Every field of the specification, and lists in the data that are lists."""
    _, (event, none) = run(up, "reading", """
      local inbox = Event.subscribe("*.made")
      local data, how = {list = {1, 2, {a = "b"}}}, {correlation_id = "c", ttl_seconds = 60}
      Event.publish("thing.made", data, how)
      Event.publish("thing.sold", 1)
      local event = Event.receive(inbox, 2000)
      assert(event.data.list[2] == 2 and #event.data.list == 3 and event.data.list[3].a == "b")
      return {event, Event.receive(inbox, 10) == nil}
    """)  # fmt: skip
    known = {"id", "event_type", "data", "timestamp", "sequence", "correlation_id", "language"}
    assert known | {"ttl", "metadata", "target_language", "serialization_version"} <= set(event)
    assert {"correlation_id", "source", "tags", "priority", "ttl"} <= set(event["metadata"])
    assert (event["correlation_id"], event["target_language"], none) == ("c", "Lua", True)


def test_every_hook_is_counted(up):
    """Each hook that was chosen is among the counts of the runtime process, in its order."""
    run(up, "counted", 'return State.load("k")')
    counts = hooks(up)
    assert tuple(counts) == ORDER
    assert set(counts) == set(BUILT_IN)
    assert all(count["call_count"] > 0 for count in counts.values())
    assert all(count["failure_count"] == 0 for count in counts.values()), counts


def test_a_limit_that_kills_a_run_is_told(up):
    """What no hook of the script could be asked about is an event all the same."""
    with (
        Client(up.address, up.keys[up.tenant("chatty")]) as client,
        pytest.raises(ResourceExhausted),
    ):
        list(client.run('while true do print(("x"):rep(100000)) end', name="chatty.lua"))
    with Client(up.address, up.keys["chatty"]) as client:
        event = next(client.events("limit.hit", after=1))
    assert event.data["reason"] == "RUN_OUTPUT_LIMIT"


def test_a_run_with_hooks_is_made_again_byte_for_byte(up):
    """Forks, retries, slow and broken hooks: all that decides is in the journal or in the VM."""
    with Client(up.address, up.keys[up.tenant("again")]) as client:
        started, *events = client.run(REPLAYED, name="again.lua", journal=True)
        printed = b"".join(event.data for event in events if isinstance(event, RunOutput))
        assert client.get_run(started.run_id).status == "succeeded"
        *events, report = client.replay_run(started.run_id)
    again = b"".join(event.data for event in events if isinstance(event, RunOutput))
    assert b"over" in printed
    assert again == printed
    assert report.identical, report

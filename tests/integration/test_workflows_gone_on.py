"""Scripts that run workflows: made again byte for byte, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from llmspell import Client, LLMSpellError
from llmspell.types import ReplayReport, RunOutput, RunResult

from tests.integration.deployment import deployed

ALL_KINDS = """
local inner = Workflow.parallel{name = "inner", steps = {
  {name = "a", input = {n = "{{inputs.n}}"},
    fn = function(given) print("a", given.n) return given.n + 1 end},
  {name = "b", tool = "calculator", input = {input = "{{inputs.n}} * 2"}},
}}
local each = Workflow.loop{name = "each", range = {start = 1, ["end"] = 4}, body = {
  {name = "in", workflow = inner, input = {n = "{{loop_value}}"}},
}, break_conditions = {function(given) return given.shared.loop_value >= 2 end}}
local events = {}
local result = each:execute({}, {on_event = function(event) events[#events + 1] = event.type end})
print(JSON.stringify(result.output), result.execution_id, #events)
print(os.time(), math.random(), result.metadata.execution_time_ms)
local ok, failure = pcall(function()
  return Workflow.sequential{name = "bad", steps = {{name = "x", custom = 1, type = "custom",
    ["function"] = "fail", parameters = {message = "no"}}}}:execute()
end)
print(ok, tostring(failure))
return #result.steps
"""

ONCE = """
local function count(name)
  return function() State.increment("custom:once", name, 1) return name end
end
local function step(name)
  return {name = name, type = "call", method = "StateService/IncrementState",
    request = {scope = "custom:once", key = name, int_delta = 1}}
end
local flow = Workflow.sequential{name = "once", steps = {
  step("called_before"), {name = "function_before", fn = count("function_before"), input = {}},
  {name = "wait", fn = function()
    count("waited")()
    State.save("custom:once", "at_wait", true)
    local heard = Event.subscribe("go.on")
    while not State.load("custom:once", "go_on") do Event.receive(heard, 100) end
    return "waited"
  end, input = {}},
  step("called_after"), {name = "function_after", fn = count("function_after"), input = {}},
}}
local result = flow:execute()
return {success = result.success, status = result.status}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """Four processes of this module's own, since it kills one of them."""
    with deployed(tmp_path_factory.mktemp("gone-on")) as processes:
        yield processes


@pytest.fixture
def client(up):
    """Of a tenant of this module."""
    with Client(up.address, up.keys[up.tenant("flows-resumed")], timeout_s=30) as connected:
        yield connected


def test_a_run_with_workflows_is_made_again_byte_for_byte(client):
    """What it prints and gives is the same, functions and events included."""
    printed, run_id = b"", ""
    for event in client.run(ALL_KINDS, name="kinds.lua", journal=True):
        run_id = run_id or event.run_id
        printed += event.data if isinstance(event, RunOutput) else b""
    assert isinstance(event, RunResult)
    assert printed.count(b"\n") == 5, printed
    *events, report = client.replay_run(run_id)
    assert isinstance(report, ReplayReport)
    assert report.identical, report
    assert b"".join(each.data for each in events if isinstance(each, RunOutput)) == printed
    assert report.value == event.value
    assert len(list(client.list_workflow_runs(name="each"))) == 1


def test_a_script_goes_on_with_its_workflow_after_a_kill(up):
    """`kill -9` of the runtime in the middle: each call and each function is done exactly once."""
    key = up.keys[up.tenant("once")]
    with Client(up.address, key, timeout_s=30) as client:
        found = {}

        def run():
            try:
                for event in client.run(ONCE, name="once.lua", journal=True):
                    found.setdefault("run_id", getattr(event, "run_id", ""))
            except LLMSpellError as error:
                found["error"] = error

        running = threading.Thread(target=run)
        running.start()
        _wait(lambda: client.get_state("at_wait", scope="custom:once"))
        up.kill("runtime")
        running.join(60)
        assert "error" in found
        client.set_state("go_on", value=True, scope="custom:once")
        ended = _resumed(client, found["run_id"])
        assert ended["success"] is True, ended
        counts = {item.key: item.value for item in client.list_state(scope="custom:once")}
        counts = {name: told for name, told in counts.items() if name not in {"at_wait", "go_on"}}
        names = ("called_before", "function_before", "waited", "called_after", "function_after")
        assert counts == dict.fromkeys(names, 1)


LOOPED = 60


def test_a_client_goes_on_with_its_workflow_after_a_kill(up):
    """`kill -9` of the runtime in the middle: the call answers, and each step was done once."""
    with Client(up.address, up.keys[up.tenant("loop")], timeout_s=30) as client:
        request = {"scope": "custom:loop", "key": "n", "int_delta": 1}
        form = {
            "name": "counts",
            "range": [0, LOOPED],
            "body": [
                {"name": "add", "method": "StateService/IncrementState", "input": request},
                {"name": "rest", "tool": "calculator", "input": {"input": "{{loop_value}} + 1"}},
            ],
        }
        found = []
        running = threading.Thread(target=lambda: found.append(client.execute_workflow(form)))
        running.start()
        _wait(lambda: (item := client.get_state("n", scope="custom:loop")) and item.value >= 3)
        up.kill("runtime")
        running.join(90)
        (done,) = found
        assert done.success, done.failure
        assert [each["result"] for each in done.output] == [n + 1.0 for n in range(LOOPED)]
        assert client.get_state("n", scope="custom:loop").value == LOOPED
        assert client.get_workflow_run(done.execution_id).resumed_count == 1


def _wait(ask):
    """Until it is so; a process that is away is no answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(LLMSpellError):
            if ask():
                return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def _resumed(client, run_id):
    """What a run gives that is gone on with, once the runtime is back."""
    ended = []

    def resume():
        *_, last = client.resume_run(run_id)
        ended.append(last)
        return True

    _wait(resume)
    return ended[0].value

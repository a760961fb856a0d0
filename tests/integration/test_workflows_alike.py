"""A nested workflow of all four kinds, from Lua, a client and the shell: the same results."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import threading
import time
from pathlib import Path

import grpc
import pytest
import yaml
from llmspell import AsyncClient, Client, InvalidArgument, NotFound
from llmspell.types import RunResult
from llmspell.v1 import (
    agent_pb2,
    execution_pb2,
    execution_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
from llmspell.v1.types_pb2 import ListValue, MapValue, Value

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide" / "workflows.md"
REPORT = ROOT / "examples" / "workflows" / "report.yaml"

NESTED = """
local square = Workflow.loop{name = "square_each", collection = "{{inputs.numbers}}", body = {
  {name = "square", tool = "calculator", input = {input = "{{loop_value}} * {{loop_value}}"}},
}}
local total = Workflow.parallel{name = "total", branches = {
  {name = "sum", steps = {{name = "add", tool = "calculator",
    input = {input = "{{inputs.squares[0].result}} + {{inputs.squares[1].result}}"}}}},
  {name = "count", steps = {{name = "size", fn = function(given) return #given.list end,
    input = {list = "{{inputs.squares}}"}}}},
}}
local judge = Workflow.conditional{name = "judge", branches = {
  {name = "large", condition = "shared.limit < 10", steps = {
    {name = "say", tool = "template-creator",
      input = {input = "{{steps.totals.output.sum.result}} is large"}},
  }},
}, default_branch = {steps = {{name = "small", fn = function() return "small" end}}}}
local all = Workflow.sequential{name = "nested", shared_data = {limit = 5}, steps = {
  {name = "squares", workflow = square, input = {numbers = "{{inputs.numbers}}"}},
  {name = "totals", workflow = total, input = {squares = "{{steps.squares.output}}"}},
  {name = "verdict", workflow = judge},
  {name = "review", agent = Agent.create{name = "reviewer", model = "scripted/echo"},
    input = "review: {{steps.verdict.output.rendered}}"},
}}
local result = all:execute{numbers = {3, 4}}
return {id = result.execution_id, output = result.output, outputs = result.outputs}
"""


@pytest.fixture(scope="module")
def tenants(deployment):
    """One that runs workflows, one beside it that must see none of them."""
    return [deployment.tenant(name) for name in ("flows", "flows-beside")]


@pytest.fixture
def client(deployment, tenants):
    with Client(deployment.address, deployment.keys[tenants[0]]) as connected:
        yield connected


@pytest.fixture
def beside(deployment, tenants):
    with Client(deployment.address, deployment.keys[tenants[1]]) as connected:
        yield connected


def value(plain):
    """A plain value as the contract's, by the generated messages alone."""
    if isinstance(plain, dict):
        return Value(map_value=MapValue(fields={name: value(one) for name, one in plain.items()}))
    if isinstance(plain, list):
        return Value(list_value=ListValue(values=[value(one) for one in plain]))
    return Value(int_value=plain) if isinstance(plain, int) else Value(string_value=plain)


def tool(name, which, **arguments):
    """A step that executes a tool."""
    fields = MapValue(fields={key: value(one) for key, one in arguments.items()})
    return workflow_pb2.Step(name=name, tool=workflow_pb2.ToolStep(tool=which, arguments=fields))


def within(name, definition, **inputs):
    """A step that runs a workflow."""
    fields = MapValue(fields={key: value(one) for key, one in inputs.items()})
    inner = workflow_pb2.WorkflowStep(definition=definition, inputs=fields)
    return workflow_pb2.Step(name=name, workflow=inner)


def nested_message():
    """The workflow of NESTED, of generated messages."""
    pb = workflow_pb2
    square = pb.Workflow(name="square_each")
    square.loop.collection_from = "{{inputs.numbers}}"
    square.loop.body.append(tool("square", "calculator", input="{{loop_value}} * {{loop_value}}"))
    total = pb.Workflow(name="total")
    add = "{{inputs.squares[0].result}} + {{inputs.squares[1].result}}"
    total.parallel.branches.add(name="sum", steps=[tool("add", "calculator", input=add)])
    size = pb.FunctionStep(function="size")
    size.arguments.fields["list"].CopyFrom(value("{{inputs.squares}}"))
    total.parallel.branches.add(name="count", steps=[pb.Step(name="size", function=size)])
    judge = pb.Workflow(name="judge")
    say = tool("say", "template-creator", input="{{steps.totals.output.sum.result}} is large")
    large = pb.WorkflowCondition(expression="shared.limit < 10")
    judge.conditional.branches.add(name="large", condition=large, steps=[say])
    reviewer = agent_pb2.AgentRef(spec=agent_pb2.AgentSpec(name="reviewer", model="scripted/echo"))
    review = "review: {{steps.verdict.output.rendered}}"
    whole = pb.Workflow(name="nested")
    whole.shared_data.fields["limit"].int_value = 5
    whole.sequential.steps.extend(
        [
            within("squares", square, numbers="{{inputs.numbers}}"),
            within("totals", total, squares="{{steps.squares.output}}"),
            within("verdict", judge),
            pb.Step(name="review", agent=pb.AgentStep(agent=reviewer, input=review)),
        ]
    )
    return whole


def generated(address, key):
    """Runs it by the generated stubs, doing its function; the output."""
    metadata = [("authorization", f"Bearer {key}")]
    with grpc.insecure_channel(address) as channel:
        workflows = workflow_pb2_grpc.WorkflowServiceStub(channel)
        executions = execution_pb2_grpc.ExecutionServiceStub(channel)
        request = workflow_pb2.ExecuteWorkflowRequest(workflow=nested_message())
        request.inputs.fields["numbers"].CopyFrom(value([3, 4]))
        progress = workflows.ExecuteWorkflow(request, metadata=metadata, timeout=60).progress
        while not progress.done:
            results = []
            for callback in progress.callbacks:
                listed = callback.arguments.fields["list"].list_value.values
                told = Value(int_value=len(listed))
                results.append(
                    execution_pb2.CallbackResult(callback_id=callback.callback_id, value=told)
                )
            again = execution_pb2.ContinueExecutionRequest(
                execution_id=progress.execution_id, results=results
            )
            answer = executions.ContinueExecution(again, metadata=metadata, timeout=90)
            progress = answer.progress
        return progress.workflow


def shown(deployment, tenant, execution_id):
    """What `llmspell workflow show` prints of a run."""
    done = deployment.cli("workflow", "show", execution_id, tenant=tenant)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_shown(text):
    """Every step's result is in it."""
    for word in ("squares", "totals", "verdict", "square", "add", "size", "say", "review"):
        assert word in text, word
    assert "25 is large" in text
    assert text.count('"result"') >= 3


def test_a_nested_workflow_is_the_same_from_lua_and_from_generated_messages(
    deployment, tenants, client, beside
):
    """All four kinds with interpolation: each result is right, and shown to its tenant only."""
    *_, ended = client.run(NESTED, name="nested.lua")
    assert isinstance(ended, RunResult)
    told = ended.value
    output = generated(deployment.address, deployment.keys[tenants[0]])
    runs = [client.get_workflow_run(id_) for id_ in (told["id"], output.execution_id)]
    for run in runs:
        assert run.status == "completed", run.result.failure
        by_path = {step.path: step for step in run.result.steps}
        outputs = {path: step.output for path, step in by_path.items()}
        assert [each["result"] for each in outputs["squares"]] == [9.0, 16.0]
        (added,) = (step.output for path, step in by_path.items() if path.endswith("/add"))
        (size,) = (step.output for path, step in by_path.items() if path.endswith("/size"))
        assert (added["result"], size) == (25.0, 2)
        assert outputs["verdict"]["rendered"] == "25 is large"
        assert "review: 25 is large" in outputs["review"]
        assert by_path["review"].spent.model_calls == 1
        check_shown(shown(deployment, tenants[0], run.execution_id))
        with pytest.raises(NotFound):
            beside.get_workflow_run(run.execution_id)
        done = deployment.cli("workflow", "show", run.execution_id, tenant=tenants[1])
        assert done.returncode == 5
    assert told["outputs"]["review"] == told["output"] == runs[0].result.output
    paths = [sorted(step.path for step in run.result.steps) for run in runs]
    assert paths[0] == paths[1]


def test_a_file_runs_from_the_shell(deployment, tenants):
    """A tree at the end, the result as JSON, an exit code; a wrong file is told of by its step."""
    words = ["workflow", "run", str(REPORT), "numbers=[1, 2, 3]", "limit=10"]
    done = deployment.cli(*words, tenant=tenants[0])
    assert done.returncode == 0, done.stderr
    for word in ("✔ report", "squares", "totals", "verdict", "SUM OF SQUARES is large"):
        assert word in done.stdout, word
    result = deployment.cli_json(*words, tenant=tenants[0])
    assert result["success"] is True
    assert result["outputs"]["totals"]["sum"]["result"] == 14.0
    small = deployment.cli_json(*words[:-1], "limit=20", tenant=tenants[1])
    assert small["output"]["rendered"] == "SUM OF SQUARES is small"


def test_a_file_with_a_mistake_is_told_of(deployment, tenants, tmp_path):
    """Validation names step and field; a run that fails has exit code 1."""
    form = {"name": "wrong", "steps": [{"name": "a", "tool": "no-such-tool"}]}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(form))
    done = deployment.cli("workflow", "validate", str(file), tenant=tenants[0])
    assert done.returncode == 6
    assert "no-such-tool" in done.stdout
    form["steps"] = [{"name": "a", "tool": "calculator", "input": {"input": "1 +"}}]
    file.write_text(json.dumps(form))
    done = deployment.cli("workflow", "run", str(file), tenant=tenants[0])
    assert done.returncode == 1, done.stderr
    assert "✘ a" in done.stdout


def test_the_commands_of_the_page_run(deployment, tenants, monkeypatch):
    """Each does what it says, for one tenant as for another."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 7
    monkeypatch.chdir(ROOT)
    for tenant in tenants:
        for line in lines:
            done = deployment.cli(*shlex.split(line)[1:], tenant=tenant)
            assert done.returncode == 0, (line, done.stderr)


def test_the_python_of_the_page_runs(deployment, tenants, monkeypatch):
    """The block runs and its asserts hold."""
    for name, told in deployment.environment(tenants[0]).items():
        monkeypatch.setenv(name, told)
    text = PAGE.read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})


def test_registered_workflows_are_the_tenants_own(client, beside):
    """Created, shown, run by name with functions, replaced, deleted; the neighbour sees none."""
    form = {"name": "kept", "steps": [{"name": "twice", "function": "twice", "input": {"n": 2}}]}
    assert client.create_workflow(form).name == "kept"
    assert client.get_workflow("kept").form["steps"][0]["function"] == "twice"
    with pytest.raises(NotFound):
        beside.get_workflow("kept")
    assert [one.name for one in beside.list_workflows()] == []
    done = client.execute_workflow("kept", functions={"twice": lambda given: given["n"] * 2})
    assert done.output == 4
    form["description"] = "Doubles."
    assert client.create_workflow(form, replace=True).description == "Doubles."
    assert client.delete_workflow("kept") is True
    assert client.delete_workflow("kept") is False
    with pytest.raises(InvalidArgument, match="cannot hold functions"):
        client.create_workflow({"name": "x", "steps": [{"name": "s", "function": len}]})


def test_a_function_that_fails_is_its_step_s_failure(client):
    """What it raised is told; what cannot travel is a failure too; the workflow is no exception."""
    form = {"name": "bad", "steps": [{"name": "s", "function": lambda given: 1 / 0}]}
    done = client.execute_workflow(form)
    assert not done.success
    assert "ZeroDivisionError" in done.failure.message
    form["steps"][0]["function"] = lambda given: object()
    assert "must be null, bool" in client.execute_workflow(form).failure.message
    nobody = {"name": "bad", "steps": [{"name": "s", "function": "nobody"}]}
    done = client.execute_workflow(nobody)
    assert not done.success


def test_events_come_one_by_one(client):
    """A stream of a step's begin and end, the result last; with functions as without."""
    step = {"name": "s", "tool": "calculator", "input": {"input": "1 + 1"}}
    *events, result = client.stream_workflow({"name": "w", "steps": [step]})
    assert [event.kind for event in events if event.step] == ["step_started", "step_ended"]
    assert result.output["result"] == 2.0
    steps = [step, {"name": "f", "function": lambda given: 5}]
    *events, result = client.stream_workflow({"name": "w", "steps": steps})
    assert [event.step.name for event in events if event.kind == "step_ended"] == ["s", "f"]
    assert result.output == 5


def test_runs_are_listed_cancelled_and_erased(client, beside):
    """A run that waits is cancelled by another call; it is kept until it is erased."""
    started, go_on = threading.Event(), threading.Event()

    def wait(_):
        started.set()
        go_on.wait(20)

    form = {"name": "waits", "steps": [{"name": "s", "function": wait}]}
    found = {}

    def execute():
        try:
            found["result"] = client.execute_workflow(form, request_id="waits-1")
        except Exception as error:  # noqa: BLE001  (either way is told)
            found["error"] = error

    running = threading.Thread(target=execute)
    running.start()
    assert started.wait(20)
    (run,) = client.list_workflow_runs(name="waits", statuses=["running"])
    assert list(beside.list_workflow_runs(name="waits")) == []
    with pytest.raises(NotFound):
        beside.cancel_workflow_run(run.execution_id)
    assert client.cancel_workflow_run(run.execution_id) is True
    go_on.set()
    running.join(30)
    deadline = time.monotonic() + 20
    while client.get_workflow_run(run.execution_id).status != "cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.delete_workflow_run(run.execution_id) is True
    with pytest.raises(NotFound):
        client.get_workflow_run(run.execution_id)


def test_the_same_awaited(deployment, tenants):
    """The asyncio client runs it with coroutines as functions, those of branches side by side."""
    active = {"now": 0, "most": 0}

    async def slow(given):
        active["now"] += 1
        active["most"] = max(active["most"], active["now"])
        await asyncio.sleep(0.2)
        active["now"] -= 1
        return given["n"]

    form = {
        "name": "beside",
        "type": "parallel",
        "steps": [{"name": f"s{n}", "function": slow, "input": {"n": n}} for n in range(3)],
    }

    async def both():
        async with AsyncClient(deployment.address, deployment.keys[tenants[0]]) as one:
            done = await one.execute_workflow(form)
            *_, streamed = [event async for event in one.stream_workflow(form)]
            return done, streamed

    done, streamed = asyncio.run(both())
    assert done.output == streamed.output == {"s0": 0, "s1": 1, "s2": 2}
    assert active["most"] >= 2


def test_a_form_is_the_same_in_each_format(client, tmp_path, deployment, tenants):
    """YAML, JSON and TOML of one workflow validate alike."""
    form = yaml.safe_load(REPORT.read_text())
    (tmp_path / "w.json").write_text(json.dumps(form))
    (tmp_path / "w.toml").write_text(
        'name = "t"\n[[steps]]\nname = "a"\ntool = "calculator"\ninput = {input = "1 + 1"}\n'
    )
    for name in ("w.json", "w.toml"):
        done = deployment.cli("workflow", "validate", str(tmp_path / name), tenant=tenants[0])
        assert done.returncode == 0, done.stdout + done.stderr
    assert client.validate_workflow(form) == []

"""Workflows through the gateway: of every kind, kept, found again, cancelled, apart by tenant."""

import json
import threading
import time

import pytest

from tests.integration.workflow_door import Refused, doors


@pytest.fixture(scope="module")
def both(deployment):
    """Two tenants' doors."""
    with doors(deployment, "acme", "globex") as both:
        yield both


def row(*steps, **more):
    return {"name": "w", "sequential": {"steps": list(steps)}, **more}


def calculate(name, text, **more):
    return {"name": name, "tool": {"tool": "calculator", "arguments": {"input": text}}, **more}


def put(name, key, value, **more):
    arguments = {"scope": "global", "key": key, "value": {"json": json.dumps(value)}}
    return {
        "name": name,
        "call": {"method": "StateService/SetState", "arguments": arguments},
        **more,
    }


def count(name, key, **more):
    arguments = {"scope": "global", "key": key, "int_delta": 1}
    step = {"method": "StateService/IncrementState", "arguments": arguments}
    return {"name": name, "call": step, **more}


def ask(name, function, /, **arguments):
    return {"name": name, "function": {"function": function, "arguments": arguments}}


def nested(name, kind, **more):
    return {"name": name, "workflow": {"definition": {"name": name, **kind}}, **more}


NESTED = row(
    calculate("sum", "{{inputs.a}} + {{inputs.b}}", save_as="sum"),
    nested("each", {"loop": {
        "body": [calculate("square", "{{loop_value}} * {{loop_value}}")],
        "collection_from": "{{inputs.numbers}}",
    }}),
    nested("both", {"parallel": {"branches": [
        {"name": "left", "steps": [calculate("x", "{{steps.each.output[0].result}} + 1")]},
        {"name": "right", "steps": [calculate("x", "{{steps.each.output[1].result}} + 2")]},
    ]}}),
    nested("choose", {"conditional": {
        "branches": [{
            "name": "large",
            "condition": {"expression": "shared.sum.result > 5"},
            "steps": [ask("say", "shout", text="sum {{shared.sum.result}}")],
        }],
        "default_steps": [ask("say", "shout", text="small")],
    }}),
    put("keep", "nested-result", "{{steps.choose.output}}"),
)  # fmt: skip


def test_a_nested_workflow_of_all_four_kinds(both):
    """Tools, calls and a function of the caller; interpolated; every step's result is right."""
    acme, globex = both
    inputs = {"a": 3, "b": 4, "numbers": [2, 3]}
    functions = {"shout": lambda text: text.upper()}
    output = acme.execute(NESTED, functions, inputs=inputs)
    assert output["success"], output
    by_path = {step["path"]: step for step in output["steps"]}
    assert by_path["sum"]["output"]["result"] == 7
    assert by_path["each#1/square"]["output"]["result"] == 4
    assert by_path["each#2/square"]["output"]["result"] == 9
    assert by_path["both/left/x"]["output"]["result"] == 5
    assert by_path["both/right/x"]["output"]["result"] == 11
    assert by_path["choose/large/say"]["output"] == "SUM 7"
    assert acme.get("global", "nested-result") == '"SUM 7"'
    run = acme.run(output["execution_id"])
    assert run["status"] == "COMPLETED"
    assert {step["path"] for step in run["output"]["steps"]} == set(by_path)
    assert run["inputs"] == inputs
    with pytest.raises(Refused) as seen:
        globex.run(output["execution_id"])
    assert seen.value.reason == "WORKFLOW_RUN_NOT_FOUND"
    assert globex.get("global", "nested-result") is None


def test_agents_and_templates_are_steps(both):
    """An agent is asked what the step before it gave; a template runs as the caller's own."""
    acme, globex = both
    echo = {"name": "echo-of-workflows", "type": "basic"}
    acme.call("AgentService/CreateAgent", spec=echo)
    write = {"operation": "write", "path": "workflow-a.txt", "content": "hello"}
    template = {"template_id": "file-classification", "parameters": {"source_path": "."}}
    made = row(
        {"name": "write", "tool": {"tool": "file-operations", "arguments": write}},
        calculate("sum", "20 + 22"),
        {"name": "first", "agent": {"agent": {"name": "echo-of-workflows"},
                                    "input": "It is {{steps.sum.output.result}}."}},
        {"name": "again", "agent": {"agent": {"spec": echo}}},
        {"name": "sort", "template": template},
    )  # fmt: skip
    output = acme.execute(made)
    assert output["success"], output["failure"]
    assert output["outputs"]["first"] == output["outputs"]["again"] == "It is 42."
    assert output["facts"]["agent_outputs"] == {"first": "It is 42.", "again": "It is 42."}
    assert output["outputs"]["sort"]["counts"]
    with pytest.raises(Refused, match="echo-of-workflows"):
        globex.execute(made)


def test_a_step_that_fails_is_told_with_what_was_done(both):
    """The output has the failure; the same is kept; nothing after it was done."""
    acme, _ = both
    made = row(count("one", "failing"), calculate("bad", "1 +"), count("two", "failing"))
    output = acme.execute(made)
    assert not output["success"]
    assert output["failure"]["reason"] == "WORKFLOW_STEP_FAILED"
    assert output["failure"]["metadata"]["step"] == "bad"
    assert output["facts"]["failed_steps"] == 1
    assert acme.get("global", "failing") == "1"
    run = acme.run(output["execution_id"])
    assert run["output"]["failure"] == output["failure"]


def test_what_cannot_run_is_refused_before_anything_happens(both):
    """Step and field are named."""
    acme, _ = both
    asked = {"operation": "conjure", "path": "x"}
    files = {"name": "two", "tool": {"tool": "file-operations", "arguments": asked}}
    odd = row(count("one", "refused"), files)
    with pytest.raises(Refused, match="does not fit") as seen:
        acme.execute(odd)
    assert seen.value.metadata["step"] == "two"
    assert seen.value.metadata["field"] == "tool.arguments.operation"
    made = row(count("one", "refused"), {"name": "two", "tool": {"tool": "calculater"}})
    with pytest.raises(Refused, match="Did you mean calculator") as seen:
        acme.execute(made)
    assert seen.value.reason == "WORKFLOW_INVALID"
    assert seen.value.metadata["step"] == "two"
    assert seen.value.metadata["field"] == "tool.tool"
    assert acme.get("global", "refused") is None
    again = {"method": "WorkflowService/ExecuteWorkflow", "arguments": {"name": "x"}}
    with pytest.raises(Refused, match="no method"):
        acme.execute(row({"name": "a", "call": again}))
    answer = acme.call("WorkflowService/ValidateWorkflow", workflow=made)
    assert not answer["valid"]
    assert [(one["step"], one["field"]) for one in answer["problems"]] == [("two", "tool.tool")]
    for inputs, told in (({}, "must be given"), ({"n": "x"}, "does not fit")):
        typed = row(count("one", "refused"), input_schemas={"n": '{"type": "integer"}'})
        with pytest.raises(Refused, match=told):
            acme.execute(typed, inputs=inputs)
    assert acme.get("global", "refused") is None


def test_registered_workflows_belong_to_their_tenant(both):
    """Created, listed, run by name and within others, replaced, deleted; no cycle is made."""
    acme, globex = both
    made = row(calculate("s", "{{inputs.n}} * 2")) | {"name": "double"}
    acme.call("WorkflowService/CreateWorkflow", workflow=made)
    with pytest.raises(Refused) as seen:
        acme.call("WorkflowService/CreateWorkflow", workflow=made)
    assert seen.value.reason == "WORKFLOW_EXISTS"
    got = acme.call("WorkflowService/GetWorkflow", name="double")["workflow"]["workflow"]
    assert got["sequential"]["steps"][0]["name"] == "s"
    listed = acme.call("WorkflowService/ListWorkflows")["workflows"]
    assert "double" in [one["workflow"]["name"] for one in listed]
    for name in ("GetWorkflow", "ExecuteWorkflow"):
        with pytest.raises(Refused) as seen:
            globex.call(f"WorkflowService/{name}", name="double")
        assert seen.value.reason == "WORKFLOW_NOT_FOUND"
    by_name = acme.call("WorkflowService/ExecuteWorkflow", name="double", inputs={"n": 4})
    assert by_name["progress"]["workflow"]["output"]["result"] == 8
    step = {"name": "d", "workflow": {"name": "double", "inputs": {"n": "{{inputs.x}}"}}}
    assert acme.execute(row(step), inputs={"x": 5})["output"]["result"] == 10
    around = row({"name": "again", "workflow": {"name": "double"}}) | {"name": "double"}
    with pytest.raises(Refused, match="runs itself"):
        acme.call("WorkflowService/CreateWorkflow", workflow=around, replace=True)
    assert acme.call("WorkflowService/DeleteWorkflow", name="double") == {"deleted": True}
    assert acme.call("WorkflowService/DeleteWorkflow", name="double") == {"deleted": False}
    with pytest.raises(Refused, match="double"):
        acme.execute(row(step), inputs={"x": 5})


def test_the_same_request_is_the_same_run(both):
    """Repeated, it does nothing again, with other inputs it is refused; by tenant."""
    acme, globex = both
    made = row(count("one", "once"))
    first = acme.execute(made, request_id="r-1")
    assert acme.execute(made, request_id="r-1")["execution_id"] == first["execution_id"]
    assert acme.get("global", "once") == "1"
    with pytest.raises(Refused) as seen:
        acme.execute(made, request_id="r-1", inputs={"x": 1})
    assert seen.value.reason == "REQUEST_ID_REUSED"
    other = globex.execute(made, request_id="r-1")
    assert other["execution_id"] != first["execution_id"]
    assert globex.get("global", "once") == "1"


def test_a_run_is_cancelled_and_its_steps_with_it(both):
    """The step ends at once, what is kept says so, and what was not begun was not done."""
    acme, globex = both
    made = row(count("one", "cancelled"), ask("wait", "never"), count("two", "cancelled"))
    told = acme.call("WorkflowService/ExecuteWorkflow", workflow=made)["progress"]
    assert [one["path"] for one in told["callbacks"]] == ["wait"]
    execution = {"execution_id": told["execution_id"]}
    with pytest.raises(Refused) as seen:
        globex.call("WorkflowService/CancelWorkflowRun", **execution)
    assert seen.value.reason == "WORKFLOW_RUN_NOT_FOUND"
    assert acme.run(told["execution_id"])["status"] == "RUNNING"
    with pytest.raises(Refused, match="goes on"):
        acme.call("WorkflowService/DeleteWorkflowRun", **execution)
    with pytest.raises(Refused, match="goes on"):
        acme.call("WorkflowService/ResumeWorkflowRun", **execution)
    assert acme.call("WorkflowService/CancelWorkflowRun", **execution) == {"cancelled": True}
    run = acme.run(told["execution_id"])
    assert run["status"] == "CANCELLED"
    statuses = {step["path"]: step["status"] for step in run["output"]["steps"]}
    assert statuses == {"one": "COMPLETED", "wait": "CANCELLED"}
    assert acme.get("global", "cancelled") == "1"
    assert acme.call("WorkflowService/CancelWorkflowRun", **execution) == {"cancelled": False}
    assert globex.call("WorkflowService/DeleteWorkflowRun", **execution) == {"deleted": False}
    assert acme.call("WorkflowService/DeleteWorkflowRun", **execution) == {"deleted": True}
    with pytest.raises(Refused):
        acme.run(told["execution_id"])


def test_runs_are_listed_the_newest_first(both):
    """By name and by how they ended; nobody sees another tenant's."""
    acme, globex = both
    for name, text in (("l-one", "1 + 1"), ("l-two", "1 +"), ("l-one", "2 + 2")):
        acme.execute(row(calculate("s", text)) | {"name": name})

    def names(door, **more):
        runs = door.call("WorkflowService/ListWorkflowRuns", **more)["runs"]
        return [(run["workflow"]["name"], run["status"]) for run in runs]

    assert names(acme)[:3] == [("l-one", "COMPLETED"), ("l-two", "FAILED"), ("l-one", "COMPLETED")]
    assert names(acme, name="l-two") == [("l-two", "FAILED")]
    assert {status for _, status in names(acme, statuses=["failed"])} == {"FAILED"}
    assert not [name for name, _ in names(globex) if name.startswith("l-")]
    page = acme.call("WorkflowService/ListWorkflowRuns", page_size=1)
    again = acme.call(
        "WorkflowService/ListWorkflowRuns", page_size=1, page_token=page["next_page_token"]
    )
    assert again["runs"][0]["execution_id"] != page["runs"][0]["execution_id"]


def test_a_stream_tells_each_step_and_then_the_output(both):
    """As it happens: the begin and the end of each, in order."""
    acme, _ = both
    made = row(calculate("a", "1 + 1"), calculate("b", "{{steps.a.output.result}} + 1"))
    events, output = [], None
    for answer in acme.stream("WorkflowService/StreamWorkflow", execute={"workflow": made}):
        progress = answer["progress"]
        for event in progress["events"]:
            kind = "started" if "step_started" in event else "ended"
            events.append((event["path"], kind))
        output = progress.get("workflow", output)
    assert events == [("a", "started"), ("a", "ended"), ("b", "started"), ("b", "ended")]
    assert output["output"]["result"] == 3


def test_what_happens_is_an_event_of_its_tenant(both):
    """Begin and end of the workflow and of each step, and shared data; in no other tenant."""
    acme, globex = both
    output = acme.execute(row(calculate("a", "1 + 1", save_as="x")) | {"name": "events"})
    failed = acme.execute(row(calculate("b", "1 +")) | {"name": "events"})
    wanted = {
        ("workflow.started", output["execution_id"]),
        ("workflow.step.started", output["execution_id"]),
        ("workflow.step.completed", output["execution_id"]),
        ("workflow.state.updated", output["execution_id"]),
        ("workflow.completed", output["execution_id"]),
        ("workflow.step.failed", failed["execution_id"]),
        ("workflow.failed", failed["execution_id"]),
    }

    def seen(door):
        told = door.call("EventService/ListEvents", pattern="workflow.*", page_size=1000)
        ids = ((one["type"], json.loads(one["json"])["execution_id"]) for one in told["events"])
        return set(ids) & wanted

    until = time.monotonic() + 10
    while seen(acme) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert seen(acme) == wanted
    assert seen(globex) == set()


def test_a_forged_record_is_not_believed(both):
    """Whoever may write state cannot make a run that acts as somebody else."""
    acme, _ = both
    output = acme.execute(row(calculate("a", "1 + 1")))
    scope = f"workflow:{output['execution_id']}"
    text = acme.get(scope, "run")
    forged = json.loads(text)
    forged["record"]["permissions"] = ["*"]
    value = {"json": json.dumps(forged)}
    acme.call("StateService/SetState", scope=scope, key="run", value=value)
    with pytest.raises(Refused) as seen:
        acme.call("WorkflowService/ResumeWorkflowRun", execution_id=output["execution_id"])
    assert seen.value.reason == "WORKFLOW_RUN_NOT_FOUND"


def test_steps_beside_each_other_go_on_at_once(both):
    """Eight callbacks wait together; answered from another thread they end together."""
    acme, _ = both
    branches = [{"name": f"b{n}", "steps": [ask("s", "f", n=n)]} for n in range(8)]
    made = {"name": "w", "parallel": {"branches": branches, "max_concurrency": 8}}
    told = acme.call("WorkflowService/ExecuteWorkflow", workflow=made)["progress"]
    waiting = list(told["callbacks"])
    while len(waiting) < 8:
        more = acme.call(
            "ExecutionService/ContinueExecution", execution_id=told["execution_id"], wait=5
        )
        waiting += more["progress"]["callbacks"]
    assert len({one["callback_id"] for one in waiting}) == 8
    done = []
    thread = threading.Thread(
        target=lambda: done.append(
            acme.finish({**told, "callbacks": waiting}, {"f": lambda n: n * n})
        )
    )
    thread.start()
    thread.join(30)
    assert done[0]["outputs"] == {f"b{n}/s": n * n for n in range(8)}

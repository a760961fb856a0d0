"""What Lua makes of workflows: the requests it sends, its functions, and the errors it raises."""

import json

import pytest
import pytest_asyncio

from services.runtime.pool import WorkerPool
from services.runtime.runs import Reply
from tests.unit.runtime.running import run

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


def ended(**fields):
    """The progress of a workflow that has ended."""
    output = {
        "execution_id": "wf_1", "name": "w", "kind": "sequential", "success": True,
        "status": "COMPLETED", "outputs": {}, "steps": [], "facts": {}, "summary": "Done.",
        "spent": {"input_tokens": 2, "output_tokens": 3, "cost_usd": 0.5}, "elapsed": 0.25,
        "shared_data": {}, "output": None,
    } | fields  # fmt: skip
    return {"execution_id": "wf_1", "done": True, "callbacks": [], "workflow": output}


def asks(name, path="s", **arguments):
    """The progress of one that needs a function."""
    callback = {
        "callback_id": "c1", "kind": "FUNCTION", "name": name, "path": path, "arguments": arguments,
    }  # fmt: skip
    return {"execution_id": "wf_1", "done": False, "callbacks": [callback]}


class Host:
    """Answers executions with what it was given, in that order; keeps all requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    async def __call__(self, call):
        method = call.method.rpartition("/")[2]
        self.calls.append((method, call.args))
        if method not in {"ExecuteWorkflow", "ContinueExecution"}:
            return Reply(ok=True, tree={"deleted": True, "valid": True})
        told = self.answers.pop(0) if self.answers else ended()
        if isinstance(told, str):
            tree = {"code": "NOT_FOUND", "reason": told, "message": "No.", "metadata": {}}
            return Reply(ok=False, tree=tree)
        return Reply(ok=True, tree={"progress": told})

    def of(self, method):
        """Requests of a method."""
        return [args for name, args in self.calls if name == method]


async def did(pool, source, *answers, facts=None):
    """What a script gave, and the host that it asked."""
    host = Host(*answers)
    ran = await run(pool, source, host, facts={"run_id": "r1"} | (facts or {}))
    assert ran.error is None, ran.error and ran.error.message
    return ran.value, host


async def definition(pool, source):
    """The workflow that a script executes."""
    _, host = await did(pool, f"({source}):execute()")
    return host.of("ExecuteWorkflow")[0]["workflow"]


STEPS = {
    "{name = 's', tool = 't', input = {a = 1}}": {"tool": {"tool": "t", "arguments": {"a": 1}}},
    "{name = 's', type = 'tool', tool = 't', parameters = 5}": {
        "tool": {"tool": "t", "arguments": {"input": 5}}
    },
    "{name = 's', agent = 'ann', input = 'hi'}": {
        "agent": {"agent": {"name": "ann"}, "input": "hi"}
    },
    "{name = 's', agent = 'ann', input = {text = 'hi', tone = 'dry'}}": {
        "agent": {"agent": {"name": "ann"}, "input": "hi", "parameters": {"tone": "dry"}}
    },
    "{name = 's', workflow = 'kept', input = {n = 1}}": {
        "workflow": {"name": "kept", "inputs": {"n": 1}}
    },
    "{name = 's', method = 'StateService/GetState', request = {key = 'k'}}": {
        "call": {"method": "StateService/GetState", "arguments": {"key": "k"}}
    },
    "{name = 's', template_id = 't', params = {a = 1}}": {
        "template": {"template_id": "t", "parameters": {"a": 1}}
    },
    "{name = 's', tool = 't', timeout_ms = 1500, retry_count = 2, save_as = 'k'}": {
        "tool": {"tool": "t"}, "timeout": 1.5, "retry": {"max_attempts": 3}, "save_as": "k",
    },
    "{name = 's', tool = 't', retry = {max_attempts = 4, delay_ms = 500}, on_error = 'continue'}": {
        "tool": {"tool": "t"}, "retry": {"max_attempts": 4, "delay": 0.5}, "on_error": "CONTINUE",
    },
    "{name = 's', tool = 't', compensation = {tool = 'u'}}": {
        "tool": {"tool": "t"}, "compensation": {"name": "undo_s", "tool": {"tool": "u"}},
    },
}  # fmt: skip


@pytest.mark.parametrize(("step", "expected"), STEPS.items())
async def test_a_step(pool, step, expected):
    """Each way to write one is the contract's."""
    made = await definition(pool, f"Workflow.sequential{{name = 'w', steps = {{{step}}}}}")
    assert made["sequential"]["steps"] == [{"name": "s"} | expected]


CONDITIONS = {
    "true": {"constant": True},
    "'never'": {"constant": False},
    "'shared.n > 1'": {"expression": "shared.n > 1"},
    "{type = 'shared_data_equals', key = 'k', expected_value = 1}": {
        "shared_data_equals": {"key": "k", "value": 1}
    },
    "{type = 'SharedDataExists', key = 'k'}": {"shared_data_exists": "k"},
    "{type = 'step_success', step_id = 'a'}": {"step_succeeded": "a"},
    "{step_failed = 'a'}": {"step_failed": "a"},
    "{type = 'StepResultEquals', step = 'a', value = 'x'}": {
        "step_output_equals": {"step": "a", "value": "x"}
    },
    "{type = 'step_output_contains', step = 'a', text = 'x'}": {
        "step_output_contains": {"step": "a", "text": "x"}
    },
    "{type = 'and', conditions = {true, {['or'] = {false}}}}": {
        "all": {"conditions": [{"constant": True}, {"any": {"conditions": [{"constant": False}]}}]}
    },
    "{type = 'not', condition = true}": {"not": {"constant": True}},
    "{type = 'custom', expression = 'shared.x'}": {"expression": "shared.x"},
    "{type = 'agent_classification', agent = 'ann', input = 'i', categories = {'a', 'b'}, "
    "expected = 'a'}": {
        "agent_classification": {
            "agent": {"name": "ann"}, "input": "i", "categories": ["a", "b"], "expected": "a",
        }
    },
}  # fmt: skip


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS.items())
async def test_a_condition(pool, condition, expected):
    """Each kind, under its names of old and new."""
    step = f"{{name = 's', tool = 't', condition = {condition}}}"
    made = await definition(pool, f"Workflow.sequential{{name = 'w', steps = {{{step}}}}}")
    assert made["sequential"]["steps"][0]["condition"] == expected


LOOPS = {
    "range = {start = 2, ['end'] = 9, step = 3}": {"range": {"start": 2, "end": 9, "step": 3}},
    "iterator = {range = {1, 4}}": {"range": {"start": 1, "end": 4}},
    "collection = {}": {"collection": []},
    "collection = '{{inputs.files}}'": {"collection_from": "{{inputs.files}}"},
    "iterator = {while_condition = 'shared.n < 3', max_iterations = 5}": {
        "while": {"expression": "shared.n < 3"}, "max_iterations": 5,
    },
    "range = {1, 2}, aggregation = {last_n = 2}, break_when = 'shared.x', "
    "continue_on_error = true": {
        "range": {"start": 1, "end": 2}, "aggregation": "LAST_N", "aggregation_count": 2,
        "break_conditions": [{"expression": "shared.x"}], "continue_on_error": True,
    },
}  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), LOOPS.items())
async def test_a_loop(pool, fields, expected):
    """Over what, how often, and what is kept."""
    made = await definition(pool, f"Workflow.loop{{name = 'w', {fields}, body = {{}}}}")
    assert made["loop"] == {"body": []} | expected


async def test_a_workflow_as_a_whole(pool):
    """Its own options, its shared data with what was set since, and its inputs."""
    source = """
    local w = Workflow.parallel{name = "w", description = "d", error_strategy = "retry",
      retry = {max_attempts = 2, backoff = 3}, timeout_ms = 1000,
      inputs = {a = {type = "string"}, b = true},
      shared_data = {x = 1}, max_cost_usd = 2, rollback = true, max_concurrency = 3,
      branches = {{name = "one", steps = {}}}, steps = {{name = "two", tool = "t"}}}
    w:set_shared_data("y", {2})
    w:execute{a = "A"}
    w:execute("alone")
    """
    _, host = await did(pool, source)
    first, second = host.of("ExecuteWorkflow")
    assert first["inputs"] == {"a": "A"}
    assert second["inputs"] == {"input": "alone"}
    assert first["request_id"] == "r1.workflow.1"
    assert second["request_id"] == "r1.workflow.2"
    two = {"name": "two", "steps": [{"name": "two", "tool": {"tool": "t"}}]}
    assert first["workflow"] == {
        "name": "w",
        "description": "d",
        "error_strategy": "RETRY",
        "retry": {"max_attempts": 2, "multiplier": 3},
        "timeout": 1.0,
        "input_schemas": {"a": '{"type":"string"}', "b": ""},
        "shared_data": {"x": 1, "y": [2]},
        "max_cost_usd": 2.0,
        "rollback": True,
        "parallel": {"branches": [{"name": "one", "steps": []}, two], "max_concurrency": 3},
    }


async def test_functions_are_called_and_may_share(pool):
    """With the step's arguments and its path; what they share goes back beside what they give."""
    source = """
    local w
    local function share(given, context)
      w:set_shared_data("seen", context.path)
      return given.n + 1
    end
    w = Workflow.sequential{name = "w", steps = {{name = "s", input = {n = 1}, fn = share}}}
    return w:execute().output
    """
    value, host = await did(pool, source, asks("w/s", path="in/s", n=1), ended(output=7))
    assert value == 7
    (answer,) = host.of("ContinueExecution")
    assert answer["results"] == [
        {"callback_id": "c1", "value": {"output": 2, "shared_data": {"seen": "in/s"}}}
    ]


async def test_two_functions_of_one_name_stay_apart(pool):
    """Each has a name of its own, and each is the one that is called."""
    source = """
    local function make(value)
      local function give() return value end
      return Workflow.sequential{name = "w", steps = {{name = "s", fn = give}}}
    end
    Workflow.sequential{name = "o", steps = {
      {name = "x", workflow = make("a")}, {name = "y", workflow = make("b")},
    }}:execute()
    """
    _, host = await did(pool, source, asks("w/s"), asks("w/s.2"), ended())
    results = [each["results"][0]["value"] for each in host.of("ContinueExecution")]
    assert results == ["a", "b"]


FAILED = {
    "success": False,
    "status": "FAILED",
    "failure": {
        "reason": "WORKFLOW_STEP_FAILED",
        "message": "s failed.",
        "metadata": {"step": "s"},
    },
    "outputs": {"before": 1},
    "steps": [{"path": "s", "name": "s", "kind": "tool", "status": "FAILED", "attempts": 2}],
}


async def test_a_failure_is_raised_with_what_was_done(pool):
    """Reason, step, outputs, steps, what was spent; handlers hear of it first."""
    source = """
    local heard = {}
    local w = Workflow.sequential{name = "w", steps = {}}
    Workflow.setDefaultErrorHandler(function(_, flow) heard[#heard + 1] = flow.name end)
    local ok, failure = pcall(w.execute, w)
    w:on_error(function(told) heard[#heard + 1] = told.step end)
    pcall(w.execute, w)
    return {ok, failure.reason, failure.step, failure.outputs.before, failure.steps[1].attempts,
      failure.spent.cost_usd, failure.status, tostring(failure), heard,
      w:get_metrics().executions_failed, w:get_metrics().cost_usd}
    """
    value, _ = await did(pool, source, ended(**FAILED), ended(**FAILED))
    told = "WORKFLOW_STEP_FAILED: s failed."
    assert value == [
        False, "WORKFLOW_STEP_FAILED", "s", 1, 2, 0.5, "failed", told, ["w", "s"], 2, 1.0,
    ]  # fmt: skip


async def test_one_that_went_on_after_errors_is_a_result(pool):
    """It is not raised: who asks for it to go on wants what it made."""
    source = """
    local r = Workflow.sequential{name = "w", steps = {}}:execute()
    return {r.success, r.status}
    """
    value, _ = await did(pool, source, ended(success=False, status="PARTIALLY_COMPLETED"))
    assert value == [False, "partially_completed"]


async def test_a_run_that_was_lost_goes_on_under_its_request_id(pool):
    """It is asked for again; a function that has given its answer is not called a second time."""
    source = """
    local calls = 0
    local function count() calls = calls + 1 return calls end
    local w = Workflow.sequential{name = "w", steps = {{name = "s", fn = count}}}
    local output = w:execute().output
    return {calls, output}
    """
    lost = "EXECUTION_NOT_FOUND"
    value, host = await did(pool, source, asks("w/s"), lost, asks("w/s"), ended(output="o"))
    assert value == [1, "o"]
    first, second = host.of("ExecuteWorkflow")
    assert first == second
    given = [each["results"][0]["value"] for each in host.of("ContinueExecution")]
    assert given == [1, 1]


async def test_a_hook_may_stop_a_workflow_or_change_it(pool):
    """Cancelled: nothing is sent. Modified: other inputs are. Afterwards: another result."""
    source = """
    local w = Workflow.sequential{name = "w", steps = {}}
    local stop = Hook.register("BeforeWorkflowStart", function() return "not now" end)
    local ok, failure = pcall(w.execute, w)
    stop:unregister()
    Hook.register("BeforeWorkflowStart", function(context)
      local data = context.data
      data.inputs = {n = 2}
      return {type = "modified", data = data}
    end)
    Hook.register("AfterWorkflowComplete", function(context)
      local data = context.data
      data.output = data.output .. "!"
      return {type = "modified", data = data}
    end)
    return {ok, failure.reason, w:execute({n = 1}).output}
    """
    value, host = await did(pool, source, ended(output="done"))
    assert value == [False, "HOOK_CANCELLED", "done!"]
    assert [each["inputs"] for each in host.of("ExecuteWorkflow")] == [{"n": 2}]


WRONG = {
    "Workflow.sequential()": "FIELD_REQUIRED",
    "Workflow.sequential{steps = {}}": "FIELD_REQUIRED",
    "Workflow.sequential{name = 'w'}": "FIELD_REQUIRED",
    "Workflow.sequential{name = 'w', steps = {}, timeout_ns = 5}": "FIELD_INVALID",
    "Workflow.sequential{name = 'w', steps = {{name = 's'}}}": "FIELD_REQUIRED",
    "step {type = 'agnet'}": "FIELD_INVALID",
    "step {type = 'custom', ['function'] = 'x'}": "FIELD_INVALID",
    "step {tool = 't', condition = 5}": "FIELD_INVALID",
    "step {tool = 't', condition = {type = 'x'}}": "FIELD_INVALID",
    "step {workflow = 5}": "FIELD_INVALID",
    "Workflow.loop{name = 'w', range = {start = 1}, body = {}}": "FIELD_REQUIRED",
    "Workflow.loop{name = 'w', range = {1, 2}, body = {}, aggregation = 'sum'}": "FIELD_INVALID",
    "Workflow.parallel{name = 'w'}": "FIELD_REQUIRED",
    "Workflow.builder():name('w'):conditional():add_then_step({}):build()": "FIELD_REQUIRED",
    "Workflow.register('row', {name = 'w'})": "FIELD_INVALID",
    "Workflow.get()": "FIELD_REQUIRED",
    "Workflow.setDefaultErrorHandler(5)": "FIELD_INVALID",
    "Workflow.sequential{name = 'w', steps = {}}:execute({}, {on_event = 5})": "FIELD_INVALID",
    "Workflow.sequential{name = 'w', steps = {}}:set_shared_data('f', print)": "FIELD_INVALID",
    "Workflow.rag():build()": "FIELD_REQUIRED",
}  # fmt: skip


@pytest.mark.parametrize(("source", "reason"), WRONG.items())
async def test_what_is_wrong_is_refused_before_anything_is_asked(pool, source, reason):
    """By a reason, and the field's name."""
    whole = f"""
    local function step(given)
      given.name = "s"
      return Workflow.sequential{{name = "w", steps = {{given}}}}
    end
    local ok, failure = pcall(function() return {source} end)
    return {{ok, failure.reason, failure.metadata.field}}
    """
    value, host = await did(pool, whole)
    assert value[:2] == [False, reason]
    assert value[2]
    assert host.calls == []


CUSTOM = {
    "data_transform": [
        ("{input = 'ab', operation = 'uppercase'}", "AB"),
        ("{input = {3, 1, 2}, operation = 'sort', descending = true}", [3, 2, 1]),
        ("{input = {{n = 1}, {n = 2}}, operation = 'pluck', field = 'n'}", [1, 2]),
        ("{input = 'a,b', operation = 'split'}", ["a", "b"]),
        ("{input = {1, 2}, operation = 'join', delimiter = '-'}", "1-2"),
        ("{input = {a = 1}, operation = 'merge', with = {b = 2}}", {"a": 1, "b": 2}),
        ("{a = 1}", {"a": 1}),
    ],
    "validation": [
        ("{input = 5, type = 'number', max = 3}", ["input is above 3"]),
        ("{input = {a = 1}, required = {'b'}}", ["b is missing"]),
        ("{input = {a = 'x'}, fields = {a = {pattern = '^%d'}}}", ["a does not have the form ^%d"]),
        ("{input = 'x', type = 'string'}", []),
    ],
    "aggregation": [
        ("{input = {1, 2, 3}}", 6),
        ("{input = {1, 2, 3}, type = 'average'}", 2.0),
        ("{input = {{n = 4}, {n = 6}}, type = 'max', field = 'n'}", 6),
        ("{input = {1, 2}, type = 'count'}", 2),
        ("{input = {'a', 'b'}, type = 'concat'}", "ab"),
    ],
    "success": [("{a = 1}", {"a": 1})],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [(name, *row) for name, rows in CUSTOM.items() for row in rows],
)
async def test_functions_of_old_do_what_they_are_called(pool, name, given, expected):
    """No answer of theirs is made up."""
    arguments = await run(pool, f"return {given}")
    step = f"{{name = 's', type = 'custom', ['function'] = '{name}', parameters = {{}}}}"
    source = f"Workflow.sequential{{name = 'w', steps = {{{step}}}}}:execute()"
    _, host = await did(pool, source, asks("w/s", **arguments.value))
    (result,) = host.of("ContinueExecution")[0]["results"]
    value = result["value"]
    assert (value["errors"] if name == "validation" else value) == expected
    assert json.dumps(value)

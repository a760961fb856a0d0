"""What is wrong with a workflow is told before it runs, by step and field."""

import pytest

from services.common import limits
from services.common.errors import Reason, ServiceError
from services.runtime.workflows.validate import invalid, problems_of
from tests.unit.runtime.workflow_parts import call, message, nested, row, workflow


class Deployment:
    """What a deployment of a test has."""

    def __init__(self, **workflows):
        self.workflows = workflows

    async def tools(self):
        return ["calculator", "file-operations"]

    async def tool_problem(self, name, arguments):
        return ("input", "must be text") if arguments.get("input") == 1 else None

    def agent_problem(self, agent):
        return None if agent.spec.model else ("spec.model", "must be set")

    async def has_agent(self, name):
        return name == "writer"

    async def workflow(self, name):
        if name not in self.workflows:
            raise ServiceError(Reason.WORKFLOW_NOT_FOUND, f"There is no workflow {name!r}.")
        return workflow({"name": name, **self.workflows[name]})

    async def templates(self):
        return ["code-review"]

    def methods(self):
        return ["StateService/SetState", "StateService/IncrementState"]

    def request_problem(self, method, arguments):
        return None if set(arguments) <= {"scope", "key"} else ("value", "is no field")


async def problems(tree, *, functions=None, deployment=None):
    known = deployment or Deployment()
    found = await problems_of(workflow(tree), known, functions=functions)
    return [(one.step, one.field, one.message) for one in found]


def tool(name, tool_name="calculator", /, **arguments):
    return {"name": name, "tool": {"tool": tool_name, "arguments": arguments}}


GOOD = row(
    tool("a", expression="{{inputs.x}}"),
    {"name": "b", "agent": {"agent": {"name": "writer"}, "input": "{{steps.a.output}}"}},
    {"name": "c", "call": {"method": "StateService/SetState", "arguments": {"scope": "global"}}},
    {"name": "d", "template": {"template_id": "code-review"}},
    nested("e", {"loop": {"body": [tool("f", x="{{loop_value}}{{steps.a.output}}")],
                          "collection": [1]}}),
    {"name": "g", "workflow": {"name": "sub"}},
)  # fmt: skip


async def test_a_workflow_that_can_run_has_no_problem():
    """Of every kind of step one."""
    assert await problems(GOOD, deployment=Deployment(sub=row(call("x")))) == []


@pytest.mark.parametrize(
    ("tree", "step", "field", "told"),
    [
        ({}, "", "kind", "must be"),
        (row(), "", "sequential.steps", "at least one"),
        ({"parallel": {}}, "", "parallel.branches", "at least one"),
        ({"conditional": {}}, "", "conditional.branches", "at least one"),
        ({"loop": {"body": [call("a")]}}, "", "loop.iterator", "range"),
        ({"loop": {"range": {"end": 3}}}, "", "loop.body", "at least one"),
        (row({"name": "a"}), "a", "action", "must say what to do"),
        (row(call("")), "", "name", "must have a name"),
        (row(call("a/b")), "a/b", "name", "without"),
        (row(call("a" * 65)), "a" * 65, "name", "64"),
        (row(call("a"), call("a")), "a", "name", "twice"),
        (row(tool("a", "calculater")), "a", "tool.tool", "Did you mean calculator?"),
        (row(tool("a", "")), "a", "tool.tool", "must be set"),
        (row(tool("a", input=1)), "a", "tool.arguments.input", "must be text"),
        (row({"name": "a", "agent": {"agent": {"name": "nobody"}}}), "a", "agent.agent", "nobody"),
        (row({"name": "a", "agent": {}}), "a", "agent.agent", "must be set"),
        (row({"name": "a", "agent": {"agent": {"spec": {"name": "x"}}}}), "a",
         "agent.agent.spec.model", "must be set"),
        (row({"name": "a", "workflow": {"name": "none"}}), "a", "workflow.name", "none"),
        (row({"name": "a", "workflow": {}}), "a", "workflow.name", "must be set"),
        (row({"name": "a", "template": {"template_id": "code-revue"}}), "a",
         "template.template_id", "Did you mean code-review?"),
        (row({"name": "a", "call": {"method": "StateService/SetStat"}}), "a", "call.method",
         "Did you mean StateService/SetState?"),
        (row({"name": "a", "call": {"method": "StateService/SetState",
                                    "arguments": {"nothing": 1}}}), "a",
         "call.arguments.value", "no field"),
        (row(call("a", "none")), "a", "function.function", "none"),
        (row(call("a", condition={"function": "none"})), "a", "condition", "none"),
        (row(call("a", x="{{steps.b.output}}"), call("b")), "a", "function.arguments.x",
         "has not ended by then"),
        (row(call("a", x=["{{steps.a.output}}"])), "a", "function.arguments.x[0]", "by then"),
        (row(call("first"), call("a", x="{{steps.frist.output}}")), "a", "function.arguments.x",
         "Did you mean first?"),
        (row(call("b"), call("a", x="{{steps.b.result}}")), "a", "function.arguments.x",
         "of a step there is output"),
        ({"parallel": {"branches": [
            {"name": "x", "steps": [call("s")]},
            {"name": "y", "steps": [call("a", v="{{steps.s.output}}")]}]}},
         "y/a", "function.arguments.v", "another branch"),
        ({"parallel": {"branches": [{"name": "x", "steps": [call("s")]},
                                    {"name": "x", "steps": [call("s")]}]}},
         "", "parallel.branches[1].name", "twice"),
        ({"parallel": {"branches": [{"name": "x"}]}}, "x", "parallel.branches[0].steps",
         "at least one"),
        ({"parallel": {"branches": [{"name": "x", "steps": [call("s")]}],
                       "max_concurrency": 1000}}, "", "parallel.max_concurrency", "1 to 64"),
        ({"conditional": {"branches": [{"name": "x", "steps": [call("s")]}]}}, "x",
         "conditional.branches[0].condition", "when it is taken"),
        (row(call("a", x="{{loop_value}}")), "a", "function.arguments.x", "outside of a loop"),
        (row(call("a", x="{{name}}")), "a", "function.arguments.x", "begins with none of"),
        (row(call("a", x="{{inputs.x}}"), input_schemas={"y": ""}), "a", "function.arguments.x",
         "no input 'x' is declared"),
        (row(call("a", condition={"expression": "1 +"})), "a", "condition", "cannot be read"),
        (row(call("a", condition={"expression": "steps.b.success"}), call("b")), "a",
         "condition", "by then"),
        (row(call("a", condition={"step_succeeded": "x"})), "a", "condition", "no step 'x'"),
        (row(call("a", condition={})), "a", "condition", "says nothing"),
        (row(call("a", condition={"all": {}})), "a", "condition", "at least one"),
        (row(call("a", timeout=0)), "a", "timeout", "above 0"),
        (row(call("a", retry={"max_attempts": 99})), "a", "retry.max_attempts", "1 to 20"),
        (row(call("a", retry={"delay": -1})), "a", "retry.delay", "0 to"),
        (row(call("a"), timeout=10**7), "", "timeout", "at most"),
        (row(call("a"), max_cost_usd=-1), "", "max_cost_usd", "0 or more"),
        (row(call("a"), input_schemas={"x": "{"}), "", "input_schemas.x", "not JSON"),
        (row(call("a", save_as="a.b")), "a", "save_as", "without"),
        (row(call("a", compensation={"name": "u"})), "a~undo", "action", "what to do"),
        ({"loop": {"body": [call("a")], "collection_from": "x"}}, "", "loop.collection_from",
         "reference to a list"),
        ({"loop": {"body": [call("a")], "range": {"end": 1}, "aggregation": "first_n"}}, "",
         "loop.aggregation_count", "1 to"),
        (row(nested("n", row(call("i", x="{{steps.no.output}}")))), "n/i",
         "function.arguments.x", "no step 'no'"),
    ],
)  # fmt: skip
async def test_a_problem_names_step_and_field(tree, step, field, told):
    """One thing is wrong, and one problem is told."""
    found = await problems(tree, functions={"echo"})
    assert [one[:2] for one in found] == [(step, field)], found
    assert told in found[0][2]


async def test_a_classification_expects_one_of_its_categories():
    """And its agent must be there."""
    asked = {"agent": {"name": "writer"}, "categories": ["a"], "expected": "b"}
    found = await problems(row(call("s", condition={"agent_classification": asked})))
    assert [one[:2] for one in found] == [("s", "condition.expected")]
    asked = {"agent": {"name": "nobody"}, "categories": ["a"], "expected": "a"}
    found = await problems(row(call("s", condition={"agent_classification": asked})))
    assert [one[:2] for one in found] == [("s", "condition")]


async def test_a_cycle_of_workflows_is_told_with_all_who_are_in_it():
    """Through registered ones, wherever they are named."""
    run_b = {"name": "r", "workflow": {"name": "b"}}
    run_w = {"name": "r", "workflow": {"name": "w"}}
    known = Deployment(b=row(nested("n", row(run_w))))
    found = await problems(row(run_b), deployment=known)
    assert found == [("r", "workflow.name", "The workflow runs itself: w → b → w.")]
    itself = Deployment(b=row(run_b))
    found = await problems(row(run_b), deployment=itself)
    assert "w → b → b" in found[0][2]
    twice = row({**run_b, "name": "one"}, {**run_b, "name": "two"})
    assert await problems(twice, deployment=Deployment(b=row(call("x")))) == []


async def test_depth_and_count_are_bounded():
    """Nine workflows within each other are too deep, and so many steps are too many."""
    deep = row(call("s"))
    for number in range(limits.WORKFLOW_DEPTH_MAX - 1):
        deep = row(nested(f"n{number}", deep))
    assert await problems(deep) == []
    assert "deep" in (await problems(row(nested("n", deep))))[0][2]
    chain = {f"w{n}": row({"name": "r", "workflow": {"name": f"w{n + 1}"}}) for n in range(9)}
    known = Deployment(**chain, w9=row(call("s")))
    assert "deep" in (await problems(chain["w0"], deployment=known))[0][2]
    many = row(*(call(f"s{n}") for n in range(limits.WORKFLOW_STEPS_MAX + 1)))
    assert "at most 2000" in (await problems(many))[0][2]


async def test_a_thousand_problems_are_a_hundred():
    """What is told is bounded too."""
    assert len(await problems(row(*(call(f"s/{n}") for n in range(1000))))) == 100


async def test_the_error_has_the_first_problem_and_a_warning_is_none():
    """A range that nothing goes through runs no iteration, and is worth a word."""
    spec = workflow(row(tool("a", "nothing"), call("b/")))
    error = invalid(spec, await problems_of(spec, Deployment()))
    assert error.reason == Reason.WORKFLOW_INVALID
    assert error.metadata == {"step": "b/", "field": "name", "problems": "2"}
    odd = workflow({"loop": {"body": [call("a")], "range": {"start": 5, "end": 1}}})
    found = await problems_of(odd, Deployment())
    assert [one.is_warning for one in found] == [True]
    assert invalid(odd, found) is None


def test_a_workflow_that_is_too_large_is_refused():
    """Before anything of it is read."""
    with pytest.raises(ServiceError, match="bytes"):
        workflow(row(call("a", x="x" * limits.WORKFLOW_BYTES_MAX)))
    assert message({"name": "w"}).name == "w"

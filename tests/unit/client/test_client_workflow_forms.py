"""Workflows as people write them: what is read of a form, what is told of one, what is refused."""

import json

import pytest
import yaml
from llmspell._workflow_forms import read_form
from llmspell._workflow_told import form_of
from llmspell.errors import InvalidArgument
from llmspell.v1 import execution_pb2
from llmspell.v1 import workflow_pb2 as pb

from tests.house import tree


def steps_of(*steps, **fields):
    """The steps that are read of these."""
    return read_form({"name": "w", "steps": list(steps)} | fields).workflow.sequential.steps


def condition_of(condition):
    """What is read of a condition."""
    return steps_of({"name": "s", "tool": "t", "condition": condition})[0].condition


def test_each_kind_is_seen_from_its_fields():
    """A type says it, or the fields that only one kind has."""
    step = {"name": "s", "tool": "t"}
    forms = {
        "sequential": {"steps": [step]},
        "parallel": {"branches": [{"name": "b", "steps": [step]}]},
        "conditional": {"condition": True, "then": [step]},
        "loop": {"range": [1, 4], "body": [step]},
    }
    for kind, fields in forms.items():
        assert read_form({"name": "w"} | fields).workflow.WhichOneof("kind") == kind
        assert read_form({"name": "w", "type": kind} | fields).workflow.WhichOneof("kind") == kind


def test_each_action_is_seen_from_its_field():
    """A step says by one field what it does."""
    steps = steps_of(
        {"name": "a", "tool": "calculator", "input": {"input": "1"}},
        {"name": "b", "agent": "ann", "input": "hi"},
        {"name": "c", "workflow": "kept", "inputs": {"n": 1}},
        {"name": "d", "function": "double", "input": 3},
        {"name": "e", "method": "StateService/GetState", "input": {"key": "k"}},
        {"name": "f", "template": "t", "parameters": {"p": [1, 2.5, None]}},
    )
    kinds = ["tool", "agent", "workflow", "function", "call", "template"]
    assert [step.WhichOneof("action") for step in steps] == kinds
    assert steps[3].function.arguments.fields["input"].int_value == 3
    assert steps[2].workflow.name == "kept"


def test_functions_that_stand_in_a_form_are_kept_by_name():
    """Each by its step's name, a second one of the name by a number; those that are named stay."""
    one, two, three = (lambda given: given), (lambda given: given), (lambda given: True)
    read = read_form(
        {
            "name": "w",
            "steps": [
                {"name": "s", "function": one},
                {"name": "n", "function": "elsewhere", "condition": three},
                {
                    "name": "in",
                    "workflow": {"name": "i", "steps": [{"name": "s", "function": two}]},
                },
            ],
        }
    )
    assert read.functions == {"s": one, "condition": three, "s_2": two}
    steps = read.workflow.sequential.steps
    assert [steps[0].function.function, steps[1].function.function] == ["s", "elsewhere"]


CONDITIONS = [
    (True, {"constant": True}),
    ("always", {"constant": True}),
    ("never", {"constant": False}),
    ("shared.n > 1", {"expression": "shared.n > 1"}),
    ({"type": "always"}, {"constant": True}),
    ({"type": "step_succeeded", "step": "a"}, {"step_succeeded": "a"}),
    ({"step_failed": "a"}, {"step_failed": "a"}),
    ({"shared_data_exists": "k"}, {"shared_data_exists": "k"}),
    ({"type": "function", "function": "f"}, {"function": "f"}),
]


@pytest.mark.parametrize(("form", "fields"), CONDITIONS)
def test_conditions(form, fields):
    """Each way to write one is the contract's."""
    assert condition_of(form) == pb.WorkflowCondition(**fields)


def test_conditions_of_conditions():
    """And, or, not, however deep."""
    given = {"and": [True, {"or": ["never", {"not": {"step_failed": "a"}}]}]}
    either = condition_of(given).all.conditions[1].any.conditions
    assert getattr(either[1], "not").step_failed == "a"


@pytest.mark.parametrize("kind", ["shared_data_equals", "step_output_equals"])
def test_a_value_that_is_compared_keeps_its_kind(kind):
    """1 and 1.0 stay apart."""
    for value in (1, 1.0, "1", None, {"a": [True]}):
        form = {"type": kind, "key": "k", "step": "k", "value": value}
        told = form_of(
            read_form(
                {"name": "w", "steps": [{"name": "s", "tool": "t", "condition": form}]}
            ).workflow
        )
        assert repr(told["steps"][0]["condition"]["value"]) == repr(value)


def whole():
    """A form that says everything."""
    step = {"name": "s", "tool": "t", "input": {"a": [1, {"b": "{{inputs.x}}"}]}}
    full = step | {
        "timeout_s": 1.5,
        "retry": {"max_attempts": 5, "delay_s": 0.5, "multiplier": 3.0, "delay_max_s": 9.0},
        "on_error": "continue",
        "save_as": "k",
        "condition": {
            "type": "and",
            "conditions": ["shared.x", {"type": "not", "condition": True}],
        },
        "compensation": {"name": "undo_s", "tool": "u"},
    }
    loop = {
        "name": "l", "type": "loop", "collection": "{{inputs.list}}", "body": [step],
        "max_iterations": 7, "break_conditions": ["shared.stop"], "aggregation": {"last_n": 2},
        "continue_on_error": True,
    }  # fmt: skip
    choice = {
        "name": "c", "type": "conditional", "execute_all_matching": True, "default": [step],
        "branches": [{"name": "b", "condition": "shared.x == 'y'", "steps": [step]}],
    }  # fmt: skip
    beside = {"name": "p", "branches": [{"name": "b", "steps": [step]}], "max_concurrency": 3}
    return {
        "name": "w",
        "description": "d",
        "inputs": {"x": {"type": "string"}, "list": True},
        "shared_data": {"x": 1},
        "error_strategy": "retry",
        "retry": {"max_attempts": 2},
        "timeout_s": 60.0,
        "max_cost_usd": 0.5,
        "rollback": True,
        "steps": [
            full,
            *({"name": one["name"], "workflow": one} for one in (loop, choice, beside)),
        ],
    }


def test_what_is_told_is_read_the_same():
    """What is told of a workflow reads as that workflow, so it can be edited and kept again."""
    first = read_form(whole()).workflow
    told = form_of(first)
    assert read_form(told).workflow == first
    assert read_form(json.loads(json.dumps(told))).workflow == first
    assert read_form(yaml.safe_load(yaml.safe_dump(told))).workflow == first


def test_the_example_is_a_form():
    """The file that the guide names can be read."""
    read = read_form(yaml.safe_load(tree.text("examples/workflows/report.yaml")))
    assert [step.name for step in read.workflow.sequential.steps] == [
        "squares",
        "totals",
        "verdict",
    ]


WRONG = [
    ({"steps": []}, "name must be set"),
    ({"name": "w"}, "steps must be set"),
    ({"name": "w", "type": "row", "steps": []}, "type must be one of sequential"),
    ({"name": "w", "steps": [], "stesp": 1}, "stesp is not known; did you mean steps"),
    ({"name": "w", "steps": [{"name": "s", "tol": "t", "tool": "t"}]}, r"steps\[0\]\.tol is not"),
    ({"name": "w", "steps": [{"tool": "t"}]}, r"steps\[0\]\.name must be set"),
    ({"name": "w", "steps": [{"name": "s"}]}, r"steps\[0\]\.type must be one of tool"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "agent": "a"}]}, r"steps\[0\]\.type"),
    ({"name": "w", "steps": [{"name": "s", "tool": 5}]}, r"steps\[0\]\.tool must be text"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "retry_count": -1}]}, "retry_count"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "timeout_s": 0}]}, "timeout_s"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "on_error": "cry"}]}, "on_error"),
    ({"name": "w", "steps": [{"name": "s", "function": 5}]}, "must be a function"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "condition": {"type": "x"}}]}, "condition"),
    ({"name": "w", "body": []}, "range must be set, or collection, or while"),
    ({"name": "w", "range": {"start": 1}, "body": []}, r"range\.end must be set"),
    ({"name": "w", "range": [1, 2], "body": [], "aggregation": "sum"}, "aggregation must be one"),
    ({"name": "w", "steps": "all"}, "steps must be a list"),
    ({"name": "w", "steps": [5]}, r"steps\[0\] must be a mapping"),
    ({"name": "w", "steps": [], "rollback": "yes"}, "rollback must be true or false"),
    ({"name": "w", "steps": [{"name": "s", "tool": "t", "input": {"f": object()}}]}, r"input\.f"),
]


@pytest.mark.parametrize(("form", "message"), WRONG)
def test_what_is_wrong_is_named_by_its_place(form, message):
    """The place, and what it must be."""
    with pytest.raises(InvalidArgument, match=message):
        read_form(form)


def test_an_agent_may_be_described():
    """A mapping is the contract's description of one; one that is none is refused."""
    step = steps_of({"name": "s", "agent": {"name": "ann", "model": "scripted/x"}, "input": "hi"})[
        0
    ]
    assert step.agent.agent.spec.model == "scripted/x"
    with pytest.raises(InvalidArgument, match=r"steps\[0\]\.agent is no description"):
        steps_of({"name": "s", "agent": {"modell": "x"}})


def test_every_status_has_a_sign():
    """The tree shows each status apart from the others."""
    from services.gateway.cli.workflow_pages import _SIGNS

    named = execution_pb2.WorkflowStatus.DESCRIPTOR.values_by_name
    words = {name.removeprefix("WORKFLOW_STATUS_").lower() for name in named}
    assert set(_SIGNS) == words - {"unspecified"}
    assert len({sign for sign, _ in _SIGNS.values()}) == len(_SIGNS)

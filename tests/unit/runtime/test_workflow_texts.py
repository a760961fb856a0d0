"""What a workflow's texts and expressions stand for."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_ARGUMENT_BYTES_MAX
from services.runtime.workflows.expressions import ExpressionError, evaluate, parse_expression
from services.runtime.workflows.interpolate import interpolate
from services.runtime.workflows.results import Status, StepResult
from services.runtime.workflows.scope import Scope


def scope():
    made = Scope(
        inputs={"city": "Bonn", "n": 3, "half": 0.5, "list": [1, 2], "deep": {"a": [{"b": True}]}},
        shared={"k": "v", "count": 2, "loop_index": 0, "loop_value": "x", "iteration": 1},
        facts={"execution_id": "exec_1", "workflow": "w"},
    )
    made.ended(StepResult("fetch", "fetch", "tool", Status.COMPLETED, output={"files": ["a", "b"]}))
    made.ended(StepResult("bad", "bad", "tool", Status.FAILED))
    made.ended(StepResult("my step-2", "my step-2", "tool", Status.COMPLETED, output=7))
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("in {{inputs.city}}!", "in Bonn!"),
        ("{{ inputs.city }}", "Bonn"),
        ("{{inputs.n}}", 3),
        ("n={{inputs.n}}", "n=3"),
        ("{{inputs.list}}", [1, 2]),
        ("l={{inputs.list}}", "l=[1, 2]"),
        ("{{inputs.deep.a[0].b}}", True),
        ("{{inputs.deep.a.0.b}}", True),
        ("{{steps.fetch.output.files[-1]}}", "b"),
        ('{{steps["my step-2"].output}}', 7),
        ("{{steps.my step-2.output}}", 7),
        ("{{steps.fetch.success}}/{{steps.bad.success}}", "true/false"),
        ("{{shared.k}}{{shared_data.k}}", "vv"),
        ("{{loop_value}}{{loop_index}}{{iteration}}", "x01"),
        ("{{execution_id}} {{workflow}}", "exec_1 w"),
        (r"\{{inputs.city}}", "{{inputs.city}}"),
        ("{{inputs.city}}{{inputs.city}}", "BonnBonn"),
        ({"a": ["{{inputs.n}}", {"b": "{{inputs.half}}"}]}, {"a": [3, {"b": 0.5}]}),
    ],
)
def test_a_reference_becomes_what_it_stands_for(text, value):
    """In the middle of a text it becomes text; alone it becomes the value itself, of its kind."""
    found = interpolate(text, scope())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{inputs.town}}", "city"),
        ("{{inputs.citty}}", "there is city"),
        ("{{steps.fetsh.output}}", "there is fetch"),
        ("{{steps.bad.output}}", "has no output"),
        ("{{steps.fetch.output.files[9]}}", "0 to 1"),
        ("{{inputs.city.name}}", "nothing within"),
        ("{{shared.none}}", "shared has no none"),
    ],
)
def test_what_is_missing_is_named_with_what_is_near(text, told):
    """The error has the reference, and the nearest names that there are."""
    with pytest.raises(ServiceError, match=r".") as raised:
        interpolate({"deep": [text]}, scope())
    assert raised.value.reason == Reason.WORKFLOW_REFERENCE_MISSING
    assert told in raised.value.message
    assert raised.value.metadata["reference"] in text


def test_a_value_is_never_read_for_references():
    """What an input holds is put in as it is, braces and all."""
    sly = Scope(inputs={"a": "{{inputs.secret}}", "secret": "s"})
    assert interpolate("<{{inputs.a}}>", sly) == "<{{inputs.secret}}>"
    assert interpolate(["{{inputs.a}}"], sly) == ["{{inputs.secret}}"]


def test_what_is_put_in_cannot_change_where_it_came_from():
    """Two steps that are given one list have one each."""
    values = scope()
    interpolate("{{inputs.list}}", values).append(9)
    assert interpolate("{{inputs.list}}", values) == [1, 2]


def test_a_text_that_grows_out_of_bounds_is_refused():
    """A thousand references to a large input are no way to fill the memory."""
    large = Scope(inputs={"a": "x" * (WORKFLOW_ARGUMENT_BYTES_MAX // 100)})
    with pytest.raises(ServiceError, match="limit") as raised:
        interpolate("{{inputs.a}} " * 1000, large)
    assert raised.value.reason == Reason.LIMIT_EXCEEDED


@given(st.text(alphabet="{}\\[].'\" abinputs0"))
def test_any_text_becomes_a_value_or_one_clear_error(text):
    """Whatever stands there, nothing but a ServiceError comes out."""
    with contextlib.suppress(ServiceError):
        interpolate(text, scope())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("shared_data.k == 'v'", True),
        ('shared.k == "w"', False),
        ("step_result.fetch.success", True),
        ("step_result.bad.success", False),
        ("not steps.bad.success and steps.fetch.success", True),
        ("shared.count < 3", True),
        ("1 < shared.count <= 2", True),
        ("shared.count >= 2.5 or inputs.n == 3", True),
        ("'a' in steps.fetch.output.files", True),
        ("'z' not in steps.fetch.output.files", True),
        ("inputs.city in ['Bonn', 'Köln']", True),
        ("'on' in inputs.city", True),
        ("shared.none == null", True),
        ("shared.none", False),
        ("{{inputs.n}} == 3", True),
        ("steps.my-step == null", True),
        ('steps["my step-2"].output == 7', True),
        ("inputs.n == -3", False),
        ("inputs.n ~= 4 && !false || nil", True),
        ("1 == true", False),
        ("'it is inputs.n' == 'it is inputs.n'", True),
    ],
)
def test_an_expression_says_what_it_reads_like(text, value):
    """The forms of this project, and those of workflows of before."""
    assert evaluate(text, scope()) is value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "open('x')",
        "inputs.n + 1 == 4",
        "__import__('os')",
        "(lambda: 1)()",
        "[x for x in inputs.list]",
        "inputs.n if true else 1",
        "_0",
        "city == 'Bonn'",
        "inputs.",
        "'a' 'b",
        "f'{inputs}'",
        "b'x' == 1",
        "not " * 300 + "true",
        "(" * 250 + "true" + ")" * 250,
        "x" * 3000,
        "shared.k.__class__.__mro__ is None",
        "inputs.n == 1j",
        "(a := 1)",
        "inputs.n ** 9",
        "{'a': 1} == 1",
    ],
)
def test_nothing_else_can_be_written(text):
    """No call, no attribute of Python's, no arithmetic, and nothing that takes long to read."""
    with pytest.raises(ExpressionError):
        parse_expression(text)
    with pytest.raises(ServiceError, match="expression"):
        evaluate(text, scope())


def test_what_has_no_order_is_not_compared():
    """Nothing is not less than three: a loop that waits for it would end for no reason."""
    with pytest.raises(ServiceError, match="compares nothing with a number") as raised:
        evaluate("shared.none < 3", scope())
    assert raised.value.reason == Reason.WORKFLOW_REFERENCE_MISSING


@given(st.text(alphabet="()[]{}'\"=<>!&|.,_ abinputsand or not01-"))
def test_any_expression_is_true_false_or_one_clear_error(text):
    """Whatever stands there, nothing but a ServiceError comes out."""
    with contextlib.suppress(ServiceError):
        assert evaluate(text, scope()) in {True, False}

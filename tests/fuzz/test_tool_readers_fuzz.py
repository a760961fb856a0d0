"""Readers of tools that are our own, against an oracle or for any input."""

import contextlib
import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.toolbox.data import row_filter, tables, xml_trees
from services.runtime.toolbox.model import ToolError
from services.runtime.toolbox.utility import expression, handlebars, text_manipulator, time_format
from services.runtime.toolbox.utility.expression import ExpressionError

NUMBERS = st.integers(0, 50).map(str) | st.floats(0.01, 50).map(lambda number: f"{number:.3f}")
OPERATORS = st.sampled_from(["+", "-", "*", "<", "<=", "==", ">"])
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: (
        st.tuples(inner, OPERATORS, inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda one: f"-{one}")
        | inner.map(lambda one: f"abs({one})")
    ),
    max_leaves=12,
)
HANDLEBARS = st.lists(
    st.sampled_from(
        ["{{", "}}", "{{{", "}}}", "#if a", "#each a", "/if", "/each", "else", "a.b", "../a",
         "@key", "~", "!", "!--", "--", " ", "x", "this", "[", "]", "&", "^"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@given(EXPRESSIONS)
def test_expressions_are_what_python_makes_of_them(source):
    """Where both know the signs, the numbers are equal."""
    value = expression.evaluate(expression.read(source), {})
    assert value == pytest.approx(float(eval(source, {"abs": abs})), rel=1e-9, abs=1e-9)


@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_any_text_is_an_expression_or_a_named_fault(source):
    """No other error leaves the reader, and no other value than a float."""
    with contextlib.suppress(ExpressionError):
        assert isinstance(expression.evaluate(expression.read(source), {}), float)


@given(HANDLEBARS)
def test_any_text_is_a_template_or_a_named_fault(source):
    """Handlebars' signs in any order are rendered or refused."""
    with contextlib.suppress(ToolError):
        assert isinstance(handlebars.render(source, {"a": [1, {"b": 2}]}), str)


@given(st.text(max_size=60).filter(lambda text: "{{" not in text))
def test_a_text_without_tags_is_its_own_template(source):
    """Nothing but tags is changed."""
    assert handlebars.render(source, {}) == source


@given(st.datetimes(), st.sampled_from(["%Y-%m-%dT%H:%M:%S%.6f", "%F %T.%6f", "%d %B %Y %r.%6f"]))
def test_what_is_written_can_be_read(moment, pattern):
    """A pattern that tells all gives the same time back."""
    text = time_format.written(moment, pattern)
    assert time_format.read(text, pattern, None) == moment


@given(st.text(max_size=60))
def test_words_make_names(source):
    """In snake case there is no upper case, no blank, and nothing changes twice."""
    once = "_".join(text_manipulator._words(source)).lower()
    assert not any(sign.isspace() for sign in once)
    assert once == once.lower()


@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=2), max_size=5))
def test_tables_are_written_as_they_are_read(rows):
    """Whatever is in a cell."""
    rows = [[cell.replace("\r", "").replace("\0", "") for cell in row] for row in rows]
    text = "".join(tables.written(["a", "b"], rows))
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], *rows]


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_named_fault(source):
    """A condition answers yes or no."""
    with contextlib.suppress(ToolError):
        assert row_filter.read(source, ["a", "b"])(["1", "x"]) in (True, False)


@given(st.text(st.sampled_from("<>/ab='\"!-[]&;? "), max_size=40))
def test_any_text_is_xml_or_a_named_fault(source):
    """Expat's errors and ours, and no other."""
    with contextlib.suppress(ToolError):
        assert xml_trees.given(source).tag


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_division_is_that_of_ieee_754(left, right):
    """Signs of zeros and of infinities included."""
    value = expression.evaluate(expression.read("a / b"), {"a": left, "b": right})
    if right:
        assert value == left / right or math.isnan(left / right)
    elif left:
        assert value == math.copysign(math.inf, left) * math.copysign(1, right)
    else:
        assert math.isnan(value)

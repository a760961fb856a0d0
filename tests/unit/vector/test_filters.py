"""Filters: the rules of types, the bounds of a tree, and columns that agree with the rules."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.vector.engines.columns import FIELDS_MAX, Columns
from services.vector.filters import check_filter, field_value, fields, matches, passes, same
from services.vector.model import All, AnyOf, Condition, Equals, Exists, In, Not, Range

KINDS = [None, True, False, 0, 1, -1.5, 2**62, "", "a", "b", b"", b"a", [], [1], {}, {"a": 1}]


def test_kinds_are_kept_apart():
    """Two values are equal only where they are of one kind; 1 and 1.0 are of one."""
    for n, left in enumerate(KINDS):
        for m, right in enumerate(KINDS):
            assert same(left, right) == (n == m), (left, right)
    assert same(1, 1.0)
    assert same([1, {"a": 2.0}], [1.0, {"a": 2}])
    assert not same([1], [True])
    assert not same(2**53 + 1, float(2**53))


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        (Range(gt=1), 1, False),
        (Range(gte=1), 1.0, True),
        (Range(lt=1), True, False),
        (Range(lte=2, gt=1), [0, 1.5], True),
        (Range(gt=1, lt=2), [0, 3], False),
        (Range(gt="Z"), "a", True),
        (Range(lt="\U0001f600"), "\uffff", True),
        (Range(gt="1"), 2, False),
        (Range(gt=b"a"), b"b", False),
        (Equals([1]), [[1], 2], True),
        (Equals("a"), ["b", "a"], True),
        (Equals("a"), [["a"]], False),
        (In(()), 1, False),
        (In((1, "a")), ["a"], True),
        (Exists(present=True), [], True),
        (Exists(present=True), None, False),
        (Exists(present=False), None, True),
        (Exists(present=False), False, False),
    ],
)
def test_each_test(test, value, expected):
    """Bounds, lists and presence mean what the contract says."""
    assert passes(test, value) is expected


def test_an_absent_field_passes_nothing_but_absence():
    """Not inside `not` either: that turns the answer of the whole round."""
    for test in (Equals(1), In((1,)), Range(gte=0), Exists(present=True)):
        assert not matches(Condition("x", test), {})
        assert matches(Not(Condition("x", test)), {})
    assert matches(Condition("x.y", Exists(present=False)), {"x": 1})


def test_dots_step_into_maps():
    """And into nothing else."""
    metadata = {"a": {"b": {"c": 1}}, "d": [{"e": 1}], "x.y": 2}
    assert field_value(metadata, "a.b.c") == 1
    assert field_value(metadata, "a.b") == {"c": 1}
    for field in ("a.c", "d.e", "x.y", "a.b.c.d"):
        assert field_value(metadata, field) is None


LEAF = Condition("x", Equals(1))


def nested(depth):
    """A filter of so many levels."""
    tree = LEAF
    for _ in range(depth - 1):
        tree = Not(tree)
    return tree


def test_a_tree_has_bounds():
    """8 levels and 64 conditions pass; one more of either does not."""
    check_filter(nested(8))
    check_filter(All((LEAF,) * 64))
    for tree in (nested(9), nested(5000), All((LEAF,) * 65)):
        with pytest.raises(ServiceError) as error:
            check_filter(tree)
        assert error.value.reason == Reason.FILTER_INVALID


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        (Condition("", Equals(1)), "filter.field"),
        (Condition("a..b", Equals(1)), "filter.field"),
        (Condition("a", Equals(None)), "filter.equals"),
        (Condition("a", In((1, None))), "filter.in"),
        (Condition("a", Range()), "filter.range"),
        (Condition("a", Range(gt=1, lt="b")), "filter.range"),
        (Condition("a", Range(gt=True)), "filter.range.gt"),
        (
            All((LEAF, AnyOf((LEAF, Not(Condition("", Equals(1))))))),
            "filter.all[1].any[1].not.field",
        ),
    ],
)
def test_what_is_wrong_is_pointed_at(tree, path):
    """The path leads to the part at fault."""
    with pytest.raises(ServiceError) as error:
        check_filter(tree)
    assert (error.value.reason, error.value.metadata["path"]) == (Reason.FILTER_INVALID, path)


def test_fields_are_named_once():
    """In the order of the tree."""
    tree = All((Condition("b", Equals(1)), Not(Condition("a", Equals(1))), LEAF, LEAF))
    assert fields(tree) == ["b", "a", "x"]


scalars = st.sampled_from([None, True, 0, 1, 1.0, 2.5, 2**53, 2**53 + 1, "a", "b", b"a"])
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from("yz"), scalars)
conditions = st.builds(
    Condition,
    st.sampled_from(["x", "x.y", "w"]),
    st.sampled_from([True, 1, 2.0**53, 2**53 + 1, "a", b"a", [1]]).map(Equals)
    | st.booleans().map(Exists)
    | st.builds(Range, gte=st.sampled_from([0, 1.0, 2**53 + 1]))
    | st.builds(Range, gt=st.sampled_from([0, 1]), lte=st.sampled_from([1.0, 2**53, None]))
    | st.builds(Range, lt=st.sampled_from([1, "b"]))
    | st.just(In((1, "b"))),
)
trees = st.recursive(
    conditions,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple).map(All)
        | st.lists(inner, max_size=3).map(tuple).map(AnyOf)
        | inner.map(Not)
    ),
    max_leaves=6,
)
rows = st.lists(st.dictionaries(st.sampled_from("xw"), values), min_size=1, max_size=8)


@given(rows=rows, trees=st.lists(trees, min_size=1, max_size=3))
def test_columns_agree_with_the_rules(rows, trees):
    """Filter by filter, while rows are added between them and some die."""
    columns = Columns()
    stored = [msgspec.msgpack.encode(row) for row in rows]
    for number, tree in enumerate(trees):
        count = max(1, len(rows) * (number + 1) // len(trees))
        alive = np.arange(count) % 5 != 4
        mask = columns.mask(tree, alive, lambda row: stored[row])
        assert columns.unread(tree, count) == 0 or not fields(tree)
        expected = [matches(tree, row) for row in rows[:count]]
        assert mask[alive].tolist() == np.array(expected)[alive].tolist()


def test_columns_are_bounded():
    """However many fields are asked for, only some are kept."""
    columns = Columns()
    row = msgspec.msgpack.encode({"f7": 1})
    for n in range(3 * FIELDS_MAX):
        tree = Condition(f"f{n}", Equals(1))
        assert columns.mask(tree, np.ones(1, np.bool_), lambda _: row).tolist() == [n == 7]
    assert len(columns._columns) == FIELDS_MAX


def test_a_row_that_one_reader_missed_is_read_by_the_next():
    """A reader of a later revision cannot hide a row from one of an earlier revision."""
    columns = Columns()
    row = msgspec.msgpack.encode({"x": 1})
    later, earlier = np.array([True, False]), np.array([True, True])
    assert columns.mask(LEAF, later, lambda _: row)[0]
    assert columns.mask(LEAF, earlier, lambda _: row).tolist() == [True, True]

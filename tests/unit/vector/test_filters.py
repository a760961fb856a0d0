"""Filters: the rules of types, and the bounds of a tree."""

import pytest

from services.common.errors import Reason, ServiceError
from services.vector.filters import check_filter, matches, passes, values_at
from services.vector.model import All, AnyOf, Condition, Equals, Exists, In, Not, Range
from services.vector.values import same

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
    assert passes(test, [] if value is None else [value]) is expected


def test_an_absent_field_passes_nothing_but_absence():
    """Not inside `not` either: that turns the answer of the whole round."""
    for test in (Equals(1), In((1,)), Range(gte=0), Exists(present=True)):
        assert not matches(Condition("x", test), {})
        assert matches(Not(Condition("x", test)), {})
    assert matches(Condition("x.y", Exists(present=False)), {"x": 1})


def test_dots_step_into_maps():
    """And into nothing else."""
    metadata = {"a": {"b": {"c": 1}}, "d": [{"e": 1}], "x.y": 2}
    assert values_at(metadata, "a.b.c") == [1]
    assert values_at(metadata, "a.b") == [{"c": 1}]
    for field in ("a.c", "d.e", "x.y", "a.b.c.d"):
        assert values_at(metadata, field) == []


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

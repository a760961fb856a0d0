"""Filters: the rules of types, what a path names, and the bounds of a tree."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.vector.filters import check_filter, matches, values_at
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    Condition,
    Equals,
    Except,
    Exists,
    In,
    IsEmpty,
    Moment,
    Nested,
    Not,
    Prefix,
    Range,
)
from services.vector.values import parse_moment, same

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
        (Except((1,)), True, True),
        (Except((1,)), 1.0, False),
        (Except((1,)), [2, 1], False),
        (Except((1,)), [], True),
        (Except((1,)), None, False),
        (Except(([1],)), [1], False),
        (Prefix("a"), "ab", True),
        (Prefix("a"), ["b", "ab"], True),
        (Prefix("a"), b"ab", False),
        (Prefix("1"), 1, False),
        (IsEmpty(empty=True), None, True),
        (IsEmpty(empty=True), "", True),
        (IsEmpty(empty=True), [None], False),
        (IsEmpty(empty=True), 0, False),
        (IsEmpty(empty=True), False, False),
        (IsEmpty(empty=True), b"", False),
        (IsEmpty(empty=False), {}, False),
        (IsEmpty(empty=False), 0, True),
        (Moment(gte_ns=0), "1970-01-01", True),
        (Moment(gt_ns=0), 0, False),
        (Moment(lt_ns=0), ["x", -0.5], True),
        (Moment(lte_ns=0), True, False),
    ],
)
def test_each_test(test, value, expected):
    """Bounds, lists and presence mean what the contract says."""
    assert matches(Condition("x", test), {"x": value}) is expected


def test_an_absent_field_passes_nothing_but_absence():
    """Not inside `not` either: that turns the answer of the whole round."""
    for test in (Equals(1), In((1,)), Range(gte=0), Exists(present=True)):
        assert not matches(Condition("x", test), {})
        assert matches(Not(Condition("x", test)), {})
    assert matches(Condition("x.y", Exists(present=False)), {"x": 1})


def test_a_path_names_what_it_says():
    """A dot steps into maps and `[]` into lists; nulls and what is not there are left out."""
    metadata = {
        "a": {"b": {"c": 1}},
        "d": [{"e": 1}, {"e": None}, 5, {"e": [2, 3]}],
        "x.y": 2,
        "n": None,
        "deep": [{"l": [{"v": 1}, {"v": 2}]}, {"l": {"v": 3}}],
    }
    wanted = {
        "a.b.c": [1],
        "a.b": [{"c": 1}],
        "d[].e": [1, [2, 3]],
        "d[].e[]": [2, 3],
        "deep[].l[].v": [1, 2],
        "deep[].l.v": [3],
    }
    for field in ("a.c", "d.e", "x.y", "a.b.c.d", "n", "a[].b", "d.e[]", "none[].x"):
        assert values_at(metadata, field) == [], field
    for field, expected in wanted.items():
        assert values_at(metadata, field) == expected, field


def test_a_nested_filter_looks_at_one_entry():
    """Two tests that two entries pass are not passed by the list; maps in lists alone count."""
    both = All((Condition("n", Equals("x")), Condition("p", Range(gt=1))))
    assert not matches(Nested("l", both), {"l": [{"n": "x", "p": 1}, {"n": "y", "p": 2}]})
    assert matches(Nested("l", both), {"l": [7, {"n": "x", "p": 2}]})
    assert matches(Nested("l", both), {"l": {"n": "x", "p": 2}})
    assert not matches(Nested("l", Not(both)), {"l": [7, "x"]})
    assert not matches(Nested("l", All(())), {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-02", 86400 * 10**9),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01t00:00:01z", 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T00:00:00.000000001-00:00", 1),
        (1, 10**9),
        (-0.5, -(10**9) // 2),
        *((value, None) for value in (True, None, "", "now", b"1970-01-01", [1], {"a": 1})),
        *((value, None) for value in (1e300, -1e300, 2**63 - 1, -(2**63), 10**10)),
        *((value, None) for value in ("1970-01-01T00:00:00", "1970-13-01", "1970-02-30")),
        *((value, None) for value in ("0000-01-01", "9999-01-01", "1970-01-01T24:00:01Z")),
        *((value, None) for value in ("1970-01-01T00:00:00+99:99", "\u0661970-01-01", "1970-1-1")),
    ],
)
def test_a_moment_is_text_with_an_offset_a_date_or_seconds(value, expected):
    """To the nanosecond; whatever else there is, or lies out of reach, is none."""
    assert parse_moment(value) == expected


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
    for tree in (nested(9), nested(5000), All((LEAF,) * 65), AnyOf((All((LEAF,) * 33),) * 2)):
        with pytest.raises(ServiceError) as error:
            check_filter(tree)
        assert error.value.reason == Reason.FILTER_INVALID


@pytest.mark.parametrize(
    "wrap",
    [
        Not,
        lambda inner: All((inner,)),
        lambda inner: AnyOf((inner,)),
        lambda inner: AtLeast(1, (inner,)),
        lambda inner: Nested("x", inner),
    ],
)
def test_every_way_to_nest_counts(wrap):
    """Eight levels of any kind pass, the condition among them; nine do not."""
    tree = LEAF
    for _ in range(7):
        tree = wrap(tree)
    check_filter(tree)
    with pytest.raises(ServiceError):
        check_filter(wrap(tree))


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        (Condition("", Equals(1)), "filter.field"),
        *(
            (Condition(field, Equals(1)), "filter.field")
            for field in ("a..b", ".a", "a.", "[]", "a[]b", "a[", "a]", "a[][]", "a.[]", "a[0]")
        ),
        (Condition("x" * 1025, Equals(1)), "filter.field"),
        (Nested("a..b", LEAF), "filter.field"),
        (Nested("a", Condition("", Equals(1))), "filter.nested.field"),
        (AtLeast(0, (LEAF,)), "filter"),
        (AtLeast(-1, (LEAF,)), "filter"),
        (AtLeast(2, (LEAF,)), "filter"),
        (AtLeast(1, ()), "filter"),
        (AtLeast(1, (LEAF, Condition("", Equals(1)))), "filter.should[1].field"),
        (Condition("a", Except((None,))), "filter.except"),
        (Condition("a", Prefix("")), "filter.prefix"),
        (Condition("a", Moment()), "filter.time"),
        (Condition("a", Range(gte=b"a")), "filter.range.gte"),
        (Condition("a", Range(lt=[1])), "filter.range.lt"),
        (Condition("a", Range(lt=float("nan"))), "filter"),
        (Condition("a", Range(gte=0, lt=float("inf"))), "filter"),
        (Condition("a", Equals(float("nan"))), "filter"),
        (Condition("a", In((1, float("-inf")))), "filter"),
        (Condition("a", Except(([{"b": float("nan")}],))), "filter"),
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


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=2)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=5,
)
bounds = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=2)
)
tests = (
    anything.filter(lambda value: value is not None).map(Equals)
    | st.lists(anything.filter(lambda value: value is not None)).map(tuple).map(In)
    | st.lists(anything.filter(lambda value: value is not None)).map(tuple).map(Except)
    | st.builds(Range, gt=bounds)
    | st.builds(Range, lte=bounds)
    | st.booleans().map(Exists)
    | st.booleans().map(IsEmpty)
    | st.text(min_size=1, max_size=2).map(Prefix)
    | st.builds(Moment, gte_ns=st.integers(-(2**63), 2**63 - 1))
)


@given(value=anything, test=tests, field=st.sampled_from(["x", "x[]", "x.y", "x[].y", "x[].y[]"]))
@example(value=1e300, test=Moment(gte_ns=0), field="x")
def test_no_value_is_an_error(value, test, field):
    """Whatever a field holds, a filter answers, and `not` answers the opposite."""
    where = Condition(field, test)
    check_filter(where)
    assert matches(where, {"x": value}) is not matches(Not(where), {"x": value})
    every = AtLeast(2, (where, where))
    assert matches(every, {"x": value}) is matches(where, {"x": value})

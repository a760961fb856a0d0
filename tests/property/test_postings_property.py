"""Postings against the oracle: any filter, over any metadata, finds what `matches` does."""

from __future__ import annotations

import contextlib
import string

import lmdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.store import Txn
from services.vector.engines import layout, postings
from services.vector.engines.matching import matching
from services.vector.filters import check_filter, matches
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

ACME, ACME2 = 1, 2
"""Namespaces of two tenants."""
LABELS = (0, 1, 2, 65535, 65536, 65537, 2**32 - 1, 2**32, 2**40)
SECOND = 10**9
BEYOND = (-(2**63) - 1, -(2**63), -(2**63) + 1, 2**63 - 2, 2**63 - 1, 2**63)
"""Moments about the first and the last that there is."""

amounts = (
    *(0, -0.0, 1, 1.0, -1, 0.5, 2, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, -(2**63), -(2.0**63)),
    *(2.0**63, 1e300, -1e300, 5e-324, 1700000000, 1700000000.5, 1700000000000, -50000000000),
    *(9223372036, 9223372037, -9223372037, 8589934592),
)
numbers = st.sampled_from(amounts)
moment_texts = (
    *("2023-11-14", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20"),
    *("2023-11-15T00:13:20+02:00", "1970-01-01", "9999-12-31", "0001-01-01"),
    *("2262-04-11T23:47:16.854775807Z", "1677-09-21T00:12:43.145224193Z"),
)
moments = st.sampled_from(moment_texts)
# Short, at the limit and beyond it, with what escaping makes longer.
lengthened = st.builds(
    lambda unit, count, end: unit * count + end,
    st.sampled_from(["a", "\0", "é", "\U0001f600"]),
    st.sampled_from([1, 63, 64, 65, 127, 128, 129, 255, 256, 257]),
    st.sampled_from(["", "a", "\0", "b"]),
)
texts = st.sampled_from(["", "a", "ab", "a\0", "a\0b", "b", "\uffff", "\U0001f600"]) | lengthened
scalars = (
    numbers
    | moments
    | texts
    | st.booleans()
    | st.none()
    | st.sampled_from([b"", b"a", b"\0" * 300])
)
names = st.sampled_from(["a", "b", "c", "a.b", "", "a[]", "n\0", "long" * 100])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
wide = st.builds(
    lambda count, last: {"a": [*range(count), last]}, st.sampled_from([200, 600, 3000]), scalars
)
metadata = st.dictionaries(names, values, max_size=3) | wide

steps = st.sampled_from(["a", "b", "c", "n\0", "a[]", "b[]", "long" * 100])
fields = st.lists(steps, min_size=1, max_size=3).map(".".join)
edges_ns = (
    st.sampled_from([0, 1699920000 * SECOND, 1700000000 * SECOND, *BEYOND])
    | st.sampled_from([-62135596800 * SECOND, 253402300799 * SECOND])
    | st.builds(lambda n, off: n * SECOND + off, numbers.map(int), st.integers(-1, 1))
)
bound_names = ("gt", "gte", "lt", "lte")


def bounds_of(edges):
    """Any choice of bounds."""
    return st.dictionaries(st.sampled_from(bound_names), edges, min_size=1)


tests = st.one_of(
    st.builds(Equals, values),
    st.builds(In, st.lists(values, max_size=3).map(tuple)),
    st.builds(Except, st.lists(values, max_size=3).map(tuple)),
    st.builds(Exists, st.booleans()),
    st.builds(IsEmpty, st.booleans()),
    st.builds(Prefix, texts | moments),
    bounds_of(numbers).map(lambda chosen: Range(**chosen)),
    bounds_of(texts | moments).map(lambda chosen: Range(**chosen)),
    bounds_of(edges_ns).map(lambda chosen: Moment(**{f"{k}_ns": v for k, v in chosen.items()})),
)
conditions = st.builds(Condition, fields, tests)


def combined(inner):
    """Filters of filters."""
    some = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(All, some),
        st.builds(AnyOf, some),
        st.builds(Not, inner),
        st.builds(Nested, fields, inner),
        st.lists(inner, min_size=1, max_size=4).flatmap(
            lambda parts: st.builds(AtLeast, st.integers(1, len(parts)), st.just(tuple(parts)))
        ),
    )


filters = st.recursive(conditions, combined, max_leaves=5)
records = st.dictionaries(st.sampled_from(LABELS), metadata, max_size=5)


def is_allowed(where):
    """Whether a caller may ask this."""
    try:
        check_filter(where)
    except ServiceError:
        return False
    return True


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory):
    """Transactions of which nothing stays."""
    folder = tmp_path_factory.mktemp("postings")
    with lmdb.open(str(folder), max_dbs=1, map_size=2**28, sync=False) as env:
        databases = {layout.POSTINGS: env.open_db(layout.POSTINGS.encode())}

        @contextlib.contextmanager
        def opened():
            raw = env.begin(write=True)
            try:
                yield Txn(raw, databases)
            finally:
                raw.abort()

        yield opened


def encoded(stored):
    """Records as postings take them."""
    return [(label, msgspec.msgpack.encode(metadata)) for label, metadata in stored.items()]


def check(txn, stored, where):
    """Each tenant finds its own that match, and nothing else."""
    for namespace, mine in stored.items():
        kept = dict(encoded(mine))
        found = matching(txn, namespace, where, read_metadata=kept.get)
        expected = {label for label, metadata in mine.items() if matches(where, metadata)}
        assert set(found) == expected, (namespace, where)


examples = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@examples
@given(
    mine=records,
    theirs=records,
    removed=st.sets(st.sampled_from(LABELS)),
    asked=st.lists(filters.filter(is_allowed), min_size=1, max_size=4),
)
def test_any_filter_over_any_metadata(rolled_back, mine, theirs, removed, asked):
    """What is found is what `matches` lets through, of what was not removed, for two tenants."""
    with rolled_back() as txn:
        for namespace, stored in ((ACME, mine), (ACME2, theirs)):
            postings.add(txn, namespace, encoded(stored))
        gone = {label: mine[label] for label in removed if label in mine}
        postings.remove(txn, ACME, encoded(gone))
        left = {label: metadata for label, metadata in mine.items() if label not in gone}
        for where in asked:
            check(txn, {ACME: left, ACME2: theirs}, where)


few = st.sampled_from([0, 1, 2, "", "a", "2023-11-14", None])
small_maps = st.dictionaries(st.sampled_from(["b", "c"]), few | st.lists(few, max_size=2))
small_entries = st.lists(small_maps | st.lists(small_maps | few, max_size=2) | few, max_size=3)
small_metadata = st.fixed_dictionaries({"a": small_maps | small_entries | few})
small_tests = st.one_of(
    st.builds(Equals, st.sampled_from([0, 1, "a"])),
    st.builds(Except, st.tuples(st.sampled_from([0, 1, "a"]))),
    st.builds(Exists, st.booleans()),
    st.builds(IsEmpty, st.booleans()),
    st.builds(lambda gte: Range(gte=gte), st.sampled_from([1, "a"])),
    st.builds(lambda gte: Moment(gte_ns=gte), st.sampled_from([0, SECOND, 2**63 - 1, 2**63])),
)


def small_conditions(*fields):
    """Tests of these."""
    return st.builds(Condition, st.sampled_from(fields), small_tests)


of_entry = small_conditions("b", "c", "b[]")
of_entries = st.builds(
    Nested,
    st.sampled_from(["a", "a[]"]),
    of_entry | st.builds(All, st.tuples(of_entry, of_entry)) | st.builds(Not, of_entry),
)
small_filters = of_entries | small_conditions("a", "a[]", "a.b", "a[].b", "a[].b[]")


@examples
@given(
    mine=st.lists(small_metadata, min_size=1, max_size=6),
    theirs=st.lists(small_metadata, max_size=2),
    asked=st.lists(small_filters | combined(small_filters).filter(is_allowed), min_size=4),
)
def test_entries_of_lists(rolled_back, mine, theirs, asked):
    """Maps, lists of maps and lists of lists are told apart, with few values so that many match."""
    stored = {ACME: dict(enumerate(mine)), ACME2: dict(enumerate(theirs))}
    with rolled_back() as txn:
        for namespace, records in stored.items():
            postings.add(txn, namespace, encoded(records))
        for where in asked:
            check(txn, stored, where)


@examples
@given(
    mine=st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
    ),
    chosen=st.data(),
)
def test_ranges_over_any_numbers(rolled_back, mine, chosen):
    """Coarse terms and fine ones together cover a range once, whatever its ends."""
    edge = st.sampled_from(mine) if mine else st.just(0)
    bounds = chosen.draw(bounds_of(edge | st.integers(-3, 3) | st.floats(-1e18, 1e18)))
    stored = dict(enumerate({"a": amount} for amount in mine))
    with rolled_back() as txn:
        postings.add(txn, ACME, encoded(stored))
        postings.add(txn, ACME2, encoded({7: {"a": 0}}))
        check(txn, {ACME: stored, ACME2: {7: {"a": 0}}}, Condition("a", Range(**bounds)))


@examples
@given(
    mine=st.lists(st.text(alphabet=string.printable + "\0é\U0001f600", max_size=5)),
    chosen=st.data(),
)
def test_ranges_and_prefixes_over_any_text(rolled_back, mine, chosen):
    """Keys sort as text does, NULs and all."""
    edge = st.sampled_from(mine) if mine else st.just("")
    bounds = chosen.draw(bounds_of(edge | st.text(max_size=2)))
    stored = dict(enumerate({"a": text} for text in mine))
    with rolled_back() as txn:
        postings.add(txn, ACME, encoded(stored))
        check(txn, {ACME: stored, ACME2: {}}, Condition("a", Range(**bounds)))
        for text in filter(None, bounds.values()):
            check(txn, {ACME: stored, ACME2: {}}, Condition("a", Prefix(text)))


@examples
@given(mine=st.dictionaries(st.sampled_from(LABELS), metadata, max_size=6))
def test_nothing_stays_of_what_is_removed(rolled_back, mine):
    """After a tenant's last record is gone, its namespace has no key; another's stays whole."""
    with rolled_back() as txn:
        postings.add(txn, ACME2, encoded(mine))
        before = list(txn.scan(layout.POSTINGS, layout.namespace_key(ACME2)))
        postings.add(txn, ACME, encoded(mine))
        postings.remove(txn, ACME, encoded(mine))
        assert list(txn.keys(layout.POSTINGS, layout.namespace_key(ACME))) == []
        assert list(txn.scan(layout.POSTINGS, layout.namespace_key(ACME2))) == before

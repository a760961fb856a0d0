"""Postings: what is found at the edges of numbers, moments, texts and lists, and what is erased."""

import contextlib

import lmdb
import msgspec
import numpy as np
import pytest

from services.common.store import Txn
from services.vector.engines import layout, postings, terms
from services.vector.engines.matching import matching
from services.vector.filters import check_filter, matches
from services.vector.model import (
    All,
    AtLeast,
    Condition,
    Equals,
    Except,
    Exists,
    IsEmpty,
    Moment,
    Nested,
    Not,
    Prefix,
    Range,
)

ACME, ACME2 = 1, 2
"""Namespaces of two tenants."""
SECOND = 10**9
FIRST, LAST = -(2**63) + 1, 2**63 - 1
"""The first and the last moment that there is."""
LAST_TEXT = "2262-04-11T23:47:16.854775807Z"


@pytest.fixture
def txn(tmp_path):
    """A transaction of which nothing stays."""
    with lmdb.open(str(tmp_path), max_dbs=1, map_size=2**28, sync=False) as env:
        databases = {layout.POSTINGS: env.open_db(layout.POSTINGS.encode())}
        with contextlib.closing(_Rollback(env.begin(write=True))) as raw:
            yield Txn(raw.txn, databases)


class _Rollback:
    def __init__(self, txn):
        self.txn = txn

    def close(self):
        self.txn.abort()


def encoded(stored):
    """Records as postings take them, labels counted up."""
    return [(label, msgspec.msgpack.encode(metadata)) for label, metadata in enumerate(stored)]


class Reader:
    """Reads metadata, and counts how often."""

    def __init__(self, records):
        self.records = dict(records)
        self.count = 0

    def __call__(self, label):
        self.count += 1
        return self.records.get(label)


def found(txn, stored, where):
    """Labels that match, and how many records were looked at; another tenant has other records."""
    check_filter(where)
    postings.add(txn, ACME2, encoded([{"a": 1, "b": "other"}] * 3))
    postings.add(txn, ACME, encoded(stored))
    reader = Reader(encoded(stored))
    labels = set(matching(txn, ACME, where, read_metadata=reader))
    assert labels == {n for n, metadata in enumerate(stored) if matches(where, metadata)}
    return labels, reader.count


def entry(**tests):
    """A filter of one entry of a list of maps."""
    return All(tuple(Condition(field, test) for field, test in tests.items()))


EDGES = {
    "except in one entry": (
        [{"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]}, {"a": {"b": 2}}],
        Nested("a", entry(b=Except((1,)))),
        {0, 2},
    ),
    "maps in lists of lists": (
        [{"a": [[{"b": 1}], 2]}, {"a": [{"b": 1}]}, {"a": [[{"b": 2}]]}, {"a": {"b": 1}}],
        Nested("a[]", entry(b=Equals(1))),
        {0, 1},
    ),
    "absence in one entry": (
        [{"a": [{"b": 1}, {"c": 2}]}, {"a": [{"b": 1}]}, {"a": 1}],
        Nested("a", entry(b=Exists(present=False))),
        {0},
    ),
    "entries of a list that are not empty": (
        [{"a": [""]}, {"a": ["", 0]}, {"a": []}, {}],
        Condition("a[]", IsEmpty(empty=True)),
        {0, 2, 3},
    ),
    "seconds before any moment": (
        [{"a": -(10**11)}, {"a": 0}, {"a": 10**11}],
        Condition("a", Moment(gte_ns=-62135596800 * SECOND)),
        {1},
    ),
    "seconds after any moment": (
        [{"a": -(10**11)}, {"a": 0}, {"a": 10**11}],
        Condition("a", Moment(lte_ns=253402300799 * SECOND)),
        {1},
    ),
    "after the last moment": (
        [{"a": LAST_TEXT}, {"a": "2023-11-14"}],
        Condition("a", Moment(gt_ns=LAST)),
        set(),
    ),
    "beyond the last moment": (
        [{"a": LAST_TEXT}, {"a": "2023-11-14"}],
        Condition("a", Moment(gte_ns=LAST + 1)),
        set(),
    ),
    "before the first moment": (
        [{"a": "1677-09-21T00:12:43.145224193Z"}, {"a": "2023-11-14"}],
        Condition("a", Moment(lt_ns=FIRST)),
        set(),
    ),
    "the least integer in a list": (
        [{"a": [[-(2**63)]]}, {"a": [[-(2.0**63)]]}, {"a": [[2.0**63]]}],
        Condition("a", Equals([-(2**63)])),
        {0, 1},
    ),
    "integers beyond 53 bits": (
        [{"a": 2**53}, {"a": 2**53 + 1}, {"a": 2.0**53}, {"a": [2**53 + 1]}],
        Condition("a", Range(gt=2.0**53)),
        {1, 3},
    ),
    "true is not one": (
        [{"a": True}, {"a": 1}, {"a": 1.0}, {"a": [1]}, {"a": "1"}],
        Condition("a", Equals(1)),
        {1, 2, 3},
    ),
    "NULs sort before all else": (
        [{"a": "a"}, {"a": "a\0"}, {"a": "a\0b"}, {"a": "a\x01"}, {"a": "b"}],
        Condition("a", Range(gt="a", lt="a\x01")),
        {1, 2},
    ),
    "a bound longer than any key": (
        [{"a": "b"}, {"a": "a" * 600}, {"a": "a" * 700}, {"a": "a"}],
        Condition("a", Range(gt="a" * 650)),
        {0, 2},
    ),
    "a prefix longer than any key": (
        [{"a": "a" * 600}, {"a": "a" * 300 + "b"}, {"a": "a"}],
        Condition("a", Prefix("a" * 400)),
        {0},
    ),
}


@pytest.mark.parametrize(("stored", "where", "expected"), EDGES.values(), ids=EDGES.keys())
def test_edges(txn, stored, where, expected):
    """Exactly what the filter says is found, and nothing of the other tenant."""
    assert found(txn, stored, where)[0] == expected


@pytest.mark.parametrize("unit", ["\0", "a", "é", "\U0001f600", "a\0"])
def test_texts_of_any_length_fit_a_key(txn, unit):
    """No text is refused, whatever escaping makes of it, and each is found by its whole."""
    stored = [{"a": unit * count} for count in (1, 63, 64, 127, 128, 129, 200, 255, 256, 257, 5000)]
    for label, metadata in enumerate(stored):
        assert found(txn, stored, Condition("a", Equals(metadata["a"])))[0] == {label}
        assert label in found(txn, stored, Condition("a", Prefix(unit)))[0]


def test_a_prefix_looks_only_at_long_texts_that_begin_so(txn):
    """Of texts that are too long for a key, those that begin otherwise are not read."""
    stored = [{"a": f"{n} " + "x" * 1000} for n in range(50)]
    labels, looked_at = found(txn, stored, Condition("a", Prefix("7 ")))
    assert labels == {7}
    assert looked_at <= 1


def test_moments_do_not_look_at_numbers_that_are_none(txn):
    """Milliseconds are not read one by one to learn that they are no moments."""
    stored = [{"a": 1_700_000_000_000 + n} for n in range(50)]
    labels, looked_at = found(txn, stored, Condition("a", Moment(gte_ns=0)))
    assert (labels, looked_at) == (set(), 0)


WIDE = {
    "a long list": {"a": list(range(5000))},
    "a long list of one value": {"a": [1] * 5000},
    "a list of maps": {"a": [{"b": n} for n in range(800)]},
    "64 lists": {f"k{n}": list(range(40)) for n in range(64)},
    "many maps": {"a": {f"k{n}": {"v": n} for n in range(400)}},
}


@pytest.mark.parametrize("metadata", WIDE.values(), ids=WIDE.keys())
def test_a_wide_record_costs_few_sets(txn, metadata):
    """It is found all the same, is gone once removed, and the other tenant keeps its own."""
    stored = [metadata, {"a": 1}]
    assert found(txn, stored, Condition("a", Equals(1)))[0] >= {1}
    assert found(txn, stored, Not(Condition("zz", Exists(present=True))))[0] == {0, 1}
    keys = list(txn.keys(layout.POSTINGS, layout.namespace_key(ACME)))
    assert len(keys) < 20
    postings.remove(txn, ACME, encoded(stored))
    assert list(txn.keys(layout.POSTINGS, layout.namespace_key(ACME))) == []
    assert list(txn.keys(layout.POSTINGS, layout.namespace_key(ACME2))) != []


def test_deep_maps_are_posted_once_a_level():
    """Depth alone does not make a record wide."""
    metadata = {"a": 1}
    for _ in range(15):
        metadata = {"a" * 200: metadata, "b\0é": [metadata and 1]}
    assert 15 < len(terms.terms_of(msgspec.msgpack.encode(metadata))) < terms.TERMS_MAX


def test_at_least_counts_each_filter_once(txn):
    """A record counts by how many filters it matches, not by how often."""
    parts = (*(Condition("a", Equals(n)) for n in (1, 2, 3)), Not(Condition("a", Equals(9))))
    stored = [{"a": [1, 1, 1]}, {"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [9, 1]}, {}]
    assert found(txn, stored, AtLeast(2, parts))[0] == {0, 1, 2}
    assert found(txn, stored, AtLeast(4, parts))[0] == {2}


def test_members_share_a_namespace(txn):
    """Each member has its own labels, in any block; taking some away leaves the other's."""
    mine, theirs = [0, 65535, 65536, 2**33, 2**40], [1, 65537, 2**40 + 1]
    postings.add_members(txn, ACME, 1, mine)
    postings.add_members(txn, ACME, 256, theirs)
    postings.remove_members(txn, ACME, 1, mine[1:3])
    left = postings.to_array(postings.members(txn, ACME, 1))
    assert left.dtype == np.int64
    assert left.tolist() == [0, 2**33, 2**40]
    assert postings.to_array(postings.members(txn, ACME, 256)).tolist() == theirs
    assert not postings.members(txn, ACME2, 1)


def test_what_is_living_is_what_was_not_removed(txn):
    """Labels beyond 32 bits among them, by tenant."""
    records = [(label, msgspec.msgpack.encode({"a": 1})) for label in (5, 2**32, 2**40)]
    postings.add(txn, ACME, records)
    postings.add(txn, ACME2, records[:1])
    postings.remove(txn, ACME, records[1:2])
    assert list(postings.living(txn, ACME)) == [5, 2**40]
    assert list(postings.living(txn, ACME2)) == [5]


def test_sets_of_any_size_change_and_stay_sorted(txn):
    """Lists become bitmaps and lists again, and hold the same labels throughout."""
    records = encoded([{"a": 1}] * 5000)
    expected = set()
    for start in (0, 3, 17, 1000, 4990):
        postings.add(txn, ACME, records[start : start + 900])
        expected |= {label for label, _ in records[start : start + 900]}
        assert postings.to_array(postings.living(txn, ACME)).tolist() == sorted(expected)
    postings.remove(txn, ACME, [records[n] for n in sorted(expected)[3:]])
    assert postings.to_array(postings.living(txn, ACME)).tolist() == sorted(expected)[:3]


def test_a_namespace_is_dropped_in_slices(txn):
    """Each call erases no more than it may, the last says 0, and another tenant loses nothing."""
    postings.add(txn, ACME, encoded([{"a": n} for n in range(30)]))
    postings.add(txn, ACME2, encoded([{"a": 1}]))
    before = list(txn.scan(layout.POSTINGS, layout.namespace_key(ACME2)))
    counts = []
    while count := postings.drop(txn, ACME, 25):
        counts.append(count)
    assert set(counts[:-1]) == {25}
    assert list(txn.keys(layout.POSTINGS, layout.namespace_key(ACME))) == []
    assert list(txn.scan(layout.POSTINGS, layout.namespace_key(ACME2))) == before

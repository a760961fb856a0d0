"""What a VectorStorage promises of filters."""

from __future__ import annotations

import numpy as np

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.filters import matches
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    Condition,
    Equals,
    Exactness,
    Except,
    Exists,
    Filter,
    In,
    IsEmpty,
    MetadataChange,
    Moment,
    Nested,
    Not,
    Prefix,
    Query,
    Range,
    Test,
    Value,
)
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import (
    OTHER,
    PLACE,
    all_ids,
    hits,
    ids,
    make,
    query,
    record,
    refused,
)


async def filters_see_metadata(storage: VectorStorage, clock: FakeClock) -> None:
    """Each test and each way to combine them; kinds are kept apart."""
    await make(storage)
    metadata = {
        "a": {"n": 1, "tags": ["x", "y"], "at": {"city": "Zürich"}},
        "b": {"n": 1.0, "tags": [], "at": "none"},
        "c": {"n": True, "tags": "x", "null": None},
        "d": {"n": "1", "tags": [["x"]], "at": {"city": ["Bern", 7]}},
    }
    await storage.upsert(*PLACE, [record(k, 1, 0, metadata=v) for k, v in metadata.items()])
    one, city = Condition("n", Equals(1)), Condition("at.city", Exists(present=True))
    wanted: list[tuple[Filter, str]] = [
        (one, "ab"),
        (Condition("n", Equals(value=True)), "c"),
        (Condition("n", In((1.0, "1"))), "abd"),
        (Condition("tags", Equals("x")), "ac"),
        (Condition("tags", Equals(["x"])), "d"),
        (Condition("n", Range(gte=1)), "ab"),
        (Condition("n", Range(gte="0", lt="2")), "d"),
        (Condition("at.city", Range(gt="Berm", lte="Bern")), "d"),
        (city, "ad"),
        (Condition("null", Exists(present=False)), "abcd"),
        (Not(one), "cd"),
        (Not(city), "bc"),
        (All((one, city)), "a"),
        (AnyOf((one, city)), "abd"),
        (All(()), "abcd"),
        (AnyOf(()), ""),
    ]
    for where, expected in wanted:
        assert "".join(await ids(storage, query(1, 0, filter=where))) == expected, where
        assert "".join(await all_ids(storage, where)) == expected, where


async def a_filter_never_costs_hits(storage: VectorStorage, clock: FakeClock) -> None:
    """As many hits as match, up to the limit, from narrow filters to wide ones."""
    await make(storage, dimension=8)
    random = np.random.default_rng(3)
    rows = random.normal(size=(400, 8)).astype(np.float32)
    records = [record(str(n), *row, metadata={"n": n}) for n, row in enumerate(rows)]
    await storage.upsert(*PLACE, records)
    for bound in (0, 1, 5, 60, 200, 399, 400):
        where = Condition("n", Range(lt=bound))
        for exactness in Exactness:
            asked = Query(vectors=[rows[7]], filter=where, limit=20, exactness=exactness)
            found = await hits(storage, asked)
            assert len(found) == min(20, bound)
            assert all(hit.record.metadata["n"] < bound for hit in found)


async def a_filter_for_what_is_far_is_answered_in_full(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """Where the matches are the farthest of all, as many are found as anywhere else."""
    await make(storage, dimension=8)
    rows = np.random.default_rng(6).normal(size=(400, 8)).astype(np.float32)
    order = np.argsort(rows @ rows[0] / np.linalg.norm(rows, axis=1))
    far = set(order[:100].tolist())
    records = [record(str(n), *row, metadata={"far": n in far}) for n, row in enumerate(rows)]
    await storage.upsert(*PLACE, records)
    where = Condition("far", Equals(value=True))
    for exactness in Exactness:
        asked = Query(vectors=[rows[0]], filter=where, limit=20, exactness=exactness)
        found = await hits(storage, asked)
        assert len(found) == 20
        assert all(hit.record.metadata["far"] for hit in found)


ROWS: dict[str, dict[str, Value]] = {
    "a": {"tags": ["x", "y"], "at": "2024-01-01", "cities": [{"n": "Bern", "p": 1}]},
    "b": {"tags": [], "at": 1704067200.5, "cities": {"n": "Bern", "p": 9}, "e": ""},
    "c": {"tags": "yz", "at": "2024-01-01T01:00:00+02:00", "e": {}, "t": None},
    "d": {"at": True, "cities": [{"n": "Bern", "p": 9}, {"n": "Rom", "p": 1}, 7]},
    "e": {"tags": [1, None, "yy"], "at": "2024-01-01T00:00:00", "e": 0},
}
_NEWYEAR_NS = 1_704_067_200 * 10**9
_BERN = Condition("n", Equals("Bern"))
_SMALL = Condition("p", Range(lt=5))

WANTED: list[tuple[Filter, str]] = [
    (Condition("tags", Except(("x",))), "bce"),
    (Condition("tags", Except(())), "abce"),
    (Condition("tags", Except((1.0, "yz"))), "ab"),
    (Condition("t", Except(("x",))), ""),
    (Condition("tags", Prefix("y")), "ace"),
    (Condition("tags", Prefix("yy")), "e"),
    (Condition("e", IsEmpty(empty=True)), "abcd"),
    (Condition("e", IsEmpty(empty=False)), "e"),
    (Condition("tags", IsEmpty(empty=True)), "bd"),
    (Condition("t", IsEmpty(empty=True)), "abcde"),
    (Condition("at", Moment(gte_ns=_NEWYEAR_NS)), "ab"),
    (Condition("at", Moment(gt_ns=_NEWYEAR_NS)), "b"),
    (Condition("at", Moment(lt_ns=_NEWYEAR_NS)), "c"),
    (Condition("at", Moment(lte_ns=_NEWYEAR_NS)), "ac"),
    (Condition("at", Moment(gte_ns=_NEWYEAR_NS - 1, lt_ns=_NEWYEAR_NS + 1)), "a"),
    (Condition("cities[].n", Equals("Rom")), "d"),
    (Condition("cities.n", Equals("Rom")), ""),
    (Condition("cities.n", Equals("Bern")), "b"),
    (Condition("cities[].p", Range(gt=5)), "d"),
    (Condition("cities[]", Equals(7)), "d"),
    (Condition("cities[].n", Exists(present=False)), "bce"),
    (All((Condition("cities[].n", Equals("Bern")), Condition("cities[].p", Range(lt=5)))), "ad"),
    (Nested("cities", All((_BERN, _SMALL))), "a"),
    (Nested("cities", _BERN), "abd"),
    (Nested("cities", Not(_BERN)), "d"),
    (Not(Nested("cities", _BERN)), "ce"),
    (AtLeast(1, (Condition("tags", Prefix("y")), Condition("e", Exists(present=True)))), "abce"),
    (AtLeast(2, (Condition("tags", Prefix("y")), Condition("e", Exists(present=True)))), "ce"),
]


async def filters_know_every_test(storage: VectorStorage, clock: FakeClock) -> None:
    """Each test of the contract, over fields of mixed types, in searches, lists and removals."""
    await make(storage)
    await storage.upsert(*OTHER, [record("A", 1, 0, metadata=ROWS["a"])])
    await storage.upsert(*PLACE, [record(k, 1, 0, metadata=v) for k, v in ROWS.items()])
    for where, expected in WANTED:
        assert "".join(await ids(storage, query(1, 0, filter=where))) == expected, where
        assert "".join(await all_ids(storage, where)) == expected, where
    for where, expected in WANTED:
        assert (await storage.delete(*PLACE, where=where)).count == len(expected), where
        await storage.upsert(*PLACE, [record(k, 1, 0, metadata=v) for k, v in ROWS.items()])
    assert len((await storage.get(*OTHER, ["theirs", "A"]))[0]) == 2


async def a_field_of_mixed_types_is_no_error(storage: VectorStorage, clock: FakeClock) -> None:
    """Values of another kind do not pass, whatever is asked of them; large numbers are exact."""
    await make(storage)
    values: list[Value] = [
        *(0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, 1.5, 1e300, True, False),
        *("", "a", "1", b"", b"a", [], [1, "a", None], {}, {"a": 1}, None, "a" * 300, "a\0b"),
    ]
    rows = {f"{n:02}": value for n, value in enumerate(values)}
    await storage.upsert(*PLACE, [record(k, 1, 0, metadata={"x": v}) for k, v in rows.items()])
    tests: list[Test] = [
        *(Equals(value) for value in values if value is not None),
        *(Range(gt=value) for value in (0, 2**53, 2**53 + 1, 1.5, -1e300, "a", "")),
        *(Range(lte=value) for value in (0, 2**53, 2**63 - 1, 1e300, "a", "b")),
        *(Prefix(text) for text in ("a", "a\0", "a" * 290, "1")),
        Moment(gte_ns=0),
        Moment(lt_ns=0),
        In((True, 1.5, "a")),
        Except((1, "", b"a")),
    ]
    for test in tests:
        where = Condition("x", test)
        expected = [k for k, value in rows.items() if matches(where, {"x": value})]
        found = await ids(storage, query(1, 0, filter=where, limit=99))
        assert found == expected, test


async def bad_filters_are_refused(storage: VectorStorage, clock: FakeClock) -> None:
    """Wherever a filter is taken, with the path of what is wrong."""
    await make(storage)
    one = Condition("n", Equals(1))
    deep: Filter = one
    for _ in range(8):
        deep = Nested("n", Not(deep)) if isinstance(deep, Condition) else Not(deep)
    bad: list[Filter] = [
        deep,
        All((one,) * 65),
        AtLeast(0, (one,)),
        AtLeast(2, (one,)),
        *(Condition(field, Equals(1)) for field in ("", "a..b", "[]", "a[]b", "a[", ".a", "a.")),
        Condition("n", Except((None,))),
        Condition("n", Prefix("")),
        Condition("n", Moment()),
        Nested("", one),
    ]
    for where in bad:
        for call in (
            storage.search(*PLACE, query(1, 0, filter=where)),
            storage.list_records(*PLACE, limit=1, where=where),
            storage.delete(*PLACE, where=where),
            storage.update_metadata(*PLACE, MetadataChange(set={"x": 1}), where=where),
        ):
            with refused(Reason.FILTER_INVALID):
                await call

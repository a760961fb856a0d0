"""The vector services' newer parts over the real door: settings, times, filters, columns, care."""

import base64

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import types_pb2, vector_pb2

from services.common.clock import FakeClock
from services.vector.engines.memory import MemoryVectorStorage
from tests.unit.vector.serving import packed, row, serving

START_S = 1_700_000_000
TEXT = "string_value"


@pytest.fixture
async def clock():
    return FakeClock()


@pytest.fixture
async def callers(clock):
    """Two tenants over the oracle."""
    async with serving(MemoryVectorStorage(clock)) as both:
        yield both


@pytest.fixture
async def filled(callers):
    """The same collection `c` for both; globex's vectors are other ones."""
    acme, globex = callers
    for caller, sign in ((acme, 1), (globex, -1)):
        await caller("CreateCollection", collection_id="c", dimension=2, history_window="3600s")
        rows = [
            row(f"{n}", sign * (n + 1), sign, n=n, team=["red", "blue"][n % 2]) for n in range(6)
        ]
        for n, each in enumerate(rows):
            each["event_time"] = f"2024-01-0{n + 1}T00:00:00Z"
        await caller("UpsertVectors", collection_id="c", records=rows)
    return acme, globex


async def test_settings_cross_in_both_directions(callers):
    """What a collection is made with, every number set, and what is changed of it later."""
    acme, globex = callers
    hnsw = {"preset": "HNSW_PRESET_ACCURATE", "m": 24, "quantization": "QUANTIZATION_I8"}
    made = await acme(
        "CreateCollection",
        collection_id="c",
        dimension=2,
        metric="METRIC_MANHATTAN",
        hnsw=hnsw,
        default_ttl="60s",
        history_window="3600s",
        ttl="86400s",
    )
    collection = made.collection
    assert collection.metric == vector_pb2.METRIC_MANHATTAN
    assert (collection.hnsw.m, collection.hnsw.ef_construction) == (24, 400)
    assert collection.hnsw.ef_search == 200
    assert collection.hnsw.quantization == vector_pb2.QUANTIZATION_I8
    assert collection.default_ttl.seconds == 60
    assert collection.history_window.seconds == 3600
    assert collection.expire_time.seconds == START_S + 86400
    changed = await acme(
        "UpdateCollection",
        collection_id="c",
        default_ttl="0s",
        history_window="0s",
        ttl="0s",
        ef_search=77,
    )
    for name in ("default_ttl", "history_window", "expire_time"):
        assert not changed.collection.HasField(name)
    assert changed.collection.hnsw.ef_search == 77
    kept = await acme("UpdateCollection", collection_id="c", default_ttl="5s")
    assert kept.collection.hnsw.ef_search == 77
    assert kept.collection.default_ttl.seconds == 5
    plain = await globex("CreateCollection", collection_id="c", dimension=2)
    assert (plain.collection.hnsw.m, plain.collection.hnsw.ef_construction) == (16, 128)


async def test_a_scope_is_configured(callers, clock):
    """Its records' time to live and its end are told; other tenants' scope of the name goes on."""
    acme, globex = callers
    told = await acme("ConfigureScope", scope="session:s", record_ttl="10s", ttl="60s")
    assert (told.record_ttl.seconds, told.expire_time.seconds) == (10, START_S + 60)
    for caller in callers:
        await caller("CreateCollection", scope="session:s", collection_id="c", dimension=1)
        await caller("UpsertVectors", scope="session:s", collection_id="c", records=[row("r", 1)])
    clock.advance(11)
    assert await acme.ids(scope="session:s") == []
    assert await globex.ids(scope="session:s") == ["r"]
    kept = await acme("ConfigureScope", scope="session:s", record_ttl="0s")
    assert not kept.HasField("record_ttl")
    assert kept.expire_time.seconds == START_S + 60
    clock.advance(50)
    reason, _ = await acme.refused("GetCollection", scope="session:s", collection_id="c")
    assert reason == "COLLECTION_NOT_FOUND"
    assert (await acme.refused("ConfigureScope"))[0] == "FIELD_REQUIRED"


async def search(caller, **options):
    """A search near (1, 1)."""
    asked = {"exactness": "EXACTNESS_EXACT", **options}
    return await caller("Search", collection_id="c", vector={"values": [1, 1]}, options=asked)


async def test_an_answer_says_how_it_was_found(filled):
    """Path, candidates, matches, completeness, revision; and the times of each hit."""
    acme, globex = filled
    found = await search(acme, limit=3)
    assert [hit.record_id for hit in found.hits] == ["0", "1", "2"]
    assert (found.path, found.complete) == (vector_pb2.SEARCH_PATH_SCAN, True)
    assert (found.match_count, found.candidate_count) == (6, 6)
    assert found.hits[0].event_time.ToJsonString() == "2024-01-01T00:00:00Z"
    assert found.hits[0].ingest_time.seconds == START_S
    assert found.hits[0].metadata["n"].int_value == 0
    blue = {"condition": {"field": "team", "equals": {TEXT: "blue"}}}
    narrow = await search(acme, filter=blue, limit=5)
    assert [hit.record_id for hit in narrow.hits] == ["1", "3", "5"]
    assert (narrow.path, narrow.match_count) == (vector_pb2.SEARCH_PATH_MATCHES, 3)
    assert narrow.complete
    assert (await search(globex, limit=1)).hits[0].score < 0


async def test_both_clocks_bound_a_search(filled, clock):
    """Event and ingestion time from and up to; and the records as they were."""
    acme, globex = filled
    span = {"start_time": "2024-01-02T00:00:00Z", "end_time": "2024-01-04T00:00:00Z"}
    assert {hit.record_id for hit in (await search(acme, event_time=span)).hits} == {"1", "2"}
    before = clock.now_ns()
    clock.advance(5)
    await acme("UpsertVectors", collection_id="c", records=[row("late", 1, 1)])
    await acme("DeleteVectors", collection_id="c", record_ids=["0"])
    late = {"start_time": _time(before + 10**9)}
    assert [hit.record_id for hit in (await search(acme, ingest_time=late)).hits] == ["late"]
    then = await search(acme, as_of=_time(before), limit=1)
    assert [hit.record_id for hit in then.hits] == ["0"]
    assert [hit.record_id for hit in (await search(globex, ingest_time=late)).hits] == []


def _time(ns):
    stamp = Timestamp()
    stamp.FromNanoseconds(ns)
    return stamp.ToJsonString()


BAD_OPTIONS = {
    "no span": ({"event_time": {}}, "FIELD_INVALID", "event_time"),
    "backwards": (
        {"ingest_time": {"start_time": "2024-01-02T00:00:00Z", "end_time": "2024-01-01T00:00:00Z"}},
        "FIELD_INVALID",
        "ingest_time",
    ),
    "far": (
        {"event_time": {"start_time": "9999-01-01T00:00:00Z"}},
        "FIELD_INVALID",
        "event_time.start_time",
    ),
    "recall": ({"min_recall": 1.5}, "FIELD_INVALID", "min_recall"),
    "recall that is none": ({"min_recall": "NaN"}, "FIELD_INVALID", "min_recall"),
    "form": ({"form": 7}, "FIELD_INVALID", "form"),
    "before time": ({"as_of": "1960-01-01T00:00:00Z"}, "FIELD_INVALID", "as_of"),
    "history": ({"as_of": "2001-01-01T00:00:00Z"}, "HISTORY_UNAVAILABLE", "history"),
}


@pytest.mark.parametrize(("options", "reason", "named"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
async def test_options_out_of_range_are_named(filled, options, reason, named):
    """Each with its reason and the field at fault."""
    acme, _ = filled
    asked = {"collection_id": "c", "vector": {"values": [1, 1]}, "options": options}
    told, words = await acme.refused("Search", **asked)
    assert told == reason
    assert named in words


async def batch(caller, *vectors, columns=False, **fields):
    """A batch in one piece."""
    form = "HIT_FORM_COLUMNS" if columns else "HIT_FORM_UNSPECIFIED"
    request = ParseDict(
        {"collection_id": "c", "options": {"form": form, "limit": 3}, **fields},
        vector_pb2.BatchSearchRequest(),
    )
    request.f32 = packed(*vectors)
    return await caller.send("BatchSearch", request)


async def test_a_batch_in_one_piece_is_the_batch_one_by_one(filled):
    """The same results, with hits as messages or as columns."""
    acme, _ = filled
    vectors = [(1, 1), (-1, 2), (5, 1)]
    single = await acme(
        "BatchSearch",
        collection_id="c",
        vectors=[{"values": each} for each in vectors],
        options={"limit": 3},
    )
    whole = await batch(acme, *vectors)
    assert whole == single
    flat = await batch(acme, *vectors, columns=True)
    for one, other in zip(single.results, flat.results, strict=True):
        assert list(other.columns.record_ids) == [hit.record_id for hit in one.hits]
        assert list(other.columns.scores) == [hit.score for hit in one.hits]
        assert (len(other.hits), other.match_count) == (0, one.match_count)
        assert other.revision == one.revision
    lone = await search(acme, form="HIT_FORM_COLUMNS", limit=2)
    assert list(lone.columns.record_ids) == ["0", "1"]


async def test_a_batch_in_one_piece_has_its_bounds(filled):
    """Half a vector, both forms, and more than a batch holds are refused by name."""
    acme, _ = filled
    ones = base64.b64encode(packed((1, 1))).decode()
    refused = acme.refused
    for reason, fields in (
        ("DIMENSION_MISMATCH", {"f32": base64.b64encode(packed((1, 1, 1))).decode()}),
        ("DIMENSION_MISMATCH", {"f32": "AAAA"}),
        ("FIELD_INVALID", {"f32": ones, "vectors": [{"values": [1, 1]}]}),
        ("LIMIT_EXCEEDED", {"f32": base64.b64encode(packed(*[(1, 1)] * 101)).decode()}),
    ):
        assert (await refused("BatchSearch", collection_id="c", **fields))[0] == reason
    missing = await refused("BatchSearch", collection_id="x", f32=ones)
    assert missing[0] == "COLLECTION_NOT_FOUND"


def field(name, **test):
    """A condition."""
    return {"condition": {"field": name, **test}}


A, B, C = (field("a", equals={"int_value": n}) for n in (1, 2, 3))
FILTERS = {
    "must": ({"clauses": {"must": [A]}}, "p"),
    "must and must not": (
        {"clauses": {"must": [field("a", exists=True)], "must_not": [A, B]}},
        "r",
    ),
    "should": ({"clauses": {"should": [A, C]}}, "pr"),
    "must and should": (
        {"clauses": {"must": [field("s", prefix="al")], "should": [A, B]}},
        "p",
    ),
    "min should": (
        {
            "clauses": {
                "should": [A, field("s", prefix="al"), field("s", exists=True)],
                "min_should": 2,
            }
        },
        "pr",
    ),
    "clauses of nothing": ({"clauses": {}}, "pqrs"),
    "except": (field("a", **{"except": {"values": [{"int_value": 1}]}}), "qr"),
    "prefix": (field("s", prefix="al"), "pr"),
    "is empty": (field("s", is_empty=True), "qs"),
    "is not empty": (field("s", is_empty=False), "pr"),
    "time": (field("t", time={"gte": "2024-01-02T00:00:00Z", "lt": "2024-01-04T00:00:00Z"}), "q"),
    "nested": (
        {
            "nested": {
                "field": "list",
                "filter": {
                    "all": {
                        "filters": [
                            field("x", equals={"int_value": 1}),
                            field("y", equals={"int_value": 2}),
                        ]
                    }
                },
            }
        },
        "q",
    ),
    "entries": (field("list[].x", equals={"int_value": 1}), "pq"),
}


def entry(**numbers):
    """A map as a value."""
    return {"map_value": {"fields": {k: {"int_value": v} for k, v in numbers.items()}}}


@pytest.mark.parametrize(("filter_", "names"), FILTERS.values(), ids=FILTERS)
async def test_every_kind_of_filter_crosses(callers, filter_, names):
    """Each arrives as what it is; the other tenant's records stay out of it."""
    acme, globex = callers
    rows = [
        row("p", 1, a=1, s="alpha", t="2024-01-01"),
        row("q", 1, a=2, s="", t="2024-01-03T12:00:00+02:00"),
        row("r", 1, a=3, s="alto", t="no moment"),
        row("s", 1),
    ]
    lists = {"p": [entry(x=1, y=1), entry(x=2, y=2)], "q": [entry(x=1, y=2)]}
    for each in rows[:2]:
        values = {"list_value": {"values": lists[each["record_id"]]}}
        each["metadata"]["list"] = values
    await acme("CreateCollection", collection_id="c", dimension=1)
    await acme("UpsertVectors", collection_id="c", records=rows)
    await globex("CreateCollection", collection_id="c", dimension=1)
    assert await acme.ids(filter=filter_) == list(names)
    assert await globex.ids(filter=filter_) == []


BAD_FILTERS = {
    "unset": ({}, "filter "),
    "unset below": ({"clauses": {"must_not": [A, {}]}}, "filter.must_not[1] "),
    "no test": (field("a"), "filter "),
    "min should alone": ({"clauses": {"min_should": 1}}, "filter.min_should "),
    "time out of range": (field("a", time={"lt": "9999-01-01T00:00:00Z"}), "filter.time.lt "),
    "nested in nothing": ({"nested": {"field": "a"}}, "filter.nested "),
}


@pytest.mark.parametrize(("filter_", "path"), BAD_FILTERS.values(), ids=BAD_FILTERS)
async def test_bad_filters_name_their_path(callers, filter_, path):
    """FILTER_INVALID with where it is."""
    acme, _ = callers
    await acme("CreateCollection", collection_id="c", dimension=1)
    reason, told = await acme.refused("ListVectors", collection_id="c", filter=filter_)
    assert reason == "FILTER_INVALID"
    assert told.startswith(path)


@pytest.mark.parametrize("kind", ["clauses.must", "nested", "not", "any"])
async def test_depth_is_checked_on_the_way_down(callers, kind):
    """A tree as deep as a message allows is refused at the ninth level, whatever it is of."""
    acme, _ = callers
    await acme("CreateCollection", collection_id="c", dimension=1)
    deep = {"all": {}}
    for _ in range(20):
        deep = {
            "clauses.must": {"clauses": {"must": [deep]}},
            "nested": {"nested": {"field": "a", "filter": deep}},
            "not": {"not": deep},
            "any": {"any": {"filters": [deep]}},
        }[kind]
    reason, told = await acme.refused("ListVectors", collection_id="c", filter=deep)
    assert reason == "FILTER_INVALID"
    assert "deeper than 8" in told


async def test_metadata_is_changed_by_id_and_by_filter(filled):
    """Set, take away, replace; how many; nothing of the other tenant's."""
    acme, globex = filled
    one = await acme(
        "UpdateMetadata", collection_id="c", record_ids=["0", "none"], set={"x": {"int_value": 1}}
    )
    assert one.updated_count == 1
    red = field("team", equals={TEXT: "red"})
    many = await acme(
        "UpdateMetadata",
        collection_id="c",
        filter=red,
        remove=["n"],
        set={"y": {"bool_value": True}},
    )
    assert many.updated_count == 3
    assert many.revision > one.revision
    assert await acme.ids(filter=field("n", exists=True)) == ["1", "3", "5"]
    assert await acme.ids(filter=field("y", exists=True)) == ["0", "2", "4"]
    await acme("UpdateMetadata", collection_id="c", record_ids=["1"], set={"z": {}}, replace=True)
    got = await acme("GetVectors", collection_id="c", record_ids=["1"])
    assert list(got.records[0].metadata) == ["z"]
    assert len(await globex.ids(filter=field("n", exists=True))) == 6
    both = {"record_ids": ["1"], "filter": red, "set": {"x": {}}}
    assert (await acme.refused("UpdateMetadata", collection_id="c", **both))[0] == "FIELD_INVALID"
    nothing = await acme.refused("UpdateMetadata", collection_id="c", record_ids=["1"])
    assert nothing[0] == "FIELD_REQUIRED"


async def test_records_are_removed_by_filter(filled):
    """All that match; a filter beside ids is refused; saying nothing removes nothing."""
    acme, globex = filled
    red = field("team", equals={TEXT: "red"})
    both = await acme.refused("DeleteVectors", collection_id="c", filter=red, record_ids=["1"])
    assert both[0] == "FIELD_INVALID"
    assert (await acme("DeleteVectors", collection_id="c")).deleted_count == 0
    assert (await acme("DeleteVectors", collection_id="c", filter=red)).deleted_count == 3
    assert await acme.ids() == ["1", "3", "5"]
    assert len(await globex.ids()) == 6


async def test_snapshots_and_care(filled):
    """Kept, listed, restored under another name and back, removed; each tenant has its own."""
    acme, globex = filled
    kept = (await acme("CreateSnapshot", collection_id="c")).snapshot
    assert (kept.collection_id, kept.scope, kept.record_count) == ("c", "global", 6)
    assert kept.create_time.seconds == START_S
    await acme("DeleteVectors", collection_id="c", record_ids=["0", "1"])
    listed = await acme("ListSnapshots", scope="*")
    assert [each.snapshot_id for each in listed.snapshots] == [kept.snapshot_id]
    assert (await globex("ListSnapshots", scope="*")).snapshots == []
    foreign = await globex.refused("RestoreSnapshot", snapshot_id=kept.snapshot_id)
    assert foreign[0] == "SNAPSHOT_NOT_FOUND"
    other = await acme("RestoreSnapshot", snapshot_id=kept.snapshot_id, collection_id="d")
    assert other.record_count == 6
    assert len(await acme.ids("d")) == 6
    assert len(await acme.ids()) == 4
    await acme("RestoreSnapshot", snapshot_id=kept.snapshot_id)
    assert len(await acme.ids()) == 6
    foreign = await globex("DeleteSnapshot", snapshot_id=kept.snapshot_id)
    assert foreign.deleted_count == 0
    gone = await acme("DeleteSnapshot", snapshot_id=kept.snapshot_id)
    assert gone.deleted_count == 1
    assert (await acme("RebuildIndex", collection_id="c")).record_count == 6
    assert (await acme("CheckpointIndex", collection_id="c")).record_count == 6
    for method in ("RestoreSnapshot", "DeleteSnapshot"):
        assert (await acme.refused(method))[0] == "FIELD_REQUIRED"


async def test_a_tenants_isolation_is_told(callers):
    """Unset means namespace; a number that nobody knows is refused."""
    acme, _ = callers
    bad = await acme.refused("ConfigureVectorTenant", isolation=9)
    assert bad[0] == "FIELD_INVALID"
    assert (await acme("ConfigureVectorTenant")).isolation == 1


NAMES_A_COLLECTION = [
    "CreateCollection",
    "GetCollection",
    "UpdateCollection",
    "DeleteCollection",
    "UpsertVectors",
    "UpdateMetadata",
    "GetVectors",
    "ListVectors",
    "DeleteVectors",
    "CreateSnapshot",
    "RebuildIndex",
    "CheckpointIndex",
]


@pytest.mark.parametrize("method", NAMES_A_COLLECTION)
async def test_no_caller_can_name_a_shadow(filled, method):
    """`~c` is nobody's name, whatever is asked of it."""
    acme, _ = filled
    reason, told = await acme.refused(method, collection_id="~c")
    assert reason == "FIELD_INVALID"
    assert "collection_id" in told


async def test_no_caller_can_search_or_restore_to_a_shadow(filled):
    """Nor as the place of a search, a batch or a snapshot."""
    acme, _ = filled
    vector = {"values": [1, 1]}
    kept = (await acme("CreateSnapshot", collection_id="c")).snapshot
    for method, fields in (
        ("Search", {"vector": vector}),
        ("BatchSearch", {"vectors": [vector]}),
        ("RestoreSnapshot", {"snapshot_id": kept.snapshot_id}),
    ):
        assert (await acme.refused(method, collection_id="~c", **fields))[0] == "FIELD_INVALID"


def test_every_filter_of_the_contract_is_tried():
    """A kind or a test that comes to the contract is missing here until it is tried."""
    tried = str(list(FILTERS.values())) + "'all' 'any' 'not' 'in' 'range'"
    kinds = {each.name for each in types_pb2.Filter.DESCRIPTOR.oneofs[0].fields}
    tests = {each.name for each in types_pb2.Condition.DESCRIPTOR.oneofs[0].fields}
    assert {name for name in kinds | tests if f"'{name}'" not in tried} == set()

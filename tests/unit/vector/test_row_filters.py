"""A caller whose key sees some records only: what it reads, writes, and may not do at all."""

import pytest
from google.protobuf.json_format import ParseDict
from llmspell.v1 import types_pb2, vector_admin_pb2, vector_pb2

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.model import All, Condition, Equals
from services.vector.servicers import policy
from tests.unit.vector.serving import row, serving

RED = {"condition": {"field": "team", "equals": {"string_value": "red"}}}

ADMIN = vector_admin_pb2.DESCRIPTOR.services_by_name["VectorAdminService"]


@pytest.fixture
async def callers():
    """A caller who sees red only, one of the same tenant who sees all, and another tenant's."""
    async with serving(MemoryVectorStorage(FakeClock())) as (acme, globex):
        for caller in (acme, globex):
            await caller("CreateCollection", collection_id="c", dimension=1)
            rows = [row(f"{n}", 1, team=["red", "blue"][n % 2]) for n in range(4)]
            await caller("UpsertVectors", collection_id="c", records=rows)
        yield acme.seeing(RED), acme, globex


async def test_reading_finds_its_own_only(callers):
    """Search, batch, list and get, without and with a filter of the caller's own."""
    red, _, _ = callers
    assert await red.ids() == ["0", "2"]
    blue = {"condition": {"field": "team", "equals": {"string_value": "blue"}}}
    assert await red.ids(filter=blue) == []
    assert await red.ids(filter={"not": blue}) == ["0", "2"]
    assert await red.ids(filter={"any": {"filters": [blue, {"all": {}}]}}) == ["0", "2"]
    vector = {"values": [1]}
    found = await red("Search", collection_id="c", vector=vector)
    assert ([hit.record_id for hit in found.hits], found.match_count) == (["0", "2"], 2)
    asked = {"vectors": [vector, vector], "options": {"filter": blue}}
    batch = await red("BatchSearch", collection_id="c", **asked)
    assert [len(result.hits) for result in batch.results] == [0, 0]
    got = await red("GetVectors", collection_id="c", record_ids=["0", "1", "2"])
    assert [record.record_id for record in got.records] == ["0", "2"]


async def test_writing_touches_its_own_only(callers):
    """Others' records are not there to be changed or removed; what it writes must be its own."""
    red, acme, globex = callers
    hidden = row("1", 1, team="red")
    foreign = row("new", 1, team="blue")
    for refused in ([hidden], [foreign], [row("ok", 1, team="red"), foreign]):
        told = await red.refused("UpsertVectors", collection_id="c", records=refused)
        assert told[0] == "PERMISSION_DENIED"
    assert await acme.ids() == ["0", "1", "2", "3"]
    every = {"all": {}}
    changed = await red(
        "UpdateMetadata", collection_id="c", filter=every, set={"x": {"int_value": 1}}
    )
    assert changed.updated_count == 2
    one = await red("DeleteVectors", collection_id="c", record_ids=["1"])
    assert one.deleted_count == 0
    assert (await red("DeleteVectors", collection_id="c", filter=every)).deleted_count == 2
    assert await acme.ids() == ["1", "3"]
    assert len(await globex.ids()) == 4


async def test_its_own_records_cannot_be_pushed_out_of_sight(callers):
    """A change of metadata may not lead past the filter."""
    red, acme, _ = callers
    told = await red.refused(
        "UpdateMetadata",
        collection_id="c",
        record_ids=["0"],
        set={"team": {"string_value": "blue"}},
    )
    assert told[0] in {"PERMISSION_DENIED", "FIELD_INVALID"}
    assert len(await acme.ids(filter=RED)) == 2


ABOUT_ALL = [
    "UpdateCollection",
    "DeleteCollection",
    "DeleteScope",
    "ConfigureScope",
    "GetVectorStats",
    "PurgeVectors",
    *(
        method.name
        for method in vector_admin_pb2.DESCRIPTOR.services_by_name["VectorAdminService"].methods
    ),
]


@pytest.mark.parametrize("method", ABOUT_ALL)
async def test_what_is_about_all_records_is_refused(callers, method):
    """PERMISSION_DENIED that names the method; nothing has changed."""
    red, acme, _ = callers
    kind = getattr(vector_pb2, f"{method}Request", None) or getattr(
        vector_admin_pb2, f"{method}Request"
    )
    fields = {"scope": "global", "collection_id": "c", "snapshot_id": "x"}
    asked = {
        name: value for name, value in fields.items() if name in kind.DESCRIPTOR.fields_by_name
    }
    reason, told = await red.refused(method, **asked)
    assert reason == "PERMISSION_DENIED"
    assert method in told
    assert len(await acme.ids()) == 4


async def test_counts_are_not_told(callers):
    """A collection is seen, but not how many records others have in it."""
    red, acme, _ = callers
    assert (await acme("GetCollection", collection_id="c")).collection.record_count == 4
    seen = (await red("GetCollection", collection_id="c")).collection
    listed = (await red("ListCollections")).collections[0]
    assert (seen.record_count, listed.record_count) == (0, 0)
    assert (seen.dimension, listed.collection_id) == (1, "c")


async def test_a_filter_that_cannot_be_read_lets_nothing_through(callers):
    """Damaged, of an unknown kind, or with a hole in it: it is no permission."""
    _, acme, _ = callers
    for stored in (
        b"\xff",
        b"\xfa\x01\x00",
        types_pb2.Filter(any={"filters": [{}]}).SerializeToString(),
    ):
        damaged = type(acme)(acme._channel, "acme", stored)
        for method in ("ListVectors", "GetVectors", "DeleteVectors"):
            reason, _ = await damaged.refused(method, collection_id="c")
            assert reason in {"FILTER_INVALID", "INTERNAL"}


def test_policy_is_read_from_the_call():
    """Without a rule, a filter is as the caller wrote it; with one, both must hold."""
    asked = Condition("n", Equals(1))
    set_context(CallContext(tenant="acme", principal="k", permissions=("*",)))
    assert (policy.row_filter(), policy.restricted(None)) == (None, None)
    assert policy.restricted(asked) is asked
    policy.refuse_restricted("X")
    rule = ParseDict(RED, types_pb2.Filter()).SerializeToString()
    set_context(CallContext(tenant="acme", principal="k", permissions=("*",), row_filter=rule))
    red = Condition("team", Equals("red"))
    assert policy.row_filter() == policy.restricted(None) == red
    assert policy.restricted(asked) == All((red, asked))
    with pytest.raises(ServiceError) as caught:
        policy.refuse_restricted("DeleteScope")
    assert caught.value.reason == Reason.PERMISSION_DENIED
    assert caught.value.metadata["permission"] == "row_filter"

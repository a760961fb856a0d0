"""VectorService over a real channel: what crosses the wire, and what is refused there."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from llmspell.v1 import types_pb2, vector_pb2, vector_pb2_grpc

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens
from services.vector.engines import open_engine
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.servicers.vector import VectorServicer

START_S = 1_700_000_000


class Tenants(grpc.aio.ServerInterceptor):
    """Stands in for the door: the tenant is in metadata, and a refusal shows its reason."""

    async def intercept_service(self, continuation, details):
        """Set the context, and turn a ServiceError into a status."""
        handler = await continuation(details)
        tenant = dict(details.invocation_metadata)["tenant"]

        async def answer(request, context):
            set_context(CallContext(tenant=tenant, principal="k", permissions=("*",)))
            try:
                return await handler.unary_unary(request, context)
            except ServiceError as error:
                told = f"{Reason.Name(error.reason)} {error.metadata}"
                await context.abort(grpc.StatusCode.UNKNOWN, told)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class Caller:
    """Calls methods by name with JSON, as one tenant."""

    def __init__(self, channel, tenant):
        self.stub = vector_pb2_grpc.VectorServiceStub(channel)
        self.tenant = tenant

    async def __call__(self, method, **fields):
        """The answer."""
        request = ParseDict(fields, getattr(vector_pb2, f"{method}Request")())
        return await self.send(method, request)

    async def send(self, method, request):
        """The answer to a message."""
        return await getattr(self.stub, method)(request, metadata=(("tenant", self.tenant),))

    async def refused(self, method, reason, **fields):
        """The text of a refusal for this reason."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self(method, **fields)
        assert error.value.details().startswith(reason + " "), error.value.details()
        return error.value.details()


@asynccontextmanager
async def serving(storage):
    """A server over an engine; two tenants' callers."""
    server = grpc.aio.server(interceptors=[Tenants()])
    vector_pb2_grpc.add_VectorServiceServicer_to_server(
        VectorServicer(storage, PageTokens(b"k" * 32)), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Caller(channel, "acme"), Caller(channel, "globex")
    await server.stop(None)
    await storage.close()


@pytest.fixture
async def callers():
    """Two tenants over the oracle."""
    async with serving(MemoryVectorStorage(FakeClock())) as both:
        yield both


def row(record_id, *values, **rest):
    """A record as JSON."""
    return {"record_id": record_id, "vector": {"values": values}, **rest}


async def test_a_record_crosses_in_both_directions(callers):
    """All parts of a record and of a hit; packed and plain vectors are one thing."""
    acme, globex = callers
    made = await acme("CreateCollection", collection_id="c", dimension=2, metric="METRIC_L2")
    assert made.collection.scope == "global"
    assert made.collection.create_time.seconds == START_S
    packed = vector_pb2.VectorRecord(record_id="p")
    packed.vector.f32 = np.array([3, 4], "<f4").tobytes()
    await acme.send(
        "UpsertVectors", vector_pb2.UpsertVectorsRequest(collection_id="c", records=[packed])
    )
    plain = row(
        "r",
        0,
        0,
        text="body",
        event_time="1969-12-31T23:59:59.5Z",
        ttl="1.5s",
        metadata={"n": {"int_value": "3"}, "x": {"list_value": {"values": [{}]}}},
    )
    written = await acme("UpsertVectors", collection_id="c", records=[plain])
    assert list(written.record_ids) == ["r"]
    got = await acme("GetVectors", collection_id="c", record_ids=["r", "none", "p"])
    assert [record.record_id for record in got.records] == ["r", "p"]
    record = got.records[0]
    assert record.event_time.ToNanoseconds() == -500_000_000
    assert record.expire_time.ToNanoseconds() == (START_S + 1) * 10**9 + 500_000_000
    assert record.ingest_time.seconds == START_S
    assert record.revision == written.revision
    assert record.metadata["x"].list_value.values[0].WhichOneof("kind") is None
    assert not record.HasField("vector")
    assert not got.records[1].HasField("expire_time")
    found = await acme(
        "Search",
        collection_id="c",
        vector={"values": [0, 0]},
        options={"limit": 2, "mask": {"vector": True}},
    )
    assert [(hit.record_id, hit.score, hit.distance) for hit in found.hits] == [
        ("r", 0, 0),
        ("p", -5, 5),
    ]
    assert found.hits[1].vector.f32 == packed.vector.f32
    assert found.hits[0].text == ""
    assert found.exact
    await globex.refused("GetVectors", "COLLECTION_NOT_FOUND", collection_id="c")
    await globex.refused(
        "Search", "COLLECTION_NOT_FOUND", collection_id="c", vector={"values": [0, 0]}
    )


async def test_filters_and_batches_cross(callers):
    """Every kind of filter node arrives as what it is; a batch has a result for each vector."""
    acme, _ = callers
    await acme("CreateCollection", collection_id="c", dimension=1)
    rows = [row(str(n), n + 1, metadata={"n": {"int_value": n}}) for n in range(6)]
    await acme("UpsertVectors", collection_id="c", records=rows)
    one = {"condition": {"field": "n", "equals": {"double_value": 1.0}}}
    some = {"condition": {"field": "n", "in": {"values": [{"int_value": 2}, {"int_value": 4}]}}}
    range_ = {"gte": {"int_value": 1}, "lt": {"int_value": 4}}
    middle = {"condition": {"field": "n", "range": range_}}
    there = {"condition": {"field": "n", "exists": True}}
    tree = {"all": {"filters": [there, middle, {"any": {"filters": [one, some]}}, {"not": one}]}}
    answer = await acme(
        "BatchSearch",
        collection_id="c",
        vectors=[{"values": [1]}, {"values": [-1]}],
        options={"filter": tree, "exactness": "EXACTNESS_EXACT", "score_threshold": 0},
    )
    found = [[hit.record_id for hit in result.hits] for result in answer.results]
    assert found == [["2"], []]
    listed = await acme("ListVectors", collection_id="c", filter=tree)
    assert [record.record_id for record in listed.records] == ["2"]


async def test_pages_go_on_where_they_ended(callers):
    """For records and collections; a token is good for its own request and tenant only."""
    acme, globex = callers
    for caller in callers:
        for name in ("a", "b", "c"):
            await caller("CreateCollection", scope="user:x", collection_id=name, dimension=1)
        rows = [row(f"{n}", 1) for n in range(5)]
        await caller("UpsertVectors", scope="user:x", collection_id="a", records=rows)
    where = {"scope": "user:x", "collection_id": "a"}
    names, token = [], ""
    while True:
        page = await acme("ListVectors", **where, page_size=2, page_token=token)
        names += [record.record_id for record in page.records]
        token = page.next_page_token
        if not token:
            break
        kept = token
    assert names == ["0", "1", "2", "3", "4"]
    for caller, fields in (
        (globex, where),
        (acme, {**where, "collection_id": "b"}),
        (acme, {**where, "filter": {"all": {}}}),
        (acme, {**where, "page_token": kept[:-4] + "AAAA"}),
    ):
        asked = {"page_token": kept, **fields}
        await caller.refused("ListVectors", "PAGE_TOKEN_INVALID", **asked)
    page = await acme("ListCollections", scope="*", page_size=2)
    rest = await acme("ListCollections", scope="*", page_token=page.next_page_token)
    assert [each.collection_id for each in (*page.collections, *rest.collections)] == [*"abc"]
    assert (await acme("ListCollections")).collections == []


async def test_counts_and_removals(callers):
    """Each removal says how many records went; stats of a scope and of the tenant."""
    acme, globex = callers
    for caller in callers:
        for scope in ("global", "user:x"):
            await caller("CreateCollection", scope=scope, collection_id="c", dimension=1)
            rows = [row(f"{n}", 1) for n in range(3)]
            await caller("UpsertVectors", scope=scope, collection_id="c", records=rows)
    assert (await acme("GetVectorStats")).record_count == 6
    assert (await acme("GetVectorStats", scope="user:x")).record_count == 3
    deleted = await acme("DeleteVectors", collection_id="c", record_ids=["0", "none"])
    assert deleted.deleted_count == 1
    got = await acme("GetCollection", collection_id="c")
    assert (got.collection.record_count, got.revision) == (2, deleted.revision)
    assert (await acme("DeleteCollection", collection_id="c")).deleted_count == 2
    assert (await acme("DeleteScope", scope="user:x")).deleted_count == 3
    assert (await acme("PurgeVectors")).deleted_count == 0
    assert (await globex("PurgeVectors")).deleted_count == 6


BAD = [
    ("CreateCollection", "FIELD_REQUIRED", {"dimension": 1}),
    ("CreateCollection", "FIELD_INVALID", {"collection_id": "a b", "dimension": 1}),
    ("CreateCollection", "FIELD_INVALID", {"collection_id": "x"}),
    ("CreateCollection", "LIMIT_EXCEEDED", {"collection_id": "x", "dimension": 4097}),
    ("CreateCollection", "FIELD_INVALID", {"collection_id": "x", "dimension": 1, "metric": 9}),
    ("CreateCollection", "COLLECTION_EXISTS", {"collection_id": "c", "dimension": 1}),
    ("CreateCollection", "SCOPE_INVALID", {"scope": "tenant:x", "collection_id": "x"}),
    ("GetCollection", "FIELD_REQUIRED", {}),
    ("GetCollection", "FIELD_INVALID", {"collection_id": "a\0b"}),
    ("ListCollections", "FIELD_INVALID", {"page_size": -1}),
    ("ListCollections", "SCOPE_INVALID", {"scope": "**"}),
    ("DeleteScope", "FIELD_REQUIRED", {}),
    ("UpsertVectors", "FIELD_REQUIRED", {"records": [{}]}),
    ("UpsertVectors", "DIMENSION_MISMATCH", {"records": [row("a", 1)]}),
    ("UpsertVectors", "VECTOR_NOT_FINITE", {"records": [row("a", 1, "NaN")]}),
    ("UpsertVectors", "VECTOR_ZERO", {"records": [row("a", 0, 0)]}),
    ("UpsertVectors", "FIELD_INVALID", {"records": [row("a", 1, 0, ttl="0s")]}),
    ("UpsertVectors", "FIELD_INVALID", {"records": [row("a", 1, 0, ttl="-1s")]}),
    ("UpsertVectors", "LIMIT_EXCEEDED", {"records": [row("a" * 257, 1, 0)]}),
    ("UpsertVectors", "LIMIT_EXCEEDED", {"records": [row("a", 1, 0)] * 1001}),
    (
        "UpsertVectors",
        "FIELD_INVALID",
        {"records": [row("a", 1, 0, event_time="0001-01-01T00:00:00Z")]},
    ),
    (
        "UpsertVectors",
        "FIELD_INVALID",
        {"records": [row("a", 1, 0, metadata={"x": {"double_value": "NaN"}})]},
    ),
    ("GetVectors", "LIMIT_EXCEEDED", {"record_ids": ["a"] * 1001}),
    ("GetVectors", "LIMIT_EXCEEDED", {"record_ids": ["a" * 600]}),
    ("DeleteVectors", "FIELD_INVALID", {"record_ids": ["a\n"]}),
    ("Search", "FIELD_REQUIRED", {}),
    ("Search", "FIELD_INVALID", {"vector": {"values": [1], "f32": "AACAPw=="}}),
    ("Search", "FIELD_INVALID", {"vector": {"f32": "AACA"}}),
    ("BatchSearch", "LIMIT_EXCEEDED", {"vectors": [{"values": [1, 0]}] * 101}),
]
BAD_OPTIONS = [
    ("FIELD_INVALID", {"limit": -1}),
    ("LIMIT_EXCEEDED", {"limit": 1001}),
    ("FIELD_INVALID", {"exactness": 7}),
    ("FIELD_INVALID", {"expansion": -1}),
    ("FIELD_INVALID", {"score_threshold": "NaN"}),
    ("FILTER_INVALID", {"filter": {}}),
    ("FILTER_INVALID", {"filter": {"condition": {"field": "a"}}}),
    ("FILTER_INVALID", {"filter": {"any": {"filters": [{}]}}}),
    ("FILTER_INVALID", {"filter": {"condition": {"field": "a", "range": {}}}}),
]
BAD += [
    ("Search", reason, {"vector": {"values": [1, 0]}, "options": options})
    for reason, options in BAD_OPTIONS
]
NAMELESS = {"CreateCollection", "GetCollection", "ListCollections", "DeleteScope"}


async def test_bad_input_is_refused_and_changes_nothing(callers):
    """Each with its reason and the field at fault; the service goes on."""
    acme, _ = callers
    await acme("CreateCollection", collection_id="c", dimension=2)
    before = await acme("GetVectorStats")
    for method, reason, fields in BAD:
        asked = fields if method in NAMELESS else {"collection_id": "c", **fields}
        told = await acme.refused(method, reason, **asked)
        assert "field" in told or "path" in told or "scope" in told, told
    assert await acme("GetVectorStats") == before


async def test_deep_filters_are_refused_with_their_path(callers):
    """Nesting is stopped where it passes the limit."""
    acme, _ = callers
    await acme("CreateCollection", collection_id="c", dimension=1)
    deep = types_pb2.Filter()
    part = deep
    for _ in range(60):
        part = getattr(part, "not")
    part.all.SetInParent()
    request = vector_pb2.ListVectorsRequest(collection_id="c", filter=deep)
    with pytest.raises(grpc.aio.AioRpcError, match=r"filter(\.not){8}'"):
        await acme.send("ListVectors", request)


async def test_an_answer_fits_into_a_message(tmp_path):
    """Pages end early instead of growing too large; a search is told to ask for less."""
    engine = open_engine("embedded", tmp_path, clock=FakeClock(), exact_threshold=50)
    async with serving(engine.storage) as (acme, _):
        await acme("CreateCollection", collection_id="c", dimension=1)
        for part in range(4):
            rows = [row(f"{part}{n:02}", 1, text="x" * 65536) for n in range(40)]
            await acme("UpsertVectors", collection_id="c", records=rows)
        page = await acme("ListVectors", collection_id="c", page_size=1000)
        assert 40 < len(page.records) < 80
        assert page.next_page_token
        told = await acme.refused(
            "Search",
            "MESSAGE_TOO_LARGE",
            collection_id="c",
            vector={"values": [1]},
            options={"limit": 160},
        )
        assert "8388608" in told
        ids = [record.record_id for record in page.records]
        assert len((await acme("GetVectors", collection_id="c", record_ids=ids)).records) > 40


async def test_a_caller_who_leaves_does_not_undo_a_write(tmp_path):
    """A cancelled call's commit still reaches memory: later searches see it."""
    engine = open_engine("embedded", tmp_path, clock=FakeClock(), exact_threshold=50)
    async with serving(engine.storage) as (acme, _):
        await acme("CreateCollection", collection_id="c", dimension=1)
        await acme("Search", collection_id="c", vector={"values": [1]})
        for n in range(20):
            call = asyncio.create_task(
                acme("UpsertVectors", collection_id="c", records=[row(f"{n}", 1)])
            )
            await asyncio.sleep(0.001 * (n % 4))
            call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await acme("UpsertVectors", collection_id="c", records=[row("last", 1)])
        found = await acme(
            "Search", collection_id="c", vector={"values": [1]}, options={"limit": 100}
        )
        listed = await acme("ListVectors", collection_id="c")
        assert sorted(hit.record_id for hit in found.hits) == [
            record.record_id for record in listed.records
        ]


def test_an_unknown_engine_is_named(tmp_path):
    """With those that exist."""
    with pytest.raises(ServiceError, match="embedded, memory"):
        open_engine("faiss", tmp_path, clock=FakeClock(), exact_threshold=50)

"""services.state.servicers.state: messages in, messages out."""

import pytest
from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens
from services.state.servicers.state import StateParts, StateServicer
from tests.state_engines import memory_keeper

JSON = state_pb2.Payload(json='{"a": [1, 2.50]}')


def act_for(tenant):
    """Make the calls that follow this tenant's."""
    set_context(CallContext(tenant=tenant, principal="key", permissions=("*",)))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def servicer(clock):
    return StateServicer(StateParts.over(memory_keeper(clock)), PageTokens(bytes(32)))


@pytest.fixture
def call(servicer):
    """Calls a method with a request made of fields, as a tenant."""

    async def call(method, *, tenant="acme", **fields):
        act_for(tenant)
        request = getattr(state_pb2, f"{method}Request")(**fields)
        return await getattr(servicer, method)(request, None)

    return call


@pytest.fixture
def refused(call):
    """The reason and metadata for which a call is refused."""

    async def refused(method, **fields):
        with pytest.raises(ServiceError) as info:
            await call(method, **fields)
        return info.value.reason, info.value.metadata

    return refused


def test_every_method_is_answered():
    """No method of the contract is left to the generated class, which answers UNIMPLEMENTED."""
    methods = state_pb2.DESCRIPTOR.services_by_name["StateService"].methods
    for method in methods:
        generated = getattr(state_pb2_grpc.StateServiceServicer, method.name)
        assert getattr(StateServicer, method.name) is not generated


@pytest.mark.parametrize(
    "payload",
    [
        JSON,
        state_pb2.Payload(json=' "\\u00e9" '),
        state_pb2.Payload(text=""),
        state_pb2.Payload(text="grüß\n"),
        state_pb2.Payload(raw=bytes(range(256))),
    ],
)
async def test_set_and_get(call, clock, payload):
    """A value comes back as it was sent, with its times."""
    changed = await call(
        "SetState", scope="user:u", key="k", value=payload, ttl=Duration(seconds=9)
    )
    answer = await call("GetState", scope="user:u", key="k")
    assert answer.item.value == payload
    assert answer.item.key == "k"
    assert answer.revision == answer.item.revision == changed.revision == 1
    assert answer.item.create_time.ToNanoseconds() == clock.now_ns()
    assert answer.item.update_time.ToNanoseconds() == clock.now_ns()
    assert answer.item.expire_time.ToNanoseconds() == clock.now_ns() + 9 * 10**9


async def test_item_without_end_has_no_expire_time(call):
    """What lives for ever says so by leaving the field out; the empty scope is `global`."""
    await call("SetState", key="k", value=JSON)
    answer = await call("GetState", scope="global", key="k")
    assert not answer.item.HasField("expire_time")


async def test_get_of_nothing(refused):
    """An absent item is ITEM_NOT_FOUND with its key and scope."""
    assert await refused("GetState", key="k") == (
        Reason.ITEM_NOT_FOUND,
        {"key": "k", "scope": "global"},
    )


async def test_tenant_is_the_calls(call, refused):
    """Another tenant's item is absent in the same words as one that never was."""
    await call("SetState", key="k", value=JSON)
    theirs = await refused("GetState", tenant="acme2", key="k")
    nobodys = await refused("GetState", tenant="nobody", key="k")
    assert theirs == nobodys
    assert not (await call("ListState", tenant="acme2")).items
    assert (await call("DeleteState", tenant="acme2", key="k")).deleted_count == 0
    assert (await call("PurgeState", tenant="acme2")).deleted_count == 0
    assert (await call("GetState", key="k")).item.value == JSON


@pytest.mark.parametrize(
    ("json", "rule"),
    [
        ("", "must be JSON"),
        ("{'a': 1}", "must be JSON"),
        ("NaN", "must be JSON"),
        ("[1, Infinity]", "must be JSON"),
        ("1e999", "must be JSON"),
        ("[1] 2", "must be JSON"),
        ('{"a": 1,}', "must be JSON"),
        ('"\\ud800"', "must be JSON"),
        ("[" * 100_000 + "]" * 100_000, "must not be nested so deeply"),
    ],
)
async def test_json_is_json(refused, json, rule):
    """What is not strict JSON is refused before anything is written."""
    reason, metadata = await refused("SetState", key="k", value=state_pb2.Payload(json=json))
    assert reason == Reason.FIELD_INVALID
    assert metadata["field"] == "value"
    assert metadata["rule"].startswith(rule)
    assert (await refused("GetState", key="k"))[0] == Reason.ITEM_NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"key": "k"}, Reason.FIELD_REQUIRED, "value"),
        ({"key": "k", "value": state_pb2.Payload()}, Reason.FIELD_REQUIRED, "value"),
        ({"value": JSON}, Reason.FIELD_REQUIRED, "key"),
        ({"key": "k" * 257, "value": JSON}, Reason.LIMIT_EXCEEDED, "key"),
        ({"key": "k\n", "value": JSON}, Reason.FIELD_INVALID, "key"),
        (
            {"key": "k", "value": state_pb2.Payload(json='"' + "x" * 2**20 + '"')},
            Reason.LIMIT_EXCEEDED,
            "value",
        ),
        ({"key": "k", "value": JSON, "ttl": Duration()}, Reason.FIELD_INVALID, "ttl"),
        ({"key": "k", "value": JSON, "ttl": Duration(seconds=-1)}, Reason.FIELD_INVALID, "ttl"),
        (
            {"key": "k", "value": JSON, "ttl": Duration(seconds=1, nanos=-1)},
            Reason.FIELD_INVALID,
            "ttl",
        ),
        (
            {"key": "k", "value": JSON, "ttl": Duration(seconds=2**62)},
            Reason.LIMIT_EXCEEDED,
            "ttl",
        ),
        (
            {"key": "k", "value": JSON, "precondition": state_pb2.Precondition(absent=False)},
            Reason.FIELD_INVALID,
            "precondition.absent",
        ),
    ],
)
async def test_bad_writes(refused, fields, reason, field):
    """Each bad field is named with its reason."""
    got, metadata = await refused("SetState", **fields)
    assert (got, metadata["field"]) == (reason, field)


async def test_scope_is_parsed(refused):
    """A scope that is none of the forms is refused everywhere."""
    for method in ("GetState", "SetState", "DeleteState", "IncrementState", "ListState"):
        fields = {} if method == "ListState" else {"key": "k"}
        assert (await refused(method, scope="tenant:acme", **fields))[0] == Reason.SCOPE_INVALID
    write = state_pb2.StateWrite(scope="user:", key="k", set=JSON)
    assert (await refused("BatchState", writes=[write]))[0] == Reason.SCOPE_INVALID
    check = state_pb2.StateCheck(
        scope="x", key="k", precondition=state_pb2.Precondition(absent=True)
    )
    assert (await refused("BatchState", checks=[check]))[0] == Reason.SCOPE_INVALID


async def test_preconditions(call, refused):
    """Revision, absent and present reach the engine; an empty one asks nothing."""
    precondition = state_pb2.Precondition
    await call("SetState", key="k", value=JSON, precondition=precondition(absent=True))
    assert await refused(
        "SetState", key="k", value=JSON, precondition=precondition(revision=7)
    ) == (Reason.REVISION_MISMATCH, {"key": "k", "revision": "1"})
    await call("SetState", key="k", value=JSON, precondition=precondition(revision=1))
    await call("SetState", key="k", value=JSON, precondition=precondition())
    answer = await call("DeleteState", key="k", precondition=precondition(present=True))
    assert (answer.deleted_count, answer.revision) == (1, 4)
    reason, _ = await refused("DeleteState", key="k", precondition=precondition(revision=0))
    assert reason == Reason.REVISION_MISMATCH


async def test_increment(call, refused):
    """Whole numbers and fractions come back in their own field."""
    answer = await call("IncrementState", key="n", int_delta=2)
    assert (answer.WhichOneof("value"), answer.int_value, answer.revision) == ("int_value", 2, 1)
    answer = await call("IncrementState", key="n", double_delta=0.5)
    assert (answer.WhichOneof("value"), answer.double_value) == ("double_value", 2.5)
    assert (await call("GetState", key="n")).item.value.json == "2.5"
    answer = await call("IncrementState", key="zero", int_delta=0)
    assert answer.WhichOneof("value") == "int_value"
    assert await refused("IncrementState", key="n") == (
        Reason.FIELD_REQUIRED,
        {"field": "delta"},
    )
    for delta in (float("nan"), float("inf")):
        reason, metadata = await refused("IncrementState", key="n", double_delta=delta)
        assert (reason, metadata["field"]) == (Reason.FIELD_INVALID, "double_delta")
    await call("SetState", key="t", value=state_pb2.Payload(text="5"))
    assert (await refused("IncrementState", key="t", int_delta=1))[0] == Reason.VALUE_NOT_NUMBER


@pytest.fixture
async def ten(call):
    """Ten items of acme's, and one of globex's."""
    for number in range(10):
        await call("SetState", scope="user:u", key=f"k{number}", value=JSON)
    await call("SetState", tenant="globex", scope="user:u", key="other", value=JSON)


async def test_pages(call, ten):
    """Pages follow each other through their tokens, and the last one has none."""
    keys, token, pages = [], "", 0
    while pages == 0 or token:
        page = await call("ListState", scope="user:u", page_size=4, page_token=token)
        keys += [item.key for item in page.items]
        assert all(item.value == JSON for item in page.items)
        token, pages = page.next_page_token, pages + 1
    assert keys == [f"k{number}" for number in range(10)]
    assert pages == 3
    assert page.revision == 11


async def test_keys_only(call, ten):
    """Where only keys are asked for no value travels."""
    page = await call("ListState", scope="user:u", prefix="k", keys_only=True)
    assert len(page.items) == 10
    assert not any(item.HasField("value") for item in page.items)


async def test_page_token_belongs_to_its_request(call, refused, ten):
    """A token is refused for another tenant, scope or prefix, and when it was tampered with."""
    token = (await call("ListState", scope="user:u", page_size=1)).next_page_token
    same = {"scope": "user:u", "page_token": token}
    for change in (
        {"tenant": "globex"},
        {"scope": "user:v"},
        {"prefix": "k"},
        {"page_token": token[:-4] + "AAA="},
        {"page_token": "nonsense"},
        {"page_token": "é"},
    ):
        reason, _ = await refused("ListState", **{**same, **change})
        assert reason == Reason.PAGE_TOKEN_INVALID
    assert (await call("ListState", page_size=1, **same)).items[0].key == "k1"


async def test_page_size(call, refused, ten):
    """Zero means the default, too many the most, and less than nothing is refused."""
    assert len((await call("ListState", scope="user:u")).items) == 10
    assert len((await call("ListState", scope="user:u", page_size=10**6)).items) == 10
    reason, metadata = await refused("ListState", page_size=-1)
    assert (reason, metadata["field"]) == (Reason.FIELD_INVALID, "page_size")
    reason, metadata = await refused("ListState", prefix="\x01")
    assert (reason, metadata["field"]) == (Reason.FIELD_INVALID, "prefix")


async def test_batch(call, refused, clock):
    """Checks and writes travel in order, with scopes and times to live."""
    present = state_pb2.Precondition(present=True)
    absent = state_pb2.Precondition(absent=True)
    await call("SetState", key="old", value=JSON)
    answer = await call(
        "BatchState",
        checks=[
            state_pb2.StateCheck(key="old", precondition=present),
            state_pb2.StateCheck(scope="user:u", key="new", precondition=absent),
        ],
        writes=[
            state_pb2.StateWrite(scope="user:u", key="new", set=JSON, ttl=Duration(seconds=5)),
            state_pb2.StateWrite(key="old", delete=True),
        ],
    )
    assert (answer.revision, answer.deleted_count) == (2, 1)
    item = (await call("GetState", scope="user:u", key="new")).item
    assert item.expire_time.ToNanoseconds() == clock.now_ns() + 5 * 10**9
    reason, metadata = await refused(
        "BatchState", checks=[state_pb2.StateCheck(key="old", precondition=present)]
    )
    assert (reason, metadata["key"]) == (Reason.REVISION_MISMATCH, "old")


WRITE = state_pb2.StateWrite


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "writes"),
        (
            {"writes": [WRITE(key="k", delete=True)] * 257},
            Reason.LIMIT_EXCEEDED,
            "checks and writes",
        ),
        ({"writes": [WRITE(key="k")]}, Reason.FIELD_REQUIRED, "writes[0].write"),
        ({"writes": [WRITE(key="k", delete=False)]}, Reason.FIELD_INVALID, "writes[0].delete"),
        (
            {"writes": [WRITE(key="k", set=state_pb2.Payload())]},
            Reason.FIELD_REQUIRED,
            "writes[0].set",
        ),
        (
            {"writes": [WRITE(key="k", delete=True, ttl=Duration(seconds=1))]},
            Reason.FIELD_INVALID,
            "writes[0].ttl",
        ),
        (
            {"writes": [WRITE(key="k", set=JSON, ttl=Duration())]},
            Reason.FIELD_INVALID,
            "writes[0].ttl",
        ),
        (
            {"checks": [state_pb2.StateCheck(key="k")]},
            Reason.FIELD_REQUIRED,
            "checks[0].precondition",
        ),
        ({"writes": [WRITE(set=JSON)]}, Reason.FIELD_REQUIRED, "writes[0].key"),
    ],
)
async def test_bad_batches(call, refused, fields, reason, field):
    """Each bad part of a batch is named, and nothing of the batch is written."""
    got, metadata = await refused("BatchState", **fields)
    assert (got, metadata["field"]) == (reason, field)
    assert (await call("ListState")).revision == 0


async def test_purge(call, ten):
    """A purge erases the caller's tenant and no other."""
    answer = await call("PurgeState")
    assert (answer.deleted_count, answer.revision) == (10, 12)
    assert not (await call("ListState", scope="user:u")).items
    assert len((await call("ListState", tenant="globex", scope="user:u")).items) == 1


async def test_watch(servicer, call):
    """A watch tells kinds, places and items of its tenant's changes, and nothing of another's."""
    await call("SetState", key="k", value=JSON)
    await call("SetState", key="k", value=JSON, tenant="globex")
    await call("IncrementState", scope="user:u", key="n", int_delta=2)
    await call("DeleteState", key="k")
    act_for("acme")
    request = state_pb2.WatchStateRequest(after_revision=0, values=True)
    watch = servicer.WatchState(request, None)
    assert (await anext(watch)).revision == 0
    answer = await anext(watch)
    await watch.aclose()
    assert answer.revision == 4
    told = [(change.kind, change.scope, change.key, change.revision) for change in answer.changes]
    assert told == [
        (state_pb2.STATE_CHANGE_KIND_SET, "global", "k", 1),
        (state_pb2.STATE_CHANGE_KIND_INCREMENT, "user:u", "n", 3),
        (state_pb2.STATE_CHANGE_KIND_DELETE, "global", "k", 4),
    ]
    assert [change.HasField("item") for change in answer.changes] == [False, True, False]
    assert answer.changes[1].item.value.json == "2"


async def test_watch_of_a_bad_scope(servicer):
    """A scope that cannot be one is refused before the first answer."""
    act_for("acme")
    with pytest.raises(ServiceError) as info:
        await anext(servicer.WatchState(state_pb2.WatchStateRequest(scope="no:such"), None))
    assert info.value.reason == Reason.SCOPE_INVALID

"""The door, in front of a real server: who gets in, and what comes out when something breaks."""

import asyncio
import dataclasses
import gc
from contextvars import copy_context

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from llmspell.v1 import script_pb2, state_pb2

from services.common.clock import FakeClock
from services.common.context import (
    METADATA_KEY,
    REQUEST_ID_KEY,
    Seal,
    _current,
    current_context,
)
from services.common.door import Door, SealedContext
from services.common.errors import Reason, ServiceError
from services.common.limits import MESSAGE_BYTES_MAX
from services.common.status import DETAILS_KEY
from services.common.telemetry import Counts
from tests.servers import (
    EVERYTHING,
    GET,
    RUN,
    SEAL,
    Bodies,
    calling,
    output,
    sealed,
    serving,
    settled,
)

SECRET = "hunter2-do-not-tell"


@pytest.fixture
async def bodies():
    return Bodies()


@pytest.fixture
async def server(bodies):
    async with serving(bodies=bodies) as (address, counts):
        yield address, counts


@pytest.fixture
async def channel(server):
    async with calling(server[0]) as channel:
        yield channel


@pytest.fixture
def counts(server):
    return server[1]


def get(channel, key="k", metadata=None, **options):
    call = channel.unary_unary(GET, response_deserializer=state_pb2.GetStateResponse.FromString)
    request = state_pb2.GetStateRequest(key=key).SerializeToString()
    return call(request, metadata=sealed() if metadata is None else metadata, **options)


def run(channel, name="3", metadata=None, **options):
    call = channel.unary_stream(RUN, response_deserializer=script_pb2.RunScriptResponse.FromString)
    request = script_pb2.RunScriptRequest(name=name).SerializeToString()
    return call(request, metadata=sealed() if metadata is None else metadata, **options)


async def collected(call):
    return [event.output.data async for event in call]


def reason_of(error):
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.message == error.details()
    return info.reason


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, reason_of(caught.value)


@pytest.mark.parametrize("call", [get, lambda *args, **kw: collected(run(*args, **kw))])
async def test_a_sealed_call_is_served(channel, bodies, counts, call):
    """With the gateway's context a call reaches its servicer, which knows the caller."""
    await call(channel)
    assert bodies.seen[0].tenant == "acme"
    assert bodies.seen[0].principal == "k1"
    await settled(lambda: counts.in_flight == 0)
    assert counts.calls == 1


def wrong_contexts():
    expired = FakeClock(0)
    good = SEAL.seal(EVERYTHING, lifetime_s=30)
    return {
        "none": (),
        "empty": ((METADATA_KEY, b""),),
        "noise": ((METADATA_KEY, b"x" * 200),),
        "cut": ((METADATA_KEY, good[:-1]),),
        "forged": sealed(seal=Seal(bytes(32), FakeClock(2**60))),
        "expired": sealed(seal=Seal(bytes(range(32)), expired)),
        "twice": ((METADATA_KEY, good), (METADATA_KEY, good)),
        "twice, one bad": ((METADATA_KEY, good), (METADATA_KEY, b"x")),
        "as text": (("llmspell-context", good.hex()),),
        "a key instead": (("authorization", "Bearer llms_operator_" + "x" * 43),),
        "a tenant instead": (("llmspell-tenant", "acme"),),
    }


@pytest.mark.parametrize("metadata", wrong_contexts().values(), ids=wrong_contexts())
@pytest.mark.parametrize("call", [get, lambda *args, **kw: collected(run(*args, **kw))])
async def test_without_a_good_context_nothing_is_served(channel, bodies, counts, metadata, call):
    """Missing, forged, expired, doubled: one and the same refusal, and no body runs."""
    refusal = await refused(call(channel, metadata=metadata))
    assert refusal == ("UNAUTHENTICATED", "CONTEXT_INVALID")
    assert bodies.seen == []
    assert counts.in_flight == 0


async def test_what_the_caller_may_not_is_refused(channel, bodies):
    """The permission is the sealed one; a caller without a tenant is told to name one."""
    reader = dataclasses.replace(EVERYTHING, permissions=("vector.read",))
    refusal = await refused(get(channel, metadata=sealed(reader)))
    assert refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    nobody = dataclasses.replace(EVERYTHING, tenant="")
    refusal = await refused(get(channel, metadata=sealed(nobody)))
    assert refusal == ("FAILED_PRECONDITION", "TENANT_REQUIRED")
    assert bodies.seen == []


@pytest.mark.parametrize("path", ["/llmspell.v1.StateService/Nothing", "/x/y", "/", "/grpc.health"])
async def test_an_unknown_method_is_not_offered(channel, path):
    """Whatever is not in the contract is UNIMPLEMENTED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path)(b"", metadata=sealed())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_outside_the_contract_is_refused_even_if_served(bodies):
    """A handler that somebody registered without a line in the contract cannot be called."""

    async def body(request, context):
        raise AssertionError("must not run")

    handler = grpc.method_handlers_generic_handler(
        "x.Y", {"Z": grpc.unary_unary_rpc_method_handler(body)}
    )
    async with serving(handlers=(handler,)) as (address, _), calling(address) as channel:
        refusal = await refused(channel.unary_unary("/x.Y/Z")(b"", metadata=sealed()))
        assert refusal == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


@pytest.mark.parametrize("raw", [b"\xff", b"\x52\xff", b"\x12\x01\xffR\x01\xff", b"\x0b" * 2000])
@pytest.mark.parametrize(("path", "kind"), [(GET, "unary_unary"), (RUN, "unary_stream")])
async def test_bytes_that_are_no_message_are_refused(channel, bodies, raw, path, kind):
    """Cut short, wrong wire type, text that is not UTF-8, groups without end."""
    call = getattr(channel, kind)(path)(raw, metadata=sealed())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if kind == "unary_unary" else collected(call))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "MESSAGE_MALFORMED"
    assert bodies.seen == []


async def test_malformed_bytes_of_a_stranger_are_not_even_parsed(channel):
    """Who is not known learns nothing about the shape of messages."""
    refusal = await refused(channel.unary_unary(GET)(b"\xff"))
    assert refusal == ("UNAUTHENTICATED", "CONTEXT_INVALID")


async def test_a_refusal_of_the_servicer_keeps_reason_and_metadata(channel, bodies, counts):
    """A ServiceError travels whole and is no fault of ours."""

    async def body(_):
        raise ServiceError(Reason.ITEM_NOT_FOUND, "No item.", key="k")

    bodies.get = body
    assert await refused(get(channel)) == ("NOT_FOUND", "ITEM_NOT_FOUND")
    assert counts.internal_errors == 0


async def _all_that_is_told(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    told = [error.code().name, error.details(), error.debug_error_string()]
    told += [f"{key}={value!r}" for key, value in error.trailing_metadata() or ()]
    told += [f"{key}={value!r}" for key, value in error.initial_metadata() or ()]
    return error, "\n".join(told)


def planted():
    chained = ValueError(SECRET)
    chained.__cause__ = RuntimeError(SECRET)
    return [
        RuntimeError(SECRET),
        KeyError(SECRET),
        OSError(5, SECRET, f"/srv/{SECRET}"),
        chained,
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        grpc.aio.UsageError(SECRET),
    ]


@pytest.mark.parametrize("error", planted(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["unary", "stream", "mid-stream"])
async def test_the_text_of_an_exception_never_leaves(server, bodies, caplog, *, error, kind):
    """INTERNAL with an id; the text is in the log under that id, and in nothing that is sent."""

    async def get_body(_):
        raise error

    async def run_body(_):
        if kind == "mid-stream":
            yield output(b"first")
        raise error

    bodies.get, bodies.run = get_body, run_body
    address, counts = server
    async with calling(address) as channel:
        call = get(channel) if kind == "unary" else collected(run(channel))
        answer, told = await _all_that_is_told(call)
    assert answer.code() == grpc.StatusCode.INTERNAL
    assert reason_of(answer) == "INTERNAL"
    assert SECRET not in told
    record = next(record for record in caplog.records if hasattr(record, "error_id"))
    assert record.error_id in answer.details()
    assert record.exc_info[1] is error
    assert record.request_id == "r1"
    assert counts.internal_errors == 1
    assert counts.in_flight == 0


@pytest.mark.parametrize("answer", [None, SECRET, [SECRET]])
async def test_a_servicer_that_answers_nonsense_is_our_fault(channel, bodies, answer):
    """What cannot be written as the method's answer is INTERNAL too, with no text of gRPC's."""

    async def get_body(_):
        return answer

    async def run_body(_):
        yield answer

    bodies.get, bodies.run = get_body, run_body
    for call in (get(channel), collected(run(channel))):
        error, told = await _all_that_is_told(call)
        assert reason_of(error) == "INTERNAL"
        assert SECRET not in told


async def test_every_answer_carries_the_request_id(channel, bodies):
    """Good or bad, the request id is in the trailers, as it is in the log."""
    call = get(channel)
    await call
    assert dict(await call.trailing_metadata())[REQUEST_ID_KEY] == "r1"
    stream = run(channel)
    await collected(stream)
    assert dict(await stream.trailing_metadata())[REQUEST_ID_KEY] == "r1"

    async def body(_):
        raise ServiceError(Reason.ITEM_NOT_FOUND, "No item.")

    bodies.get = body
    error, _ = await _all_that_is_told(get(channel))
    assert dict(error.trailing_metadata())[REQUEST_ID_KEY] == "r1"


async def test_a_stranger_gets_a_request_id_too(channel):
    """A call that was refused before its id was known can still be found in the log."""
    error, _ = await _all_that_is_told(get(channel, metadata=()))
    assert len(dict(error.trailing_metadata())[REQUEST_ID_KEY]) == 32


async def test_concurrent_calls_do_not_see_each_others_context(channel, bodies):
    """Each call has its own context, before and after it had to wait; it is gone afterwards."""
    before_all = copy_context().get(_current)

    async def body(request):
        before = current_context().tenant
        await asyncio.sleep(0)
        bodies.began.set()
        await bodies.go_on.wait()
        assert current_context().tenant == before == request.key
        return await bodies.answer(request)

    bodies.get = body
    tenants = [f"t{number}" for number in range(50)]
    calls = [
        get(channel, tenant, sealed(dataclasses.replace(EVERYTHING, tenant=tenant)))
        for tenant in tenants
    ]
    await settled(lambda: len(bodies.seen) == len(tenants))
    bodies.go_on.set()
    answers = await asyncio.gather(*calls)
    assert [answer.item.key for answer in answers] == tenants
    assert copy_context().get(_current) is before_all


async def test_a_stream_comes_in_order(channel):
    """All events, in order, then the end."""
    assert await collected(run(channel, "100")) == [b"%d" % number for number in range(100)]


async def test_an_empty_stream_ends_well(channel, counts):
    """A stream may have no events at all."""
    assert await collected(run(channel, "0")) == []
    assert counts.in_flight == 0


async def test_an_error_in_mid_stream_comes_after_the_events(channel, bodies):
    """What was sent before the error arrives, and then its reason."""

    async def body(_):
        yield output(b"first")
        raise ServiceError(Reason.SCRIPT_FAILED, "line 3: no.", line=3)

    bodies.run = body
    call = run(channel)
    assert (await call.read()).output.data == b"first"
    assert await refused(call.read()) == ("FAILED_PRECONDITION", "SCRIPT_FAILED")


async def test_a_stranger_is_refused_before_his_message(channel):
    """He may announce as much as he likes and send none of it: nobody waits, nothing is kept."""

    async def nothing():
        await asyncio.Event().wait()
        yield b""

    call = channel.stream_unary("/llmspell.v1.StateService/GetState")(nothing(), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_more_than_so_many_at_once_are_refused_and_then_served(bodies):
    """OVERLOADED beyond the limit, with the limit; as soon as one has ended, the next gets in."""
    bodies.get = bodies.wait
    async with serving(bodies=bodies, at_once=3) as (address, counts), calling(address) as channel:
        held = [get(channel, str(number)) for number in range(3)]
        await settled(lambda: counts.in_flight == 3)
        assert await refused(get(channel)) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert await refused(collected(run(channel))) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        # A stranger is refused for want of room before his signature is looked at.
        assert (await refused(get(channel, metadata=())))[1] == "OVERLOADED"
        assert counts.calls == 6
        bodies.go_on.set()
        await asyncio.gather(*held)
        await get(channel)
        await settled(lambda: counts.in_flight == 0)


async def test_health_is_answered_without_a_context_and_under_load(bodies):
    """Whether a process lives is told to anyone, also when it has no room."""
    counts = Counts()
    door = Door(SealedContext(SEAL), counts, calls_at_once=1)
    counts.in_flight = 1
    server = grpc.aio.server(interceptors=(door,))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with calling(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(0)


async def test_a_cancelled_call_gives_its_place_back(channel, bodies, counts):
    """The servicer is cancelled with the caller, and the place is free again."""
    bodies.get = bodies.wait
    call = get(channel)
    await bodies.began.wait()
    assert counts.in_flight == 1
    call.cancel()
    await bodies.cancelled.wait()
    await settled(lambda: counts.in_flight == 0)
    assert counts.internal_errors == 0


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
async def test_a_stream_that_is_left_gives_its_place_back(server, bodies, how):
    """Cancelled, out of time or cut off: body and place end without the garbage collector."""
    address, counts = server
    bodies.run = bodies.one_then_wait
    gc.disable()
    try:
        async with calling(address) as channel:
            call = run(channel, timeout=0.2 if how == "deadline" else None)
            assert (await call.read()).output.data == b"first"
            await bodies.began.wait()
            assert counts.in_flight == 1
            if how == "cancel":
                call.cancel()
            elif how == "close":
                await channel.close()
            await bodies.cancelled.wait()
            await settled(lambda: counts.in_flight == 0)
    finally:
        gc.enable()


async def test_a_stream_left_while_it_writes_gives_its_place_back(server, bodies):
    """A body that is faster than its reader waits in a write; leaving ends it there too."""
    address, counts = server

    async def flood(_):
        while True:
            yield output(bytes(1024 * 1024))

    bodies.run = flood
    gc.disable()
    try:
        async with calling(address) as channel:
            for _ in range(5):
                call = run(channel)
                await call.read()
                await asyncio.sleep(0.02)  # the window fills, the writer stops
                call.cancel()
            await settled(lambda: counts.in_flight == 0)
        assert counts.internal_errors == 0
    finally:
        gc.enable()


async def test_a_body_cancelled_from_inside_is_not_swallowed(bodies):
    """CancelledError is no error to be turned into a status; the place is given back."""
    counts = Counts()
    door = Door(SealedContext(SEAL), counts, calls_at_once=1)
    with pytest.raises(asyncio.CancelledError), door.room():
        raise asyncio.CancelledError
    assert counts.in_flight == 0


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX + 1, 2 * MESSAGE_BYTES_MAX])
async def test_a_message_over_the_limit_is_refused(server, bodies, size):
    """The door tells the limit to a little too much; the transport ends what is far too much."""
    address, counts = server
    unlimited = (("grpc.max_send_message_length", -1),)
    async with grpc.aio.insecure_channel(address, options=unlimited) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(channel, "k" * size)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        if size == MESSAGE_BYTES_MAX + 1:
            assert reason_of(caught.value) == "MESSAGE_TOO_LARGE"
        await get(channel, "k")
    assert len(bodies.seen) == 1
    await settled(lambda: counts.in_flight == 0)


async def test_an_answer_over_the_limit_is_refused(channel, bodies, counts):
    """A servicer cannot send more than the limit either; the caller is told why."""
    large = "k" * (MESSAGE_BYTES_MAX + 1)

    async def get_body(_):
        return state_pb2.GetStateResponse(item=state_pb2.Item(key=large))

    async def run_body(_):
        yield output(b"first")
        yield output(large.encode())

    bodies.get, bodies.run = get_body, run_body
    for call in (get(channel), collected(run(channel))):
        assert await refused(call) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    await settled(lambda: counts.in_flight == 0)


async def test_a_long_error_in_any_script_arrives_whole(channel, bodies):
    """An error of the greatest length reaches the client with its reason, not as a lost trailer."""

    async def body(_):
        long = "漢" * 100_000
        raise ServiceError(Reason.SCRIPT_FAILED, long, **{f"m{n}": long for n in range(20)})

    bodies.get = body
    assert await refused(get(channel)) == ("FAILED_PRECONDITION", "SCRIPT_FAILED")


async def test_a_servicers_own_abort_passes(channel, bodies):
    """A status that a body set by itself is left alone."""

    async def body(_):
        raise grpc.aio.AbortError

    bodies.get = body
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(channel)
    assert caught.value.code() != grpc.StatusCode.OK

"""The relay between real servers: bytes, deadline, cancellation and errors pass through."""

import asyncio
import dataclasses

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import script_pb2, state_pb2

from services.common.access import METHODS
from services.common.clock import SystemClock
from services.common.context import REQUEST_ID_KEY, Seal
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_DEFAULT, DEADLINE_SECONDS_MAX
from services.common.relay import Relay, RelayHandler, Upstream
from services.common.status import DETAILS_KEY, to_trailer
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

SERVICES = ("llmspell.v1.StateService", "llmspell.v1.ScriptService")
ROUNDING = 1.02
"""On the wire a deadline has three digits, rounded up at each hop."""
REQUEST = state_pb2.GetStateRequest(key="k").SerializeToString()


@pytest.fixture
async def bodies():
    return Bodies()


class Hops:
    """A server, and relays in front of it."""

    def __init__(self, addresses, counts, upstreams):
        self.addresses = addresses
        self.counts = counts
        self.upstreams = upstreams


async def hops(stack, bodies, tmp_path, *, number, trunk=True):
    """`number` relays in a row before the real servicers; the first one is the front."""
    origin = f"unix:{tmp_path}/origin"
    address, counts = await stack.enter_async_context(serving(bodies=bodies, address=origin))
    addresses, all_counts, upstreams = [address], [counts], []
    for hop in range(number):
        upstream = Upstream(f"hop{hop}", address, trunk=trunk)
        stack.push_async_callback(upstream.close)
        upstreams.append(upstream)
        relay = Relay(dict.fromkeys(SERVICES, upstream), SEAL)
        front = serving(handlers=(RelayHandler(relay),), address=f"unix:{tmp_path}/{hop}")
        address, counts = await stack.enter_async_context(front)
        addresses.insert(0, address)
        all_counts.insert(0, counts)
    return Hops(addresses, all_counts, upstreams)


@pytest.fixture
async def stack():
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(params=["together", "alone"])
async def two(stack, bodies, tmp_path, request):
    """Two relays before the servicers, as from the gateway through the runtime.

    Calls go on trunks, or each alone; nobody can tell.
    """
    return await hops(stack, bodies, tmp_path, number=2, trunk=request.param == "together")


@pytest.fixture
async def channel(two, stack):
    return await stack.enter_async_context(calling(two.addresses[0]))


def get(channel, key="k", **options):
    request = state_pb2.GetStateRequest(key=key).SerializeToString()
    return channel.unary_unary(GET)(request, metadata=sealed(), **options)


def run(channel, name="3", **options):
    request = script_pb2.RunScriptRequest(name=name).SerializeToString()
    parse = script_pb2.RunScriptResponse.FromString
    call = channel.unary_stream(RUN, response_deserializer=parse)
    return call(request, metadata=sealed(), **options)


async def collected(call):
    return [event.output.data async for event in call]


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def reason_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


async def test_bytes_and_caller_pass_through(channel, bodies):
    """The request arrives, the caller is the same, the depth has grown."""
    answer = state_pb2.GetStateResponse.FromString(await get(channel, "käse"))
    assert answer.item.key == "käse"
    seen = bodies.seen[0]
    assert (seen.tenant, seen.principal, seen.request_id) == ("acme", "k1", "r1")
    assert seen.permissions == EVERYTHING.permissions
    assert seen.depth == 3


async def test_a_stream_passes_through(channel):
    """Every event, in order."""
    assert await collected(run(channel, "200")) == [b"%d" % n for n in range(200)]


async def test_events_come_as_they_happen(channel, bodies):
    """A relay does not wait for the end of a stream before it passes the first event on."""
    bodies.run = bodies.one_then_wait
    call = run(channel)
    assert (await call.read()).output.data == b"first"
    bodies.go_on.set()
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize("call", [get, lambda channel, **kw: collected(run(channel, **kw))])
async def test_the_deadline_passes_through(channel, bodies, call):
    """The last process sees less time than the caller gave, and no more (but for rounding)."""
    await call(channel, timeout=20)
    assert 0 < bodies.remaining[0] <= 20 * ROUNDING


async def test_without_a_deadline_a_default_holds(channel, bodies):
    """A unary call without one gets the default, a stream the most that is allowed."""
    await get(channel)
    assert 0 < bodies.remaining[0] <= DEADLINE_SECONDS_DEFAULT * ROUNDING
    await collected(run(channel))
    assert DEADLINE_SECONDS_DEFAULT < bodies.remaining[1] <= DEADLINE_SECONDS_MAX * ROUNDING


async def test_a_deadline_without_end_is_cut(channel, bodies):
    """Nobody may hold a call for longer than the limit."""
    await get(channel, timeout=1e6)
    assert bodies.remaining[0] <= DEADLINE_SECONDS_MAX * ROUNDING


async def test_a_deadline_that_passes_is_told(channel, bodies, two):
    """DEADLINE_EXCEEDED at the caller, and no call is left behind it."""
    bodies.get = bodies.wait
    error = await refused(get(channel, timeout=0.2))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await bodies.cancelled.wait()
    await settled(lambda: all(counts.in_flight == 0 for counts in two.counts))
    assert all(counts.internal_errors == 0 for counts in two.counts)


async def test_an_upstream_deadline_has_its_reason(bodies, stack, tmp_path):
    """Where the relay's own time is up, the answer says so and names nothing else."""
    one = await hops(stack, bodies, tmp_path, number=1)
    bodies.get = bodies.wait
    relay = Relay(dict.fromkeys(SERVICES, one.upstreams[0]), SEAL)
    with pytest.raises(ServiceError) as caught:
        await relay.call(METHODS[GET], REQUEST, EVERYTHING, timeout_s=0.05)
    assert caught.value.reason == Reason.DEADLINE_EXCEEDED


async def test_a_cancelled_call_is_cancelled_everywhere(channel, bodies, two):
    """When the caller goes away, so does the work, two processes further on."""
    bodies.get = bodies.wait
    call = get(channel)
    await bodies.began.wait()
    assert [counts.in_flight for counts in two.counts] == [1, 1, 1]
    call.cancel()
    await bodies.cancelled.wait()
    await settled(lambda: all(counts.in_flight == 0 for counts in two.counts))
    assert all(counts.internal_errors == 0 for counts in two.counts)


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
async def test_a_stream_that_is_left_ends_everywhere(channel, bodies, two, how):
    """Cancelled, out of time, or cut off in mid-stream: no process keeps a place."""
    bodies.run = bodies.one_then_wait
    call = run(channel, timeout=0.2 if how == "deadline" else None)
    assert (await call.read()).output.data == b"first"
    assert [counts.in_flight for counts in two.counts] == [1, 1, 1]
    if how == "cancel":
        call.cancel()
    elif how == "close":
        await channel.close()
    await bodies.cancelled.wait()
    await settled(lambda: all(counts.in_flight == 0 for counts in two.counts))
    assert all(counts.internal_errors == 0 for counts in two.counts)


async def test_a_flood_that_is_left_ends_everywhere(channel, bodies, two):
    """A stream that waits in its writes, in three processes, ends in all of them."""

    async def flood(_):
        while True:
            yield output(bytes(1024 * 1024))

    bodies.run = flood
    for _ in range(3):
        call = run(channel)
        await call.read()
        await asyncio.sleep(0.05)  # the windows fill, the writers stop
        call.cancel()
    await settled(lambda: all(counts.in_flight == 0 for counts in two.counts))
    assert all(counts.internal_errors == 0 for counts in two.counts)


@pytest.mark.parametrize("call", [get, lambda channel: collected(run(channel))])
async def test_an_error_passes_two_hops_untouched(channel, bodies, two, call):
    """Code, message and details arrive byte for byte; no relay adds or takes."""
    error = ServiceError(Reason.LIMIT_EXCEEDED, "k is 5; the limit is 3, höchstens.", field="k")

    async def get_body(_):
        raise error

    async def run_body(_):
        yield output(b"first")
        raise error

    bodies.get, bodies.run = get_body, run_body
    answer = await refused(call(channel))
    assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert answer.details() == error.message
    trailers = dict(answer.trailing_metadata())
    assert trailers[DETAILS_KEY] == to_trailer(error)[1]
    assert trailers[REQUEST_ID_KEY] == "r1"
    assert all(counts.internal_errors == 0 for counts in two.counts)


async def test_an_internal_error_keeps_its_id_and_its_secret(channel, bodies):
    """The id of the process that failed reaches the caller; the text of the exception does not."""

    async def body(_):
        raise RuntimeError("hunter2")

    bodies.get = body
    answer = await refused(get(channel))
    assert reason_of(answer) == "INTERNAL"
    assert "the log has it as" in answer.details()
    assert "hunter2" not in repr(answer)
    assert "hunter2" not in repr(answer.trailing_metadata())


@pytest.mark.parametrize("call", [get, lambda channel: collected(run(channel))])
async def test_an_upstream_that_answers_cancelled_is_an_answer(channel, bodies, two, call):
    """CANCELLED as a status must not be taken for a cancellation of our own: the caller waits."""

    async def get_body(_):
        raise ServiceError(Reason.CANCELLED, "The run was cancelled.")

    async def run_body(_):
        yield output(b"first")
        raise ServiceError(Reason.CANCELLED, "The run was cancelled.")

    bodies.get, bodies.run = get_body, run_body
    answer = await refused(asyncio.wait_for(call(channel), 10))
    assert reason_of(answer) == "CANCELLED"
    await settled(lambda: all(counts.in_flight == 0 for counts in two.counts))


@pytest.mark.parametrize("call", [get, lambda channel: collected(run(channel))])
async def test_an_upstream_that_is_away_is_said_without_its_address(stack, bodies, tmp_path, call):
    """UNAVAILABLE with the process's name; where it lives is nobody's business."""
    upstream = Upstream("vector", f"unix:{tmp_path}/away")
    stack.push_async_callback(upstream.close)
    relay = Relay(dict.fromkeys(SERVICES, upstream), SEAL)
    address, _ = await stack.enter_async_context(serving(handlers=(RelayHandler(relay),)))
    channel = await stack.enter_async_context(calling(address))
    answer = await refused(call(channel))
    assert answer.code() == grpc.StatusCode.UNAVAILABLE
    assert reason_of(answer) == "SERVICE_UNAVAILABLE"
    told = repr(answer) + repr(answer.trailing_metadata()) + str(answer.debug_error_string())
    assert str(tmp_path) not in told
    assert "away" not in answer.details()
    assert b"vector" in dict(answer.trailing_metadata())[DETAILS_KEY]


async def test_an_upstream_that_comes_back_is_found(stack, bodies, tmp_path):
    """Killed and started again, a process is reached again without a new channel."""
    origin = f"unix:{tmp_path}/origin"
    upstream = Upstream("state", origin)
    stack.push_async_callback(upstream.close)
    relay = Relay(dict.fromkeys(SERVICES, upstream), SEAL)

    async def served():
        try:
            await relay.call(METHODS[GET], REQUEST, EVERYTHING, timeout_s=5)
        except ServiceError as error:
            return error.reason != Reason.SERVICE_UNAVAILABLE
        return True

    for _ in range(3):
        assert not await served()
        async with serving(bodies=bodies, address=origin), asyncio.timeout(5):
            while not await served():  # noqa: ASYNC110  (the channel tells nobody)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("call", [get, lambda channel: collected(run(channel))])
async def test_calls_in_flight_when_an_upstream_dies_are_answered(bodies, stack, tmp_path, call):
    """Whoever waits for a process that ends is told at once, not at its deadline."""
    bodies.get, bodies.run = bodies.wait, bodies.one_then_wait
    origin = f"unix:{tmp_path}/origin"
    upstream = Upstream("state", origin)
    stack.push_async_callback(upstream.close)
    relay = Relay(dict.fromkeys(SERVICES, upstream), SEAL)
    address, counts = await stack.enter_async_context(serving(handlers=(RelayHandler(relay),)))
    channel = await stack.enter_async_context(calling(address))
    async with serving(bodies=bodies, address=origin):
        waiting = asyncio.ensure_future(call(channel))
        await bodies.began.wait()
    answer = await refused(asyncio.wait_for(waiting, 10))
    assert reason_of(answer) in {"SERVICE_UNAVAILABLE", "CANCELLED"}
    assert counts.in_flight == 0


async def test_an_upstream_with_another_key_refuses(stack, bodies, tmp_path):
    """A relay cannot make contexts that another deployment accepts."""
    one = await hops(stack, bodies, tmp_path, number=0)
    upstream = Upstream("state", one.addresses[0])
    stack.push_async_callback(upstream.close)
    relay = Relay(dict.fromkeys(SERVICES, upstream), Seal(bytes(32), SystemClock()))
    with pytest.raises(ServiceError) as caught:
        await relay.call(METHODS[GET], REQUEST, EVERYTHING, timeout_s=5)
    assert caught.value.reason == Reason.CONTEXT_INVALID


async def test_a_caller_cannot_hand_a_context_through(channel, bodies):
    """What a caller puts beside its own context does not travel on."""
    request = state_pb2.GetStateRequest(key="k").SerializeToString()
    extra = (("llmspell-tenant", "globex"), ("authorization", "Bearer x"))
    await channel.unary_unary(GET)(request, metadata=(*sealed(), *extra))
    assert bodies.seen[0].tenant == "acme"


async def test_a_loop_of_relays_ends(stack, bodies, tmp_path):
    """Too many hops are refused, whoever made the circle."""
    many = await hops(stack, bodies, tmp_path, number=4)
    channel = await stack.enter_async_context(calling(many.addresses[0]))
    assert reason_of(await refused(get(channel))) == "CONTEXT_INVALID"
    assert bodies.seen == []


async def test_a_method_without_a_route_is_not_offered(stack, bodies, tmp_path):
    """A relay serves what it has routes for and nothing else."""
    upstream = Upstream("state", f"unix:{tmp_path}/x")
    stack.push_async_callback(upstream.close)
    relay = Relay({"llmspell.v1.StateService": upstream}, SEAL)
    assert relay.routes(METHODS[GET])
    assert not relay.routes(METHODS[RUN])
    address, _ = await stack.enter_async_context(serving(handlers=(RelayHandler(relay),)))
    channel = await stack.enter_async_context(calling(address))
    answer = await refused(collected(run(channel)))
    assert answer.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_permission_is_asked_at_every_hop(stack, bodies, tmp_path):
    """A caller without permission is stopped at the first door."""
    one = await hops(stack, bodies, tmp_path, number=1)
    channel = await stack.enter_async_context(calling(one.addresses[0]))
    reader = dataclasses.replace(EVERYTHING, permissions=("vector.read",))
    call = channel.unary_unary(GET)(REQUEST, metadata=sealed(reader))
    assert reason_of(await refused(call)) == "PERMISSION_DENIED"
    assert one.counts[1].calls == 0
